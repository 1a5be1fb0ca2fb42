"""Whatever is sent: it lands or is quarantined, as a slow reader in plain Python says.

Many messages make one Spark job, and none is shrunk, since the failing message is named.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from landed import NOW, land, make_spec, rules
from pyspark.sql import SparkSession
from reference import judge

from streamkeeper.spec.models import Spec

FEW = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
ZONES = ["Europe/Paris", "Africa/Casablanca", "Australia/Lord_Howe", "America/New_York"]
# Hours around which the clocks of these zones are set, with what lies beside them.
LOCAL_TIMES = [
    f"{day} {hour:02d}:{minute}"
    for day in ("2024-03-31", "2024-10-27", "2024-03-10", "2024-11-03", "2024-04-07", "2024-10-06")
    for hour in (0, 1, 2, 3)
    for minute in ("00:00", "15:00", "30:00.5", "59:59.999999")
] + [f"2024-{day}T0{hour}:30:00" for day in ("03-10", "04-14") for hour in (1, 2, 3)]
WRITTEN = [
    "2026-11-24T11:59:00Z",
    "2026-11-24 10:00:00.5+01:00",
    "2026-11-24T10:00:00.1234560000-0330",
    "2026-11-24T10:00:00+05",
    "2026-11-24T24:00:00Z",
    "2026-11-24T11:59:60Z",
    "2026-11-24T11:59:00.1234567Z",
    "2026-11-24T11:59:00",
    "2026-02-29T00:00:00Z",
    "2024-02-29T00:00:00Z",
    "2026-11-24",
    "2026-11-24T11:59Z",
    "2026-11-24T11:59:00+18:01",
    "2026-11-24T11:59:00z",
    " 2026-11-24T11:59:00Z",
    "2026-11-24T11:59:00Z\n",
    "0000-12-31T23:00:00Z",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59-01:00",
    "x",
]
NUMBERS = [
    *("0", "-0", "7", "7.0", "7.50", "-7.000", "1e3", "15E-1", "120e-1", "1.5e1", "0e9", "007"),
    *("+5", ".5", "5.", "1e400", "-1e400", "1e39", "1e-400", "0.1", "2147483647", "2147483648"),
    *("-2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("123456.78", "12345678.90", "0.001", "0.010", "99999999.99", "100000000", "1e7", "1e8"),
    *("1795521540", "1795521540.25", "1795521540.1234567", "1795521540123", "1795521540123456"),
    *("999999999999.999999", "1000000000000", "1e18", "1e19", "1e99999999999", "NaN", "Infinity"),
    *("0x10", "1_000", "1 ", " 1", "1\n", "", "-", "e5", "1e", "true", "False", "null"),
    "1" * 1001,
    "0." + "3" * 400,
]
# The parser refuses a message for a number so long, wherever it stands.
numbers = st.sampled_from([n for n in NUMBERS if len(n) <= 1000])
# Texts that look like what stands between the members of an object, or like half of a pair.
ODD = [
    "{}",
    "[1]",
    '"',
    "\\u0041",
    ",",
    "a,b",
    ", ",
    ",,,",
    '1,"f1":1',
    "a?b",
    "?",
    "?,",
    "[1,2]",
    "1.2.3",
    "1.",
    "1e",
    "-1.5E-3",
]
texts = st.sampled_from([*NUMBERS, *WRITTEN, *LOCAL_TIMES, *ODD])
texts |= st.text(max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts


class Raw(str):
    """A number that stands in the message as it is written here, be it JSON or not."""


leaves = scalars | numbers.map(Raw)
anything = st.recursive(
    leaves,
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=3), v, max_size=2),
    max_leaves=4,
)
KINDS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "allowed": ["7", "Fes", "true"]},
    {"type": "integer"},
    {"type": "integer", "range": [-10, None]},
    {"type": "int32"},
    {"type": "double"},
    {"type": "double", "range": [-60, 60], "unit": "°C", "sent_unit": "°F"},
    {"type": "float"},
    {"type": "decimal(10,2)"},
    {"type": "decimal(3,3)"},
    {"type": "decimal(38,10)", "range": [0, None]},
    {"type": "boolean"},
    {"type": "timestamp"},
    *({"type": "timestamp", "format": f} for f in ("epoch_s", "epoch_ms", "epoch_us")),
    *({"type": "timestamp", "zone": zone} for zone in ZONES),
]
GOOD_TIME = "2026-11-24T11:59:00Z"


@st.composite
def declarations(draw: st.DrawFn, form: str = "json") -> Spec:
    """A declaration of a few fields, some of them within objects; its event time is a text."""
    fields: dict[str, dict[str, Any]] = {}
    for number, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=6))):
        field = kind | {"required": draw(st.booleans())}
        above = draw(st.sampled_from([[], [], ["in"], ["in", "a.b"], ["on"]]))
        if above and form == "json":
            field["path"] = [*above, f"v{number}"]
        fields[f"f{number}"] = field
    event = {"type": "timestamp"}
    source = {"format": form, "strict": draw(st.booleans())}
    return make_spec({**fields, "timestamp": event}, source=source)


def write(value: Any, escaped: bool) -> str:
    """Write JSON, with equal keys and odd numbers where they are given."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(v, tuple) for v in value):
        pairs = value
    elif isinstance(value, list):
        return "[" + ", ".join(write(v, escaped) for v in value) + "]"
    else:
        return json.dumps(value, ensure_ascii=escaped)
    told = (f"{json.dumps(k, ensure_ascii=escaped)}: {write(v, escaped)}" for k, v in pairs)
    return "{" + ", ".join(told) + "}"


