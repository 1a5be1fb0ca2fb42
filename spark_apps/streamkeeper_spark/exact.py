"""Numbers, booleans and times read from texts: exactly, or not at all (null).

Everything here is Spark SQL, made of the SQL of a text; see docs/bad-input.md for what is read.
"""

from __future__ import annotations

from streamkeeper.spec.field_types import Digits, digits
from streamkeeper.spec.models import FieldSpec
from streamkeeper.spec.pieces import text_literal
from streamkeeper_spark.sql import matches

_JSON_NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_ANY_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_JSON_INTEGER = "-?(0|[1-9][0-9]*)"
# Java takes time by the square of a number's length.
_LONGEST_NUMBER = 1000
_CLOCK = (
    "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][T ][0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
    r"(?:\.[0-9]{1,6}0*)?"
)
_OFFSET = "[+-][0-9][0-9](?::?[0-9][0-9])?"
# An offset could lead out of the years 1 to 9999, which Python and others cannot hold.
_INNER = "(?!0001-01-01|9999-12-31)"
_ISO = f"(?!0000)(?:{_CLOCK}Z|{_INNER}{_CLOCK}{_OFFSET})"
_LOCAL = f"(?!0000){_INNER}{_CLOCK}"
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_A_SECOND = {"epoch_ms": 1000, "epoch_us": 1_000_000}
# Of counts in several units the size tells the unit: below this it is the one before.
_BELOW = {"epoch_s": 1e11, "epoch_ms": 1e14, "epoch_us": None}
_WHOLE = {"integer": ("bigint", 19), "int32": ("int", 10)}


def from_text(text: str, field: FieldSpec, *, strict: bool) -> str:
    """Return the SQL of a field's value in its landed type, read from a text.

    Parameters: text, SQL; strict, numbers and booleans as JSON writes them, integers without
    fraction and exponent, no time that a zone's clocks show twice.
    """
    kind = field.type
    if kind == "string":
        return text
    if kind == "boolean":
        told = text if strict else f"lower({text})"
        return f"CASE {told} WHEN 'true' THEN true WHEN 'false' THEN false END"
    if kind == "timestamp":
        return _time_from_text(text, field, strict=strict)
    return _number_from_text(text, kind, strict=strict)


def _number_from_text(text: str, kind: str, *, strict: bool) -> str:
    read = f"try_cast({text} AS {kind})"
    if kind in _WHOLE:
        sql, places = _WHOLE[kind]
        if strict:
            return f"CASE WHEN {matches(text, _JSON_INTEGER)} THEN try_cast({text} AS {sql}) END"
        read = f"try_cast({decimal(text, Digits(places, 0))} AS {sql})"
    elif found := digits(kind):
        read = decimal(text, found)
    form = matches(text, _JSON_NUMBER if strict else _ANY_NUMBER)
    return f"CASE WHEN length({text}) <= {_LONGEST_NUMBER} AND {form} THEN {read} END"


def decimal(text: str, size: Digits) -> str:
    """Return the SQL of a number's text as a decimal; null where digits would be lost.

    Parameters: text, SQL of a text that is known to be a number.
    """
    kind = f"decimal({size.precision},{size.scale})"
    plain = matches(text, f"[+-]?[0-9]*(\\.[0-9]{{0,{size.scale}}}0*)?")
    whole = f"regexp_extract({text}, '^[+-]?([0-9]*)', 1)"
    fraction = f"regexp_extract({text}, '^[+-]?[0-9]*\\\\.([0-9]*)', 1)"
    exponent = f"regexp_extract({text}, '[eE]([+-]?[0-9]+)$', 1)"
    power = f"CASE WHEN {exponent} = '' THEN 0 ELSE try_cast({exponent} AS int) END"
    significant = f"ltrim('0', {whole} || {fraction})"
    shortest = f"rtrim('0', {significant})"
    # The power of ten of the last digit that is not 0.
    last = f"try_add({power}, length({significant}) - length({shortest}) - length({fraction}))"
    held = (
        f"{last} >= {-size.scale} AND "
        f"try_add({last}, length({shortest})) <= {size.precision - size.scale}"
    )
    return (
        f"CASE WHEN {plain} THEN try_cast({text} AS {kind}) "
        f"WHEN {shortest} = '' THEN CAST(0 AS {kind}) "
        f"WHEN {held} THEN try_cast({text} AS {kind}) END"
    )


def time_from_count(count: str, unit: str) -> str:
    """Return the SQL of a time from a whole count since 1970, in epoch_ms or epoch_us."""
    parts = _A_SECOND[unit]
    first, last = _FIRST_SECOND * parts, _LAST_SECOND * parts + parts - 1
    micros = f"timestamp_micros({count} * {1_000_000 // parts}L)"
    return f"CASE WHEN {count} BETWEEN {first}L AND {last}L THEN {micros} END"


