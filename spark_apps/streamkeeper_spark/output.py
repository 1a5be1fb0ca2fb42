"""What the entry points write: one log on the standard output, as UTF-8 and in UTC."""

from __future__ import annotations

import io
import logging
import sys
import time


def speak_utf8(own_level: int = logging.WARNING) -> None:
    """Write the log as UTF-8 whatever the locale is, and escape what cannot be written.

    Parameters: own_level, from which Streamkeeper's own messages are written; those of libraries
    are written from WARNING on.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.WARNING,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    for name in ("streamkeeper", "streamkeeper_spark"):
        logging.getLogger(name).setLevel(own_level)
