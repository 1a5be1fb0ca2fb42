"""The locked jars: reading the lock, fetching from a real HTTP server, refusing wrong bytes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamkeeper_apps.local import jars
from streamkeeper_apps.local.jars import Jar, JarMismatch, JarsUnavailable

CHECKOUT = Path(__file__).parents[2]


def jar(artifact: str, content: bytes, folder: str = "kafka") -> Jar:
    digest = hashlib.sha256(content).hexdigest()
    return Jar(folder, "org.example", artifact, "1.0", None, digest, len(content))


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A Maven repository on loopback: its address and its folder."""
    folder = tmp_path / "repository"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def publish(folder: Path, one: Jar, content: bytes) -> None:
    path = folder / one.address
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_the_projects_lock_has_all_folders_and_no_jar_twice() -> None:
    lock = jars.parse_lock((CHECKOUT / "jars.lock").read_text())
    assert {one.folder for one in lock} == set(jars.FOLDERS)
    places = [one.path(Path()) for one in lock]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(
    "line",
    [
        "kafka org.example:a:1.0 sha256:12 5",
        "elsewhere org.example:a:1.0 sha256:" + "0" * 64 + " 5",
        "kafka ../x:a:1.0 sha256:" + "0" * 64 + " 5",
        "kafka org.example:a sha256:" + "0" * 64 + " 5",
    ],
)
def test_a_malformed_line_is_named_with_its_number(line: str) -> None:
    with pytest.raises(ValueError, match=r"jars\.lock:2: .* is not `folder group:artifact"):
        jars.parse_lock(f"# a comment\n{line}\n")


def test_a_classifier_is_part_of_the_file_name() -> None:
    text = "cassandra com.github.jnr:jffi:1.3.11:native sha256:" + "0" * 64 + " 5"
    [one] = jars.parse_lock(text)
    assert one.address == "com/github/jnr/jffi/1.3.11/jffi-1.3.11-native.jar"
    assert one.path(Path("j")) == Path("j/cassandra/jffi-1.3.11-native.jar")


def test_only_what_is_missing_or_wrong_is_fetched(
    repository: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = repository
    lock = [jar("whole", b"1" * 5000), jar("wrong", b"2" * 5000), jar("absent", b"3" * 900_000)]
    for one, content in zip(lock, (b"1" * 5000, b"2" * 5000, b"3" * 900_000), strict=True):
        publish(folder, one, content)
    target = tmp_path / "jars"
    lock[0].path(target).parent.mkdir(parents=True)
    lock[0].path(target).write_bytes(b"1" * 5000)
    lock[1].path(target).write_bytes(b"x" * 5000)
    wanted = jars.missing(lock, target)
    assert wanted == lock[1:]
    arrived: list[int] = []
    jars.fetch(wanted, target, repository=address, advance=arrived.append)
    assert sum(arrived) == 905_000
    assert jars.missing(lock, target) == []
    assert not list(target.rglob("*.part"))


def test_wrong_bytes_are_refused_and_not_kept(repository: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = repository
    one = jar("changed", b"as it was locked")
    publish(folder, one, b"as somebody made it")
    with pytest.raises(JarMismatch, match=r"changed-1\.0\.jar came with sha256 .* jars\.lock says"):
        jars.fetch([one], tmp_path / "jars", repository=address)
    assert not list((tmp_path / "jars").rglob("*.*"))


def test_a_repository_that_does_not_have_a_jar_is_told(
    repository: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars.time, "sleep", lambda _: None)
    with pytest.raises(JarsUnavailable, match=r"absent-1\.0\.jar could not be fetched.*404"):
        jars.fetch([jar("absent", b"")], tmp_path / "jars", repository=repository[0])


def test_jars_that_the_lock_does_not_name_leave_the_class_path(tmp_path: Path) -> None:
    kept = jar("kept", b"1")
    kept.path(tmp_path).parent.mkdir(parents=True)
    kept.path(tmp_path).write_bytes(b"1")
    old = tmp_path / "kafka" / "kept-0.9.jar"
    part = tmp_path / "kafka" / "kept-1.0.jar.77.part"
    old.touch()
    part.touch()
    assert set(jars.remove_others([kept], tmp_path)) == {old, part}
    assert list((tmp_path / "kafka").iterdir()) == [kept.path(tmp_path)]
