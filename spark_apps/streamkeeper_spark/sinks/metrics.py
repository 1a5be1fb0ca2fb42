"""Counts of each published batch as metrics: a small file in the lake, and StatsD."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from streamkeeper import names
from streamkeeper.manifest import Manifest
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import MetricsSink
from streamkeeper.statsd import name_part
from streamkeeper_io.statsd import StatsdSender
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.sinks.counts import count_values, most_frequent


class BatchMetrics:
    """Writes a file a batch, exactly once, and sends its counts at most once.

    Counters that are added twice are wrong, and those that are missed are in the files. So only the
    launch that landed a batch sends its counts, and only when it has just published the file.

    Parameters: spec and sink, the declaration; files, of the lake; epoch, of this launch; sender.
    """

    name = "metrics"

    def __init__(
        self, spec: Spec, sink: MetricsSink, files: LakeFiles, epoch: int, sender: StatsdSender
    ) -> None:
        self._spec, self._columns, self._most = spec, sink.counts, sink.rows
        self._files, self._epoch, self._sender = files, epoch, sender
        self._attempts = itertools.count()
        self._ready = False

    def apply(self, manifest: Manifest, folder: str) -> int:
        """Write the file of one published batch and send what it holds; none of an empty one."""
        if manifest.read == 0:
            return 0
        counts = count_values(self._files.lake, manifest, folder, self._columns)
        if self._publish(manifest, counts) and manifest.epoch == self._epoch:
            self._sender.add(self._counters(manifest, counts))
        return manifest.valid

    def close(self) -> None:
        """Nothing is held open."""

    def _publish(self, manifest: Manifest, counts: Mapping[str, Counter[Any]]) -> bool:
        """Publish a batch's file in one step; tell whether it was not there."""
        target = names.metrics_file(self._spec, manifest.generation, manifest.batch)
        if self._files.exists(target):
            return False
        staging = f"{names.metrics_path(self._spec)}/{names.TEMPORARY}"
        if not self._ready:
            # What a launch that died has left is of no use; one that is frozen finds it gone.
            self._files.delete(staging)
            self._ready = True
        aside = f"{staging}/{self._epoch}-{next(self._attempts)}"
        self._files.write(aside, self._text(manifest, counts))
        try:
            self._files.rename(aside, target)
        except FileExistsError:
            self._files.delete(aside)
            return False
        return True

    def _text(self, manifest: Manifest, counts: Mapping[str, Counter[Any]]) -> str:
        told = manifest.model_dump(
            mode="json",
            include={
                *("stream", "generation", "batch", "epoch", "written_at"),
                *("read", "valid", "quarantined", "quarantined_by_rule"),
            },
        )
        shown = {name: most_frequent(found, self._most) for name, found in counts.items()}
        told["counts"] = {
            name: [[_plain(value), number] for value, number in found]
            for name, found in shown.items()
        }
        told["others"] = {
            name: counts[name].total() - sum(number for _, number in found)
            for name, found in shown.items()
        }
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"

    def _counters(
        self, manifest: Manifest, counts: Mapping[str, Counter[Any]]
    ) -> Iterator[tuple[str, int]]:
        base = f"streamkeeper.{self._spec.name}"
        yield f"{base}.batches", 1
        yield f"{base}.valid", manifest.valid
        yield f"{base}.quarantined", manifest.quarantined
        for column, found in counts.items():
            shown = most_frequent(found, self._most)
            # Values that differ in what no name may hold add to one counter.
            yield from ((f"{base}.{column}.{name_part(v)}", number) for v, number in shown)
            if others := found.total() - sum(number for _, number in shown):
                yield f"{base}.{column}.others", others


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else str(value)
