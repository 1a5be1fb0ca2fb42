"""Airflow's REST API, as far as the demo and the tests drive it."""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

TIMEOUT_S = 30.0


class AirflowApi:
    """A client of one Airflow; used as a context manager.

    Parameters: url, of UI and API; password, of `admin`; without it the API must be open to all,
    as it is on loopback.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        # No proxy: these servers are on this machine.
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)
        if password is None:
            answer = self._client.get("/auth/token")
        else:
            login = {"username": "admin", "password": password}
            answer = self._client.post("/auth/token", json=login)
        token = answer.raise_for_status().json()["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def call(self, method: str, path: str, **given: Any) -> Any:
        """Send a request below /api/v2 and return the answer's JSON, None when it is empty.

        Raises httpx.HTTPStatusError, with Airflow's own explanation.
        """
        answer = self._client.request(method, f"/api/v2/{path}", **given)
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path}: {answer.status_code} {answer.text[:500]}",
                request=answer.request,
                response=answer,
            )
        return answer.json() if answer.content else None

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """Return what Airflow knows of a DAG; None while it knows nothing."""
        try:
            return dict(self.call("GET", f"dags/{dag_id}"))
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise

    def pause(self, dag_id: str, paused: bool = True) -> None:
        """Pause or unpause a DAG."""
        self.call("PATCH", f"dags/{dag_id}", json={"is_paused": paused})

    def trigger(self, dag_id: str, **conf: Any) -> str:
        """Run a DAG by hand, without a logical date; return the run's id."""
        body = {"logical_date": None, "conf": conf}
        return str(self.call("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, newest first."""
        query = {"order_by": "-run_after", "limit": 100}
        return list(self.call("GET", f"dags/{dag_id}/dagRuns", params=query)["dag_runs"])

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Delete a run."""
        self.call("DELETE", f"dags/{dag_id}/dagRuns/{run_id}")

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run by task id."""
        found = self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return {task["task_id"]: task for task in found["task_instances"]}

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task instance `success` or `failed`."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self.call("PATCH", path, json={"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task instance, whatever its state."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.call("POST", f"dags/{dag_id}/clearTaskInstances", json=body)

    def backfill(
        self, dag_id: str, first: datetime, last: datetime, max_active_runs: int = 4
    ) -> int:
        """Backfill the logical dates in first..last, both included; return the backfill's id."""
        body = {
            "dag_id": dag_id,
            "from_date": first.isoformat(),
            "to_date": last.isoformat(),
            "max_active_runs": max_active_runs,
            "reprocess_behavior": "completed",
        }
        return int(self.call("POST", "backfills", json=body)["id"])

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> str:
        """Return a task's log as text."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        found = self.call("GET", path, params={"full_content": True})["content"]
        return "\n".join(_line(entry) for entry in found)


def _line(entry: dict[str, Any]) -> str:
    """Write one entry of a log, with the errors that it tells."""
    errors = entry.get("error_detail") or ()
    told = [f"{error['exc_type']}: {error['exc_value']}" for error in errors]
    return "\n".join([str(entry.get("event", entry)), *told])
