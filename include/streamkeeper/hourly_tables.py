"""The hourly tables of a stream: the columns of its KPIs and anomalies."""

from __future__ import annotations

from streamkeeper.anomalies import verdict_types
from streamkeeper.spec.field_types import FieldType
from streamkeeper.spec.models import Spec


def table_types(spec: Spec, name: str) -> dict[str, FieldType]:
    """Return the columns of a KPI or of anomalies and their types, in their order.

    Raises KeyError if the stream declares neither of this name.
    """
    anomaly = spec.anomaly(name)
    if anomaly is not None:
        return verdict_types(spec, anomaly)
    kpi, columns = spec.kpi(name), spec.columns()
    if kpi.of_readings:
        return columns
    keys = {key: columns[key] for key in kpi.by}
    return keys | {measure: found.type for measure, found in kpi.measures.items()}
