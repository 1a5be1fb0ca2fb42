"""Processes on this host: drivers for local[*] and, in client mode, for a standalone master."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from streamkeeper.launches import Launch, Process
from streamkeeper_io import processes

_GRACE_S = 20.0
_TAIL_BYTES = 8192


class LocalLauncher:
    """Starts, sees and ends the processes of a launch on this host."""

    def start(
        self, argv: Sequence[str], *, folder: Path, env: Mapping[str, str], epoch: int, cwd: Path
    ) -> Process:
        """Start a command in a session of its own; see `processes.spawn`."""
        return processes.spawn(argv, folder=folder, env=env, epoch=epoch, cwd=cwd)

    def running(self, launch: Launch) -> bool | None:
        """Tell whether a launch's processes live; None when they are on another host or boot."""
        process = launch.process
        if process is not None and not processes.on_this_host(process):
            return None
        if process is not None and processes.alive(process):
            return True
        if process is not None and self.exit_code(launch) is not None:
            return False  # what is left of its session is ended before the next launch
        # The leader is a shell, and what it started outlives its kill; a keeper that died right
        # after the start recorded no process at all.
        return bool(processes.launch_processes(process, _folder(launch)))

    def end(self, launch: Launch) -> bool:
        """End all processes of a launch; True when none had to be killed."""
        return processes.stop(launch.process, _folder(launch), _GRACE_S)

    def exit_code(self, launch: Launch) -> int | None:
        """Return the exit code that a launch left; None when it left none here."""
        if launch.exit_code is not None:
            return launch.exit_code
        return processes.exit_code(Path(launch.folder)) if launch.folder else None

    def log_tail(self, launch: Launch, lines: int = 30) -> str:
        """Return the last lines of a launch's output, or where it should be."""
        path = Path(launch.folder) / "log"
        try:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError as error:
            return f"(no log at {path}: {error.strerror})"
        return "\n".join(text.splitlines()[-lines:])


def _folder(launch: Launch) -> Path | None:
    return Path(launch.folder) if launch.folder else None
