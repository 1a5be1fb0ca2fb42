"""Units that a value may be converted between: all linear, exact as written here."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit: (value + shift) * scale is the value in the first unit of its dimension."""

    dimension: str
    scale: Fraction
    shift: Fraction = Fraction(0)


def _table() -> dict[str, Unit]:
    scales: dict[str, dict[str, str | Fraction]] = {
        "pressure": {
            "Pa": "1",
            "hPa": "100",
            "mbar": "100",
            "kPa": "1000",
            "bar": "100000",
            "mmHg": "133.322387415",
            "inHg": "3386.388640341",
            "psi": "6894.757293168",
        },
        "speed": {
            "m/s": "1",
            "km/h": Fraction(1000, 3600),
            "mph": "0.44704",
            "kn": Fraction(1852, 3600),
            "ft/s": "0.3048",
        },
        "length": {
            **{"m": "1", "km": "1000", "cm": "0.01", "mm": "0.001", "µm": "0.000001"},
            **{"in": "0.0254", "ft": "0.3048", "mi": "1609.344", "nmi": "1852"},
        },
        "power": {"W": "1", "mW": "0.001", "kW": "1000", "MW": "1000000"},
        "energy": {"J": "1", "kJ": "1000", "Wh": "3600", "kWh": "3600000", "MWh": "3600000000"},
        "mass": {"kg": "1", "g": "0.001", "mg": "0.000001", "t": "1000", "lb": "0.45359237"},
        "share": {"ratio": "1", "%": "0.01", "‰": "0.001", "ppm": "0.000001"},
        "time": {
            **{"s": "1", "ms": "0.001", "µs": "0.000001", "min": "60", "h": "3600", "d": "86400"},
        },
        "data": {
            **{"B": "1", "kB": "1000", "MB": "1000000", "GB": "1000000000"},
            **{"KiB": "1024", "MiB": "1048576", "GiB": "1073741824"},
        },
        "voltage": {"V": "1", "mV": "0.001", "kV": "1000"},
        "current": {"A": "1", "mA": "0.001"},
        "frequency": {"Hz": "1", "kHz": "1000", "MHz": "1000000", "GHz": "1000000000"},
        "volume": {"L": "1", "mL": "0.001", "m³": "1000"},
    }
    units = {
        name: Unit(dimension, Fraction(scale))
        for dimension, named in scales.items()
        for name, scale in named.items()
    }
    return units | {
        "K": Unit("temperature", Fraction(1)),
        "°C": Unit("temperature", Fraction(1), Fraction("273.15")),
        "°F": Unit("temperature", Fraction(5, 9), Fraction("459.67")),
    }


UNITS = _table()


@dataclass(frozen=True)
class Conversion:
    """How a value is converted: (value * multiply + add) / divide, in doubles and in this order.

    So it is computed alike by Spark and by Python, to the last bit.
    """

    multiply: float
    add: float
    divide: float

    def apply(self, value: float) -> float:
        """Return a value in the landed unit."""
        return (value * self.multiply + self.add) / self.divide

    def sql(self, column: str) -> str:
        """Return the conversion of a double, written as SQL for Spark."""
        return f"(({column} * {self.multiply!r}D + {self.add!r}D) / {self.divide!r}D)"

    def __str__(self) -> str:
        add = f" {'-' if self.add < 0 else '+'} {abs(self.add):.12g}" if self.add else ""
        times = f"x * {self.multiply:.15g}" if self.multiply != 1 else "x"
        if self.divide == 1:
            return times + add
        return f"({times}{add}) / {self.divide:.15g}" if add else f"{times} / {self.divide:.15g}"


def conversion(sent: str, landed: str) -> Conversion | None:
    """Return how a value is converted from one unit to another; None for one and the same.

    Raises ValueError for a unit that the table does not have, or another dimension.
    """
    for unit in (sent, landed):
        if unit not in UNITS:
            raise ValueError(f"{unit!r} is not a unit that is converted")
    a, b = UNITS[sent], UNITS[landed]
    if a.dimension != b.dimension:
        raise ValueError(f"{sent} measures {a.dimension}, {landed} measures {b.dimension}")
    scale = a.scale / b.scale
    add = (a.shift * scale - b.shift) * scale.denominator
    if scale == 1 and add == 0:
        return None
    return Conversion(float(scale.numerator), float(add), float(scale.denominator))


def convertible(unit: str) -> tuple[str, ...]:
    """Return the units of the same dimension; all units if the table does not have this one."""
    if unit not in UNITS:
        return tuple(UNITS)
    return tuple(name for name, u in UNITS.items() if u.dimension == UNITS[unit].dimension)
