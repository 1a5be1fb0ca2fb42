"""Access logs as records, held against an independent reading of a real one."""

from __future__ import annotations

import json
import lzma
import shlex
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from access_log import real_lines
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.logs import LogFile, log_time
from streamkeeper_apps.producer.messages import HOUR_US
from streamkeeper_apps.producer.records import Record

PARTS = {
    **{"host": "string", "identity": "string", "user": "string", "time": "timestamp"},
    **{"request": "string", "method": "string", "path": "string", "protocol": "string"},
    **{"status": "integer", "bytes": "integer", "referer": "string", "agent": "string"},
}
COMMON = b'127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'
COMBINED = COMMON + b' "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"'


def declare(form: str = "apache_combined", **replay: Any) -> Spec:
    parts = {
        p: k
        for p, k in PARTS.items()
        if form != "apache_common" or p[0] not in "ra" or p == "request"
    }
    return Spec.model_validate(
        {
            "name": "requests",
            "description": "x",
            "app": "requests",
            "source": {"kafka": {"topic": "requests"}},
            "fields": {part: {"type": kind} for part, kind in parts.items()},
            "event_time": {"field": "time"},
            "lake": {"path": "/requests"},
            "producer": {
                "replay": {"format": form, "columns": {p: p for p in parts}, "key": "host"} | replay
            },
        }
    )


def records(folder: Path, content: bytes, form: str = "apache_combined") -> list[Record]:
    path = folder / "access.log"
    path.write_bytes(content)
    file = LogFile(path, declare(form))
    try:
        return list(file.records())
    finally:
        file.close()


def one(folder: Path, line: bytes, form: str = "apache_combined") -> dict[str, Any]:
    (record,) = records(folder, line, form)
    assert record.whole
    found: dict[str, Any] = json.loads(record.value)
    return found


def test_every_part_of_a_line(tmp_path: Path) -> None:
    expected = {
        "host": "127.0.0.1",
        "identity": None,
        "user": "frank",
        "time": "2000-10-10T20:55:36.000Z",
        "request": "GET /apache_pb.gif HTTP/1.0",
        "method": "GET",
        "path": "/apache_pb.gif",
        "protocol": "HTTP/1.0",
        "status": 200,
        "bytes": 2326,
        "referer": "http://www.example.com/start.html",
        "agent": "Mozilla/4.08 [en] (Win98; I ;Nav)",
    }
    assert one(tmp_path, COMBINED + b"\r\n\r\n") == expected
    common = {k: v for k, v in expected.items() if k not in ("referer", "agent")}
    assert one(tmp_path, COMMON, "apache_common") == common


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        (b"200 2326", b"304 -", {"status": 304, "bytes": None}),
        (b'"http://www.example.com/start.html"', b'"-"', {"referer": None}),
        (
            b"GET /apache_pb.gif HTTP/1.0",
            b"-",
            dict.fromkeys(("request", "method", "path", "protocol")),
        ),
        (b" HTTP/1.0", b"", {"request": "GET /apache_pb.gif", "protocol": None, "method": "GET"}),
        (
            b"GET /apache_pb.gif HTTP/1.0",
            rb"\x16\x03\x01 \"x",
            {"request": r"\x16\x03\x01 \"x", "method": r"\x16\x03\x01", "path": r"\"x"},
        ),
        (b"frank", b"frank o'hara", {"user": "frank o'hara"}),
        (b"10/Oct", b"31/Feb", {"time": "31/Feb/2000:13:55:36 -0700"}),
        (b"127.0.0.1", b"2001:db8::1", {"host": "2001:db8::1"}),
    ],
)
def test_quirks_of_lines(tmp_path: Path, old: bytes, new: bytes, changed: dict[str, Any]) -> None:
    assert old in COMBINED
    plain = one(tmp_path, COMBINED)
    found = one(tmp_path, COMBINED.replace(old, new))
    assert {k: v for k, v in found.items() if k in changed} == changed
    same = set(plain) - set(changed) - {"request", "method", "path", "protocol"}
    assert {k: found[k] for k in same} == {k: plain[k] for k in same}


@pytest.mark.parametrize(
    "line",
    [
        COMMON,
        COMBINED[:-1],
        COMBINED + b" 12",
        b"nothing of the kind",
        COMBINED.replace(b"200", b"20"),
        b"\xff\xfe",
    ],
)
def test_a_line_of_another_form_is_sent_as_it_stands(tmp_path: Path, line: bytes) -> None:
    assert records(tmp_path, line + b"\n" + COMBINED)[0] == (None, line, None, False)


def test_bytes_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    (record,) = records(tmp_path, COMBINED.replace(b"start", b"caf\xe9"))
    assert b'"referer":"http://www.example.com/caf\xe9.html"' in record.value


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("17/May/2015:10:05:03 +0000", datetime(2015, 5, 17, 10, 5, 3, tzinfo=UTC)),
        ("01/Jan/2026:00:30:00 +0530", datetime(2025, 12, 31, 19, 0, tzinfo=UTC)),
        ("17/Mai/2015:10:05:03 +0000", None),
        ("17/May/2015:10:05:60 +0000", None),
        ("17/May/2015:10:05:03", None),
        ("17/May/2015:25:05:03 +0000", None),
        ("17/May/2015:10:05:03 +9900", None),
        ("", None),
    ],
)
def test_times(written: str, instant: datetime | None) -> None:
    assert log_time(written) == instant


def by_shlex(line: str) -> tuple[str, int, int | None] | None:
    """Return hour, status and bytes of a line, read by another way than the code's."""
    head, _, rest = line.partition("[")
    stamp, _, tail = rest.partition("] ")
    try:
        request, status, size, *others = shlex.split(tail.replace("'", "\\'"))
    except ValueError:
        return None
    assert len(others) == 2, line
    assert len(head.split()) == 3
    assert request
    hour = datetime.strptime(stamp, "%d/%b/%Y:%H:%M:%S %z").strftime("%Y-%m-%dT%H")
    return hour, int(status), None if size == "-" else int(size)


@pytest.mark.parametrize("pack", [bytes, lzma.compress])
def test_a_real_log_is_read_whole(tmp_path: Path, pack: Any) -> None:
    lines = real_lines()
    found = records(tmp_path, pack(b"\n".join(lines) + b"\n"))
    assert len(found) == len(lines) == 10_000
    expected = [by_shlex(line.decode()) for line in lines]
    assert Counter(record.whole for record in found) == Counter(e is not None for e in expected)
    assert [r.value for r in found if not r.whole] == [lines[8898]]
    rows = [json.loads(record.value) for record in found if record.whole]
    read = [(row["time"][:13], row["status"], row["bytes"]) for row in rows]
    assert read == [e for e in expected if e is not None]
    # the event hours that are told to the store are those
    hours = Counter(record.micros // HOUR_US for record in found if record.micros is not None)
    told = {f"{datetime.fromtimestamp(h * 3600, UTC):%Y-%m-%dT%H}": n for h, n in hours.items()}
    assert told == Counter(hour for hour, _, _ in read)
    assert sum(size or 0 for _, _, size in read) > 10**6
