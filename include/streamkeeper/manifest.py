"""The manifest of a published batch: `_manifest.json` beside its files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

from streamkeeper.names import format_hour, parse_hour

MANIFEST_VERSION: Literal[1] = 1


class Manifest(BaseModel):
    """What one batch covers and holds; written once, never changed.

    `span` maps a partition to (first offset, end offset); `read` = `valid` + `quarantined`;
    `warned_by_rule` counts valid rows that broke a check which only marks them, by its name;
    `corrected_by_kind` those that were corrected, by what was, such as `unit:value`;
    `hours` counts valid rows by event hour (UTC); `first_event` and `last_event` are of valid rows;
    `write_number` orders all writes of all launches; `topic_id` names the topic's incarnation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = MANIFEST_VERSION
    stream: str
    zone: str
    generation: str
    batch: Annotated[int, Field(ge=0)]
    epoch: Annotated[int, Field(ge=0)]
    write_number: Annotated[int, Field(ge=0)]
    topic: str
    topic_id: str
    span: dict[int, tuple[int, int]]
    read: Annotated[int, Field(ge=0)]
    valid: Annotated[int, Field(ge=0)]
    quarantined: Annotated[int, Field(ge=0)]
    quarantined_by_rule: dict[str, int]
    warned_by_rule: dict[str, int] = {}
    corrected_by_kind: dict[str, int] = {}
    hours: dict[datetime, int]
    first_event: datetime | None
    last_event: datetime | None
    files: tuple[str, ...]
    spec_sha256: str
    written_at: datetime

    @field_validator("hours", mode="before")
    @classmethod
    def _read_hours(cls, value: dict[object, int]) -> dict[object, int]:
        return {parse_hour(k) if isinstance(k, str) else k: n for k, n in value.items()}

    @field_serializer("hours")
    def _write_hours(self, value: dict[datetime, int]) -> dict[str, int]:
        return {format_hour(hour): n for hour, n in sorted(value.items())}
