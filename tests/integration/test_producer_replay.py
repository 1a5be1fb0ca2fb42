"""Replaying files into a real topic: every record arrives, or is counted and named."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from drivers import wait_for
from topics import InThread, read_topic

from streamkeeper.launches import EXIT_UNAVAILABLE
from streamkeeper.settings import Settings
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_io import kafka
from streamkeeper_io.store import Store

CSV = {
    "at": {"column": "when", "format": "%Y-%m-%d %H:%M", "zone": "Europe/Paris"},
    "level": {"column": "level"},
    "note": {"column": "note"},
}


class Replays:
    """Declares streams with a replay and runs them; what was started is ended."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self._settings = settings.model_copy(update={"streams": folder})
        self._started: list[InThread] = []

    def declare(self, **replay: Any) -> str:
        """Declare a stream; return its name, which its topic has too."""
        name = f"replayed_{secrets.token_hex(4)}"
        declaration = {
            "description": "Records of files",
            "source": {"kafka": {"topic": name, "partitions": 1}},
            "fields": {
                "at": {"type": "timestamp", "required": True},
                "level": {"type": "double"},
                "note": {"type": "string"},
            },
            "event_time": {"field": "at"},
            "lake": {"path": f"/{name}"},
            "producer": {"replay": replay},
        }
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(declaration))
        return name

    def start(self, name: str, *arguments: Any) -> InThread:
        """Start a replay."""
        producing = InThread(self._settings, ["replay", name, *map(str, arguments)])
        self._started.append(producing)
        return producing

    def run(self, name: str, *arguments: Any, code: int = 0) -> InThread:
        """Run a replay to its end."""
        producing = self.start(name, *arguments)
        assert producing.code() == code, producing.said
        return producing

    def end(self) -> None:
        """End whatever still runs."""
        for producing in self._started:
            producing.end()


@pytest.fixture
def replays(settings: Settings, store: Store, tmp_path: Path) -> Iterator[Replays]:
    found = Replays(settings, tmp_path)
    yield found
    found.end()


def of_csv(replays: Replays) -> str:
    return replays.declare(columns=CSV, missing=["", "-"], delimiter=";")


def levels(settings: Settings, topic: str) -> list[float]:
    return [json.loads(m.value)["level"] for m in read_topic(settings, topic)]


def test_every_row_of_csv_arrives_and_is_accounted_for(
    settings: Settings, store: Store, replays: Replays, tmp_path: Path
) -> None:
    name = of_csv(replays)
    plain, packed = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    plain.write_bytes(
        b"\xef\xbb\xbfwhen;level;note\r\n2026-07-01 12:00;1.5;a;b\r\n"
        b'2026-07-01 12:00;1.5;"a;b"\r\n\r\n2026-07-01 12:00;-;\r\n'
    )
    packed.write_bytes(gzip.compress(b"note;level;when\n\xff;high;soon\n"))
    producing = replays.run(name, plain, packed)
    assert (
        "records read 4 (1 malformed, sent as lists and so quarantined; 1 blank lines left out); "
        "sent 4, acknowledged 4"
    ) in producing.said
    assert "csv, as fast as it goes: " in producing.said
    values = [m.value for m in read_topic(settings, name)]
    assert [json.loads(v) for v in values[:3]] == [
        ["2026-07-01 12:00", "1.5", "a", "b"],
        {"at": "2026-07-01T10:00:00.000Z", "level": 1.5, "note": "a;b"},
        {"at": "2026-07-01T10:00:00.000Z", "level": None, "note": None},
    ]
    assert values[3] == b'{"at":"soon","level":"high","note":"\xff"}'
    told = {str(hour.hour): (hour.sent, hour.acked) for hour in store.produced(name)}
    assert told == {"2026-07-01 10:00:00+00:00": (2, 2), "None": (2, 2)}
    [launch] = store.launches("by_hand", name)
    assert (launch.exit_code, launch.reason) == (0, "all sent")


def test_json_and_logs_arrive_with_a_limit_and_go_on_where_they_stopped(
    settings: Settings, replays: Replays, tmp_path: Path
) -> None:
    rows = [
        {"at": f"2026-07-01T10:{n // 60:02d}:{n % 60:02d}Z", "level": n, "note": f"é{n}"}
        for n in range(1200)
    ]
    lines = [json.dumps(row).encode() for row in rows]
    files = {
        "json_lines": b"\n".join([*lines[:600], b"{broken", *lines[600:]]),
        "json_array": json.dumps(rows, indent=1).encode(),
        "apache_common": b"\n".join(
            b'h - - [01/Jul/2026:10:00:%02d +0000] "GET / HTTP/1.1" 200 %d' % (n % 60, n)
            for n in range(1200)
        ),
    }
    columns = {"apache_common": {"at": "time", "level": "bytes", "note": "request"}}
    for form, content in files.items():
        name = replays.declare(format=form, columns=columns.get(form, {}))
        path = tmp_path / f"{form}.xz"
        path.write_bytes(lzma.compress(content))
        first = replays.run(name, path, "--limit", 700)
        assert "go on with record 701: --skip 700" in first.said
        second = replays.run(name, path, "--skip", 700)
        assert "go on with" not in second.said
        read = [m.value for m in read_topic(settings, name)]
        whole = [value for value in read if value != b"{broken"]
        assert [json.loads(value)["level"] for value in whole] == list(range(1200)), form
        if form == "json_lines":
            assert whole == lines, "as they stand, byte by byte"
            assert read[600] == b"{broken"
            assert "1 malformed, sent as they stand and so quarantined" in first.said


