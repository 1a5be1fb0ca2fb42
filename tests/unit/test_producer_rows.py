"""CSV rows as messages: types, missing values, times, and files that are not as they should be."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.models import FieldSpec, Spec
from streamkeeper.spec.producers import ReplayColumn
from streamkeeper_apps.producer import rows as csv_rows
from streamkeeper_apps.producer.cells import converter
from streamkeeper_apps.producer.records import Record
from streamkeeper_apps.producer.rows import CsvFile

COLUMNS: dict[str, Any] = {
    "at": {"column": "Date", "format": "%Y-%m-%d %H:%M:%S", "zone": "UTC"},
    "temperature": {"column": "Temp"},
    "station": {"column": "Station"},
}


def declare(**replay: Any) -> Spec:
    return Spec.model_validate(
        {
            "name": "made",
            "description": "x",
            "app": "made",
            "source": {"kafka": {"topic": "made"}},
            "fields": {
                "at": {"type": "timestamp"},
                "temperature": {"type": "double"},
                "station": {"type": "string"},
                "site": {"type": "string"},
            },
            "event_time": {"field": "at"},
            "lake": {"path": "/made"},
            "producer": {
                "replay": {"columns": COLUMNS, "missing": ["", "-", "-9999"], "key": "station"}
                | replay
            },
        }
    )


def rows(folder: Path, content: bytes, **replay: Any) -> list[Record]:
    path = folder / "file.csv"
    path.write_bytes(content)
    file = CsvFile(path, declare(**replay))
    try:
        return list(file.records())
    finally:
        file.close()


def values(found: list[Record]) -> list[Any]:
    return [json.loads(row.value) for row in found]


HEADER = b"Date,Temp,Station\n"
GOOD = b"2026-01-02 03:04:05,7.5,A\n"
MADE = {"at": "2026-01-02T03:04:05.000Z", "temperature": 7.5, "station": "A"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_packed_marked_and_ended_as_may_be(
    tmp_path: Path, pack: Any, mark: bytes, end: bytes
) -> None:
    content = mark + (HEADER + GOOD + b"\n" + GOOD).replace(b"\n", end)
    found = rows(tmp_path, pack(content), constants={"site": "north"})
    assert values(found) == [MADE | {"site": "north"}] * 2
    assert [row.key for row in found] == [b"A", b"A"]
    assert [row.whole for row in found] == [True, True]


def test_blank_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(b"\n" + HEADER + b"\n\n" + GOOD + b"\n")
    file = CsvFile(path, declare())
    assert len(list(file.records())) == 1
    assert file.blank_lines == 4


def test_missing_is_null_and_what_is_no_number_stays_a_text(tmp_path: Path) -> None:
    cells = ["", "-", "-9999", "-9999.0", " 7.5 ", "7,5", "NaN", "1e400", "Infinity", "1_0", "0"]
    content = HEADER + b"".join(f'2026-01-02 03:04:05,"{c}",A\n'.encode() for c in cells)
    assert [v["temperature"] for v in values(rows(tmp_path, content))] == [
        *[None] * 4,
        *[7.5, "7,5", "NaN", "1e400", "Infinity", "1_0", 0.0],
    ]


def test_a_time_that_cannot_be_read_stays_a_text(tmp_path: Path) -> None:
    content = HEADER + b"yesterday,1,A\n2026-02-30 00:00:00,1,A\n-,1,A\n"
    found = [v["at"] for v in values(rows(tmp_path, content))]
    assert found == ["yesterday", "2026-02-30 00:00:00", None]


def test_malformed_rows_are_sent_as_lists(tmp_path: Path) -> None:
    content = HEADER + b'only,two\n1,2,3,4\n"a"b,1,A\n' + GOOD
    found = rows(tmp_path, content)
    assert values(found) == [["only", "two"], ["1", "2", "3", "4"], ['"a"b,1,A'], MADE]
    assert [row.whole for row in found] == [False, False, False, True]


def test_bytes_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, HEADER + b"2026-01-02 03:04:05,7.5,Caf\xe9\n")
    assert b'"Caf\xe9"' in row.value
    assert row.key == b"Caf\xe9"


def test_quotes_commas_and_line_ends_within_a_cell(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, HEADER + b'2026-01-02 03:04:05,7.5,"a ""b"", c\r\nd"\n')
    assert json.loads(row.value)["station"] == 'a "b", c\r\nd'


def test_a_missing_key_is_no_key(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, HEADER + b"2026-01-02 03:04:05,7.5,-\n")
    assert row.key is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty; its first line must hold the columns' names"),
        (
            b"Date,Temp,Temp,Station\n",
            "producer.replay.columns.temperature: the column 'Temp' stands 2 times, at positions "
            "2 and 3; map a column that stands once",
        ),
        (
            b"Date,Tmp,Station\n",
            "producer.replay.columns.temperature: no column is named 'Temp'; there are 'Date', "
            "'Tmp', 'Station'; did you mean 'Tmp'?",
        ),
        (
            HEADER + GOOD + b'2026-01-02 03:04:05,"7.5,A\n' + GOOD,
            "a quote opened in line 3 or below is not closed",
        ),
        # With a time of its own the test's name would change from one second to the next.
        (gzip.compress(HEADER + GOOD * 99, mtime=0)[:-9], "is damaged after line"),
        (lzma.compress(HEADER + GOOD * 99)[:-9], "is damaged after line"),
    ],
)
def test_a_file_that_cannot_be_mapped_says_what_to_do(
    tmp_path: Path, content: bytes, text: str
) -> None:
    with pytest.raises(StreamkeeperError) as caught:
        rows(tmp_path, content)
    assert text in str(caught.value)
    assert str(tmp_path / "file.csv") in str(caught.value)


def test_a_name_that_stands_twice_but_is_not_mapped_is_no_matter(tmp_path: Path) -> None:
    content = b"Date,x,Temp,Station,x\n2026-01-02 03:04:05,1,7.5,A,2\n"
    assert values(rows(tmp_path, content)) == [MADE]


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("Europe/Paris", "2026-07-01 12:00:00", "2026-07-01T10:00:00.000Z"),
        ("Europe/Paris", "2026-10-25 02:30:00", "2026-10-25T00:30:00.000Z"),  # twice: the first
        ("Europe/Paris", "2026-03-29 02:30:00", "2026-03-29 02:30:00"),  # skipped by the clocks
        ("America/New_York", "2026-01-01 00:00:00", "2026-01-01T05:00:00.000Z"),
    ],
)
def test_local_times(zone: str, local: str, instant: str) -> None:
    column = ReplayColumn(column="t", format="%Y-%m-%d %H:%M:%S", zone=zone)
    assert json.loads(converter(FieldSpec(type="timestamp"), column, ())(local)) == instant


@pytest.mark.parametrize(
    ("form", "cell", "value"),
    [
        ("iso8601", "01/02/2026 03:04:05.123456 +0100", "2026-02-01T02:04:05.123456Z"),
        ("epoch_s", "01/02/2026 03:04:05.000000 +0000", 1_769_915_045),
        ("epoch_ms", "01/02/2026 03:04:05.250000 +0000", 1_769_915_045_250),
    ],
)
def test_times_with_an_offset_as_their_field_wants_them(form: Any, cell: str, value: Any) -> None:
    column = ReplayColumn(column="t", format="%d/%m/%Y %H:%M:%S.%f %z")
    made = converter(FieldSpec(type="timestamp", format=form), column, ())(cell)
    assert json.loads(made) == value


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("integer", "007", 7),
        ("integer", "7.0", 7.0),
        ("integer", "seven", "seven"),
        ("integer", "1" * 30, int("1" * 30)),
        ("boolean", "TRUE", True),
        ("boolean", "yes", "yes"),
        ("string", " 7 ", " 7 "),
        ("double", "٧", "٧"),
    ],
)
def test_types(kind: Any, cell: str, value: Any) -> None:
    made = converter(FieldSpec(type=kind), ReplayColumn(column="t"), ("",))(cell)
    made = json.loads(made)
    assert made == value
    assert type(made) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_keeps_its_value(number: float) -> None:
    convert = converter(FieldSpec(type="double"), ReplayColumn(column="t"), ("-",))
    assert json.loads(convert(repr(number))) == number


@given(st.text(), st.sampled_from(["string", "integer", "double", "boolean", "timestamp"]))
def test_no_cell_is_ever_dropped(cell: str, kind: Any) -> None:
    column = ReplayColumn(column="t", format="%Y" if kind == "timestamp" else None, zone="UTC")
    made = converter(FieldSpec(type=kind), column, ("NA",))(cell)
    made = json.loads(made)
    assert (made is None) == (cell.strip() == "NA" and (kind != "string" or cell == "NA"))
    if isinstance(made, str) and kind != "timestamp":
        assert made == cell


ROWS = st.lists(
    st.sampled_from(
        [
            *("2026-01-02 03:04:05,7.5,A", "2026-01-02 03:04:05,-9999.0,", "x,1_0,B", "", "a,b"),
            *('2026-01-02 03:04:05,7,"a,b"', '"2026-01-02 03:04:05","1\n2","c\nd"', '"a"b,1,2'),
            *("2026-01-02 03:04:05, 8 , A ", '2026-01-02 03:04:05,"7",""', '"2",3', "Ü,∞,\t"),
        ]
    ),
    max_size=40,
)


@given(ROWS, st.integers(1, 9))
def test_many_rows_at_once_are_what_each_is_alone(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], together: int
) -> None:
    folder = tmp_path_factory.mktemp("x")
    before = csv_rows._ROWS
    csv_rows._ROWS = together
    try:
        found = rows(folder, HEADER + "\n".join(lines).encode())
    finally:
        csv_rows._ROWS = before
    alone = [row for line in lines for row in rows(folder, HEADER + line.encode())]
    assert found == alone
