"""Tries a declaration on live messages: `sample.py --declaration FILE --messages N --result FILE`.

Nothing lands and no offset is committed. Writes what it found as JSON into the result's file: the
counts and examples, or `error` and `code`. Settings come from the environment (STREAMKEEPER_...).
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from streamkeeper.redaction import redact_logs
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper_spark.entry import leave, speak_utf8
from streamkeeper_spark.outcome import outcome_of
from streamkeeper_spark.sampling import take_sample
from streamkeeper_spark.session import running_session


def main() -> int:
    """Try the declaration; return the exit code."""
    parser = argparse.ArgumentParser(prog="sample.py", description=__doc__)
    parser.add_argument("--declaration", type=Path, required=True, metavar="FILE")
    parser.add_argument("--messages", type=int, required=True, metavar="N")
    parser.add_argument("--result", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    speak_utf8(logging.WARNING)
    found, code = _sample(options)
    options.result.write_text(json.dumps(found), encoding="utf-8")
    return code


def _sample(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    settings = Settings.from_environment()
    redact_logs(settings.secrets())
    spec = load_spec(options.declaration)
    try:
        with running_session(settings, f"streamkeeper sample {spec.name}") as spark:
            return take_sample(spark, settings, spec, options.messages), 0
    except Exception as error:
        code, reason = outcome_of(error, "", fenced=False)
        return {"error": settings.redact(reason), "code": code}, code


if __name__ == "__main__":
    leave(main())
