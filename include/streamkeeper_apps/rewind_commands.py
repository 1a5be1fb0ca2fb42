"""The commands `streamkeeper stream rewind|reset|accept-lost|due`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamkeeper_apps.rewinding import Going, Rewinding

Make = Callable[[], "Rewinding"]


def add_rewind_commands(kinds: Any, make: Make) -> None:
    """Add the commands that begin new generations to `stream`.

    Parameters: kinds, argparse's subparsers; make, returns what carries them out.
    """
    rewind = _parser(kinds, "rewind", "read messages again; what is read again replaces older rows")
    where = rewind.add_mutually_exclusive_group(required=True)
    where.add_argument("--begin", action="store_true", help="all messages that the topic keeps")
    where.add_argument(
        "--timestamp", type=_instant, metavar="T", help="from this time of the broker on, ISO 8601"
    )
    _add_offsets(where)
    where.add_argument(
        "--abandon", action="store_true", help="give up the rewind that is under way"
    )
    rewind.set_defaults(run=lambda options: _rewind(options, make()))

    reset = _parser(kinds, "reset", "begin anew: a topic made again, a checkpoint that was lost")
    reset.add_argument(
        "--from",
        dest="begins",
        choices=("landed", "begin", "end", "offsets"),
        default="landed",
        help="where to begin: behind what has landed (default), at an end of the topic, at offsets",
    )
    _add_offsets(reset)
    reset.set_defaults(run=lambda options: _reset(options, make()))

    lost = _parser(kinds, "accept-lost", "go on behind messages deleted before they were read")
    lost.set_defaults(run=lambda options: make().accept_lost(options.name, _going(options)))

    due = kinds.add_parser("due", help="closed hours that have changed since their close")
    due.add_argument("name", metavar="NAME", help="the stream")
    due.set_defaults(run=lambda options: make().due(options.name))


def _parser(kinds: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.add_argument("name", metavar="NAME", help="the stream")
    parser.add_argument("--dry-run", action="store_true", help="only show what would happen")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--wait",
        type=float,
        default=180.0,
        metavar="SECONDS",
        help="how long to wait for the next launch, 0: only ask for it (default 180)",
    )
    return parser


def _add_offsets(parser: Any) -> None:
    parser.add_argument(
        "--offset",
        type=_offset,
        action="append",
        default=[],
        dest="offsets",
        metavar="P=O",
        help="partition and offset; several may be given, the others go on where they stand",
    )


def _offset(text: str) -> tuple[int, int]:
    partition, _, offset = text.partition("=")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not PARTITION=OFFSET, such as 0=1200")
    return int(partition), int(offset)


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time, such as 2026-11-24T14:00:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _going(options: argparse.Namespace) -> Going:
    from streamkeeper_apps.rewinding import Going

    return Going(options.dry_run, options.yes, options.wait)


def _rewind(options: argparse.Namespace, rewinding: Rewinding) -> int:
    going = _going(options)
    if options.abandon:
        return rewinding.abandon(options.name, going)
    if options.begin:
        return rewinding.rewind(options.name, "begin", going)
    return rewinding.rewind(options.name, options.timestamp or dict(options.offsets), going)


def _reset(options: argparse.Namespace, rewinding: Rewinding) -> int:
    from streamkeeper.errors import StreamkeeperError

    if bool(options.offsets) != (options.begins == "offsets"):
        raise StreamkeeperError("reset: --offset P=O and --from offsets go together")
    return rewinding.reset(options.name, options.begins, dict(options.offsets), _going(options))
