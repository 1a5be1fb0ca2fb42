"""Processes are told apart by identity, and ended with all they started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from streamkeeper.launches import Process
from streamkeeper_io import processes


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.02)


@pytest.fixture
def sleeper(tmp_path: Path) -> Process:
    argv = ["/bin/sh", "-c", "sleep 300 & echo begun; wait"]
    process = processes.spawn(argv, folder=tmp_path, env=os.environ, epoch=987654)
    until(lambda: "begun" in (tmp_path / "log").read_text().splitlines())
    yield process
    processes.stop(process, tmp_path, 0)


def test_a_launch_leads_a_session_of_its_own(sleeper: Process, tmp_path: Path) -> None:
    assert processes.alive(sleeper)
    assert os.getsid(sleeper.pid) == sleeper.pid != os.getsid(0)
    assert len(processes.launch_processes(sleeper, None)) == 3
    assert len(processes.launch_processes(None, tmp_path)) == 3
    assert processes.launch_processes(None, tmp_path / "another") == []


def test_another_start_time_or_boot_is_another_process(sleeper: Process) -> None:
    assert not processes.alive(sleeper.model_copy(update={"start": sleeper.start + 1}))
    assert not processes.alive(sleeper.model_copy(update={"boot_id": "another"}))
    assert not processes.alive(sleeper.model_copy(update={"host": "another"}))


def test_stop_ends_all_and_the_exit_code_stays(sleeper: Process, tmp_path: Path) -> None:
    assert processes.exit_code(tmp_path) is None
    assert processes.stop(sleeper, tmp_path, 10)
    assert processes.launch_processes(sleeper, tmp_path) == []
    assert not processes.alive(sleeper)
    assert processes.exit_code(tmp_path) == 128 + signal.SIGTERM


def test_what_outlives_a_killed_leader_is_found_and_ended(sleeper: Process, tmp_path: Path) -> None:
    psutil.Process(sleeper.pid).kill()
    until(lambda: not processes.alive(sleeper))
    assert len(processes.launch_processes(sleeper, None)) == 2
    processes.stop(sleeper, None, 10)
    assert processes.launch_processes(sleeper, tmp_path) == []


def test_the_exit_code_is_kept(tmp_path: Path) -> None:
    processes.spawn(["/bin/sh", "-c", "exit 77"], folder=tmp_path, env=os.environ)
    until(lambda: processes.exit_code(tmp_path) is not None)
    assert processes.exit_code(tmp_path) == 77


def test_a_process_that_has_ended_keeps_its_identity_until_it_is_waited_for() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    ended = processes.identify(child.pid, ended=True)
    assert (ended.pid, processes.alive(ended)) == (child.pid, False)
    with pytest.raises(ProcessLookupError):
        processes.identify(child.pid)
    child.wait()
    with pytest.raises(ProcessLookupError):
        processes.identify(child.pid, ended=True)
