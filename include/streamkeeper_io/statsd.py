"""Sends metrics over UDP, as StatsD has it: nobody answers, and nothing waits."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable

from streamkeeper.statsd import StatsdTarget

log = logging.getLogger(__name__)


class StatsdSender:
    """Sends counters to a StatsD server.

    What cannot be sent is told once and left out: metrics must hold up nothing.

    Parameters: target, None to send nothing.
    """

    def __init__(self, target: StatsdTarget | None) -> None:
        self._target = target
        self._failed = False

    def add(self, counts: Iterable[tuple[str, int]]) -> None:
        """Add numbers to counters.

        Parameters: counts, name without prefix and number.
        """
        if self._target is None:
            return
        family = socket.AF_INET6 if self._target.ipv6 else socket.AF_INET
        try:
            # Looked up each time: the server may move.
            found = socket.getaddrinfo(
                self._target.host, self._target.port, family, socket.SOCK_DGRAM
            )
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                for packet in self._target.packets(counts):
                    sender.sendto(packet, found[0][4])
        except OSError as error:
            if not self._failed:
                where = f"{self._target.host}:{self._target.port}"
                log.warning("metrics cannot be sent to %s: %s", where, error)
            self._failed = True
            return
        self._failed = False
