"""The task of an analyse__ DAG."""

from __future__ import annotations

from typing import Any

from streamkeeper.spec.models import Spec
from streamkeeper_airflow.operators.submit import SubmitOperator


class AnalyseTableOperator(SubmitOperator):
    """Computes a stream's KPIs from its Cassandra table and holds them against the lake's.

    The run's parameters `hour`, `key` and `table` tell what of it. The log shows the result and
    the file that keeps it; a difference fails the task.

    Parameters: spec, the stream.
    """

    def __init__(self, *, spec: Spec, **kwargs: Any) -> None:
        # Each with its option in one argument: a value that begins with a hyphen is no option.
        asked = {"hours": "hour", "key": "key", "table": "table"}
        super().__init__(
            script="analyse_table.py",
            name=f"streamkeeper analyse {spec.name}",
            application_args=[
                f"--stream={spec.name}",
                *(f"--{option}={{{{ params.{name} or '' }}}}" for option, name in asked.items()),
            ],
            **kwargs,
        )
