"""What a run that waits for an hour does: no grace twice, one look, partial past the limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.hours import Completeness, Look, next_step

HOUR = datetime(2026, 11, 24, 12, tzinfo=UTC)
GRACE, LIMIT = timedelta(minutes=5), timedelta(hours=1)
DUE = HOUR + timedelta(hours=1) + GRACE
LOOK = Look(stream="t", hour=HOUR, topic_id="x", taken_at=DUE, end_offsets={0: 10})
DONE, NOT_DONE = Completeness(complete=True), Completeness(complete=False, missing={0: [(0, 10)]})


def step(now: datetime, **given: object) -> str:
    base: dict[str, object] = {
        "since": HOUR,
        "grace": GRACE,
        "wait_limit": LIMIT,
        "look": LOOK,
        "filling": False,
        "done": NOT_DONE,
    }
    return next_step(HOUR, now=now, **(base | given))  # type: ignore[arg-type]


def test_before_the_grace_is_over_nothing_is_done() -> None:
    assert step(DUE - timedelta(seconds=1), look=None) == "early"
    assert step(DUE - timedelta(seconds=1), done=DONE) == "early"


def test_the_look_waits_for_a_producer_that_fills_the_hour() -> None:
    assert step(DUE, look=None) == "look"
    assert step(DUE, look=None, filling=True) == "filling"
    assert step(DUE + LIMIT, look=None, filling=True) == "look"


def test_complete_only_when_nobody_fills_it() -> None:
    assert step(DUE, done=DONE) == "complete"
    assert step(DUE, done=DONE, filling=True) == "filling"


def test_past_the_limit_it_is_partial() -> None:
    assert step(DUE + LIMIT - timedelta(seconds=1)) == "landing"
    assert step(DUE + LIMIT) == "partial"
    assert step(DUE + LIMIT, done=DONE) == "complete"
    assert step(DUE + LIMIT, done=DONE, filling=True) == "partial"


def test_a_backfilled_hour_waits_for_no_grace_but_gets_the_whole_limit() -> None:
    began = DUE + timedelta(days=30)
    assert step(began, look=None, since=began) == "look"
    assert step(began, since=began) == "landing"
    assert step(began + LIMIT, since=began) == "partial"


@given(
    st.integers(-7200, 20000),
    st.integers(-7200, 20000),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_every_wait_ends_one_limit_after_it_may(
    now_s: int, since_s: int, looked: bool, filling: bool, complete: bool
) -> None:
    now, since = DUE + timedelta(seconds=now_s), DUE + timedelta(seconds=since_s)
    found = step(
        now,
        since=since,
        look=LOOK if looked else None,
        filling=filling,
        done=DONE if complete else NOT_DONE,
    )
    if now >= max(DUE, since) + LIMIT:
        assert found == ("look" if not looked else found)
        assert found in {"look", "complete", "partial"}
    if found == "complete":
        assert complete
        assert looked
        assert now >= DUE
