"""What the keeper decides: one live launch, drained when asked, launched again when it died."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkeeper.launches import (
    EXIT_CHECK,
    EXIT_DISAGREEMENT,
    EXIT_DRAINED,
    EXIT_FENCED,
    EXIT_UNAVAILABLE,
    Launch,
)
from streamkeeper.supervision import (
    Drain,
    Fail,
    Finish,
    Limits,
    Owner,
    Relaunch,
    Rest,
    Sight,
    Signal,
    Start,
    Watch,
    after_end,
    backoff,
    decide,
    ended_by_person,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LIMITS = Limits()
ME = Owner("keep__t", "keep", "run 2", 1)


def launch(**given: object) -> Launch:
    """Return launch 7, begun ten minutes ago."""
    base: dict[str, object] = {
        "epoch": 7,
        "kind": "driver",
        "name": "t",
        "began_at": NOW - timedelta(minutes=10),
    }
    return Launch.model_validate(base | given)


def sight(**given: object) -> Sight:
    base: dict[str, object] = {"now": NOW, "wanted": ("t",), "launch": launch(), "running": True}
    return Sight(**(base | given))  # type: ignore[arg-type]


def test_nothing_lives_and_it_is_wanted() -> None:
    assert decide(sight(launch=None, running=False)) == Start(None)
    assert decide(sight(running=False)) == Start(7)


def test_nothing_lives_and_nothing_is_wanted() -> None:
    assert decide(sight(launch=None, running=False, wanted=())) == Rest()
    assert decide(sight(running=False, wanted=())) == Rest()


def test_a_live_launch_is_watched() -> None:
    assert decide(sight()) == Watch(7)


def test_desired_state_stopped_drains() -> None:
    assert decide(sight(wanted=())) == Drain(7, "desired state stopped")


def test_a_drain_is_waited_for_and_then_signalled() -> None:
    just = launch(stop_requested_at=NOW - timedelta(seconds=5))
    long_ago = launch(stop_requested_at=NOW - LIMITS.drain - timedelta(seconds=1))
    assert decide(sight(launch=just)) == Watch(7)
    assert isinstance(decide(sight(launch=long_ago)), Signal)


def test_a_launch_that_recorded_its_end_is_waited_for_until_its_processes_are_gone() -> None:
    ended = launch(ended_at=NOW - timedelta(seconds=1), exit_code=0)
    assert decide(sight(launch=ended)) == Watch(7)
    assert decide(sight(launch=ended, running=False)) == Start(7)
    stuck = launch(ended_at=NOW - LIMITS.drain - timedelta(seconds=1), exit_code=0)
    assert isinstance(decide(sight(launch=stuck)), Signal)


def test_a_process_of_another_host_is_taken_over_only_after_an_unchanged_heartbeat() -> None:
    unknown = sight(running=None, unchanged=LIMITS.expiry - timedelta(seconds=1))
    assert decide(unknown) == Watch(7)
    assert decide(sight(running=None, unchanged=LIMITS.expiry)) == Start(7)
    assert decide(sight(running=None, launch=launch(ended_at=NOW))) == Start(7)


def test_a_process_of_another_host_gets_no_signals() -> None:
    asked = launch(stop_requested_at=NOW - LIMITS.drain - timedelta(hours=1))
    assert decide(sight(running=None, launch=asked)) == Watch(7)


def test_other_wanted_streams_drain_the_launch() -> None:
    decision = decide(sight(streams=("t",), wanted=("t", "u")))
    assert decision == Drain(7, "other streams are wanted now: t, u")
    assert decide(sight(streams=("u", "t"), wanted=("t", "u"))) == Watch(7)


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_marked_task_drains_its_launch(state: str) -> None:
    before = Owner("keep__t", "keep", "run 1", 1)
    how = ended_by_person(before, {"run 1": {"keep": state}}, ME)
    assert how == f"marked {state}"
    assert decide(sight(ended_by=how)) == Drain(7, f"its task was marked {state}")


def test_a_deleted_run_drains_its_launch() -> None:
    assert ended_by_person(Owner("keep__t", "keep", "run 1", 1), {}, ME) == "deleted"


@pytest.mark.parametrize("state", [None, "deferred", "running", "scheduled", "up_for_retry"])
def test_a_task_that_goes_on_drains_nothing(state: str | None) -> None:
    before = Owner("keep__t", "keep", "run 1", 1)
    assert ended_by_person(before, {"run 1": {"keep": state}}, ME) == ""


def test_a_cleared_task_adopts() -> None:
    before = Owner("keep__t", "keep", "run 2", 1)
    me = before._replace(try_number=2)
    assert ended_by_person(before, {"run 2": {"keep": "failed"}}, me) == ""


def test_an_owner_survives_writing_and_reading() -> None:
    owner = Owner("keep__t", "keep", 'manual__"quoted"/2026', 3)
    assert Owner.parse(str(owner)) == owner
    for text in ("", "cli", "[1]", "null"):
        assert Owner.parse(text) is None


def end(code: int | None, **given: object) -> Relaunch | Finish | Fail:
    base: dict[str, object] = {"now": NOW, "wanted": True, "quick_deaths": 0}
    chosen = base | given
    row = chosen.pop("launch", launch())
    return after_end(row, code, **chosen)  # type: ignore[arg-type]


def test_a_disagreement_is_for_a_person() -> None:
    assert isinstance(end(EXIT_DISAGREEMENT), Fail)
    assert isinstance(end(EXIT_DISAGREEMENT, wanted=False), Fail)
    for wanted in (True, False):
        failed = end(EXIT_CHECK, wanted=wanted)
        assert isinstance(failed, Fail)
        assert "broke a check" in failed.text


def test_a_launch_that_is_not_wanted_any_more_finishes() -> None:
    assert isinstance(end(EXIT_DRAINED, wanted=False), Finish)
    assert isinstance(end(None, wanted=False), Finish)


def test_a_restart_launches_again_at_once() -> None:
    asked = launch(stop_requested_at=NOW, stop_requested_by="restart", began_at=NOW)
    verdict = end(EXIT_DRAINED, launch=asked, quick_deaths=5)
    assert isinstance(verdict, Relaunch)
    assert (verdict.delay, verdict.quick_deaths) == (timedelta(0), 0)


def test_a_producer_that_sent_all_it_should_finishes() -> None:
    assert isinstance(end(EXIT_DRAINED, may_finish=True), Finish)
    assert isinstance(end(EXIT_DRAINED, may_finish=False), Relaunch)


@pytest.mark.parametrize("code", [1, 137, EXIT_UNAVAILABLE, EXIT_FENCED, EXIT_DRAINED, None])
def test_a_death_after_a_long_life_launches_again_at_once(code: int | None) -> None:
    verdict = end(code, quick_deaths=4)
    assert isinstance(verdict, Relaunch)
    assert (verdict.delay, verdict.quick_deaths) == (timedelta(0), 0)
    assert "launch 7" in verdict.text


@pytest.mark.parametrize("code", [1, 137, EXIT_UNAVAILABLE, EXIT_FENCED, EXIT_DRAINED, None])
def test_quick_deaths_wait_longer_each_time(code: int | None) -> None:
    young = launch(began_at=NOW - timedelta(seconds=20))
    delays = []
    deaths = 0
    for _ in range(12):
        verdict = end(code, launch=young, quick_deaths=deaths)
        assert isinstance(verdict, Relaunch)
        deaths = verdict.quick_deaths
        delays.append(verdict.delay)
    assert delays == sorted(delays)
    assert delays[0] == LIMITS.first_delay
    assert delays[1] == 2 * LIMITS.first_delay
    assert delays[-1] == LIMITS.longest_delay


@given(st.integers(min_value=-10, max_value=10**9))
def test_backoff_is_bounded(deaths: int) -> None:
    assert timedelta(0) <= backoff(deaths) <= LIMITS.longest_delay


@st.composite
def sights(draw: st.DrawFn) -> Sight:
    ago = st.none() | st.integers(0, 600).map(lambda s: NOW - timedelta(seconds=s))
    row = draw(st.none() | st.builds(launch, stop_requested_at=ago, ended_at=ago))
    return Sight(
        now=NOW,
        wanted=draw(st.sampled_from([(), ("t",), ("t", "u")])),
        launch=row,
        streams=draw(st.sampled_from([(), ("t",), ("t", "u")])),
        running=draw(st.sampled_from([True, False, None])) if row else False,
        unchanged=timedelta(seconds=draw(st.integers(0, 60))),
        ended_by=draw(st.sampled_from(["", "marked failed"])),
    )


@given(sights())
def test_never_a_second_launch_beside_a_live_one(seen: Sight) -> None:
    decision = decide(seen)
    if seen.running:
        assert not isinstance(decision, Start | Rest)
    if isinstance(decision, Start):
        assert seen.wanted
        assert decision.expected == (seen.launch.epoch if seen.launch else None)
    if isinstance(decision, Signal):
        assert seen.running
    if isinstance(decision, Drain):
        assert seen.launch is not None
        assert seen.launch.stop_requested_at is None
