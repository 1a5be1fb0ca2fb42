"""What the entry points share: one log on the standard output, and how a process ends."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from typing import NoReturn

from streamkeeper.errors import StreamkeeperError
from streamkeeper_spark.outcome import outcome_of


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


def report_failure(log: logging.Logger, error: Exception) -> int:
    """Write into the log why an application ends; return its exit code."""
    code, reason = outcome_of(error, "", fenced=False)
    # A person can act on an error of ours as it stands; any other needs its traceback.
    log.error("%s", reason, exc_info=not isinstance(error, StreamkeeperError))
    return code


def leave(code: int) -> NoReturn:
    """End the process at once, whatever threads of Java's gateway still run."""
    sys.stdout.flush()
    os._exit(code)
