"""The commands `streamkeeper stream status|start|stop|restart|rewind|reset|...`."""

from __future__ import annotations

import argparse
import getpass
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streamkeeper_apps.rewind_commands import add_rewind_commands

if TYPE_CHECKING:
    from streamkeeper.settings import Settings
    from streamkeeper_apps.control import Control
    from streamkeeper_apps.rewinding import Rewinding
    from streamkeeper_io.store import Store

_TEXTS = {
    "status": "what is wanted of streams, what runs, and how far it is",
    "start": "want a stream to run; its keep__ DAG launches it",
    "stop": "drain a stream and keep it stopped, until `start`",
    "restart": "drain a stream's driver; its keep__ DAG launches it again",
}


def add_stream_commands(commands: Any) -> None:
    """Add `stream` to the command line.

    Parameters: commands, argparse's subparsers.
    """
    stream = commands.add_parser("stream", help="see, start, stop and rewind streams")
    kinds = stream.add_subparsers(required=True, metavar="WHAT")
    for name, text in _TEXTS.items():
        parser = kinds.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.set_defaults(run=_RUNS[name])
        if name == "status":
            parser.add_argument("names", metavar="NAME", nargs="*", help="streams (default: all)")
            continue
        parser.add_argument("names", metavar="NAME", nargs="+", help="streams")
        parser.add_argument(
            "--wait",
            type=float,
            default=180.0,
            metavar="SECONDS",
            help="how long to wait for it to be done, 0: only ask (default 180)",
        )
    add_rewind_commands(kinds, _rewinding)


def _reached() -> tuple[Settings, Store, str]:
    """Return the settings, their store, and who asks."""
    from streamkeeper_apps.where import find_settings
    from streamkeeper_io.store import Store

    settings = find_settings()
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    return settings, Store(settings.need("store")), by


def _control() -> Control:
    from streamkeeper_apps.control import Control

    return Control(*_reached())


def _rewinding() -> Rewinding:
    from streamkeeper_apps.rewinding import Rewinding

    return Rewinding(*_reached())


def _status(options: argparse.Namespace) -> int:
    return _control().status(options.names)


def _each(options: argparse.Namespace, act: Callable[[str, float], bool]) -> int:
    done = [act(name, options.wait) for name in options.names]
    return 0 if all(done) else 1


def _start(options: argparse.Namespace) -> int:
    return _each(options, _control().start)


def _stop(options: argparse.Namespace) -> int:
    return _each(options, _control().stop)


def _restart(options: argparse.Namespace) -> int:
    return _each(options, _control().restart)


_RUNS = {"status": _status, "start": _start, "stop": _stop, "restart": _restart}