def likely(kind: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of which many can be read as a declared type."""
    if kind["type"] == "string":
        return texts | leaves
    if kind["type"] == "boolean":
        return st.booleans() | leaves
    if kind.get("zone"):
        return st.sampled_from(LOCAL_TIMES) | st.sampled_from(WRITTEN)
    if kind["type"] == "timestamp" and "format" not in kind:
        return st.sampled_from(WRITTEN) | leaves
    plain = st.integers(-(10**6), 10**6).map(lambda n: Raw(f"{n / 100:.2f}"))
    whole = st.integers(-(10**16), 10**16).map(lambda n: Raw(str(n)))
    return plain | whole | numbers.map(Raw) | st.sampled_from(NUMBERS) | leaves


@st.composite
def records(draw: st.DrawFn, spec: Spec) -> bytes:
    """A record that has most of the declared fields, at their places or near them."""
    tree: dict[str, Any] = {"timestamp": draw(st.just(GOOD_TIME) | st.sampled_from(WRITTEN))}
    for name, declared in spec.fields.items():
        if name == "timestamp" or draw(st.integers(0, 9)) == 0:
            continue
        *above, last = declared.keys(name)
        inner = tree
        for key in above:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                break
        else:
            shown = declared.model_dump(exclude_none=True, exclude_defaults=True)
            inner[last] = draw(likely(shown) if draw(st.integers(0, 3)) else anything)
    odd = draw(st.integers(0, 11))
    if odd == 0:
        tree["x"] = draw(anything)
    elif odd == 1:
        tree["in"] = draw(anything)
    pairs = list(tree.items())
    if odd == 2:
        pairs.append(draw(st.sampled_from(pairs)))
    elif odd == 3 and isinstance(tree.get("in"), dict) and tree["in"]:
        pairs = [(k, [*v.items(), next(iter(v.items()))] if k == "in" else v) for k, v in pairs]
    return write(pairs, draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def cells(draw: st.DrawFn, spec: Spec) -> bytes:
    """A CSV record, more or less of the declared columns."""
    told = []
    for name, declared in spec.fields.items():
        shown = declared.model_dump(exclude_none=True, exclude_defaults=True)
        if name == "timestamp":
            value: Any = GOOD_TIME
        else:
            value = draw(likely(shown))
        cell = value if isinstance(value, str) else json.dumps(value)
        if draw(st.booleans()) or (set(cell) & set(',"\r\n') and draw(st.integers(0, 3))):
            cell = '"' + cell.replace('"', '""') + '"'
        told.append(cell)
    line = ",".join(told) + draw(
        st.sampled_from(["", "", "", "\n", "\r\n", ",", '"', "\nx", "\n\n"])
    )
    return line.encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn, message: bytes) -> bytes:
    """A message with one piece put in, taken out or doubled."""
    at = draw(st.integers(0, len(message)))
    until = draw(st.integers(at, min(len(message), at + 6)))
    piece = draw(st.sampled_from(PIECES) | st.just(message[at:until] * 2))
    return message[:at] + piece + message[until:]


PIECES = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b" ", b"\\u00e9", b"\\ud800", b"null"),
    *(b"NaN", b"1e999", b'"f0":1', b',"f0":1', b',"x":{}', b"\xff", b"0", b"'", b"/**/", b"\n"),
    *(b'},"x":1', b'},"x":{', b"\xef\xbb\xbf", b'""', b'","'),
    *(b"a,b", b"?", b',"x":"a,b"', b'"f0":"a,b",', b'{"a":1,"b":2}', b"\\", b"\\u002c"),
]


@st.composite
def batches(draw: st.DrawFn, form: str) -> tuple[Spec, list[bytes]]:
    """A declaration and messages of which some fit it."""
    spec = draw(declarations(form))
    of_spec = (cells if form == "csv" else records)(spec)
    messages = of_spec | of_spec | of_spec.flatmap(damaged) | st.binary(max_size=40)
    return spec, draw(st.lists(messages, min_size=30, max_size=80))


def hold_to_reference(spark: SparkSession, spec: Spec, messages: Sequence[bytes]) -> None:
    """Land messages: each row is what the reference says, and no message is lost."""
    rows = land(spark, spec, messages)
    assert len(rows) == len(messages)
    for message, row in zip(messages, rows, strict=True):
        expected = judge(spec, message, NOW)
        told = (message, row["_errors"], spec.dump()["fields"], spec.source)
        assert set(rules(row)) == expected.rules, told
        assert row["_value"] == (message if expected.rules else None), told
        if not expected.rules:
            assert {name: row[name] for name in spec.fields} == expected.values, told


@FEW
@given(batches("json"))
def test_random_json(spark: SparkSession, batch: tuple[Spec, list[bytes]]) -> None:
    hold_to_reference(spark, *batch)


@FEW
@given(batches("csv"))
def test_random_csv(spark: SparkSession, batch: tuple[Spec, list[bytes]]) -> None:
    hold_to_reference(spark, *batch)
