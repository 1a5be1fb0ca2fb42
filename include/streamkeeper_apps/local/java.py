"""Find a Java that runs everything: versions 17 to 21."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from streamkeeper.errors import SettingsError

OLDEST, NEWEST = 17, 21
_INSTALL = (
    ("apt-get", "sudo apt-get update && sudo apt-get install -y openjdk-17-jre-headless"),
    ("dnf", "sudo dnf install -y java-21-openjdk-headless"),
    ("yum", "sudo yum install -y java-17-openjdk-headless"),
    ("zypper", "sudo zypper install -y java-21-openjdk-headless"),
    ("pacman", "sudo pacman -S --noconfirm jre21-openjdk-headless"),
    ("apk", "sudo apk add openjdk17-jre-headless"),
    ("brew", 'brew install openjdk@17 && export JAVA_HOME="$(brew --prefix openjdk@17)"'),
)


class JavaMissing(SettingsError):
    """No usable Java was found."""


def parse_version(text: str) -> int | None:
    """Read the major version from what `java -version` prints; None when it tells none."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if match is None:
        return None
    return int(match[2] or 0) if match[1] == "1" else int(match[1])


def version_of(java: Path) -> int | None:
    """Ask a `java` binary for its major version; None when it cannot be run."""
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stderr + done.stdout)


def candidates(environ: Mapping[str, str]) -> list[tuple[str, Path]]:
    """Return where a Java may be, each with a name for messages, the wanted one first."""
    found = []
    if environ.get("JAVA_HOME"):
        found.append(("JAVA_HOME", Path(environ["JAVA_HOME"]) / "bin" / "java"))
    on_path = shutil.which("java", path=environ.get("PATH"))
    if on_path:
        found.append(("PATH", Path(on_path)))
    return found


def install_command(which: Callable[[str], str | None] = shutil.which) -> str:
    """Return the command that installs a Java on this system."""
    for tool, command in _INSTALL:
        if which(tool):
            return command if os.geteuid() else command.replace("sudo ", "")
    return "install OpenJDK 17 or 21 and set JAVA_HOME to its folder"


def find_java(cache: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the home folder of a Java 17 to 21, fetched by cjdk where none is installed.

    Parameters: cache, folder for a fetched runtime; environ, read for JAVA_HOME and PATH.
    Raises JavaMissing with what was found and the command that installs one.
    """
    seen = []
    for name, java in candidates(environ):
        version = version_of(java)
        if version is not None and OLDEST <= version <= NEWEST:
            return java.resolve().parents[1]
        seen.append(f"{name} has {'Java ' + str(version) if version else 'none'} ({java})")
    try:
        return _fetch(cache)
    except Exception as error:  # cjdk raises what its downloads raise
        found = "; ".join(seen) or "there is none in JAVA_HOME or on the PATH"
        raise JavaMissing(
            f"Java {OLDEST} to {NEWEST} is needed: {found}; fetching one failed too "
            f"({type(error).__name__}: {error}).\nInstall one and run the same command again:\n\n"
            f"    {install_command()}\n"
        ) from error


def _fetch(cache: Path) -> Path:
    import cjdk

    return Path(cjdk.java_home(vendor="temurin-jre", version="17", cache_dir=cache))
