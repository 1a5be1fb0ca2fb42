"""The programs that the images carry besides the project: jars at the build, the start's work."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

from compose_file import ROOT, environment
from streamkeeper_apps.local import postgres

FETCH = ROOT / "docker" / "airflow" / "fetch_jars.py"
CONTENT = b"not really a jar"


def loaded(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """The address of a Maven repository on loopback that has one jar."""
    folder = tmp_path / "repository" / "org" / "example" / "tool" / "1.0"
    folder.mkdir(parents=True)
    (folder / "tool-1.0.jar").write_bytes(CONTENT)
    handler = partial(Quiet, directory=str(tmp_path / "repository"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def fetch(lock: str, tmp_path: Path, repository: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "jars.lock"
    file.write_text(lock)
    command = [sys.executable, str(FETCH), str(file), str(tmp_path / "jars"), repository]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_only_the_jars_of_spark_are_fetched(tmp_path: Path, repository: str) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    lines = (f"{f} org.example:tool:1.0 sha256:{sha256} {len(CONTENT)}" for f in ("spark", "kafka"))
    done = fetch("\n".join(lines), tmp_path, repository)
    assert done.returncode == 0, done.stderr
    files = [p for p in (tmp_path / "jars").rglob("*") if p.is_file()]
    assert [str(p.relative_to(tmp_path / "jars")) for p in files] == ["spark/tool-1.0.jar"]


def test_a_jar_with_other_bytes_ends_the_build(tmp_path: Path, repository: str) -> None:
    done = fetch(f"spark org.example:tool:1.0 sha256:{'0' * 64} 16", tmp_path, repository)
    assert done.returncode != 0
    assert "JarMismatch" in done.stderr
    assert not list((tmp_path / "jars").rglob("*.jar"))


def test_every_database_of_the_environment_is_made() -> None:
    prepare = loaded(FETCH.with_name("prepare.py"))
    known = {value for name, value in vars(postgres).items() if name.endswith("_DATABASE")}
    assert known <= prepare.databases(environment("airflow-init"))


def test_the_password_of_admin_is_written_for_its_owner_only(tmp_path: Path) -> None:
    prepare = loaded(FETCH.with_name("prepare.py"))
    file = tmp_path / "passwords.json"
    environ = environment("airflow-init") | {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(file)
    }
    for password in ("first", "second"):
        prepare.write_passwords(environ | {"AIRFLOW_ADMIN_PASSWORD": password})
        assert json.loads(file.read_text()) == {"admin": password}
        assert file.stat().st_mode & 0o077 == 0