def has_fractions(field: FieldSpec) -> bool:
    """Tell whether a time may be sent as a number with digits after the point."""
    return "epoch_s" in (field.format, *field.also)


def is_fraction(text: str) -> str:
    """Return the condition that a text may be a number with digits after the point."""
    return f"contains({text}, '.') AND NOT contains({text}, ':')"


def is_in_format(text: str, field: FieldSpec) -> str:
    """Return the condition that a time is written in its `format`, not in one of `also`.

    Parameters: text, SQL of what was sent, which is a time in one of the forms.
    """
    if field.format == "iso8601":
        # Only a written time ends so, and most do.
        zoned = f"(endswith({text}, 'Z') OR {matches(text, _ISO)})"
        local = field.zone is not None and "local" not in field.also
        return f"({zoned} OR {matches(text, _LOCAL)})" if local else zoned
    return f"({matches(text, _ANY_NUMBER)} AND {_size_of(text, field.format, field)})"


def _counts(field: FieldSpec) -> list[str]:
    """Return the forms of a timestamp that are numbers, by the size of these."""
    return [form for form in _BELOW if form in (field.format, *field.also)]


def _size_of(text: str, form: str, field: FieldSpec) -> str:
    """Return the condition that a number is of the size of one form, among all of the field."""
    forms = _counts(field)
    place = forms.index(form)
    size = f"abs(try_cast({text} AS double))"
    above = f"{size} >= {_BELOW[forms[place - 1]]!r}D" if place else "true"
    below = f"{size} < {_BELOW[form]!r}D" if place < len(forms) - 1 else "true"
    return f"({above} AND {below})"


def _time_in_any_form(text: str, field: FieldSpec, *, strict: bool) -> str:
    """Return the SQL of a time that is written in the field's format or in one of `also`."""
    cases = []
    if not {"iso8601", "local"}.isdisjoint((field.format, *field.also)):
        # First, as most times are written ones; no number looks like them.
        written = field.model_copy(update={"format": "iso8601", "also": ()})
        cases += _written_times(text, written, strict=strict)
    for form in _counts(field):
        of_form = field.model_copy(update={"format": form, "also": ()})
        read = _time_from_text(text, of_form, strict=strict)
        number = f"{matches(text, _ANY_NUMBER)} AND {_size_of(text, form, field)}"
        cases.append(f"WHEN {number} THEN {read}")
    return f"CASE {' '.join(cases)} END"


def _time_from_text(text: str, field: FieldSpec, *, strict: bool) -> str:
    if field.also:
        return _time_in_any_form(text, field, strict=strict)
    if field.format == "epoch_s":
        form = matches(text, _JSON_NUMBER if strict else _ANY_NUMBER)
        rounded = f"try_cast({text} AS decimal(38,18))"
        bounded = f"{rounded} BETWEEN {_FIRST_SECOND} AND {_LAST_SECOND}.999999"
        micros = f"CAST({decimal(text, Digits(18, 6))} * 1000000 AS bigint)"
        given = f"length({text}) <= {_LONGEST_NUMBER} AND {form} AND {bounded}"
        return f"CASE WHEN {given} THEN timestamp_micros({micros}) END"
    if field.format != "iso8601":
        whole = FieldSpec(type="integer")
        return time_from_count(f"({from_text(text, whole, strict=strict)})", field.format)
    return f"CASE {' '.join(_written_times(text, field, strict=strict))} END"


def _written_times(text: str, field: FieldSpec, *, strict: bool) -> list[str]:
    """Return the cases of a time that is written as ISO 8601 has it."""
    read = f"try_cast({text} AS timestamp)"
    cases = [f"WHEN {matches(text, _ISO)} THEN {read}"]
    if field.zone is not None:
        local = _in_zone(read, text_literal(field.zone), strict=strict)
        cases.append(f"WHEN {matches(text, _LOCAL)} THEN {local}")
    return cases


def _in_zone(local: str, zone: str, *, strict: bool) -> str:
    """Return the instant at which the clocks of a zone show a time; null where they never do.

    Parameters: local, SQL of what the clocks show, as if it were UTC; strict, null where they show
    it twice, else the earlier instant.
    """
    instant = f"to_utc_timestamp({local}, {zone})"
    shown = f"from_utc_timestamp({instant}, {zone}) = {local}"
    if not strict:
        return f"CASE WHEN {shown} THEN {instant} END"
    # Spark takes the earlier of two instants. There is a later one if the clocks are set back
    # within a day, and show the same time by as much later as they are set back.
    day_after = f"{instant} + INTERVAL 1 DAY"
    back = f"(({local} - {instant}) - (from_utc_timestamp({day_after}, {zone}) - ({day_after})))"
    later = f"from_utc_timestamp({instant} + {back}, {zone})"
    twice = f"{back} > INTERVAL '0' SECOND AND {later} = {local}"
    return f"CASE WHEN {shown} AND NOT ({twice}) THEN {instant} END"
