"""Servers as child processes: kept, replaced, found again, ended; and the order of starts."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple

import psutil
import pytest

from streamkeeper.errors import StreamkeeperError
from streamkeeper_apps.local.leftovers import belonging, end_belonging
from streamkeeper_apps.local.places import LOOPBACK, Places
from streamkeeper_apps.local.scratch import end_orphans, scratch_root
from streamkeeper_apps.local.server import Server, ServerFailed
from streamkeeper_apps.local.stack import run_in_order
from streamkeeper_apps.local.waiting import NotSeen, wait_for

# Listens, and has a child of its own that would be left behind by a careless stop.
_LISTEN = """
import socket, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
    while True:
        listening.accept()[0].close()
"""


class Listener(Server):
    name: ClassVar[str] = "listener"
    program: str = _LISTEN

    def argv(self) -> list[str]:
        return [sys.executable, "-c", self.program, str(self.places.ports.get("listener"))]

    def check(self) -> str | None:
        try:
            socket.create_connection((LOOPBACK, self.places.ports.get("listener")), 1).close()
        except OSError as error:
            return str(error)
        return None


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    found = Places.at(tmp_path, environ={})
    yield found
    end_belonging(found, grace_s=0)


def up(places: Places) -> Listener:
    server = Listener(places)
    server.start()
    server.wait_ready()
    return server


def test_a_healthy_server_is_found_again_by_another_process(places: Places) -> None:
    first = up(places)
    again = Listener(places)
    assert again.keepable()
    assert again.record() == first.record()


def test_a_server_that_would_be_started_otherwise_now_is_not_kept(places: Places) -> None:
    up(places)
    changed = Listener(places)
    changed.program += "\n# changed"
    assert not changed.keepable()


def test_a_start_ends_the_leftover_of_the_start_before(places: Places) -> None:
    old = up(places).members()
    new = up(places)
    assert not [p for p in old if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert new.check() is None


def test_stop_ends_children_too_and_leaves_no_record(places: Places) -> None:
    server = up(places)
    assert len(server.members()) == 3, "the shell, the server and its child"
    server.stop()
    assert belonging(places) == []
    assert server.record() is None


def test_a_killed_server_is_known_to_be_dead(places: Places) -> None:
    server = up(places)
    server.kill()
    assert not server.alive()
    assert server.record() is not None


def test_what_carries_the_mark_is_found_without_any_record(places: Places) -> None:
    server = up(places)
    server._record_file.unlink()
    assert len(belonging(places)) == 3
    assert end_belonging(places, grace_s=1) == 3
    assert belonging(places) == []


def test_a_server_that_ends_at_once_is_told_with_its_last_words(places: Places) -> None:
    server = Listener(places)
    server.program = "raise SystemExit('the port is not mine')"
    server.start()
    with pytest.raises(ServerFailed, match="listener ended while starting") as told:
        server.wait_ready()
    assert "the port is not mine" in str(told.value)


class Step(NamedTuple):
    name: str
    needs: tuple[str, ...] = ()


def test_steps_run_after_those_that_they_need() -> None:
    steps = [Step("c", ("a", "b")), Step("b", ("a",)), Step("a"), Step("d", ("elsewhere",))]
    order: list[str] = []
    run_in_order(steps, lambda step: order.append(step.name), lambda: None)
    assert sorted(order) == ["a", "b", "c", "d"]
    assert order.index("a") < order.index("b") < order.index("c")


def test_steps_that_need_a_failed_one_are_left_out() -> None:
    ran: list[str] = []

    def work(step: Step) -> None:
        ran.append(step.name)
        if step.name == "a":
            raise StreamkeeperError("a is broken")

    with pytest.raises(StreamkeeperError, match="a is broken"):
        run_in_order([Step("a"), Step("b", ("a",)), Step("c")], work, lambda: None)
    assert set(ran) == {"a", "c"}


def test_steps_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=10)
    run_in_order([Step("a"), Step("b")], lambda step: both.wait() and None, lambda: None)


def test_waiting_ends_with_what_was_seen_last() -> None:
    began = time.monotonic()
    with pytest.raises(NotSeen, match=r"a mail: not seen within 0 s\nlast: 3"):
        wait_for("a mail", lambda: None, timeout_s=0.05, every_s=0.01, detail=lambda: "last: 3")
    assert time.monotonic() - began < 5


_RUN = """
import sys
from pathlib import Path
from test_local_servers import Listener
from streamkeeper_apps.local.places import Places
from streamkeeper_apps.local.scratch import scratch_root
server = Listener(Places.at(scratch_root(Path(sys.argv[1])), environ={}))
server.start()
server.wait_ready()
print(server.places.root, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_run_left_is_ended_by_the_next_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RUN, str(tmp_path)]
    run = subprocess.Popen(
        command, cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    theirs = Path(run.stdout.readline().strip())
    left = belonging(places := Places.at(theirs, environ={}))
    try:
        assert end_orphans(tmp_path) == [], "its owner lives"
        assert len(left) == len(belonging(places)) == 3
        run.kill()
        run.communicate()
        ours = scratch_root(tmp_path)
        assert not [process for process in left if process.is_running()]
        assert [folder for folder in tmp_path.iterdir() if folder.is_dir()] == [ours]
    finally:
        run.kill()
        run.wait()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
