"""Detectors: the modified z-score against DuckDB and numpy; one of another package."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamkeeper.detectors import (
    GROUP,
    MedianDeviation,
    Verdict,
    detector,
    is_method,
    methods,
    spread,
)
from streamkeeper.errors import StreamkeeperError

MAD, DUCKDB = MedianDeviation(3.5), duckdb.connect()
# Hundredths: they are exact enough that no rule of rounding decides a verdict.
hundredths = st.integers(-1_000_000, 1_000_000).map(lambda n: n / 100)
histories = st.lists(hundredths, min_size=3, max_size=60)


@given(histories, hundredths)
def test_score_is_that_of_the_book(history: list[float], value: float) -> None:
    asked = "select median(x), mad(x) from (select unnest(?::double[]) as x)"
    middle, mad = DUCKDB.execute(asked, [history]).fetchall()[0]
    found = MAD.judge(history, value)
    assert spread(history) == pytest.approx((middle, mad), abs=1e-9)
    if mad > 1e-6:
        assert found.basis == "mad"
        assert found.score == pytest.approx(0.6745 * (value - middle) / mad, rel=1e-9, abs=1e-9)
    elif len(set(history)) > 1:
        distances = np.abs(np.array(history) - middle)
        expected = (value - middle) / (1.253314137 * distances.mean())
        assert (found.basis, found.score) == (
            "mean_deviation",
            pytest.approx(expected, rel=1e-6, abs=1e-9),
        )
    else:
        assert found.basis == "no_spread"
    if found.score is not None:
        assert found.anomalous == (abs(found.score) > 3.5)


@given(histories, hundredths, st.integers(-1000, 1000), st.integers(1, 1000), st.randoms())
def test_shift_scale_and_order_change_nothing(
    history: list[float], value: float, shift: int, scale: int, dice: object
) -> None:
    found = MAD.judge(history, value)
    # On the very limit the last digit decides.
    assume(found.score is None or abs(abs(found.score) - 3.5) > 1e-6)
    shuffled = list(history)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    moved = [x * scale + shift for x in shuffled]
    again = MAD.judge(moved, value * scale + shift)
    assert (again.anomalous, again.basis) == (found.anomalous, found.basis)
    assert again.score == (None if found.score is None else pytest.approx(found.score, rel=1e-4))
    mirrored = MAD.judge([-x for x in history], -value)
    assert mirrored.score == (None if found.score is None else -found.score)


@given(hundredths, st.integers(3, 60), hundredths)
def test_a_history_of_one_value_judges_no_other(kept: float, count: int, value: float) -> None:
    history = [kept] * count
    assert MAD.judge(history, kept) == Verdict(False, 0.0, "no_spread")
    assume(value != kept)
    assert MAD.judge(history, value) == Verdict(None, None, "no_spread")


def test_last_digits_of_a_mean_are_no_spread() -> None:
    history = [21.1, 21.099999999999998, 21.1, 21.100000000000001, 21.1]
    assert MAD.judge(history, 21.1 + 1e-13) == Verdict(False, 0.0, "no_spread")


def test_one_odd_hour_in_a_constant_history_gives_it_a_spread() -> None:
    found = MAD.judge([5.0] * 23 + [29.0], 5.5)
    assert found.basis == "mean_deviation"
    assert found.score == pytest.approx(0.5 / (1.253314137 * 1.0))
    assert MAD.judge([5.0] * 23 + [29.0], 15.0).anomalous is True


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_finite_numbers_give_a_verdict(history: list[float], value: float) -> None:
    found = MAD.judge(history, value)
    assert (found.score is None) == (found.anomalous is None)
    assert found.score is None or math.isfinite(found.score)


largest = sys.float_info.max


@pytest.mark.parametrize(
    ("history", "value"),
    [
        pytest.param([0.0] * 3 + [largest] * 2, largest / 4, id="sum"),
        pytest.param([largest] * 4, 0.0, id="median"),
        pytest.param([-largest] * 3 + [largest] * 2, largest, id="distance"),
    ],
)
def test_numbers_near_the_end_of_a_double_are_judged_as_smaller_ones_are(
    history: list[float], value: float
) -> None:
    smaller = [one / 2**200 for one in history]
    assert MAD.judge(history, value) == MAD.judge(smaller, value / 2**200)


PACKAGE = """
from streamkeeper.detectors import Verdict

class Jump:
    def __init__(self, limit):
        self.limit = limit

    def judge(self, history, value):
        jump = value - history[-1]
        return Verdict(abs(jump) > self.limit, jump, "jump")
"""


def install(folder: Path) -> None:
    """Lay a package with a detector below a folder, as an installer does."""
    (folder / "jumps.py").write_text(PACKAGE, encoding="utf-8")
    about = folder / "jumps-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: jumps\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\njump = jumps:Jump\n")


def test_an_installed_package_brings_a_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_method("jump")
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert methods() == ("mad", "jump")
    assert is_method("jump")
    found = detector("jump", 2.0)
    history: Sequence[float] = [1.0, 9.0, 4.0]
    assert found.judge(history, 7.5) == Verdict(True, 3.5, "jump")


def test_an_unknown_method_is_told_with_the_valid_ones() -> None:
    with pytest.raises(StreamkeeperError) as told:
        detector("mda", 3.5)
    assert str(told.value) == (
        "'mda' is no method to find anomalies; valid: mad; did you mean 'mad'?"
    )
