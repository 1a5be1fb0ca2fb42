"""The model of anomalies, and their mistakes that one key alone does not show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from streamkeeper.detectors import is_method, methods
from streamkeeper.spec import raw
from streamkeeper.spec.document import KeyPath, Problem
from streamkeeper.spec.values import Duration, Model, Name

if TYPE_CHECKING:
    from streamkeeper.spec.models import Kpi

_HOUR = timedelta(hours=1)
VERDICT_COLUMNS = (
    "value", "median", "mad", "score", "hours", "first_hour", "last_hour", "anomalous", "basis",
)  # fmt: skip
"""The columns of an anomaly's rows behind the KPI's keys."""
VERDICT_NUMBERS = VERDICT_COLUMNS[:5]
"""Those of them that are numbers."""


class Anomaly(Model):
    """A KPI's column (`of: kpi.column`), each row judged by the hours before its own.

    Rows with the same values of `by` (default: the KPI's keys) have one history; it reaches
    `history` back and counts from `least` hours on. `above`: beyond this score, to either side, a
    row is anomalous.
    """

    name: Name
    of: str
    by: tuple[str, ...] | None = None
    history: Annotated[Duration, Field(ge=_HOUR, le=timedelta(days=366))] = timedelta(hours=168)
    least: Annotated[int, Field(ge=3, le=8784)] = 24
    method: str = "mad"
    above: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.5

    @property
    def kpi(self) -> str:
        """The KPI whose rows are judged."""
        return self.of.partition(".")[0]

    @property
    def column(self) -> str:
        """The KPI's column that is judged."""
        return self.of.partition(".")[2]

    def keys(self, kpi: Kpi) -> tuple[str, ...]:
        """Return the keys whose values tell one history from another."""
        return kpi.by if self.by is None else self.by


def anomaly_problems(data: dict[str, Any]) -> Iterator[Problem]:
    """Yield the mistakes of the anomalies but for `of`; data, the raw declaration."""
    anomalies = raw.items(data.get("anomalies"))
    yield from raw.unique(("anomalies",), anomalies)
    kpis = {str(raw.mapping(k).get("name")): raw.mapping(k) for k in raw.items(data.get("kpis"))}
    folders = {folder: name for name, kpi in kpis.items() for folder in _folders(name, kpi)}
    for i, given in enumerate(anomalies):
        anomaly, path = raw.mapping(given), ("anomalies", i)
        name = anomaly.get("name")
        if isinstance(name, str) and name in folders:
            message = f"its folder would be one of the KPI {folders[name]}; rename one"
            yield Problem((*path, "name"), message, name)
        kpi = kpis.get(str(anomaly.get("of")).partition(".")[0], {})
        yield from _by(path, anomaly, raw.texts(kpi.get("by")))
        for key in raw.texts(kpi.get("by")):
            if key.lower() in VERDICT_COLUMNS:
                message = f"the KPI's key {key!r} is a column that every anomaly has; derive one"
                yield Problem((*path, "of"), message, anomaly["of"])
        yield from _history(path, anomaly)
        method = anomaly.get("method", "mad")
        if isinstance(method, str) and not is_method(method):
            yield Problem((*path, "method"), "no such method", method, methods())


def _folders(name: str, kpi: dict[str, Any]) -> Iterator[str]:
    for kind in ("", *(f"_{kind}" for kind in raw.texts(kpi.get("periods")))):
        yield name + kind
        if kpi.get("csv") is True:
            yield f"{name}{kind}_csv"


def _by(path: KeyPath, anomaly: dict[str, Any], keys: list[str]) -> Iterator[Problem]:
    by = raw.items(anomaly.get("by"))
    for j, key in enumerate(by):
        if isinstance(key, str) and keys and key not in keys:
            yield Problem((*path, "by", j), "is no key of the KPI", key, tuple(keys))
        elif key in by[:j]:
            yield Problem((*path, "by", j), "this key stands twice", key)


def _history(path: KeyPath, anomaly: dict[str, Any]) -> Iterator[Problem]:
    kept = {k: anomaly[k] for k in ("history", "least") if k in anomaly}
    try:
        read = Anomaly(name="a", of="kpi.column", **kept)
    except ValidationError:
        return  # the model says so
    if read.history % _HOUR:
        message = "is whole hours, such as 168h"
        yield Problem((*path, "history"), message, anomaly["history"])
    elif read.least > (most := read.history // _HOUR):
        key = "least" if "least" in anomaly else "history"
        message = f"the history has {most} hours, fewer than `least`, {read.least}"
        yield Problem((*path, key), message, anomaly[key])
