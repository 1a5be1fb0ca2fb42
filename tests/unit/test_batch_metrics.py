"""Metrics of batches: their files, StatsD's names and packets, and what Airflow lets through."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsd_server import Counters
from streamkeeper.manifest import Manifest
from streamkeeper.names import metrics_file, metrics_path
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import MetricsSink
from streamkeeper.statsd import StatsdTarget, name_part
from streamkeeper_io.statsd import StatsdSender
from streamkeeper_spark.sinks.metrics import BatchMetrics

EVERYTHING = load_spec(Path(__file__).parents[1] / "streams" / "everything.yaml")
GENERATION = "00000000-0000-0000-0000-00000000000a"
SCHEMA = pa.schema(
    [("class", pa.string()), ("level", pa.int64()), ("_errors", pa.list_(pa.string()))]
)
# Of class three values and null, of level two; the last row is quarantined.
ROWS = [("2xx", 1), ("2xx", 1), ("4.x x", 2), (None, 2), ("5xx", 1), ("never", 9)]


class Folders:
    """What `LakeFiles` does, on a folder."""

    lake = "file:///"

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def write(self, path: str, text: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("x") as file:
            file.write(text)

    def rename(self, source: str, target: str) -> None:
        if Path(target).exists():
            raise FileExistsError(target)
        Path(source).rename(target)

    def delete(self, path: str) -> None:
        if Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    plain = EVERYTHING.dump()
    plain["lake"]["path"] = str(tmp_path / "lake")
    return Spec.model_validate(plain)


def manifest(batch: int = 7, epoch: int = 3, read: int = len(ROWS)) -> Manifest:
    bad = 1 if read else 0
    return Manifest(
        stream="everything", zone="raw", generation=GENERATION, batch=batch, epoch=epoch,
        write_number=1, topic="t", topic_id="t", span={0: (0, read)}, read=read, valid=read - bad,
        quarantined=bad, quarantined_by_rule={"type:at": bad} if bad else {}, hours={},
        first_event=None, last_event=None, files=("0.parquet",) if read else (), spec_sha256="",
        written_at=datetime(2026, 11, 24, tzinfo=UTC),
    )  # fmt: skip


def published(folder: Path) -> str:
    errors = [None] * (len(ROWS) - 1) + [["type:at"]]
    columns = [[row[0] for row in ROWS], [row[1] for row in ROWS], errors]
    pq.write_table(pa.Table.from_arrays([*map(pa.array, columns[:2]), pa.array(
        columns[2], pa.list_(pa.string()))], schema=SCHEMA), folder / "0.parquet")  # fmt: skip
    return str(folder)


def metrics(spec: Spec, counters: Counters, epoch: int = 3, **changed: Any) -> BatchMetrics:
    sink = MetricsSink(kind="metrics", counts=("class", "level")).model_copy(update=changed)
    sender = StatsdSender(StatsdTarget.read(counters.target))
    return BatchMetrics(spec, sink, Folders(), epoch, sender)  # type: ignore[arg-type]


def test_a_batch_has_one_file_and_is_sent_once(spec: Spec, tmp_path: Path) -> None:
    folder = published(tmp_path)
    with Counters() as counters:
        sink = metrics(spec, counters, rows=2)
        assert sink.apply(manifest(), folder) == 5
        path = Path(metrics_file(spec, GENERATION, 7))
        first = path.read_bytes()
        # Again, by this launch, and by one that does not know what was applied.
        assert sink.apply(manifest(), folder) == 5
        assert metrics(spec, counters).apply(manifest(), folder) == 5
        assert sink.apply(manifest(batch=8, read=0), folder) == 0
        sink.apply(manifest(batch=9), folder)
        base = "test.streamkeeper.everything"
        once = {"class.2xx": 2, "class.4_x_x": 1, "class.others": 2, "level.1": 3, "level.2": 2}
        once |= {"batches": 1, "valid": 5, "quarantined": 1}
        counters.wait_for({f"{base}.{name}": 2 * n for name, n in once.items()})
    assert path.read_bytes() == first
    told = json.loads(first)
    assert told["counts"] == {"class": [["2xx", 2], ["4.x x", 1]], "level": [[1, 3], [2, 2]]}
    assert told["others"] == {"class": 2, "level": 0}
    assert (told["read"], told["valid"], told["quarantined"]) == (6, 5, 1)
    assert (told["batch"], told["quarantined_by_rule"]) == (7, {"type:at": 1})
    assert sorted(p.name for p in Path(metrics_path(spec)).glob("*.json")) == [
        f"batch={GENERATION}-7.json",
        f"batch={GENERATION}-9.json",
    ]
    assert list(Path(metrics_path(spec), "_tmp").iterdir()) == []


def test_batches_of_older_launches_get_their_files_and_are_not_sent(
    spec: Spec, tmp_path: Path
) -> None:
    folder = published(tmp_path)
    left = Path(metrics_path(spec)) / "_tmp" / "3-0"
    left.parent.mkdir(parents=True)
    left.write_text("what a launch that died has left")
    with Counters() as counters:
        sink = metrics(spec, counters, epoch=4, counts=())
        sink.apply(manifest(batch=7, epoch=3), folder)
        sink.apply(manifest(batch=8, epoch=4), folder)
        base = "test.streamkeeper.everything"
        counters.wait_for({f"{base}.batches": 1, f"{base}.valid": 5, f"{base}.quarantined": 1})
    assert Path(metrics_file(spec, GENERATION, 7)).exists()
    assert not left.exists()


def test_a_server_that_cannot_be_reached_holds_up_nothing(
    spec: Spec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = StatsdTarget("127.0.0.1", 8125, ipv6=True)
    sender = StatsdSender(nowhere)
    for _ in range(2):
        sender.add([("a", 1)])
    told = [r.getMessage() for r in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("metrics cannot be sent to 127.0.0.1:8125: ")
    StatsdSender(None).add([("a", 1)])


@pytest.mark.parametrize(
    ("allow", "block", "sent"),
    [
        ("", "", True),
        ("streamkeeper", "", True),
        ("^scheduler, ^STREAMKEEPER", "", True),
        ("^scheduler,executor", "", False),
        ("", "scheduler", True),
        ("", r"status\.2", False),
        ("streamkeeper", "streamkeeper", True),
    ],
)
def test_airflows_lists_count(allow: str, block: str, sent: bool) -> None:
    target = StatsdTarget("h", 1, "airflow", allow=allow, block=block)
    assert target.lets_through("streamkeeper.logs.status.200") is sent
    assert bool(list(target.packets([("streamkeeper.logs.status.200", 1)]))) is sent


@given(st.lists(st.tuples(st.text("ab.", min_size=1, max_size=300), st.integers(0, 10**9))))
def test_packets_hold_every_counter_in_their_order(counts: list[tuple[str, int]]) -> None:
    packets = list(StatsdTarget("h", 1, "p").packets(counts))
    assert all(0 < len(packet) <= 1400 for packet in packets)
    lines = [line for packet in packets for line in packet.decode().split("\n")]
    assert lines == [f"p.{name}:{n}|c" for name, n in counts if len(name) <= 248]


@given(st.text() | st.integers() | st.none() | st.booleans() | st.floats())
def test_any_value_makes_a_part_of_a_name(value: object) -> None:
    part = name_part(value)
    assert part
    assert set(part) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def test_a_target_comes_back_as_it_was() -> None:
    target = StatsdTarget("h", 8125, "", ipv6=True, allow="a,b", block="c")
    assert StatsdTarget.read(target.dump()) == target
    assert StatsdTarget.read({}) is None
