"""The commands `streamkeeper produce simulate`, `folder`, `files`, `replay` and `status`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_produce_commands(commands: Any) -> None:
    """Add `produce` to the command line.

    Parameters: commands, argparse's subparsers.
    """
    produce = commands.add_parser("produce", help="fill a stream's topic")
    kinds = produce.add_subparsers(required=True, metavar="WHAT")
    _add_simulate(kinds)
    _add_folder(kinds)
    _add_files(kinds)
    _add_replay(kinds)
    _add_status(kinds)


def _add_simulate(kinds: Any) -> None:
    simulate = kinds.add_parser(
        "simulate",
        help="simulated readings: the past first, then live",
        description="Sends the declared simulator's messages: the last full hours back-dated, as "
        "fast as it goes, then live at the exact rate, until it is stopped.",
    )
    simulate.add_argument("stream", metavar="STREAM")
    simulate.add_argument(
        "--hours-back", type=_whole, metavar="N", help="full hours of the past to send first"
    )
    simulate.add_argument("--limit", type=_positive, metavar="N", help="end after so many messages")
    simulate.add_argument(
        "--launch",
        type=Path,
        metavar="FILE",
        help="the launch.json of a launch: take the declaration from it, beat to the store and "
        "go on where the launch before stood",
    )
    simulate.add_argument(
        "--fresh", action="store_true", help="begin anew, whatever an earlier launch has sent"
    )
    simulate.add_argument(
        "--beside", action="store_true", help="send although a launched producer does the same"
    )
    simulate.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND=SHARE[:TIME]",
        help="make mistakes on purpose, such as malformed=0.05 or late=0.1:10min; outranks the "
        "declaration's",
    )
    _common(simulate)
    simulate.set_defaults(run=_simulate)


def _add_folder(kinds: Any) -> None:
    folder = kinds.add_parser(
        "folder",
        help="the files of a watched folder, each record once",
        description="Sends every record of the files that lie, or come to lie, in the declared "
        "folder. What was sent stands in a ledger in Kafka, written in the same transactions, so "
        "nothing is lost or sent twice. Nothing in the folder is moved, changed or deleted.",
    )
    folder.add_argument("stream", metavar="STREAM")
    folder.add_argument("--once", action="store_true", help="end when every file has its verdict")
    folder.add_argument(
        "--again",
        metavar="PATH",
        help="only ask that a file, told as in `produce files`, is read once more; the producer "
        "that runs does so, or the next one",
    )
    folder.add_argument("--launch", type=Path, metavar="FILE", help="the launch.json of a launch")
    _common(folder)
    folder.set_defaults(run=_folder)


def _add_files(kinds: Any) -> None:
    files = kinds.add_parser(
        "files",
        help="what became of the files of a watched folder",
        description="Shows the ledger of a watched folder: each file, its state, its records.",
    )
    files.add_argument("stream", metavar="STREAM")
    files.add_argument(
        "--landed",
        action="store_true",
        help="also count what has landed of each file, valid and quarantined",
    )
    files.add_argument(
        "--json", action="store_true", help="a JSON object a line, with all that is known"
    )
    files.set_defaults(run=_files)


def _add_replay(kinds: Any) -> None:
    replay = kinds.add_parser(
        "replay",
        help="the records of files: CSV, JSON, access logs",
        description="Sends each record of files (plain, .gz, .xz) as one message, as the "
        "declaration's producer.replay maps them.",
    )
    replay.add_argument("stream", metavar="STREAM")
    replay.add_argument("files", metavar="FILE", nargs="+", type=Path)
    replay.add_argument(
        "--pace",
        type=_pace,
        metavar="original|Nx|flat",
        help="as far apart as the event times are, N times faster, or as fast as it goes "
        "(the default)",
    )
    replay.add_argument("--limit", type=_positive, metavar="N", help="end after so many records")
    replay.add_argument(
        "--skip", type=_whole, default=0, metavar="N", help="leave out the first N records"
    )
    _common(replay)
    replay.set_defaults(run=_replay)


def _add_status(kinds: Any) -> None:
    status = kinds.add_parser(
        "status",
        help="what producers have sent, by event hour",
        description="Shows what the latest producers of a stream have sent, by event hour, and "
        "what has landed of these hours.",
    )
    status.add_argument("stream", metavar="STREAM")
    status.add_argument(
        "--last", type=_positive, default=5, metavar="N", help="so many producers (default 5)"
    )
    status.set_defaults(run=_status)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        type=_positive,
        default=120,
        metavar="SECONDS",
        help="how long to wait for Kafka, at the start and for an acknowledgement (default 120)",
    )


def _simulate(options: argparse.Namespace) -> int:
    from streamkeeper_apps.producer.simulate import run_simulator
    from streamkeeper_apps.where import find_settings

    return run_simulator(find_settings(), options)


def _folder(options: argparse.Namespace) -> int:
    from streamkeeper_apps.producer.folder.run import run_folder
    from streamkeeper_apps.where import find_settings

    return run_folder(find_settings(), options)


def _files(options: argparse.Namespace) -> int:
    from streamkeeper_apps.producer.folder.table import show_files
    from streamkeeper_apps.where import find_settings

    return show_files(find_settings(), options)


def _replay(options: argparse.Namespace) -> int:
    from streamkeeper_apps.producer.replay import run_replay
    from streamkeeper_apps.where import find_settings

    return run_replay(find_settings(), options)


def _status(options: argparse.Namespace) -> int:
    from streamkeeper_apps.producer.status import show_status
    from streamkeeper_apps.where import find_settings

    return show_status(find_settings(), options.stream, options.last)


def _pace(text: str) -> float | None:
    if text in ("original", "flat"):
        return 1.0 if text == "original" else None
    try:
        speed = float(text.removesuffix("x")) if text.endswith("x") else 0.0
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e9:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no pace; write original, flat or such as 10x"
        )
    return speed


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative; write 0 or more")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is too small; write 1 or more")
    return value
