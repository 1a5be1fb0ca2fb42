"""The commands `streamkeeper send` and `streamkeeper look`."""

from __future__ import annotations

import argparse
from typing import Any


def add_send_command(commands: Any) -> None:
    """Add `send` to the command line.

    Parameters: commands, argparse's subparsers.
    """
    send = commands.add_parser(
        "send",
        help="send one message by hand",
        description="Sends one message to a stream's topic as it is given, be it garbage, and "
        "tells its partition and offset.",
    )
    send.add_argument("stream", metavar="STREAM")
    send.add_argument(
        "value", metavar="VALUE", nargs="?", default="-", help="the message; -: standard input"
    )
    send.add_argument("--key", help="the message's key (default: none)")
    send.add_argument(
        "--check", action="store_true", help="send it only if the declaration accepts it"
    )
    send.add_argument(
        "--wait", type=float, default=30.0, metavar="SECONDS", help="for Kafka (default 30)"
    )
    send.set_defaults(run=_send)


def add_look_command(commands: Any) -> None:
    """Add `look` to the command line.

    Parameters: commands, argparse's subparsers.
    """
    look = commands.add_parser(
        "look",
        help="look at a topic's messages",
        description="Shows messages of a topic: where they stand, their times, headers, keys and "
        "values. It joins no group and commits nothing.",
    )
    look.add_argument("stream", metavar="STREAM", nargs="?")
    look.add_argument("--topic", metavar="TOPIC", help="a topic that no declaration names")
    which = look.add_mutually_exclusive_group()
    which.add_argument(
        "--last", type=_positive, metavar="N", help="the newest N messages (default 10)"
    )
    which.add_argument("--follow", action="store_true", help="what comes from now on, until Ctrl-C")
    look.add_argument("--partition", type=int, metavar="P", help="this partition only")
    look.add_argument(
        "--offset", type=int, metavar="O", help="from this offset of --partition on, --last of them"
    )
    look.add_argument(
        "--wait", type=float, default=30.0, metavar="SECONDS", help="for Kafka (default 30)"
    )
    look.set_defaults(run=_look)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is too small; write 1 or more")
    return int(text)


def _send(options: argparse.Namespace) -> int:
    from streamkeeper_apps.producer.send import run_send
    from streamkeeper_apps.where import find_settings

    return run_send(find_settings(), options)


def _look(options: argparse.Namespace) -> int:
    from streamkeeper_apps.look import run_look
    from streamkeeper_apps.where import find_settings

    return run_look(find_settings(), options)
