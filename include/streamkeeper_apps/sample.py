"""`streamkeeper check --sample`: a declaration tried on live messages by Spark, nothing landed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from streamkeeper.errors import StreamkeeperError, Unavailable
from streamkeeper.launches import EXIT_UNAVAILABLE
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper_io import kafka

MOST = 100_000
_LOG_LINES = 15


def sample(settings: Settings, declaration: Path, messages: int) -> dict[str, Any]:
    """Return what a declaration makes of the newest messages of its topic.

    Parameters: declaration, its file; messages, how many, 1 to 100,000.
    Raises StreamkeeperError, TopicMissing, Unavailable when Kafka does not answer.
    """
    if not 1 <= messages <= MOST:
        raise StreamkeeperError(f"--sample {messages}: between 1 and {MOST:,} messages are tried")
    # Asked before Spark starts, which takes ten seconds.
    kafka.topic_id(kafka.Admin(settings), load_spec(declaration).source.kafka.topic)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, str(_entry()), "--declaration", str(declaration.resolve())]
        command += ["--messages", str(messages), "--result", str(result)]
        done = subprocess.run(
            command,
            env=_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            check=False,
        )
        if not result.is_file():
            tail = "\n".join(done.stdout.splitlines()[-_LOG_LINES:])
            raise StreamkeeperError(f"Spark ended with code {done.returncode}:\n{tail}")
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if "error" in found:
        kind = Unavailable if found["code"] == EXIT_UNAVAILABLE else StreamkeeperError
        raise kind(found["error"])
    return found


def _entry() -> Path:
    found = importlib.util.find_spec("streamkeeper_spark")
    place = Path(str(found.origin)).parents[1] / "sample.py" if found else Path("sample.py")
    if not place.is_file():
        raise StreamkeeperError(f"{place} is missing: --sample needs a checkout with spark_apps/")
    return place


def _environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a session on this machine, whatever runs the streams."""
    here = str(Path(sys.executable).parent)
    return (
        dict(os.environ)
        | settings.model_copy(update={"spark_master": "local[2]"}).environment()
        | {
            "PATH": os.pathsep.join([here, os.environ.get("PATH", os.defpath)]),
            "PYSPARK_PYTHON": sys.executable,
        }
    )


def told(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that tell a sample."""
    spans = ", ".join(
        f"partition {p}: {first}..{end - 1}"
        for p, (first, end) in sorted(found["spans"].items(), key=lambda item: int(item[0]))
        if end > first
    )
    if not spans:
        yield f"topic {found['topic']} holds no message; nothing to try"
        return
    yield f"the newest {found['read']:,} messages of {found['topic']} ({spans})"
    yield f"{found['valid']:,} valid, {found['quarantined']:,} quarantined; nothing has landed"
    for rule, of_rule in found["rules"].items():
        yield f"{rule}: {of_rule['records']:,}"
        for example in of_rule["examples"]:
            place = f"partition {example['partition']} offset {example['offset']}"
            yield f"  {place}: {example['finding']}"
            yield f"    {example['value']}"
    for rule in found["ends"]:
        yield f"{rule} has `on_fail: fail`: the stream would end at the first of them"
    for name, number in found["warned"].items():
        yield f"warning {name}: {number:,}"
    for row in found["rows"]:
        yield "lands as: " + ", ".join(f"{k}={v}" for k, v in row.items() if v is not None)
