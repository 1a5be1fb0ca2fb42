"""A sink's thread: applies published batches in order and keeps the sink's mark."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from streamkeeper.errors import StoreUnavailable, TableDiffers, Unavailable
from streamkeeper.manifest import Manifest
from streamkeeper.names import BatchName
from streamkeeper_io.lake import published_batches, read_manifest
from streamkeeper_io.store import Store

log = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 15.0


class Sink(Protocol):
    """Where the rows of published batches go.

    `name` identifies the sink's content: a sink with another name begins with the first batch.
    """

    name: str

    def apply(self, manifest: Manifest, folder: str) -> int:
        """Write the rows of one published batch; repeating it changes nothing.

        Parameters: folder, the batch's folder in the lake.
        Returns how many rows. Raises Unavailable, TableDiffers.
        """

    def close(self) -> None:
        """Close the connection; the next apply opens another."""


@runtime_checkable
class MarkingSink(Sink, Protocol):
    """A sink that keeps its mark beside its rows; the store's copy is for others to read."""

    def mark(self) -> Mapping[str, int]:
        """Return the last batch applied of each generation; raises as `apply` does."""


class Follower(threading.Thread):
    """Follows one zone of the lake for one sink.

    What goes wrong makes the sink `behind`; it is tried again and landing goes on.

    Parameters: sink; stream; lake and zone_folder, where batches are published; generations, ids
    in their order, oldest first; store, keeps the mark unless the sink does; without one the sink
    gets new batches only.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        stream: str,
        lake: str,
        zone_folder: str,
        generations: Sequence[str],
        store: Store | None,
    ) -> None:
        super().__init__(name=f"{stream} {sink.name}", daemon=True)
        self.sink, self.stream = sink, stream
        self._lake, self._folder, self._generations = lake, zone_folder, list(generations)
        self._store = store
        self._pending: deque[BatchName] = deque()
        self._changed = threading.Condition()
        self._found = self._ending = self._owes_mark = False
        self.mark: dict[str, int] = {}
        self.rows = 0
        self.state: Literal["starting", "ok", "behind", "failed"] = "starting"
        self.error = ""

    # From other threads
    def notify(self, manifest: Manifest) -> None:
        """Tell of a batch that was published."""
        with self._changed:
            self._pending.append(BatchName(manifest.generation, manifest.batch))
            self._changed.notify_all()

    def finish(self, timeout_s: float) -> bool:
        """Apply what is published, at most for `timeout_s` seconds; tell whether all was."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self.join(timeout_s)
        return not self.is_alive() and self.state == "ok"

    def progress(self) -> dict[str, Any]:
        """Return the sink's account of itself for the heartbeat."""
        told = {
            "mark": dict(self.mark),
            "lag": len(self._pending),
            "rows": self.rows,
            "state": self.state,
            "error": self.error,
        }
        left_out = getattr(self.sink, "left_out", None)
        return told if left_out is None else told | {"left_out": left_out}

    # The thread
    def run(self) -> None:
        """Apply batches until told to finish."""
        pause = 0.5
        while True:
            try:
                if not self._found:
                    self._find()
                self._apply_pending()
                self.state, self.error, pause = "ok", "", 0.5
                if not self._wait_for_more():
                    break
            except Exception as error:
                # A sink that ended silently would look well for ever.
                self._fall_behind(error)
                if self._ending and not isinstance(error, Unavailable):
                    break
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE_S, pause * 2)
        self._keep_mark()
        self.sink.close()

    def _find(self) -> None:
        """Look for batches that were published before, from the mark on."""
        if self._store is None:
            self._found = True
            return
        if isinstance(self.sink, MarkingSink):
            self.mark = dict(self.sink.mark())
        else:
            self.mark = dict(self._store.mark(self.stream, self.sink.name))
        there = [n for n in published_batches(self._lake, self._folder) if self._is_new(n)]
        order = {g: place for place, g in enumerate(self._generations)}
        there = [name for name in there if name.generation in order]
        there.sort(key=lambda name: (order[name.generation], name.batch))
        with self._changed:
            told = [name for name in self._pending if name not in there]
            self._pending = deque([*there, *told])
            self._found = True

    def _is_new(self, name: BatchName) -> bool:
        return name.batch > self.mark.get(name.generation, -1)

    def _apply_pending(self) -> None:
        while self._pending:
            name = self._pending[0]
            if self._is_new(name):
                manifest = read_manifest(self._lake, self._folder, name)
                self.rows += self.sink.apply(manifest, f"{self._folder}/{name.folder}")
                self.mark[name.generation] = name.batch
            with self._changed:
                self._pending.popleft()
        # Also of a sink that had applied everything: who died may not have told the store.
        self._keep_mark()

    def _keep_mark(self) -> None:
        """Store the mark; while the store is away it is owed, or a later one takes its place."""
        if self._store is None:
            return
        self._owes_mark = True
        try:
            for generation, batch in self.mark.items():
                self._store.set_mark(self.stream, self.sink.name, generation, batch)
            self._owes_mark = False
        except StoreUnavailable as error:
            log.warning("%s: the mark is kept later: %s", self.name, error)

    def _wait_for_more(self) -> bool:
        """Wait for batches, and try meanwhile to keep a mark that is owed; False at the end."""
        while True:
            with self._changed:
                if not self._pending and not self._ending:
                    self._changed.wait(_LONGEST_PAUSE_S if self._owes_mark else None)
                if self._pending:
                    return True
                if self._ending:
                    return False
            if self._owes_mark:
                self._keep_mark()

    def _fall_behind(self, error: Exception) -> None:
        told = str(error) or type(error).__name__
        if told != self.error:
            log.warning("%s is behind: %s", self.name, told)
        self.state = "failed" if isinstance(error, TableDiffers) else "behind"
        self.error = told
        self.sink.close()
        # Its table may be made anew or be restored meanwhile, and its mark with it.
        self._found = self._found and not isinstance(self.sink, MarkingSink)
