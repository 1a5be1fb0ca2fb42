"""The task of a periods__ DAG."""

from __future__ import annotations

from typing import Any

from streamkeeper.spec.models import Spec
from streamkeeper_airflow.operators.submit import SubmitOperator


class AnalysePeriodsOperator(SubmitOperator):
    """Computes a stream's KPIs of the periods that are due, or of the one that the run asks for.

    Parameters: spec, the stream.
    """

    def __init__(self, *, spec: Spec, **kwargs: Any) -> None:
        super().__init__(
            script="analyse_periods.py",
            name=f"streamkeeper periods {spec.name}",
            application_args=[
                f"--stream={spec.name}",
                *(f"--{name}={{{{ params.{name} or '' }}}}" for name in ("period", "day")),
            ],
            **kwargs,
        )
