"""The declared streams of the project under names of a test's own."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from closes import Stream
from pyspark.sql import SparkSession
from topics import declare

from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_io import kafka
from streamkeeper_io.store import Store


def own_names(path: Path) -> dict[str, Any]:
    """Return a declaration whose stream, topic, folder in the lake and tables nobody else has."""
    tag = secrets.token_hex(4)
    given = load_spec(path).dump()
    given["name"] = given["app"] = f"{path.stem}_{tag}"
    given["source"]["kafka"]["topic"] += f"-{tag}"
    given["lake"]["path"] += f"-{tag}"
    for sink in given["sinks"]:
        for key, joint in (("table", "_"), ("path", "-")):
            if key in sink:
                sink[key] += joint + tag
    return given


def declared(given: dict[str, Any], settings: Settings, folder: Path) -> tuple[Spec, Settings]:
    """Write a declaration into a folder and make its topic; return it and settings that find it."""
    spec = Spec.model_validate(given)
    kafka.ensure_topic(kafka.Admin(settings), spec.source.kafka)
    declare(spec, folder / "declared")
    return spec, settings.model_copy(update={"streams": folder / "declared"})


def declared_stream(
    given: dict[str, Any], spark: SparkSession, settings: Settings, store: Store, folder: Path
) -> Stream:
    """Return a declared stream that is ready to be produced, landed and closed."""
    spec, here = declared(given, settings, folder)
    return Stream(spark, here, store, spec, folder)
