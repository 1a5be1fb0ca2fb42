"""The DAGs of all declared streams."""

from __future__ import annotations

from streamkeeper_airflow.dag_factory import dags_by_id

globals().update(dags_by_id())