def test_a_row_that_kafka_refuses_is_counted(
    settings: Settings, replays: Replays, tmp_path: Path
) -> None:
    name, file = of_csv(replays), tmp_path / "a.csv"
    rows = ["when;level;note", "2026-07-01 12:00;1;a", f"2026-07-01 12:00;2;{'x' * 2_000_000}"]
    file.write_text("\n".join([*rows, "2026-07-01 12:00;3;b"]))
    producing = replays.run(name, file, code=1)
    assert "sent 3, acknowledged 2, refused or given up 1" in producing.said
    assert "refused: message 2: " in producing.said
    assert levels(settings, name) == [1.0, 3.0]


def test_a_file_that_does_not_fit_sends_nothing(
    settings: Settings, replays: Replays, tmp_path: Path
) -> None:
    name = of_csv(replays)
    good, wrong = tmp_path / "a.csv", tmp_path / "b.csv"
    good.write_text("when;level;note\n2026-07-01 12:00;1;a\n")
    wrong.write_text("when;note\n2026-07-01 12:00;a\n")
    producing = replays.run(name, good, wrong, code=1)
    assert "producer.replay.columns.level: no column is named 'level'" in producing.said
    assert kafka.end_offsets_of(kafka.Admin(settings), [name]) == {}


def test_a_damaged_archive_tells_what_was_sent(
    settings: Settings, replays: Replays, tmp_path: Path
) -> None:
    name, file = of_csv(replays), tmp_path / "a.csv.gz"
    rows = [f"2026-07-01 12:00;{n};{secrets.token_hex(50)}" for n in range(2000)]
    text = "\n".join(["when;level;note", *rows])
    file.write_bytes(gzip.compress(text.encode())[:-20_000])
    producing = replays.run(name, file, code=1)
    assert "is damaged after line" in producing.said
    sent = levels(settings, name)
    assert sent == list(range(len(sent)))
    assert f"sent {len(sent):,}, acknowledged {len(sent):,}" in producing.said
    assert f"go on with record {len(sent) + 1:,}: --skip {len(sent)}" in producing.said


def test_a_stop_and_a_broker_that_dies_lose_nothing_and_name_the_rest(
    settings: Settings, stack: LocalStack, replays: Replays, tmp_path: Path
) -> None:
    """Ten minutes at a pace: stopped, gone on, the broker killed in between, gone on again."""
    name, file = replays.declare(format="json_lines"), tmp_path / "a.jsonl"
    rows = [
        {"at": f"2026-07-01T10:{n // 60:02d}:{n % 60:02d}Z", "level": n, "note": "x" * 50}
        for n in range(600)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))

    def end() -> int:
        return sum(kafka.end_offsets(kafka.Admin(settings), name)[1].values())

    producing = replays.start(name, file, "--pace", "10x")
    producing.says("json_lines, 10 times as it was")
    wait_for(lambda: kafka.end_offsets_of(kafka.Admin(settings), [name]) and end() > 5, "records")
    producing.stop()
    assert producing.code() == 1, producing.said
    skip = int(re.search(r"--skip (\d+)", producing.said)[1])  # type: ignore[index]
    assert "ended before the end of the files: SIGTERM" in producing.said
    assert 5 < skip < 600
    assert levels(settings, name) == list(range(skip)), "all that was sent and nothing twice"

    dying = replays.start(name, file, "--pace", "100x", "--skip", skip, "--wait", 3)
    wait_for(lambda: end() > skip + 50, "more records")
    stack.kill("kafka")
    try:
        assert dying.code() == EXIT_UNAVAILABLE, dying.said
    finally:
        stack.start("kafka")
    lost = re.search(r"not acknowledged: records (\d+)-(\d+) \(([\d,]+)\)", dying.said)
    assert lost is not None, dying.said
    again = int(re.search(r"--skip (\d+)", dying.said)[1])  # type: ignore[index]
    assert int(lost[1]) == again + 1
    there = Counter(map(int, levels(settings, name)))
    assert all(there[n] == 1 for n in range(again)), "what was acknowledged is there"
    acked = int(re.search(r"acknowledged (\d+)", dying.said)[1])  # type: ignore[index]
    assert acked == again - skip

    replays.run(name, file, "--skip", again)
    there = Counter(map(int, levels(settings, name)))
    assert set(there) == set(range(600)), "nothing is missing"
    assert all(n >= again for n, count in there.items() if count > 1)
