"""The command `streamkeeper dashboard`: Streamlit with the settings that the pages need."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

PORT = 8501
LOOPBACK = "127.0.0.1"
HEALTH = "/_stcore/health"
"""The path that answers `ok` once pages are served."""
_APP = Path(__file__).with_name("app.py")


def add_dashboard_command(commands: Any) -> None:
    """Add `dashboard` to the command line.

    Parameters: commands, argparse's subparsers.
    """
    parser = commands.add_parser(
        "dashboard",
        help="show streams in the browser",
        description="Serves the dashboard: live figures and trends of every declared stream. It "
        "only reads: PostgreSQL where a stream writes it, else the lake.",
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    parser.add_argument(
        "--address", default=LOOPBACK, help=f"where it listens (default: {LOOPBACK}); it has no "
        "log-in, so anything but loopback shows the streams to whoever reaches it"
    )  # fmt: skip
    parser.set_defaults(run=_serve)


def command(port: int, address: str = LOOPBACK) -> list[str]:
    """Return the command that serves the dashboard."""
    options = {
        "server.port": str(port),
        "server.address": address,
        "server.headless": "true",
        # A running server keeps the code that it began with, and watches no files.
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "streamkeeper_apps.dashboard", "run", str(_APP), *given]


def _serve(options: argparse.Namespace) -> int:
    print(f"the dashboard: http://{options.address}:{options.port}", flush=True)
    found = command(options.port, options.address)
    # Streamlit takes this process's place, so that signals reach it.
    os.execv(found[0], found)
