"""StatsD: which metrics Airflow's settings let through, their names, and the packets of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LONGEST_NAME = 250
_LONGEST_PACKET = 1400
"""Bytes that pass through a network in one piece."""
_OTHER_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class StatsdTarget:
    """Where metrics go, as Airflow's section `metrics` says.

    prefix: stands before every name; allow and block: patterns, separated by commas, of the names
    that are sent, or are not; with both, `allow` rules.
    """

    host: str
    port: int
    prefix: str = ""
    ipv6: bool = False
    allow: str = ""
    block: str = ""

    @classmethod
    def read(cls, given: dict[str, str]) -> StatsdTarget | None:
        """Read what `dump` wrote; None for nothing."""
        if not given:
            return None
        fields = {**given, "port": int(given["port"]), "ipv6": given.get("ipv6") == "true"}
        return cls(**fields)  # type: ignore[arg-type]

    def dump(self) -> dict[str, str]:
        """Return it as texts, for the settings of a child process."""
        told = {name: str(value) for name, value in vars(self).items()}
        return told | {"ipv6": "true" if self.ipv6 else "false"}

    def lets_through(self, name: str) -> bool:
        """Tell whether Airflow's lists let a metric through; its prefix does not count."""
        listed = self.allow or self.block
        if not listed:
            return True
        patterns = [part.strip().lower() for part in listed.split(",")]
        found = any(re.search(pattern, name.lower()) for pattern in patterns)
        return found == bool(self.allow)

    def packets(self, counts: Iterable[tuple[str, int]]) -> Iterator[bytes]:
        """Yield the packets that add numbers to counters; a name that is too long is left out.

        Parameters: counts, name without prefix and number.
        """
        packet = b""
        for name, count in counts:
            full = f"{self.prefix}.{name}" if self.prefix else name
            if len(full) > _LONGEST_NAME or not self.lets_through(name):
                continue
            line = f"{full}:{count}|c".encode()
            if packet and len(packet) + 1 + len(line) > _LONGEST_PACKET:
                yield packet
                packet = b""
            packet = packet + b"\n" + line if packet else line
        if packet:
            yield packet


def name_part(value: object) -> str:
    """Return a value as a part of a metric's name; what may not stand in one becomes `_`."""
    return "null" if value is None else _OTHER_CHARACTERS.sub("_", str(value)) or "_"
