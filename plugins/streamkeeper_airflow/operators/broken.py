"""The only task of a broken__ DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context


class BrokenDeclarationOperator(BaseOperator):
    """Fails with the mistakes of a declaration, for whoever runs its DAG by hand.

    Parameters: mistakes, as the loader tells them.
    """

    def __init__(self, *, mistakes: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mistakes = mistakes

    def execute(self, context: Context) -> None:
        """Raise AirflowFailException with the mistakes."""
        raise AirflowFailException(self.mistakes)
