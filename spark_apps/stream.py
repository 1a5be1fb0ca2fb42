"""Runs one launch: `spark-submit spark_apps/stream.py --launch FOLDER/launch.json`.

Settings come from the environment (STREAMKEEPER_...). The exit code tells the keeper what the end
means: 0 drained, 75 something outside is away, 77 a newer launch took over, 78 two records of one
fact differ, 79 a record broke a check that ends the stream, 1 anything else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from streamkeeper.redaction import redact_logs
from streamkeeper.settings import Settings
from streamkeeper_spark.driver import Driver, Snapshot
from streamkeeper_spark.entry import leave, speak_utf8
from streamkeeper_spark.session import running_session


def main() -> int:
    """Run the launch; return its exit code."""
    parser = argparse.ArgumentParser(prog="stream.py", description=__doc__)
    parser.add_argument("--launch", type=Path, required=True, metavar="FILE")
    snapshot = Snapshot.read(parser.parse_args().launch)
    speak_utf8()
    settings = Settings.from_environment()
    redact_logs(settings.secrets())
    name = f"streamkeeper {snapshot.launch.name} launch {snapshot.launch.epoch}"
    with running_session(settings, name) as spark:
        return Driver(spark, settings, snapshot).run().code


if __name__ == "__main__":
    leave(main())
