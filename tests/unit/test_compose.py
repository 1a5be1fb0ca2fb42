"""docker-compose.yaml against Compose's schema, and against the code that it must agree with."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator

from compose_file import (
    EXAMPLE,
    ROOT,
    MissingVariable,
    compose,
    environment,
    example,
    properties,
    raw_file,
    services,
    variables,
)
from streamkeeper_apps.local import postgres
from streamkeeper_apps.local.jars import parse_lock

SCHEMA = Path(__file__).parent / "compose" / "compose-spec.json"
DOCKERFILES = sorted((ROOT / "docker").glob("*/Dockerfile"))
# Not servers: one ends when its work is done, one only holds the processes' numbers.
WITHOUT_HEALTH = {"airflow-init", "airflow-host"}
AIRFLOW = sorted(name for name in raw_file()["services"] if name.startswith("airflow-"))


def mistakes(file: dict[str, Any]) -> list[str]:
    found = Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(file)
    return [f"{error.json_path}: {error.message}" for error in found]


def tag(image: str) -> str:
    return image.rpartition(":")[2]


def base_images(dockerfile: str) -> list[str]:
    text = (ROOT / "docker" / dockerfile / "Dockerfile").read_text()
    return re.findall(r"^FROM (\S+)", text, re.MULTILINE)


def pinned(package: str) -> str:
    text = (ROOT / "requirements.txt").read_text()
    found = re.search(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE)
    assert found, package
    return found[1]


def locked(artifact: str) -> str:
    jars = parse_lock((ROOT / "jars.lock").read_text())
    return next(jar.version for jar in jars if jar.artifact == artifact)


# The schema, and Compose itself
@pytest.mark.parametrize("file", [raw_file(), compose()], ids=["as written", "with variables"])
def test_the_file_is_valid_by_the_schema_of_compose(file: dict[str, Any]) -> None:
    assert mistakes(file) == []


def test_the_schema_finds_mistakes() -> None:
    file = compose()
    file["services"]["kafka"]["healthchek"] = {}
    assert len(mistakes(file)) == 1


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)


def command_of_compose() -> list[str]:
    """Docker's plugin, or the program of its own; nothing where there is neither."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and run([*command, "version"]).returncode == 0:
            return command
    return []


def test_compose_itself_reads_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    command = command_of_compose()
    if not command:
        with capsys.disabled():
            print("\nleft out: `docker compose config`, for Compose is not installed here")
        return
    done = run([*command, "--env-file", str(EXAMPLE), "config", "--format", "json"])
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)["services"]
    assert set(read) == set(services())
    for name, service in services().items():
        assert read[name]["image"] == service["image"]
        assert (read[name].get("environment") or {}) == service.get("environment", {})
    without = run([*command, "--env-file", "/dev/null", "config"])
    assert without.returncode != 0
    assert "set it in .env, see .env.example" in without.stderr


# Variables
def test_every_variable_is_demanded_or_has_a_default_and_stands_in_the_example() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for name, kind, text in variables():
        assert kind in (":?", ":-"), f"{name} would silently be empty"
        if kind == ":?":
            assert example().get(name), name
            assert text == "set it in .env, see .env.example"
        else:
            assert f"#{name}={text}" in lines
    named = {line.lstrip("#").partition("=")[0] for line in lines if re.match(r"#?[A-Z_]+=", line)}
    assert named == {variable.name for variable in variables()}


@pytest.mark.parametrize("name", sorted({v.name for v in variables() if v.kind == ":?"}))
def test_a_missing_password_ends_with_a_message_that_names_it(name: str) -> None:
    with pytest.raises(MissingVariable, match=rf"{name}: set it in \.env, see \.env\.example"):
        compose(example() | {name: ""})


def test_no_password_stands_in_the_file() -> None:
    without = {name: f"<{name}>" for name in example()}
    secret = re.compile(r"PASSWORD$|SECRET|FERNET_KEY|_API_SECRET_KEY")
    for service in compose(without)["services"].values():
        for name, value in (service.get("environment") or {}).items():
            if secret.search(name):
                assert value.startswith("<"), name
            for address in re.findall(r"\w+\+?\w*://\S+", value):
                password = urlsplit(address).password
                assert password in (None, "<POSTGRES_PASSWORD>"), name
            if name.startswith("AIRFLOW_CONN_"):
                assert json.loads(value).get("password", "<").startswith("<"), name


def test_a_file_of_random_passwords_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(ROOT / "docker" / "make-env.sh", tmp_path / "docker")
    shutil.copy(EXAMPLE, tmp_path)
    command = ["bash", str(tmp_path / "docker" / "make-env.sh")]
    subprocess.run(command, check=True, capture_output=True)
    written = tmp_path / ".env"
    assert written.stat().st_mode & 0o077 == 0
    lines = [line for line in written.read_text().splitlines() if re.match("[A-Z]", line)]
    values = dict(line.split("=", 1) for line in lines)
    assert set(values) == set(example())
    assert len(set(values.values())) == len(values)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32,}=?", value) for value in values.values())
    before = written.read_text()
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 1
    assert ".env is there already" in again.stderr
    assert written.read_text() == before


