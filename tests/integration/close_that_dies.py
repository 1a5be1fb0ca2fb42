"""Runs spark_apps/close_hours.py and kills itself between the commit and the moves."""

from __future__ import annotations

import os
import runpy
import signal
from pathlib import Path

from streamkeeper_spark.staging import Staging


def die(*_: object) -> None:
    """End this process as a crash would."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Staging.move = die  # type: ignore[assignment, method-assign]
    script = Path(__file__).parents[2] / "spark_apps" / "close_hours.py"
    runpy.run_path(str(script), run_name="__main__")
