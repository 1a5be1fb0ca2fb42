"""`python -m streamkeeper_apps.local up`: the local commands by themselves."""

from __future__ import annotations

import argparse
import sys

from streamkeeper.errors import StreamkeeperError
from streamkeeper_apps.local.commands import add_local_commands


def main() -> int:
    """Run one local command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m streamkeeper_apps.local")
    add_local_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    asked = parser.parse_args()
    try:
        return asked.run(asked)
    except StreamkeeperError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
