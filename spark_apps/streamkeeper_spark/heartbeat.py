"""The heartbeat: tells the store that the launch lives, and hears whether it is to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from streamkeeper.errors import StoreUnavailable
from streamkeeper_io.store import Store

log = logging.getLogger(__name__)
EVERY_S = 1.0


class Heartbeat(threading.Thread):
    """Beats every second in a thread of its own: a store that hangs must not hold up the driver.

    Parameters: store; epoch; progress, returns the launch's account of itself; stop, is set when a
    stop was requested.
    """

    def __init__(
        self,
        store: Store,
        epoch: int,
        progress: Callable[[], dict[str, Any]],
        stop: threading.Event,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._store, self._epoch, self._progress, self._stop_asked = store, epoch, progress, stop
        self._ended = threading.Event()
        self._away = False

    def run(self) -> None:
        """Beat until ended."""
        while True:
            self.beat()
            if self._ended.wait(EVERY_S):
                return

    def beat(self) -> None:
        """Beat once; a store that is away is told once and tried again."""
        try:
            launch = self._store.heartbeat(self._epoch, self._progress())
        except StoreUnavailable as error:
            if not self._away:
                log.warning("the store is away; landing goes on: %s", error)
            self._away = True
            return
        except Exception:
            log.exception("the heartbeat failed")
            return
        if self._away:
            log.warning("the store is back")
            self._away = False
        if launch.stop_requested_at is not None and not self._stop_asked.is_set():
            log.warning("stop requested by %s", launch.stop_requested_by)
            self._stop_asked.set()

    def end(self) -> None:
        """Stop beating."""
        self._ended.set()
        self.join(5)
