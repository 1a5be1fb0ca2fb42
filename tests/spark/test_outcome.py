"""What a query's end means."""

from __future__ import annotations

import pytest

from streamkeeper.errors import (
    CheckFailed,
    Fenced,
    LakeDisagreement,
    LakeUnavailable,
    TopicMissing,
    TopicReplaced,
)
from streamkeeper.launches import (
    EXIT_CHECK,
    EXIT_DISAGREEMENT,
    EXIT_DRAINED,
    EXIT_ERROR,
    EXIT_FENCED,
    EXIT_UNAVAILABLE,
)
from streamkeeper_spark.checks import rule_of
from streamkeeper_spark.landing import Draining
from streamkeeper_spark.outcome import Outcome, first_lines, outcome_of, worst

JAVA = "[FOREACH_BATCH] An error\n\tat org.apache.Some.method(Some.java:1)\nCaused by: "


@pytest.mark.parametrize(
    ("error", "spark_error", "fenced", "code"),
    [
        (None, "", False, EXIT_DRAINED),
        (Draining("later"), JAVA, False, EXIT_DRAINED),
        (Fenced("gone"), JAVA, False, EXIT_FENCED),
        (None, JAVA + "Parent directory doesn't exist", True, EXIT_FENCED),
        (LakeDisagreement("spans"), JAVA, False, EXIT_DISAGREEMENT),
        (LakeDisagreement("spans"), JAVA, True, EXIT_FENCED),
        (CheckFailed("check:dry"), JAVA, False, EXIT_CHECK),
        (TopicReplaced("id"), "", False, EXIT_DISAGREEMENT),
        (None, "[KAFKA_DATA_LOSS.COULD_NOT_READ] lost", False, EXIT_DISAGREEMENT),
        (LakeUnavailable("away"), "", False, EXIT_UNAVAILABLE),
        (None, JAVA + "java.net.ConnectException: refused", False, EXIT_UNAVAILABLE),
        (None, "org.apache.kafka.common.errors.TimeoutException: x", False, EXIT_UNAVAILABLE),
        (TopicMissing("none"), "", False, EXIT_ERROR),
        (ValueError("bug"), JAVA, False, EXIT_ERROR),
        (None, JAVA + "java.lang.OutOfMemoryError", False, EXIT_ERROR),
    ],
)
def test_exit_code(error: Exception | None, spark_error: str, fenced: bool, code: int) -> None:
    outcome = outcome_of(error, spark_error, fenced=fenced)
    assert outcome.code == code
    assert outcome.reason


def test_worst_end_counts() -> None:
    codes = [EXIT_DRAINED, EXIT_UNAVAILABLE, EXIT_ERROR, EXIT_CHECK, EXIT_DISAGREEMENT]
    codes.append(EXIT_FENCED)
    for place, code in enumerate(codes):
        assert worst([Outcome(c, "") for c in codes[: place + 1]]).code == code


def test_reasons_have_no_stack_trace() -> None:
    assert first_lines(JAVA) == "[FOREACH_BATCH] An error\nCaused by: "


@pytest.mark.parametrize(
    ("finding", "rule"),
    [
        ("range:temperature: 99 is outside -60 to 60", "range:temperature"),
        ("parse:json: not one JSON object", "parse:json"),
        ('type:t: "a: b" was sent as string, not as double', "type:t"),
        ("event_time:max_ahead: 2027-01-01 00:00:00 is more", "event_time:max_ahead"),
    ],
)
def test_rule_of_a_finding(finding: str, rule: str) -> None:
    assert rule_of(finding) == rule
