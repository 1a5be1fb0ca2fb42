"""One row of the results, and what its goal means."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """One measured figure.

    `value` in `unit`; `baseline` is the plainest competent alternative in the same run and unit;
    `ratio` is value / baseline unless the note says otherwise; `goal` bounds the ratio or the
    value (`of`), as `at least` or `at most` a number; no goal: the row is reported only.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    bound: Literal["at least", "at most"] | None = None
    goal: float | None = None
    of: Literal["ratio", "value"] = "value"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None or self.bound is None:
            return None
        figure = self.value if self.of == "value" else self.ratio
        if figure is None:
            return False
        return figure >= self.goal if self.bound == "at least" else figure <= self.goal

    @property
    def goal_text(self) -> str | None:
        """The goal in words."""
        return None if self.goal is None else f"{self.of} {self.bound} {self.goal:g}"

    def dump(self) -> dict[str, Any]:
        """Return the row as it stands in results.json."""
        plain = asdict(self) | {"goal": self.goal_text, "met": self.met}
        return {k: v for k, v in plain.items() if k not in ("bound", "of")}
