"""Processes on this host: started in sessions of their own, told apart by recorded identity."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from streamkeeper.launches import Process

LAUNCH_VARIABLE = "STREAMKEEPER_LAUNCH"
FOLDER_VARIABLE = "STREAMKEEPER_LAUNCH_FOLDER"
_EXIT_FILE = "exit_code"
# The shell outlives whoever started it, so the exit code is kept although nobody waits.
_WRAPPER = '"$@"; code=$?; echo "$code" > "$0.new" && mv "$0.new" "$0"; exit "$code"'


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_ticks(pid: int, *, ended: bool = False) -> int | None:
    """Return the start time of a process in clock ticks (proc(5), stat field 22); None if dead.

    Parameters: ended, also of one that has ended and that its parent has not waited for.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" and not ended else int(fields[19])


def identify(pid: int, *, ended: bool = False) -> Process:
    """Return the identity of a live process; ProcessLookupError when there is none.

    Parameters: ended, also of one that has ended and that its parent has not waited for.
    """
    start = _start_ticks(pid, ended=ended)
    if start is None:
        raise ProcessLookupError(f"no live process has the number {pid}")
    return Process(host=socket.gethostname(), boot_id=boot_id(), pid=pid, start=start)


def on_this_host(process: Process) -> bool:
    """Tell whether the identity was recorded on this host in its present boot."""
    return process.host == socket.gethostname() and process.boot_id == boot_id()


def alive(process: Process) -> bool:
    """Tell whether this very process runs; a zombie or a later process of that number does not."""
    return on_this_host(process) and _start_ticks(process.pid) == process.start


def launch_processes(process: Process | None, folder: Path | None) -> list[psutil.Process]:
    """Return the live processes of a launch, its own session's and those that carry its mark.

    Parameters: process, the recorded leader of the session, or None; folder, the launch's own,
    which its processes carry as STREAMKEEPER_LAUNCH_FOLDER (an epoch alone would also be found in
    another Streamkeeper on this host), or None.
    """
    found = []
    mark = _mark(folder) if folder is not None else None
    # No process gets a number that still names a session: a later one with the leader's number
    # means that the launch's session is gone.
    leader_here = (
        process is not None
        and on_this_host(process)
        and _start_ticks(process.pid) in (None, process.start)
    )
    for candidate in psutil.process_iter():
        try:
            if candidate.status() == psutil.STATUS_ZOMBIE or candidate.pid == os.getpid():
                continue
            marked = mark is not None and candidate.environ().get(FOLDER_VARIABLE) == mark
            if marked or (leader_here and _in_session(candidate.pid, process)):
                found.append(candidate)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def _mark(folder: Path) -> str:
    return str(folder.resolve())


def _in_session(pid: int, leader: Process | None) -> bool:
    if leader is None or os.getsid(pid) != leader.pid:
        return False
    start = _start_ticks(pid)
    # A session keeps its number until its last member ends; members started before the leader
    # belong to an older session of that number.
    return start is not None and start >= leader.start


def spawn(
    argv: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    epoch: int | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start a command that outlives the caller.

    The command gets a session of its own, an empty standard input and `folder/log` for its
    output; its exit code is written to `folder/exit_code` when it ends.

    Parameters: argv, the command; folder, made if missing; env, its whole environment; epoch, set
    as STREAMKEEPER_LAUNCH for it, beside the folder as STREAMKEEPER_LAUNCH_FOLDER.
    Returns the identity of the session's leader. Raises FileNotFoundError for an unknown command.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exit_file = folder / _EXIT_FILE
    exit_file.unlink(missing_ok=True)
    environment = dict(env) | {FOLDER_VARIABLE: _mark(folder)}
    if epoch is not None:
        environment[LAUNCH_VARIABLE] = str(epoch)
    with (folder / "log").open("ab") as log:
        log.write(f"$ {shlex.join(argv)}\n".encode())
        log.flush()
        child = subprocess.Popen(
            ["/bin/sh", "-c", _WRAPPER, str(exit_file.resolve()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
    # A command may have ended by now.
    return identify(child.pid, ended=True)


def exit_code(folder: Path) -> int | None:
    """Return the exit code that a launch left in its folder; None when it left none."""
    try:
        return int((folder / _EXIT_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None


def signal_launch(process: Process | None, folder: Path | None, number: signal.Signals) -> int:
    """Send a signal to every process of a launch but the wrapping shell; return how many."""
    sent = 0
    for member in launch_processes(process, folder):
        # The shell is spared, so that it still writes the exit code; it ends with its child.
        if number is not signal.SIGKILL and process is not None and member.pid == process.pid:
            continue
        try:
            member.send_signal(number)
            sent += 1
        except psutil.NoSuchProcess:
            continue
    return sent


def stop(process: Process | None, folder: Path | None, grace_s: float) -> bool:
    """End all processes of a launch: SIGTERM, then SIGKILL after `grace_s` seconds.

    Returns True when SIGTERM was enough.
    """
    signal_launch(process, folder, signal.SIGTERM)
    _, left = psutil.wait_procs(launch_processes(process, folder), timeout=grace_s)
    while members := launch_processes(process, folder):
        signal_launch(process, folder, signal.SIGKILL)
        psutil.wait_procs(members, timeout=5)
    return not left
