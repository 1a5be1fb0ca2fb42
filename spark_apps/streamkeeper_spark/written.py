"""How the values of a declared field are written in messages, and what the parser makes of them."""

from __future__ import annotations

from collections.abc import Callable

from streamkeeper.spec.field_types import digits
from streamkeeper.spec.models import FieldSpec

STARTS_LIKE_ANOTHER_TYPE = '-0123456789{["'
# What the parser puts in the place of half a surrogate pair, and of bytes that are not UTF-8.
REPLACEMENTS = ("?", "\ufffd")


def is_rounded(declared: FieldSpec) -> bool:
    """Tell whether Spark's parser would round numbers of a field that are not read once more."""
    if declared.type == "timestamp":
        return declared.format == "epoch_s" and not declared.also
    return digits(declared.type) is not None


def is_text(declared: FieldSpec) -> bool:
    """Tell whether a field's value is a JSON text, if it is sent as declared."""
    return declared.type == "string" or (
        declared.type == "timestamp" and declared.format == "iso8601"
    )


def may_be(declared: FieldSpec, of_kind: Callable[[str], bool]) -> bool:
    """Tell whether a text field's value may be a text of some kind.

    The form of a time, and a list of allowed values of which none is of that kind, exclude it.
    """
    if declared.type != "string":
        return False
    return declared.allowed is None or any(of_kind(str(v)) for v in declared.allowed)


def looks_like_another_type(text: str) -> bool:
    """Tell whether a text may be what the parser makes of a number, object or boolean."""
    return not text or text[0] in STARTS_LIKE_ANOTHER_TYPE or text in ("true", "false")


def has_replacement(text: str) -> bool:
    """Tell whether a text has a sign that the parser also puts in another one's place."""
    return any(character in text for character in REPLACEMENTS)


def how_it_is_written(declared: FieldSpec) -> str:
    """Return the end of a message about a value that does not hold what its field declares."""
    if declared.type != "timestamp":
        return f" cannot be read as {declared.type} exactly"
    if declared.also:
        return f" is no time as {', '.join((declared.format, *declared.also))} write it"
    if declared.format == "iso8601":
        example = "2026-11-24T12:00:00" + ("Z" if declared.zone is None else "")
        return f" is not a time such as {example}, to the microsecond at most"
    unit = {"epoch_s": "seconds", "epoch_ms": "milliseconds", "epoch_us": "microseconds"}
    return f" is not a number of {unit[declared.format]}"