def test_the_fernet_key_is_made_and_the_examples_is_refused(tmp_path: Path) -> None:
    from cryptography.fernet import Fernet

    test_a_file_of_random_passwords_is_written_once(tmp_path)
    written = (tmp_path / ".env").read_text()
    (made,) = re.findall("^AIRFLOW_FERNET_KEY=(.*)$", written, re.MULTILINE)
    Fernet(made.encode())
    with pytest.raises(ValueError, match="32 url-safe base64"):
        Fernet(example()["AIRFLOW_FERNET_KEY"].encode())


# Every service
@pytest.mark.parametrize("name", sorted(raw_file()["services"]))
def test_a_service_is_bounded_and_not_root(name: str) -> None:
    service = services()[name]
    assert str(service["user"]).partition(":")[0] not in ("0", "root", "")
    assert service["cap_drop"] == ["ALL"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert not service.get("privileged")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert ("healthcheck" in service) == (name not in WITHOUT_HEALTH)
    assert ":" in service["image"]
    assert tag(service["image"]) != "latest"


def test_the_page_tells_the_sum_of_the_limits() -> None:
    mib = 0
    for service in services().values():
        number, unit = int(service["mem_limit"][:-1]), service["mem_limit"][-1]
        mib += number * {"m": 1, "g": 1024}[unit] * service.get("deploy", {}).get("replicas", 1)
    page = (ROOT / "docs" / "compose.md").read_text()
    assert f"All limits together are {round(mib / 1024)} GiB" in page


def test_services_wait_for_what_exists() -> None:
    for name, service in services().items():
        for needed, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            assert needed in services(), (name, needed)
            assert condition != "service_healthy" or "healthcheck" in services()[needed]
    # A NameNode leaves its safe mode only with its DataNode.
    assert services()["datanode"]["depends_on"]["namenode"]["condition"] == "service_started"


def test_volumes_are_declared_and_used_and_hold_all_data() -> None:
    used = {
        volume.partition(":")[0]: volume.split(":")[1]
        for service in services().values()
        for volume in service.get("volumes", [])
    }
    folders = {name for name in used if name.startswith(".")}
    assert all((ROOT / name).is_dir() for name in folders)
    assert set(used) - folders == set(compose()["volumes"])
    assert used["kafka-data"] == environment("kafka")["KAFKA_LOG_DIRS"]
    names = properties((ROOT / "docker" / "hdfs" / "hdfs-site.xml").read_text())
    assert names["dfs.namenode.name.dir"] == f"file://{used['namenode-data']}"
    assert names["dfs.datanode.data.dir"] == f"file://{used['datanode-data']}"
    assert used["streamkeeper-state"] == environment()["STREAMKEEPER_STATE"]
    assert used["streamkeeper-files"] == environment()["STREAMKEEPER_FILES"]
    assert used["./include/streams"] == environment()["STREAMKEEPER_STREAMS"]
    assert used["airflow-logs"] == environment()["AIRFLOW__LOGGING__BASE_LOG_FOLDER"]
    passwords = Path(environment()["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    assert used["airflow-secrets"] == str(passwords.parent)


# Versions
def test_images_have_the_versions_that_are_tested() -> None:
    images = {name: service["image"] for name, service in services().items()}
    assert images["kafka"] == f"apache/kafka:{locked('kafka_2.13')}"
    assert images["cassandra"] == f"cassandra:{locked('cassandra-all')}"
    assert images["spark-master"] == f"apache/spark:{pinned('pyspark')}"
    major = postgres.binaries().parent.name.removeprefix("pginstall")
    assert re.fullmatch(rf"postgres:{major}\.\d+-bookworm", images["postgres"])
    assert base_images("hdfs") == [f"apache/hadoop:{locked('hadoop-client-minicluster')}"]
    python = f"{pinned_python()}"
    assert base_images("airflow") == [f"apache/airflow:{pinned('apache-airflow')}-python{python}"]
    assert base_images("spark") == [images["spark-master"], f"python:{python}-slim-bookworm"]
    assert tag(images["namenode"]) == tag(base_images("hdfs")[0])
    assert tag(images["spark-worker"]) == pinned("pyspark")
    assert {tag(images[name]) for name in AIRFLOW} == {pinned("apache-airflow")}


def pinned_python() -> str:
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'^requires-python = ">=(\d+\.\d+),', text, re.MULTILINE)
    assert found
    return found[1]


def test_images_are_built_from_files_that_exist_and_are_sent() -> None:
    sent = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    built = {
        Path(build["context"]) / build.get("dockerfile", "Dockerfile"): Path(build["context"])
        for service in services().values()
        if (build := service.get("build"))
    }
    assert {(ROOT / file).resolve() for file in built} == set(DOCKERFILES)
    for file, context in built.items():
        text = (ROOT / file).read_text().replace("\\\n", " ")
        for arguments in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
            words = [w for w in arguments.split() if not w.startswith("--")]
            sources = [] if "--from=" in arguments else words[:-1]
            for source in sources:
                assert list((ROOT / context).glob(source)), f"{file}: {source}"
                if context == Path():
                    assert any(source == s or source.startswith(f"{s}/") for s in sent), source


def test_drivers_and_executors_have_one_python_and_one_java() -> None:
    airflow, spark = (
        (ROOT / "docker" / n / "Dockerfile").read_text() for n in ("airflow", "spark")
    )
    for pattern in (r"VENV=(\S+)", r"openjdk-(\d+)-jre", r"PYTHON=(\S+)"):
        assert re.findall(pattern, airflow) == re.findall(pattern, spark) != []
    assert 17 <= int(re.findall(r"openjdk-(\d+)-jre", spark)[0]) <= 21
