"""The `local` commands: real servers and Airflow on this machine."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from streamkeeper_apps.local.jars import ensure_jars
from streamkeeper_apps.local.places import CHECKOUT
from streamkeeper_apps.local.progress import Steps
from streamkeeper_apps.local.stack import (
    AIRFLOW_SERVERS,
    DATA_SERVERS,
    PAGES,
    SPARK_SERVERS,
    LocalStack,
)

_INTERRUPTED = 130


def _stack(asked: argparse.Namespace, told: Steps | None = None) -> LocalStack:
    return LocalStack(asked.root, asked.servers, jars=asked.jars, prefer_known=True, told=told)


def _jars(asked: argparse.Namespace) -> int:
    count = ensure_jars(CHECKOUT / "jars.lock", asked.jars or asked.root / "jars")
    Console().print(f"{count} jars fetched" if count else "all jars are there")
    return 0


def _up(asked: argparse.Namespace) -> int:
    console = Console()
    ensure_jars(CHECKOUT / "jars.lock", asked.jars or asked.root / "jars")
    with Steps(console) as told:
        stack = _stack(asked, told)
        stack.up()
    console.print(f"settings: {stack.settings_file}")
    return 0


def _down(asked: argparse.Namespace) -> int:
    with Steps(Console()) as told:
        _stack(asked, told).down()
    return 0


def _status(asked: argparse.Namespace) -> int:
    table = Table("server", "state", "pid", "MiB", "")
    found = _stack(asked).status()
    for one in found:
        table.add_row(one.name, one.state, str(one.pid or ""), str(one.memory_mib), one.detail)
    table.add_row("together", "", "", str(sum(one.memory_mib for one in found)), "")
    Console().print(table)
    return 0 if all(one.state == "serves" for one in found) else 1


def _restart(asked: argparse.Namespace) -> int:
    with Steps(Console()) as told:
        stack = _stack(asked, told)
        for name in asked.names:
            told.begin(name)
            stack.restart(name)
            told.end(name, "ready")
    return 0


def _demo(asked: argparse.Namespace) -> int:
    from streamkeeper_apps.local.demo import Demo

    console = Console()
    ensure_jars(CHECKOUT / "jars.lock", asked.jars or asked.root / "jars")
    # A closed terminal or a polite end from outside is a Ctrl-C too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    stack = _stack(asked)
    finished = False
    try:
        console.print("[bold]Starting the servers and Airflow[/]")
        with Steps(console) as stack.told:
            stack.up()
        demo = Demo(stack, console)
        console.print("[bold]The main job, by DAG runs[/]")
        demo.run()
        demo.show_addresses()
        finished = True
        if not asked.once:
            console.print("[bold]All of it runs on until Ctrl-C.[/]")
            signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        _end(stack, console)
    return 0 if finished else _INTERRUPTED


def _end(stack: LocalStack, console: Console) -> None:
    """End everything; Ctrl-C once more does it by force."""
    console.print("\n[bold]Ending everything[/] (Ctrl-C again: by force)")
    try:
        with Steps(console) as stack.told:
            stack.down()
    except KeyboardInterrupt:
        stack.end_now()
        console.print("ended by force")


def add_local_commands(subparsers: Any) -> None:
    """Add `up`, `down`, `status`, `restart`, `demo` and `jars` to a parser's subcommands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--root", type=Path, default=CHECKOUT / ".local", help="folder of all that servers write"
    )
    common.add_argument("--jars", type=Path, help="folder of the locked jars (default: ROOT/jars)")
    common.add_argument(
        "--servers",
        type=lambda text: text.split(","),
        default=[*DATA_SERVERS, *AIRFLOW_SERVERS, *PAGES],
        metavar="A,B",
        help=f"which servers (default: all but {', '.join(SPARK_SERVERS)})",
    )
    common.add_argument(
        "--no-airflow",
        dest="servers",
        action="store_const",
        const=list(DATA_SERVERS),
        help="only the servers that hold data",
    )
    commands = {
        "up": (_up, "start the servers"),
        "down": (_down, "end all servers and launches"),
        "status": (_status, "show the servers"),
        "restart": (_restart, "end and start servers, their data stay"),
        "demo": (_demo, "the whole main job, shown until Ctrl-C ends it"),
        "jars": (_jars, "fetch the locked jars"),
    }
    for name, (run, text) in commands.items():
        parser = subparsers.add_parser(name, help=text, description=text, parents=[common])
        parser.set_defaults(run=run)
        if name == "demo":
            parser.add_argument(
                "--once", action="store_true", help="end by itself when the mails are there"
            )
        if name == "restart":
            parser.add_argument("names", nargs="+", metavar="SERVER")
