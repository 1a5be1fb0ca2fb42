"""What a query's end means for the launch."""

from __future__ import annotations

import re
from typing import NamedTuple

from streamkeeper.errors import CheckFailed, Disagreement, Fenced, Unavailable
from streamkeeper.launches import (
    EXIT_CHECK,
    EXIT_DISAGREEMENT,
    EXIT_DRAINED,
    EXIT_ERROR,
    EXIT_FENCED,
    EXIT_UNAVAILABLE,
)
from streamkeeper_spark.landing import Draining

_AWAY = re.compile(
    r"ConnectException|UnknownHostException|NoRouteToHostException|SocketTimeoutException"
    r"|SafeModeException|could only be written to 0 of the|BlockMissingException"
    r"|org\.apache\.kafka\.common\.errors\.(TimeoutException|DisconnectException|NetworkException)"
    r"|Timed out waiting for a node assignment|java\.util\.concurrent\.TimeoutException"
)
# Of several ends the worst counts: a person must look, another launch rules, wait, anything else.
_ORDER = (
    *(EXIT_FENCED, EXIT_DISAGREEMENT, EXIT_CHECK, EXIT_ERROR, EXIT_UNAVAILABLE, EXIT_DRAINED),
)


class Outcome(NamedTuple):
    """An exit code and its reason."""

    code: int
    reason: str


def outcome_of(error: Exception | None, spark_error: str, *, fenced: bool) -> Outcome:
    """Return what the end of one query means.

    Parameters: error, raised by the driver's own code in a batch; spark_error, what Spark says
    ended the query, empty when it was stopped; fenced, whether a newer launch owns its checkpoint.
    """
    told = str(error) if error is not None else spark_error
    if fenced or isinstance(error, Fenced):
        return Outcome(EXIT_FENCED, "a newer launch took over" if not told else first_lines(told))
    if isinstance(error, Draining):
        return Outcome(EXIT_DRAINED, "drained")
    if isinstance(error, CheckFailed | Disagreement) or data_are_lost(spark_error):
        code = EXIT_CHECK if isinstance(error, CheckFailed) else EXIT_DISAGREEMENT
        return Outcome(code, first_lines(told))
    if isinstance(error, Unavailable) or _AWAY.search(f"{told}\n{spark_error}"):
        return Outcome(EXIT_UNAVAILABLE, first_lines(told))
    if told:
        return Outcome(EXIT_ERROR, first_lines(told))
    return Outcome(EXIT_DRAINED, "ended")


def data_are_lost(spark_error: str) -> bool:
    """Tell whether Spark ended a query because messages were deleted before it read them."""
    return "KAFKA_DATA_LOSS" in spark_error or "failOnDataLoss" in spark_error


def worst(outcomes: list[Outcome]) -> Outcome:
    """Return the outcome that decides the launch's exit code."""
    return min(outcomes, key=lambda o: _ORDER.index(o.code))


def first_lines(text: str, lines: int = 6) -> str:
    """Return the beginning of a message, without Java's long tail."""
    kept = [line for line in text.splitlines() if not line.startswith("\tat ")]
    return "\n".join(kept[:lines])[:2000]
