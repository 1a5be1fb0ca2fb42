"""The command `streamkeeper show`: what a stream holds; no Spark is started."""

from __future__ import annotations

import argparse
import difflib
from typing import Any

from streamkeeper.showing import HourRange, parse_day, parse_hours
from streamkeeper_apps.show_tables import FORMATS

ZONES = ("rows", "raw", "curated", "kpis", "windows", "delta", "quarantine", "topic")
_MOST_ROWS = 100_000


def add_show_command(commands: Any) -> None:
    """Add `show` to the command line.

    Parameters: commands, argparse's subparsers.
    """
    show = commands.add_parser(
        "show",
        help="show what a stream holds",
        description="Shows rows, columns or counts of what a stream holds: `rows` is all valid "
        "rows, each once, of closed hours and of those that are not; `raw` what landed last, "
        "`curated` and `kpis` the closed hours, `windows` the live windows, `delta` the Delta "
        "tables, `quarantine` the records that failed a check, `topic` the messages. Times are "
        "UTC.",
    )
    show.add_argument("stream", metavar="STREAM", help="a declared stream")
    show.add_argument(
        "--zone",
        type=_zone,
        metavar="|".join(ZONES),
        help="what to look at (default: rows; with --kpi kpis, with --window windows, with "
        "--table delta)",
    )
    _add_hours(show)
    show.add_argument("--kpi", metavar="NAME", help="one KPI (default: all)")
    show.add_argument("--window", metavar="NAME", help="one window (default: all)")
    show.add_argument("--table", metavar="PATH", help="one Delta table (default: all)")
    show.add_argument("--limit", type=_limit, default=20, metavar="N", help="rows (default: 20)")
    show.add_argument(
        "--format", choices=FORMATS, default="table", help="for people or programs (default: table)"
    )
    told = show.add_mutually_exclusive_group()
    told.add_argument("--schema", action="store_true", help="show the columns instead of rows")
    told.add_argument("--count", action="store_true", help="count the rows instead")
    show.set_defaults(run=_show)


def _add_hours(show: argparse.ArgumentParser) -> None:
    when = show.add_mutually_exclusive_group()
    when.add_argument(
        "--hour",
        dest="hours",
        type=_hours,
        metavar="2026-11-24T14",
        help="one hour, or A..B with both in; by default the newest rows, or the last closed hour",
    )
    when.add_argument(
        "--day", dest="hours", type=_day, metavar="2026-11-24", help="the hours of a day"
    )


def _zone(text: str) -> str:
    if text in ZONES:
        return text
    nearest = difflib.get_close_matches(text, ZONES, n=1)
    told = f"there is no zone {text!r}; valid: {', '.join(ZONES)}"
    raise argparse.ArgumentTypeError(told + (f"; did you mean {nearest[0]!r}?" if nearest else ""))


def _hours(text: str) -> HourRange:
    return _parsed(parse_hours, text)


def _day(text: str) -> HourRange:
    return _parsed(parse_day, text)


def _parsed(parse: Any, text: str) -> HourRange:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_ROWS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MOST_ROWS:,}")
    return int(text)


def _show(options: argparse.Namespace) -> int:
    from streamkeeper_apps.show_tables import print_shown
    from streamkeeper_apps.show_zones import asked
    from streamkeeper_apps.streams import declared
    from streamkeeper_apps.where import find_settings

    settings = find_settings()
    spec = declared(settings, options.stream)
    print_shown(asked(settings, spec, options), options.format)
    return 0
