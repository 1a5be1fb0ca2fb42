"""The rules of a declaration by name: what may be found wrong with a record."""

from __future__ import annotations

from collections.abc import Iterator

from streamkeeper.spec.durations import format_duration
from streamkeeper.spec.models import Spec


def rules(spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield each rule's name and what a record must be to keep it."""
    yield "parse:empty", "the message has a value"
    yield "parse:utf8", "it is valid UTF-8"
    record = "one JSON object" if spec.source.format == "json" else "one CSV record"
    yield f"parse:{spec.source.format}", f"it is {record} and nothing else"
    for name, field in spec.fields.items():
        yield f"type:{name}", f"{field.type} as declared"
        if field.required or name == spec.event_time.field:
            yield f"required:{name}", "neither missing nor null"
        if field.units is not None:
            landed = ", ".join(field.units.landed)
            told = f"its unit in `{field.units.field}` is one of {landed}, or becomes one of them"
            yield f"unit:{name}", told
        if field.range is not None:
            low, high = ("any" if v is None else f"{v:g}" for v in field.range)
            unit = f" {field.unit}" if field.unit else ""
            yield f"range:{name}", f"from {low} to {high}{unit}"
        if field.allowed is not None:
            more = f" and {len(field.allowed) - 10} more" if len(field.allowed) > 10 else ""
            listed = ", ".join(str(value) for value in field.allowed[:10])
            yield f"allowed:{name}", f"one of {listed}{more}"
    yield "event_time:range", "from 1970 to 2199"
    ahead = format_duration(spec.event_time.max_ahead)
    yield "event_time:max_ahead", f"at most {ahead} after the broker's time"
    if spec.event_time.lateness is not None:
        late = format_duration(spec.event_time.lateness)
        yield "event_time:too_late", f"at most {late} before the broker's time"
    for check in spec.checks:
        yield check.rule, f"{check.expect} ({check.on_fail})"
