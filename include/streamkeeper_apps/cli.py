"""The command `streamkeeper`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from streamkeeper.errors import Disagreement, StreamkeeperError, Unavailable

_INTERRUPTED = 130


class _Command(NamedTuple):
    """A command: its line of help, and the function that adds it to a parser."""

    help: str
    module: str
    function: str


# Only the module of the command that is asked for is imported, so that the answer comes at once.
_COMMANDS = {
    "check": _Command("check declarations", "check", "add_check_command"),
    "new": _Command("write a declaration to begin with", "new", "add_new_command"),
    "schema": _Command("print the JSON Schema of declarations", "schema", "add_schema_command"),
    "show": _Command("show what a stream holds", "show", "add_show_command"),
    "produce": _Command("fill a stream's topic", "producer.commands", "add_produce_commands"),
    "send": _Command("send one message by hand", "messages_commands", "add_send_command"),
    "look": _Command("look at a topic's messages", "messages_commands", "add_look_command"),
    "stream": _Command(
        "see, start, stop and rewind streams", "stream_commands", "add_stream_commands"
    ),
    "dashboard": _Command(
        "show streams in the browser", "dashboard.commands", "add_dashboard_command"
    ),
    "local": _Command("servers and Airflow on this machine", "local.commands", ""),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    75: something outside does not answer; 78: two records of one fact differ; 1: another error.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser(given).parse_args(given)
        return int(options.run(options))
    except StreamkeeperError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; the interpreter must not write again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def exit_code_of(error: StreamkeeperError) -> int:
    """Return the exit code that tells the kind of an error."""
    from streamkeeper.launches import EXIT_DISAGREEMENT, EXIT_ERROR, EXIT_UNAVAILABLE

    if isinstance(error, Unavailable):
        return EXIT_UNAVAILABLE
    return EXIT_DISAGREEMENT if isinstance(error, Disagreement) else EXIT_ERROR


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamkeeper", description="Keeps declared Kafka streams alive."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    asked = next((a for a in given if not a.startswith("-")), "")
    for name, command in _COMMANDS.items():
        if name != asked:
            commands.add_parser(name, help=command.help)
            continue
        module = importlib.import_module(f"streamkeeper_apps.{command.module}")
        if name == "local":
            local = commands.add_parser(name, help=command.help)
            module.add_local_commands(local.add_subparsers(required=True, metavar="COMMAND"))
        else:
            getattr(module, command.function)(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
