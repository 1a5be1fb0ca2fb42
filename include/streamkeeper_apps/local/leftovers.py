"""Find and end what a stack's processes left running, by recorded identity and by its mark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from streamkeeper.launches import Launch, Process
from streamkeeper_apps.local.places import STACK_VARIABLE, Places
from streamkeeper_apps.local.progress import Told
from streamkeeper_io import processes


class _Snapshot(BaseModel):
    """The part of a launch's snapshot that is needed here."""

    launch: Launch


def recorded_launches(state: Path) -> Iterator[tuple[Path, Launch]]:
    """Read the launches of drivers and producers under a state folder, each with its folder."""
    for file in sorted(state.glob("launches/*/*/launch.json")):
        with suppress(OSError, ValidationError, ValueError):
            yield file.parent, _Snapshot.model_validate_json(file.read_text()).launch


def belonging(places: Places) -> list[psutil.Process]:
    """Return the live processes of a stack.

    They are those of the recorded sessions, those that carry the stack's mark or a launch folder
    of its state in their environment, and PostgreSQL's, which overwrite their environment, begin
    sessions of their own, and work in the data folder.
    """
    spared = {psutil.Process().pid, *(parent.pid for parent in psutil.Process().parents())}
    found = {p.pid: p for r in _recorded(places) for p in processes.launch_processes(r, None)}
    found |= {p.pid: p for p in working_in(places.data("postgres"))}
    stack, state = places.stack_id, f"{(places.root / 'state').resolve()}/"
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            environ = process.environ()
            launch_folder = environ.get(processes.FOLDER_VARIABLE, "")
            if environ.get(STACK_VARIABLE) == stack or launch_folder.startswith(state):
                found[process.pid] = process
    # A command that was run from within the stack must not end itself.
    return [process for pid, process in found.items() if pid not in spared]


def _recorded(places: Places) -> Iterator[Process]:
    for file in sorted((places.root / "run").glob("*.json")):
        with suppress(OSError, ValueError, KeyError):
            yield Process.model_validate(json.loads(file.read_text())["process"])


def working_in(folder: Path) -> list[psutil.Process]:
    """Return the live processes whose working folder is this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder):
                found.append(process)
    return found


def stop_launches(places: Places, grace_s: float, told: Told) -> None:
    """End all live launches of the state folder, side by side.

    Parameters: grace_s, seconds between SIGTERM and SIGKILL; told, hears of each.
    """
    alive = [
        (folder, launch)
        for folder, launch in recorded_launches(places.root / "state")
        if processes.launch_processes(launch.process, folder)
    ]

    def stop(one: tuple[Path, Launch]) -> None:
        folder, launch = one
        name = f"{launch.kind} {launch.name} {launch.epoch}"
        told.begin(name)
        processes.stop(launch.process, folder, grace_s)
        told.end(name, "ended")

    if alive:
        with ThreadPoolExecutor(len(alive)) as pool:
            list(pool.map(stop, alive))


def end_belonging(places: Places, grace_s: float = 5) -> int:
    """End every process of the stack; return how many there were.

    Parameters: grace_s, seconds between SIGTERM and SIGKILL, 0 for SIGKILL at once.
    """
    found = belonging(places)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(found, timeout=grace_s) if grace_s else ([], found)
    while left:
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        left = belonging(places)
    return len(found)
