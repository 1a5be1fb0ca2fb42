"""Python's garbage in a driver: until it is collected, Spark keeps the plans of past batches."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 10.0


@contextmanager
def sweeping(every_s: float = EVERY_S) -> Iterator[Callable[[], None]]:
    """Give a function to call often, which collects garbage in cycles whenever it is time to.

    Each Java object that Python has called is such a cycle: py4j's object has its methods, and
    they have it. The JVM keeps a batch's plans until the cycle is collected, and of itself Python
    waits for a quarter as many new objects as there are old ones: in a driver that takes minutes,
    and hundreds of plans.

    Parameters: every_s, seconds between two collections.
    """
    gc.collect()
    # What is there now stays: to look at it again would be most of a collection's work.
    gc.freeze()
    last = time.monotonic()

    def sweep() -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            gc.collect()
            last = time.monotonic()

    try:
        yield sweep
    finally:
        gc.unfreeze()
