"""What both views are made of: messages instead of tracebacks, tiles, tables."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import streamlit as st

from streamkeeper.dashboards import (
    NOTHING,
    AlertState,
    Span,
    Tile,
    Variable,
    age,
    figure,
    last_span,
    moment,
)
from streamkeeper.errors import StreamkeeperError, Unavailable
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.where import find_settings
from streamkeeper_io.readings import Readings, open_readings

log = logging.getLogger(__name__)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|$:~&])")
RANGES = {
    "5 min": timedelta(minutes=5),
    "15 min": timedelta(minutes=15),
    "1 h": timedelta(hours=1),
    "6 h": timedelta(hours=6),
    "24 h": timedelta(days=1),
    "7 d": timedelta(days=7),
    "30 d": timedelta(days=30),
}
TILES_A_LINE = 5


def escaped(text: object) -> str:
    """Return a text so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", str(text))


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Tell what went wrong with a part of the page, and what to do; the other parts are drawn.

    Parameters: what, the part.
    """
    try:
        yield
    except Unavailable as error:
        told = f"**{escaped(what.capitalize())}: away.** {escaped(redacted(error))}"
        st.warning(told, icon=":material/cloud_off:")
    except StreamkeeperError as error:
        told = f"**{escaped(what.capitalize())}.** {escaped(redacted(error))}"
        st.error(told, icon=":material/error:")
    except Exception:
        log.exception("the dashboard failed to show %s", what)
        st.error(
            f"**{escaped(what.capitalize())}** cannot be shown: a fault of the dashboard. Its log "
            "tells more; please report it.",
            icon=":material/error:",
        )


def redacted(error: Exception) -> str:
    """Return an error's text without secrets."""
    try:
        settings = find_settings()
    except StreamkeeperError:
        settings = Settings()
    return settings.redact(str(error))


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Tell that a first look is on its way; later ones leave the old answer where it is."""
    holder = st.empty()
    key = f"seen {what}"
    if key in st.session_state:
        yield
        return
    holder.info(f"Reading {escaped(what)} ...", icon=":material/hourglass_top:")
    try:
        yield
        st.session_state[key] = True
    finally:
        holder.empty()


def draw_tiles(tiles: Sequence[Tile]) -> None:
    """Draw figures with their changes."""
    for begin in range(0, len(tiles), TILES_A_LINE):
        columns = st.columns(TILES_A_LINE)
        for column, one in zip(columns, tiles[begin : begin + TILES_A_LINE], strict=False):
            # Neither up nor down is good or bad in itself.
            column.metric(
                escaped(one.label),
                one.value,
                one.change or None,
                delta_color="off",
                delta_arrow="off",
                border=True,
            )


@contextmanager
def last_rows(
    settings: Settings, spec: Spec, length: timedelta
) -> Iterator[tuple[Readings, Span] | None]:
    """Give a stream's rows and the time of this length up to the newest; None if there are none.

    It tells how fresh the rows are and where they come from, or what to do to get some.
    """
    with open_readings(settings, spec) as readings:
        newest = readings.newest()
        if newest is None:
            tell_empty(spec, readings.place)
            yield None
            return
        st.caption(_newest_line(newest, readings.place))
        yield readings, last_span(newest, length)


def _newest_line(newest: datetime, place: str) -> str:
    now = datetime.now(UTC)
    return (
        f"Newest reading {moment(newest)} ({age(now - newest)}) · from {place} · "
        f"looked at {now:%H:%M:%S} UTC"
    )


def tell_empty(spec: Spec, place: str) -> None:
    """Tell that there is no row yet, and what to do."""
    st.info(
        f"**No rows yet.** {escaped(place)} holds nothing of {escaped(spec.name)}. In Airflow, "
        f"unpause `produce__{spec.name}` and `keep__{spec.app}`; this page looks again by itself.",
        icon=":material/hourglass_empty:",
    )


def titled(spec: Spec, variable: Variable) -> str:
    """Return a variable's name with the unit of its column."""
    unit = spec.units().get(variable.column)
    return f"{variable.name} ({unit})" if unit else variable.name


def alert_table(states: Sequence[AlertState]) -> None:
    """Draw the alerts of the declaration, those that are broken first."""
    if not states:
        st.caption("The declaration has no alerts.")
        return
    order = sorted(states, key=lambda s: (s.broken is None, -(s.broken or 0)))
    rows = [
        {
            "alert": f"{_sign(state)} {escaped(state.name)}",
            "condition": escaped(state.condition),
            "beyond": NOTHING if state.broken is None else _counted(state.broken, state.of),
            "worst": figure(state.worst),
            "last (UTC)": f"{state.last:%m-%d %H:%M:%S}" if state.last else NOTHING,
            "before": NOTHING if state.before is None else f"{state.before:,}",
        }
        for state in order
    ]
    st.table(pd.DataFrame(rows), hide_index=True, border="horizontal")
    for state in order:
        if state.reason:
            st.caption(f"{escaped(state.name)}: {escaped(state.reason)}")


def _counted(count: int, of: str) -> str:
    return f"{count:,} {of.removesuffix('s') if count == 1 else of}"


def _sign(state: AlertState) -> str:
    if state.broken is None:
        return ":gray[:material/help:]"
    return ":orange[:material/warning:]" if state.broken else ":green[:material/check_circle:]"


def frame(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return rows as a frame that has these columns even without rows."""
    return pd.DataFrame(rows, columns=list(columns))
