"""Declarations: what is read, and the text of every mistake."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkeeper.errors import DeclarationError
from streamkeeper.spec.document import read_document
from streamkeeper.spec.loader import load_spec, load_streams, spec_sha256
from streamkeeper.spec.models import Spec

STREAMS = Path(__file__).parents[2] / "include" / "streams"
TEMPERATURE = (STREAMS / "temperature.yaml").read_text(encoding="utf-8")


def mistakes(folder: Path, text: str, name: str = "broken") -> list[str]:
    """Write a declaration, load it, and return its mistakes without the file's folder."""
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DeclarationError) as caught:
        load_spec(path)
    return [str(m).replace(f"{folder}/", "") for m in caught.value.mistakes]


EVERYTHING = Path(__file__).parents[1] / "streams" / "everything.yaml"
DATA = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))


def changed(**keys: object) -> str:
    """Return the temperature declaration with top-level keys replaced."""
    return yaml.safe_dump(yaml.safe_load(TEMPERATURE) | keys, allow_unicode=True)


def test_every_shipped_declaration_loads_and_survives_a_round_trip() -> None:
    loaded = load_streams(STREAMS)
    assert loaded.broken == {}
    assert "temperature" in loaded.specs
    for spec in loaded.specs.values():
        again = Spec.model_validate(spec.dump())
        assert again == spec
        assert spec_sha256(again) == spec_sha256(spec)


def test_a_declaration_of_every_key_loads_and_survives_a_round_trip() -> None:
    spec = load_spec(EVERYTHING)
    again = Spec.model_validate(spec.dump())
    assert again == spec
    assert spec.dump()["derived"]["is_hot"] == {"expression": "temperature > 40"}
    assert spec.columns() == {
        **{"sensor": "string", "order": "integer", "level": "int32", "temperature": "double"},
        **{"pressure": "float", "price": "decimal(12,2)", "ok": "boolean"},
        **{"at": "timestamp", "sent": "timestamp", "place": "string", "latitude": "double"},
        **{"light": "double", "battery": "float", "energy": "double", "energy_unit": "string"},
        **{"is_hot": "boolean", "feels": "double", "day": "timestamp", "class": "string"},
    }
    assert spec.units() == {"temperature": "°C", "pressure": "hPa", "feels": "°C"}
    assert spec.fields["level"].keys("level") == ("meta", "le.vel")
    assert spec.fields["temperature"].keys("temperature") == ("values", "t")
    assert spec.derived_expressions()["class"].fields == ("is_hot", "sensor", "level")
    assert spec.check_expressions()["cheap"].type == "boolean"
    assert spec.warns
    assert spec.windows[0].measures["total"].type == "decimal(22,2)"


