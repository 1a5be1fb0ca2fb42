"""The command `streamkeeper schema`: what editors and the docs need, made from the code."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_schema_command(commands: Any) -> None:
    """Add `schema` to the command line.

    Parameters: commands, argparse's subparsers.
    """
    schema = commands.add_parser(
        "schema",
        help="print the JSON Schema of declarations",
        description="Prints the JSON Schema of declarations, by which editors complete and check "
        "them.",
    )
    schema.add_argument(
        "--expressions", action="store_true", help="instead, the page of functions and operators"
    )
    schema.set_defaults(run=_schema)


def _schema(options: argparse.Namespace) -> int:
    from streamkeeper.spec.pages import expressions_page
    from streamkeeper.spec.schema import schema_text

    sys.stdout.write(expressions_page() if options.expressions else schema_text())
    return 0
