"""Files of every format as records: their bytes as they stand, and a clear verdict on the rest."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.files import FileEntry, Seen, is_hidden, matches, next_step
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.folder.contents import BrokenOff, Refused
from streamkeeper_apps.producer.folder.readers import Survey, survey

BOM = b"\xef\xbb\xbf"
LARGEST = 1_000_000
# Without the time, so that the names of the tests are the same in every process.
packed = partial(gzip.compress, mtime=0)


def declare(columns: list[str] | None = None, **folder: Any) -> Spec:
    """A stream of a folder, JSON with the keys a and at; or CSV with these columns."""
    csv_form = folder.get("format") == "csv"
    source: dict[str, Any] = {"kafka": {"topic": "t", "kind": "transactional"}}
    source |= {"format": "csv", "csv": {"columns": columns}} if csv_form else {}
    return Spec.model_validate(
        {
            "name": "files",
            "app": "files",
            "description": "x",
            "source": source,
            "fields": {"a": {"type": "string"}, "at": {"type": "timestamp", "required": True}},
            "event_time": {"field": "at"},
            "lake": {"path": "/x"},
            "producer": {"folder": {"path": "x"} | folder},
        }
    )


def taken(
    folder: Path, content: bytes, spec: Spec | None = None, name: str = "a.json"
) -> tuple[list[bytes], Survey]:
    """Return a file's records as they are sent, and what its survey tells."""
    spec, path = spec or declare(), folder / name
    path.write_bytes(content)
    found = survey(path, spec, LARGEST)
    with closing(found.kind(path, spec, LARGEST)) as again:
        records = list(again.each())
        assert again.sha256 == found.sha256
    assert len(records) == found.records
    return records, found


def one(a: object = 1) -> bytes:
    return json.dumps({"a": a, "at": "2026-11-26T10:00:00Z"}).encode()


PRETTY = json.dumps([{"a": [1, {"b": 2.50}], "at": "ü"}, {"a": 1e5, "at": 2}], indent=2).encode()


@pytest.mark.parametrize(
    ("content", "records"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b" \r\n\n\t", [], id="blanks"),
        pytest.param(one() + b"\n" + one(2), [one(), one(2)], id="lines without a last end"),
        pytest.param(one() + b"\r\n\r\n" + one(2) + b"\r\n", [one(), one(2)], id="CRLF"),
        pytest.param(BOM + one() + b"\n" + one(2) + b"\n", [one(), one(2)], id="BOM, lines"),
        pytest.param(one() + b"\nno JSON\n" + one(2), [one(), b"no JSON", one(2)], id="a bad line"),
        pytest.param(b"no JSON\n" + one(2) + b"\n", [b"no JSON", one(2)], id="first line bad"),
        pytest.param(b'{"a": 1,}\n' + one(2), [b'{"a": 1,}', one(2)], id="first object bad"),
        pytest.param(b'  {"a": "\xff"}\n', [b'  {"a": "\xff"}'], id="bytes that are no UTF-8"),
        pytest.param(b'{\n "a": 1.50\n}\n', [b'{\n "a": 1.50\n}'], id="one object"),
        pytest.param(BOM + b"\n{\n}", [b"{\n}"], id="BOM, one object"),
        pytest.param(b"{\n}\n{\r\n}", [b"{\n}", b"{\r\n}"], id="objects one after the other"),
        pytest.param(b"[]", [], id="an empty array"),
        pytest.param(b"[1, null,\n[2], {}]", [b"1", b"null", b"[2]", b"{}"], id="any elements"),
        pytest.param(
            PRETTY,
            [PRETTY[4 : PRETTY.index(b"},\n  {") + 1], PRETTY[PRETTY.rindex(b"  {") + 2 : -2]],
            id="a pretty array",
        ),
        pytest.param(b'[{"a": "\xe9\\ud800"}]', [b'{"a": "\xe9\\ud800"}'], id="any bytes"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pack", [bytes, packed, lzma.compress])
def test_json(tmp_path: Path, content: bytes, records: list[bytes], pack: Any) -> None:
    assert taken(tmp_path, pack(content))[0] == records


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (one() + b'\n{"a": 1', "its last line breaks off"),
        (b'{"a": 1', "it breaks off after 0 values"),
        (b'{\n "a": [1,\n', "it breaks off after 0 values"),
        (b'[{"a": 1},\n', "it breaks off after 1 values"),
        (b'[{"a": 1}', "it breaks off after 1 values"),
        (b'[{"a": 1}, {"a": "x', "it breaks off after 1 values"),
        (b'[{"a": 1}, {"a": tr', "it breaks off after 1 values"),
        (b"[1, 2", "it breaks off after 2 values"),
        (packed(one() * 99)[:-9], "the archive breaks off: Compressed file ended before"),
        (packed(one())[:2], "the archive breaks off"),
        (lzma.compress(one() * 99)[:-40], "the archive breaks off"),
    ],
)
def test_a_file_that_breaks_off(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(BrokenOff, match=reason.replace("[", r"\[")):
        taken(tmp_path, content)


@given(st.integers(1, len(PRETTY) - 1))
def test_a_document_cut_anywhere_is_never_taken_for_whole(
    tmp_path_factory: pytest.TempPathFactory, end: int
) -> None:
    with pytest.raises(BrokenOff):
        taken(tmp_path_factory.getbasetemp(), PRETTY[:end])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1,\n "b": what,\n "c": 12345678}\n', "after value 0: no JSON value: Expecting"),
        (b'[{"a": 1}; {"a": 2}, 12345678]', "after value 1: ';' stands where , or ] must be"),
        (b'[1, 2]\n{"a": 1} {', "after value 2: '{' stands behind the array"),
        (b'{\n"a": 1}} and more behind it', "after value 1: no JSON value"),
        ('{"a": 1}'.encode("utf-16"), "is UTF-16, not UTF-8; declare producer.folder.encoding"),
        ('{"a": 1}'.encode("utf-16-le"), "is UTF-16 or UTF-32, not UTF-8"),
        (one("x" * 1_000_000), "line 1 is longer; the topic takes 1,000,000 bytes as a record"),
        (b"[\n" + one("x" * 1_000_000) + b"]", "a record of 1,000,039 bytes; the topic takes"),
        (packed(one() * 99)[:-8] + bytes(8), "the archive is damaged: CRC check failed"),
        (packed(one()) + b"what?", "the archive is damaged"),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(Refused) as told:
        taken(tmp_path, content)
    assert reason in str(told.value)


