"""Finding a Java, and what is told when there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamkeeper_apps.local import java
from streamkeeper_apps.local.java import JavaMissing, find_java, install_command, parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_401"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ("bash: java: command not found", None),
    ],
)
def test_versions_are_read(text: str, version: int | None) -> None:
    assert parse_version(text) == version


def fake_java(folder: Path, version: str) -> Path:
    """A `java` that tells a version."""
    binary = folder / "bin" / "java"
    binary.parent.mkdir(parents=True)
    binary.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    binary.chmod(0o755)
    return folder


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home, other = fake_java(tmp_path / "home", "21.0.1"), fake_java(tmp_path / "other", "17.0.1")
    environ = {"JAVA_HOME": str(home), "PATH": f"{other}/bin:/usr/bin:/bin"}
    assert find_java(tmp_path, environ) == home


def test_a_java_of_the_wrong_version_is_passed_over(tmp_path: Path) -> None:
    home, other = fake_java(tmp_path / "home", "11.0.1"), fake_java(tmp_path / "other", "17.0.1")
    environ = {"JAVA_HOME": str(home), "PATH": f"{other}/bin:/usr/bin:/bin"}
    assert find_java(tmp_path, environ) == other


def test_without_a_usable_java_one_message_tells_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(cache: Path) -> Path:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(java, "_fetch", away)
    home = fake_java(tmp_path / "home", "25.0.1")
    with pytest.raises(JavaMissing) as told:
        find_java(tmp_path, {"JAVA_HOME": str(home), "PATH": str(tmp_path)})
    text = str(told.value)
    assert "Java 17 to 21 is needed: JAVA_HOME has Java 25" in text
    assert "no route to host" in text
    assert install_command() in text


@pytest.mark.parametrize(
    ("tool", "part"),
    [("apt-get", "apt-get install -y openjdk-17"), ("dnf", "dnf install -y java-21"), ("brew", "")],
)
def test_the_command_is_this_systems(tool: str, part: str) -> None:
    command = install_command(lambda name: f"/bin/{name}" if name == tool else None)
    assert part in command
    assert ("sudo " in command) == (os.geteuid() != 0 and tool != "brew")
