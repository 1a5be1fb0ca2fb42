"""The lines of a real access log, or made ones with its quirks.

The log is read from `../shared/data/web_logs` beside the checkout or from the folder that
STREAMKEEPER_TEST_DATA names; where it is absent, lines with the same quirks are made.
"""

from __future__ import annotations

import lzma
import os
import random
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
DATA = Path(os.environ.get("STREAMKEEPER_TEST_DATA", CHECKOUT.parent / "shared" / "data"))


def real_lines() -> list[bytes]:
    """Return 10,000 lines; number 8,899 is cut off."""
    packed = DATA / "web_logs" / "apache_logs.xz"
    if packed.is_file():
        return lzma.decompress(packed.read_bytes()).splitlines()
    dice, lines = random.Random(1), []
    for n in range(10_000):
        at = f"{17 + n // 3000}/May/2015:{n // 125 % 24:02d}:05:{dice.randint(0, 59):02d} +0000"
        size = "-" if n % 22 == 0 else str(dice.randint(0, 10**6))
        agent = "cut off" if n == 8898 else r'Mozilla/5.0 (a \"b\")"'
        lines.append(
            f'10.0.0.{n % 200} - - [{at}] "GET /{n % 97} HTTP/1.1" '
            f'{dice.choice((200, 304, 404))} {size} "-" "{agent}'.encode()
        )
    return lines
