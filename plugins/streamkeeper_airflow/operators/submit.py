"""Airflow's SparkSubmitOperator with configuration and secrets from connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from streamkeeper.launches import EXIT_DISAGREEMENT
from streamkeeper_airflow.hooks.connections import (
    home,
    settings_from_connections,
    spark_environment,
)
from streamkeeper_airflow.hooks.spark import submit_conf

if TYPE_CHECKING:
    from airflow.sdk import Context

    from streamkeeper.spec.models import Spec


class SubmitOperator(SparkSubmitOperator):
    """Runs one of our entry points.

    A subclass because the provider's operator takes configuration and environment when the DAG is
    parsed; ours come from connections, which are read only when the task runs.

    Parameters: script, a file of spark_apps/; specs, whose sinks name connections of their own;
    application_args, of the script.
    """

    def __init__(self, *, script: str, specs: Sequence[Spec] = (), **kwargs: Any) -> None:
        self.specs = tuple(specs)
        super().__init__(application=str(home() / "spark_apps" / script), **kwargs)

    def execute(self, context: Context) -> None:
        """Fill in configuration and environment, and submit.

        Raises AirflowFailException, which is not tried again, where a person must decide.
        """
        settings = settings_from_connections(self.specs)
        self.conf: dict[str, Any] = submit_conf(settings)
        self._environment = spark_environment(settings)
        try:
            super().execute(context)
        except AirflowException as error:
            # The provider tells of a failed submit by text only; its process knows the code.
            process = self._hook._submit_sp if self._hook else None
            if process is not None and process.returncode == EXIT_DISAGREEMENT:
                raise AirflowFailException(f"a person must decide: {error}") from error
            raise

    def _get_hook(self) -> SparkSubmitHook:
        """Return the hook, which gives the process its settings.

        `env_vars` is a field that Airflow shows, and on YARN and Kubernetes the provider writes it
        into the command line: neither is a place for passwords.
        """
        hook = super()._get_hook()
        hook._env = self._environment
        return hook
