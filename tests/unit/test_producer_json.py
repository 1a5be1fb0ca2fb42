"""JSON lines and arrays as records: as they stand or mapped, numbers untouched, nothing lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer import json_files
from streamkeeper_apps.producer.json_files import JsonArray, JsonLines, encode, strict_object
from streamkeeper_apps.producer.records import Record

MAPPED: dict[str, Any] = {
    "at": {"column": "meta.when", "format": "%Y-%m-%d %H:%M:%S", "zone": "UTC"},
    "temperature": "values.t",
    "station": ["meta", "the.station"],
}
NESTED = {
    "meta": {"when": "2026-01-02 03:04:05", "the.station": "A"},
    "values": {"t": 7.5},
    "more": [1],
}


def declare(form: str, **replay: Any) -> Spec:
    return Spec.model_validate(
        {
            "name": "made",
            "description": "x",
            "app": "made",
            "source": {"kafka": {"topic": "made"}},
            "fields": {
                "at": {"type": "timestamp"},
                "temperature": {"type": "double", "path": "values.t"},
                "station": {"type": "string"},
            },
            "event_time": {"field": "at"},
            "lake": {"path": "/made"},
            "producer": {"replay": {"format": form, "key": "station"} | replay},
        }
    )


def records(folder: Path, content: bytes, form: str = "json_lines", **replay: Any) -> list[Record]:
    path = folder / "file.json"
    path.write_bytes(content)
    kind = JsonLines if form == "json_lines" else JsonArray
    file = kind(path, declare(form, **replay))
    try:
        return list(file.records())
    finally:
        file.close()


def test_lines_as_they_stand_with_key_and_event_time(tmp_path: Path) -> None:
    good = b'{ "at": "2026-01-02T03:04:05+01:00", "station":"A\\u00e9", "values": {"t": 1.50} }'
    content = b"\xef\xbb\xbf" + good + b"\r\n\n \n" + b'{"at": 5, "station": 7}\n{"a":1'
    found = records(tmp_path, gzip.compress(content))
    assert [r.value for r in found] == [good, b'{"at": 5, "station": 7}', b'{"a":1']
    assert [r.key for r in found] == ["Aé".encode(), b"7", None]
    assert [r.micros for r in found] == [1_767_319_445_000_000, None, None]
    assert [r.whole for r in found] == [True, True, False]


def test_mapped_objects_are_written_at_the_places_of_their_fields(tmp_path: Path) -> None:
    line = json.dumps(NESTED).encode()
    (record,) = records(tmp_path, line, columns=MAPPED)
    assert json.loads(record.value) == {
        "at": "2026-01-02T03:04:05.000Z",
        "values": {"t": 7.5},
        "station": "A",
    }
    assert (record.key, record.micros) == (b"A", 1_767_323_045_000_000)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("0.1000000000000000055511151231257827", None),
        ("1e400", None),
        ("-0", None),
        ("123456789012345678901234567890", None),
        ("NaN", None),
        ('"7.5"', None),
        ("true", None),
        ('{"a": [1.50, null]}', '{"a":[1.50,null]}'),
        ('""', None),
        ("-9999.0", "null"),
        ('"-"', "null"),
    ],
)
def test_values_are_sent_as_they_were_written(tmp_path: Path, value: str, sent: str | None) -> None:
    line = f'{{"meta": {{}}, "values": {{"t": {value}}}}}'.encode()
    (record,) = records(tmp_path, line, columns=MAPPED, missing=["-", "-9999"])
    expected = f'{{"at":null,"values":{{"t":{sent or value}}},"station":null}}'
    assert record.value.decode() == expected


@pytest.mark.parametrize(
    "line", [b"[1]", b"7", b'{"a":1,"a":2}', b'{"a":1} x', b"\xff{}", b"[" * 100_000, b"null"]
)
def test_what_is_no_object_is_sent_as_it_stands(tmp_path: Path, line: bytes) -> None:
    (as_it_stands,) = records(tmp_path, line)
    assert as_it_stands[:3] == (None, line, None)
    # One with a key twice is an object all the same; its checks say what is wrong with it.
    assert as_it_stands.whole == line.startswith(b'{"a":1,')
    assert records(tmp_path, line, columns=MAPPED) == [(None, line, None, False)]


def test_half_of_a_surrogate_pair_stays_what_it_was(tmp_path: Path) -> None:
    line = rb'{"at":"2026-01-02T00:00:00Z","station":"a\ud800","meta":{"the.station":"a\ud800"}}'
    (as_it_stands,) = records(tmp_path, line)
    assert as_it_stands[:2] == (b"a\xed\xa0\x80", line)
    (mapped,) = records(tmp_path, line, columns=MAPPED)
    assert mapped.key == b"a\xed\xa0\x80"
    assert rb'"station":"a\ud800"' in mapped.value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3),
    max_leaves=5,
)


@given(st.lists(json_values, max_size=6), st.sampled_from([None, 1, "\t"]), st.integers(1, 40))
def test_an_array_is_read_piece_by_piece(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], indent: Any, chunk: int
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    before = json_files._CHUNK
    json_files._CHUNK = chunk
    try:
        content = b" \n" + text.encode("utf-8", "surrogatepass") + b"\n"
        found = records(tmp_path_factory.mktemp("x"), content, "json_array")
    finally:
        json_files._CHUNK = before
    sent = [json.loads(r.value.decode("utf-8", "surrogatepass")) for r in found]
    assert sent == values
    assert [r.whole for r in found] == [isinstance(v, dict) for v in values]


@pytest.mark.parametrize(
    ("content", "count", "text"),
    [
        (b"", 0, "a JSON array begins with [; for a value a line: json_lines"),
        (b'{"a":1}', 0, "a JSON array begins with ["),
        (b"[{},{}", 2, "after element 2: 'the end' stands where , or ] must be"),
        (b'[{},{"a":', 1, "after element 1: no JSON value: "),
        (b"[{} {}]", 1, "'{' stands where , or ] must be"),
        (b"[{},]", 1, "after element 1: no JSON value: "),
        (b"[{}] {}", 1, "'{' stands behind the array"),
        (gzip.compress(b"[" + b'{"a":1},' * 9999, mtime=0)[:-8], 9999, "is damaged after byte"),
    ],
)
def test_an_array_that_breaks_off_says_where(
    tmp_path: Path, content: bytes, count: int, text: str
) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    found = list[Record]()
    with pytest.raises(StreamkeeperError) as caught:
        found.extend(JsonArray(path, declare("json_array")).records())
    assert text in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(found) == count


@given(json_values)
def test_encoding_keeps_every_value(value: Any) -> None:
    assert json.loads(encode(json_files._DECODER.decode(json.dumps(value)))) == value


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": "NaN"}', None),
        ('{"a":1,"a":1}', "a key stands twice"),
        (r'{"a":"\ud800"}', "half of a surrogate pair"),
        ("[]", "it is no object"),
        ("{", "Expecting property name"),
    ],
)
def test_objects_strictly(text: str, wrong: str | None) -> None:
    found = strict_object(text)
    assert isinstance(found, dict) if wrong is None else str(found).startswith(wrong)
