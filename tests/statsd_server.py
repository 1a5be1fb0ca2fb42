"""A StatsD server for tests: it adds up the counters that it is sent."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from typing import Any

from streamkeeper.statsd import StatsdTarget

_LINE = re.compile(r"^([A-Za-z0-9_.-]+):(\d+)\|c$")


class Counters:
    """Listens on a port of its own until it is left; `found` has the sums by name."""

    def __init__(self, **more: Any) -> None:
        self.found: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        given = {"prefix": "test"} | more
        self.target = StatsdTarget("127.0.0.1", self._socket.getsockname()[1], **given).dump()

    def __enter__(self) -> Counters:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()

    def _listen(self) -> None:
        while packet := self._socket.recv(2**16):
            assert len(packet) <= 1400
            lines = [_LINE.match(line) for line in packet.decode().split("\n")]
            assert all(lines), packet
            with self._changed:
                for match in lines:
                    assert match is not None
                    self.found[match[1]] += int(match[2])
                self._changed.notify_all()

    def wait_for(self, expected: dict[str, int], seconds: float = 120) -> None:
        """Return once the sums are these, and no others."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.found == expected, seconds), self.found
