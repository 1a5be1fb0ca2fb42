"""Wait for a condition, show how far it is, give up with what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from streamkeeper.errors import StreamkeeperError, Unavailable

T = TypeVar("T")


class NotSeen(StreamkeeperError):
    """What was waited for did not come."""


def wait_for(
    what: str,
    look: Callable[[], T | None],
    *,
    timeout_s: float,
    every_s: float = 0.5,
    detail: Callable[[], str] = lambda: "",
) -> T:
    """Look again and again until there is something else than None or False; return it.

    Parameters: what, for the message; look, may raise Unavailable for "not yet"; timeout_s;
    every_s, seconds between two looks; detail, what the message tells besides.
    Raises NotSeen after the timeout.
    """
    deadline = time.monotonic() + timeout_s
    last = ""
    while True:
        try:
            found = look()
        except Unavailable as error:
            found, last = None, str(error)
        if found:
            return found
        if time.monotonic() > deadline:
            told = "\n".join(filter(None, (detail(), last)))
            raise NotSeen(f"{what}: not seen within {timeout_s:.0f} s\n{told}".rstrip())
        time.sleep(every_s)
