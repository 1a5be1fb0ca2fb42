"""What is corrected on landing: values whose unit stands in the message, and the unit itself.

Everything here is Spark SQL, made of the SQL of a value and of the text that tells its unit.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamkeeper.spec.field_types import sql_type
from streamkeeper.spec.models import FieldSpec, SentUnits
from streamkeeper.spec.pieces import text_literal
from streamkeeper.spec.units import Conversion


def converted(value: str, conversion: Conversion, field: FieldSpec) -> str:
    """Return a value in another unit, in the type of its field."""
    kind = sql_type(field.type)
    return f"try_cast({conversion.sql(f'CAST({value} AS double)')} AS {kind})"


def landed_value(value: str, unit: str, field: FieldSpec) -> str:
    """Return a value in its landed unit; as it was sent where the unit is none that is known.

    Parameters: value and unit, SQL.
    """
    assert field.units is not None
    by_conversion: dict[Conversion, list[str]] = {}
    for text, (_, conversion) in field.units.readings().items():
        if conversion is not None:
            by_conversion.setdefault(conversion, []).append(text)
    cases = [
        f"WHEN {unit} IN ({_listed(texts)}) THEN {converted(value, conversion, field)}"
        for conversion, texts in by_conversion.items()
    ]
    return f"CASE {' '.join(cases)} ELSE {value} END" if cases else value


def landed_unit(unit: str, told: SentUnits) -> str:
    """Return the unit of a landed value, of the one that was sent."""
    by_unit: dict[str, list[str]] = {}
    for text, (landed, _) in told.readings().items():
        if text != landed:
            by_unit.setdefault(landed, []).append(text)
    cases = [
        f"WHEN {unit} IN ({_listed(texts)}) THEN {text_literal(landed)}"
        for landed, texts in by_unit.items()
    ]
    return f"CASE {' '.join(cases)} ELSE {unit} END" if cases else unit


def is_unit(unit: str, told: SentUnits) -> str:
    """Return the condition that a unit lands, or becomes one that does."""
    return f"{unit} IN ({_listed(told.readings())})"


def is_other_unit(unit: str, told: SentUnits) -> str:
    """Return the condition that a unit is not written as it lands, or is another one."""
    others = [text for text, (landed, _) in told.readings().items() if text != landed]
    return f"{unit} IN ({_listed(others)})" if others else "false"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(map(text_literal, texts))