def test_what_is_declared_as_lines_is_never_a_document(tmp_path: Path) -> None:
    spec = declare(format="json_lines")
    assert taken(tmp_path, b"[\n" + one() + b"\n]\n", spec)[0] == [b"[", one(), b"]"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_declared_encodings_are_decoded(tmp_path: Path, encoding: Any) -> None:
    spec = declare(encoding=encoding)
    text = '{"a": "Zoé"}\n{"a": "ß"}'
    wanted = [line.encode() for line in text.splitlines()]
    assert taken(tmp_path, text.encode(encoding), spec)[0] == wanted
    array = f"[{text.replace(chr(10), ',')}]"
    assert taken(tmp_path, array.encode(encoding), spec)[0] == wanted


def test_what_cannot_be_decoded_is_told(tmp_path: Path) -> None:
    spec = declare(encoding="utf-16")
    with pytest.raises(Refused, match="is not utf-16: illegal"):
        taken(tmp_path, b'\xff\xfe{\x00"\x00\x00\xdc\x00\xdc', spec)


def test_drift_of_keys_is_told(tmp_path: Path) -> None:
    content = b"\n".join([one(), b'{"a": 1, "new": 2}', b'{"at": 1, "new": 2}', b"", b'"\xff"'])
    assert taken(tmp_path, content + b"\n")[1].notes == (
        "keys not declared: new (2)",
        "keys missing: a (1), at (1)",
        "blank lines: 1",
        "records that are not UTF-8, to be quarantined: 1",
    )
    assert taken(tmp_path, BOM + one())[1].notes == ("a byte order mark was taken off",)


CSV = ["a", "b", "at"]


@pytest.mark.parametrize(
    ("content", "records", "notes"),
    [
        pytest.param(b"", [], [], id="empty"),
        pytest.param(b"a,b,at\r\n", [], [], id="a header only"),
        pytest.param(
            BOM + b'a,b,at\r\n1,"x, ""y""",2\r\n\r\n"3\r\n4",,5',
            [b'1,"x, ""y""",2', b'"3\r\n4",,5'],
            ["a byte order mark was taken off", "blank lines: 1"],
            id="in order",
        ),
        pytest.param(b"a,b,at\n1\n1,2,3,4\n\xff,2,3\n", [b"1", b"1,2,3,4", b"\xff,2,3"],
            ["records that are not UTF-8, to be quarantined: 1"], id="any width"),
        pytest.param(
            b'at,more,b,a\n1,x,"2,2",3\n4,y,5,6\n',
            [b'3,"2,2",1', b"6,5,4"],
            ["columns not declared: more", "columns were put in the declared order"],
            id="another order, and one more",
        ),
        pytest.param(
            b"at,a\n1,2\n",
            [b"2,,1"],
            ["columns missing: b", "columns were put in the declared order"],
            id="one missing",
        ),
        pytest.param(
            b'at,more,b,a\n1,2,3\n1,2\n1,2,3,4,5\n1,x"y,3,4\n',
            [b"1,2,3,", b"1,2", b"1,2,3,4,5", b'1,x"y,3,4'],
            ["columns not declared: more", "columns were put in the declared order",
             "records of another width than the header, to be quarantined: 4"],
            id="ragged",
        ),
        pytest.param(b'a,b,at\n1,"2"x,3\n4,5,6\n', [b'1,"2"x,3', b"4,5,6"], [], id="stray quotes"),
    ],
)  # fmt: skip
def test_csv(tmp_path: Path, content: bytes, records: list[bytes], notes: list[str]) -> None:
    found, told = taken(tmp_path, content, declare(CSV, format="csv"), "a.csv")
    assert found == records
    assert list(told.notes) == notes


def test_csv_without_a_header_and_in_other_encodings(tmp_path: Path) -> None:
    spec = declare(CSV, format="csv", header=False)
    assert taken(tmp_path, b"1,2,3\n\n4,5,6", spec)[0] == [b"1,2,3", b"4,5,6"]
    spec = declare(CSV, format="csv", encoding="utf-16")
    assert taken(tmp_path, "a,b,at\né,2,3\n".encode("utf-16"), spec)[0] == ["é,2,3".encode()]


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (b'a,b,at\n1,"2,3\n4,5,6\n', BrokenOff, "a quote opened in line 2 or below is not closed"),
        (b"1,2,3\n4,5,6\n", Refused, "its first line names none of the columns a, b, at; a file"),
        (b"a,b,a,at\n1,2,3,4\n", Refused, "its header names a more than once"),
        (
            b'a,b,at\n1,"' + b"x\n" * 600_000 + b'",',
            Refused,
            "a cell that begins in line 2 or below",
        ),
        (b"a,b,at\n1," + b"x" * 1_000_000 + b",2\n", Refused, "a record of 1,000,004 bytes"),
    ],
)
def test_csv_that_is_not_read(tmp_path: Path, content: bytes, kind: Any, reason: str) -> None:
    with pytest.raises(kind) as told:
        taken(tmp_path, content, declare(CSV, format="csv"))
    assert reason in str(told.value)


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(rows=st.lists(st.lists(CELL, min_size=4, max_size=4), max_size=20), data=st.data())
def test_any_csv_is_put_in_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], data: st.DataObject
) -> None:
    header = data.draw(st.permutations(["a", "b", "at", "more"]))
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows([header, *rows])
    content = out.getvalue().encode()
    found, _ = taken(tmp_path_factory.getbasetemp(), content, declare(CSV, format="csv"))
    wanted = [[row[header.index(c)] for c in CSV] for row in rows]
    for record, cells in zip(found, wanted, strict=True):
        assert next(csv.reader(io.StringIO(record.decode(), newline=""))) == cells


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a.json", "*.json", True),
        ("x/a.json", "*.json", False),
        ("x/a.json", "**/*.json", True),
        ("a.json", "**/*.json", True),
        ("x/y/z/a.json", "x/**/*.json", True),
        ("x/a.json.gz", "x/*.json", False),
        ("A.JSON", "*.json", False),
        ("a1.csv", "a[0-9].csv", True),
        ("ab.csv", "a[!0-9].csv", True),
        ("a.csv", "?.csv", True),
        ("a\n.csv", "*.csv", True),
        ("a.b", "a[b", False),
        ("a[b", "a[b", True),
    ],
)
def test_patterns(path: str, pattern: str, fits: bool) -> None:
    assert matches(path, [pattern]) is fits


@pytest.mark.parametrize("path", [".a", "_a", "x/.y/a", "x/_tmp/a", "a.tmp", "a.PART", "a~"])
def test_hidden_and_unfinished_names(path: str) -> None:
    assert is_hidden(path)
    assert not is_hidden("x/a.json")


def test_a_state_says_what_is_next() -> None:
    seen = Seen("a", 1, 2, 3)
    entry = FileEntry.model_validate(
        {"path": "a", "state": "sent", "size": 1, "modified": 2, "sha256": "x", "at": "2026-11-26"}
    )
    assert FileEntry.model_validate_json(entry.model_dump_json()) == entry
    assert next_step(seen, entry, settled=False, asked=False) == "leave"
    assert next_step(seen, entry, settled=True, asked=True) == "read"
    half = entry.model_copy(update={"state": "sending"})
    assert next_step(seen, half, settled=True, asked=False) == "go_on"
    assert next_step(Seen("a", 2, 2, 3), half, settled=True, asked=False) == "compare"
    assert next_step(seen, None, settled=False, asked=True) == "settle"
    assert next_step(Seen("a", problem="x"), entry, settled=False, asked=False) == "tell"
