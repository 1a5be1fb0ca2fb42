"""What every sink must hold to, tried with real published batches."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from drivers import wait_for
from sink_batches import Row, extreme_rows, publish, row

from streamkeeper import names
from streamkeeper.errors import Unavailable
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName
from streamkeeper.spec.models import Spec
from streamkeeper_spark.sinks.follower import Sink


def folder_of(spec: Spec, manifest: Manifest) -> str:
    """Return the folder of a published batch."""
    zone = manifest.zone
    root = names.raw_path(spec) if zone == "raw" else names.window_path(spec, zone[8:])
    return f"{root}/{BatchName(manifest.generation, manifest.batch).folder}"


def check_sink(
    sink: Sink, spec: Spec, batches: Sequence[Manifest], content: Callable[[], Any]
) -> None:
    """Hold a sink against its contract: applying batches again changes nothing.

    Parameters: batches, all that it has applied, in their order, with rows in at least two of
    them; content, returns all that it keeps, with whatever orders its writes.
    """
    before = content()
    assert before
    filled = [m for m in batches if m.valid]
    assert len(filled) > 1
    last = filled[-1]
    # The same batch twice, as after a crash between the writing and the mark.
    rows = sink.apply(last, folder_of(spec, last))
    assert rows > 0
    assert sink.apply(last, folder_of(spec, last)) == rows
    assert content() == before
    # All of them again in the wrong order: what came later stays.
    for manifest in reversed(batches):
        sink.apply(manifest, folder_of(spec, manifest))
    assert content() == before
    # A batch without rows, and one after the connection was closed.
    empty = last.model_copy(update={"read": 0, "valid": 0, "quarantined": 0, "files": ()})
    assert sink.apply(empty, folder_of(spec, last)) == 0
    sink.close()
    assert sink.apply(last, folder_of(spec, last)) == rows
    sink.close()
    assert content() == before


@dataclass
class Kept:
    """A sink's table of the stream `sink_batches.typed_spec`, and how the test gets at it.

    sink: of landed rows, a row for each `k` and `at`; rows: returns the rows of the table, by `k`;
    stop and start: the server; atomic: nothing of a batch is seen before all of it; keyed: a row
    without a part of its key is left out; in_order: a batch is applied once, after those before it.
    """

    spec: Spec
    sink: Sink
    rows: Callable[[], dict[str, Row]]
    stop: Callable[[], None]
    start: Callable[[], None]
    atomic: bool = False
    keyed: bool = True
    in_order: bool = False

    def apply(self, manifest: Manifest) -> int:
        """Apply one batch."""
        return self.sink.apply(manifest, folder_of(self.spec, manifest))


def check_values(kept: Kept) -> None:
    """Nulls, Unicode, extreme numbers and times come back as they were; null replaces a value."""
    sent = extreme_rows()
    assert kept.apply(publish(kept.spec, sent, batch=0)) == len(sent)
    _same(kept, sent)
    changed = [row("nulls", text="now", whole=1), row("last", at=sent[5]["at"])]
    assert kept.apply(publish(kept.spec, changed, batch=1)) == 2
    _same(kept, [*sent, *changed])


def _same(kept: Kept, sent: Sequence[Row]) -> None:
    found, expected = kept.rows(), {r["k"]: r for r in sent}
    assert set(found) == set(expected)
    for key, row_ in expected.items():
        assert found[key] == row_, f"{found[key]} is not {row_}"


def check_older_fields(kept: Kept) -> None:
    """A batch that landed before fields were declared has nulls there; without a key, no row."""
    lacks = ["number", "small", "at"]
    keyless = publish(kept.spec, [row("older fields")], batch=6, without=lacks)
    assert kept.apply(keyless) == (0 if kept.keyed else 1)
    landed = publish(kept.spec, [row("older fields", whole=1)], batch=7, without=lacks[:2])
    assert kept.apply(landed) == 1
    assert kept.rows()["older fields"] == row("older fields", whole=1)


def check_empty(kept: Kept) -> None:
    """An empty batch is applied and changes nothing."""
    before = kept.rows()
    assert kept.apply(publish(kept.spec, [], batch=2)) == 0
    assert kept.rows() == before


def check_late_write(kept: Kept) -> None:
    """What an older epoch still writes after a newer one changes nothing of the newer one's."""
    if kept.in_order:
        _check_late_batch(kept)
    else:
        sent = [row("late", whole=1), row("older", whole=1)]
        older = publish(kept.spec, sent, batch=3, epoch=2)
        kept.apply(publish(kept.spec, [row("late", whole=2)], batch=4, epoch=3))
        kept.apply(older)
        found = kept.rows()
        assert (found["late"]["whole"], found["older"]["whole"]) == (2, 1)
    # Of one key twice in a batch the last by partition and offset is it.
    both = [row("twice", whole=n) for n in (1, 2, 3)]
    kept.apply(publish(kept.spec, both, batch=5, epoch=3))
    assert kept.rows()["twice"]["whole"] == 3


def _check_late_batch(kept: Kept) -> None:
    """Two launches have written a batch of one number; the older one's comes last, and too late.

    A sink that applies batches in order knows a late write by the batch's number alone.
    """
    lake = kept.spec.lake
    aside = lake.model_copy(update={"path": f"{lake.path}-older"})
    spec = kept.spec.model_copy(update={"lake": aside})
    older = publish(spec, [row("late", whole=1), row("older", whole=1)], batch=3, epoch=2)
    kept.apply(publish(kept.spec, [row("late", whole=2)], batch=3, epoch=3))
    kept.sink.apply(older, folder_of(spec, older))
    found = kept.rows()
    assert found["late"]["whole"] == 2
    assert "older" not in found


def check_away(kept: Kept) -> None:
    """A server that is away is told as Unavailable; once it is back the batch goes through."""
    batch = publish(kept.spec, [row("away", text="and back")], batch=9, epoch=3)
    kept.stop()
    try:
        with pytest.raises(Unavailable):
            kept.apply(batch)
        kept.sink.close()
        with pytest.raises(Unavailable):
            kept.apply(batch)
    finally:
        kept.sink.close()
        kept.start()
    assert kept.apply(batch) == 1
    assert kept.rows()["away"]["text"] == "and back"


def check_killed(kept: Kept, writer: Callable[[Manifest, Path], Sequence[str]], told: Path) -> None:
    """A writer killed between writing and committing: the batch again, and all is as it should be.

    Parameters: writer, the command of a process that applies a batch, stops after its rows are
    written and before that is committed, and makes the file `told` then.
    """
    before = kept.rows()
    batch = publish(kept.spec, [row(f"killed {n}", whole=n) for n in range(100)], batch=8, epoch=3)
    process = subprocess.Popen(writer(batch, told))
    try:
        wait_for(lambda: told.exists() or process.poll() is not None, "the rows to be written", 60)
        assert told.exists(), "the writer ended"
    finally:
        process.kill()
        process.wait()
    half = kept.rows()
    assert half == before or not kept.atomic
    assert {k: r for k, r in half.items() if not k.startswith("killed")} == before
    assert kept.apply(batch) == 100
    assert {r["whole"] for k, r in kept.rows().items() if k.startswith("killed")} == set(range(100))
    assert {k: r for k, r in kept.rows().items() if not k.startswith("killed")} == before