def test_the_file_name_is_the_stream_and_the_default_app() -> None:
    spec = load_spec(STREAMS / "temperature.yaml")
    assert (spec.name, spec.app) == ("temperature", "temperature")


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = """\
description: x
sorce: {}
source:
  kafka: {topic: iot, partitions: 0}
  format: jsn
fields:
  a: {type: flaot}
  t: {type: timestamp, requird: true}
  c: {type: string, range: [1, 2]}
event_time: {field: tt}
lake: {path: /tmp/x}
windows:
  - {name: w, size: 30x, watermark: 1min, by: [cc], measures: {n: avg(c)}}
sinks:
  - {kind: cassandra, of: ww, keyspace: k, tabel: t}
"""
    assert mistakes(tmp_path, text) == [
        "broken.yaml:2: sorce: is not a key here; valid: description, app, tags, source, fields, "
        "derived, checks, event_time, lake, producer, windows, sinks, ...; did you mean 'source'?",
        "broken.yaml:4: source.kafka.partitions: 0 is wrong: input should be greater than or "
        "equal to 1",
        "broken.yaml:5: source.format: 'jsn' is not one of the valid values; valid: json, "
        "csv; did you mean 'json'?",
        "broken.yaml:7: fields.a.type: 'flaot' is not one of the valid values; valid: string, "
        "integer, int32, double, float, boolean, timestamp, decimal(P,S); did you mean 'float'?",
        "broken.yaml:8: fields.t.requird: is not a key here; valid: type, path, required, range, "
        "allowed, unit, sent_unit, units, format, also, zone; did you mean 'required'?",
        "broken.yaml:9: fields.c.range: [1, 2] a range needs a number; the field's type is "
        "string; valid: integer, int32, double, float, decimal(P,S)",
        "broken.yaml:10: event_time.field: 'tt' no such field is declared; valid: a, t, c; "
        "did you mean 't'?",
        "broken.yaml:13: windows[0].by[0]: 'cc' no such field is declared; valid: a, t, c; "
        "did you mean 'c'?",
        "broken.yaml:13: windows[0].measures.n: 'avg(c)' avg needs a number; 'c' is string",
        "broken.yaml:13: windows[0].size: '30x' is wrong: a duration is a whole number and a "
        "unit: ms, s, min, h or d; for example 30s",
        "broken.yaml:15: sinks[0].of: 'ww' no such rows to write; valid: raw, w; did you mean 'w'?",
        "broken.yaml:15: sinks[0].tabel: is not a key here; valid: kind, of, keyspace, table, "
        "partition_by, cluster_by, columns, ttl, consistency; did you mean 'table'?",
        "broken.yaml:15: sinks[0].table: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", "broken.yaml:2: a: this key stands twice; it stands first in line 1"),
        ("a: &x 1\nb: *x\n", "broken.yaml:1: anchors and aliases (& and *) are not read"),
        ("a:\n\tb: 1\n", "broken.yaml:2: this is not YAML"),
        ("a: [1\n", "this is not YAML"),
        ("- 1\n", "a declaration is a mapping of keys"),
        ("just text\n", "a declaration is a mapping of keys"),
        ("? [1, 2]\n: x\n", "broken.yaml:1: a key must be a plain text"),
        ("description: !!python/object:os.system x\n", "is not read; write a plain value"),
        ("a: 1\n---\nb: 2\n", "this is not YAML: but found another document"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deep"),
    ],
)
def test_yaml_that_is_not_read(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in mistake for mistake in mistakes(tmp_path, text))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("name", "other", "the file's name is the stream's name; remove this key"),
        ("alerts", [{"name": "a", "field": "temperature"}], "either `above` or `below`"),
        ("alerts", [{"name": "a", "above": 1}], "either a `field` or a `kpi`"),
        ("alerts", [{"name": "a", "field": "city", "above": 1}], "an alert needs a number"),
        (
            "alerts",
            [{"name": "a", "kpi": "by_city.temp_moi", "above": 1}],
            "did you mean 'by_city.temp_moy'?",
        ),
        ("kpis", [{"name": "k"}], "either `measures` or `top`"),
        ("kpis", [{"name": "k", "top": 3}], "`top` needs `order_by`"),
        (
            "kpis",
            [{"name": "k", "top": 3, "order_by": "n", "measures": {"n": "count(*)"}}],
            "kpis[0].top: 3 one row has no first ones; add `by`",
        ),
        (
            "kpis",
            [
                {"name": "k", "measures": {"n": "count(*)"}, "csv": True},
                {"name": "k_csv", "measures": {"n": "count(*)"}},
            ],
            "kpis[0].csv: True its folder would be that of the KPI k_csv; rename one",
        ),
        (
            "kpis",
            [
                {"name": "k", "measures": {"n": "count(*)"}, "periods": ["day"]},
                {"name": "k_day", "measures": {"n": "count(*)"}},
            ],
            "its folder would be that of the KPI k_day; rename one",
        ),
        (
            "kpis",
            [{"name": "k", "by": ["city"], "top": 3, "measures": {"n": "count(*)"}}],
            "`top` needs `order_by`, a key or measure",
        ),
        (
            "kpis",
            [
                {
                    **{"name": "k", "by": ["city"], "top": 3, "order_by": "temperature"},
                    "measures": {"n": "count(*)"},
                }
            ],
            "'temperature' no such column to order by; valid: city, n",
        ),
        ("report", {"title": "t", "to": ["nobody"]}, "'nobody' is no mail address"),
        ("hours", {"schedule": "hourly"}, "five cron fields"),
        ("event_time", {"field": "city"}, "event time must be a timestamp field"),
        (
            "windows",
            [{"name": "w", "size": "1s", "watermark": "1s", "measures": {"day": "count(*)"}}],
            "is a column that every window has",
        ),
    ],
)
def test_mistakes_between_keys(tmp_path: Path, key: str, value: object, expected: str) -> None:
    found = mistakes(tmp_path, changed(**{key: value}), "temperature")
    assert any(expected in mistake for mistake in found), found


def test_a_broken_file_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(TEMPERATURE, encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("x: [", encoding="utf-8")
    (tmp_path / "latin.yaml").write_bytes(b"description: caf\xe9\n")
    loaded = load_streams(tmp_path)
    assert set(loaded.specs) == {"good"}
    assert set(loaded.broken) == {"bad", "latin"}
    assert "is not UTF-8" in str(loaded.broken["latin"])


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*Spec.model_fields, "kafka", "type", "x"]), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from([*Spec.model_fields, "other"]), plain, max_size=6))
def test_no_data_makes_the_loader_crash(
    tmp_path_factory: pytest.TempPathFactory, data: dict
) -> None:
    text = yaml.safe_dump(data, allow_unicode=True)
    mistakes(tmp_path_factory.mktemp("random"), text)


@settings(max_examples=150)
@given(st.text(max_size=200))
def test_no_text_makes_the_reader_crash(text: str) -> None:
    document = read_document(text)
    assert document.problems or document.data is not None or text.strip()


def _places(value: object, path: tuple = ()) -> list[tuple]:
    """List the paths of all keys and items of plain data."""
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [p for key, child in children for p in ((*path, key), *_places(child, (*path, key)))]


def _replaced(data: Any, path: tuple, value: object) -> None:
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = value


@settings(max_examples=200)
@given(st.data(), st.integers(1, 3))
def test_no_wrong_value_at_any_place_makes_the_loader_crash(
    tmp_path_factory: pytest.TempPathFactory, drawn: st.DataObject, wrong: int
) -> None:
    data = copy.deepcopy(DATA)
    for _ in range(wrong):
        _replaced(data, drawn.draw(st.sampled_from(_places(data))), drawn.draw(plain))
    path = tmp_path_factory.mktemp("wrong") / "everything.yaml"
    # libyaml's emitter is ten times as fast.
    text = yaml.dump(data, Dumper=yaml.CSafeDumper, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
    loaded = load_streams(path.parent)
    assert loaded.specs or str(loaded.broken["everything"])
