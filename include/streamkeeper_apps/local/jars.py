"""The locked jars: read `jars.lock`, fetch what is missing, check every file's sha256."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from streamkeeper.errors import StreamkeeperError, Unavailable

FOLDERS = ("spark", "kafka", "hdfs", "cassandra")
_LINE = re.compile(
    r"(?P<folder>\w+) (?P<group>[\w.-]+):(?P<artifact>[\w.-]+):(?P<version>[\w.-]+)"
    r"(?::(?P<classifier>[\w.-]+))? sha256:(?P<sha256>[0-9a-f]{64}) (?P<size>\d+)"
)
_THREADS = 16
_ATTEMPTS = 4
_BLOCK = 1 << 18


class JarMismatch(StreamkeeperError):
    """A jar's bytes are not those of the lock."""


class JarsUnavailable(Unavailable):
    """The jars cannot be fetched now."""


@dataclass(frozen=True)
class Jar:
    """One line of the lock: where a jar goes, its coordinates, its sha256 and size in bytes."""

    folder: str
    group: str
    artifact: str
    version: str
    classifier: str | None
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """The file's name, as Maven builds it."""
        tail = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{tail}.jar"

    @property
    def address(self) -> str:
        """The path below a Maven repository's address."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.file_name}"

    def path(self, jars: Path) -> Path:
        """The file's place below the folder of all jars."""
        return jars / self.folder / self.file_name


def parse_lock(text: str) -> list[Jar]:
    """Read the lines of a lock.

    Raises ValueError with the line's number and the expected form.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or match["folder"] not in FOLDERS:
            raise ValueError(
                f"jars.lock:{number}: {line!r} is not `folder group:artifact:version[:classifier] "
                f"sha256:HEX bytes` with a folder of {', '.join(FOLDERS)}"
            )
        folder, group, artifact, version, classifier, sha256, size = match.groups()
        found.append(Jar(folder, group, artifact, version, classifier, sha256, int(size)))
    return found


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def missing(lock: Iterable[Jar], jars: Path) -> list[Jar]:
    """Return the jars of the lock that are not in the folder with exactly their bytes."""

    def is_missing(jar: Jar) -> bool:
        path = jar.path(jars)
        try:
            return path.stat().st_size != jar.size or sha256_of(path) != jar.sha256
        except FileNotFoundError:
            return True

    lock = list(lock)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [jar for jar, absent in zip(lock, pool.map(is_missing, lock), strict=True) if absent]


def remove_others(lock: Iterable[Jar], jars: Path) -> list[Path]:
    """Delete jars that the lock does not name, for a class path takes whole folders."""
    named = {jar.path(jars) for jar in lock}
    others = [p for folder in FOLDERS for p in (jars / folder).glob("*.jar*") if p not in named]
    for path in others:
        path.unlink()
    return others


def fetch(
    lock: list[Jar],
    jars: Path,
    *,
    repository: str,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Fetch the given jars, each checked before it takes its name.

    Parameters: lock, the jars to fetch; jars, the folder of all jars; repository, the address of a
    Maven repository; advance, called with the count of bytes that arrived (negative when a
    download begins anew).
    Raises JarMismatch for wrong bytes, JarsUnavailable when a jar does not come after 4 attempts.
    What arrived before an error stays, so the next call goes on from there.
    """
    limits = httpx.Limits(max_connections=_THREADS)
    with (
        httpx.Client(base_url=repository, timeout=30, limits=limits) as client,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        # The largest first, so that no long download is left for the end.
        by_size = sorted(lock, key=lambda jar: -jar.size)
        work = [pool.submit(_fetch_one, client, jar, jar.path(jars), advance) for jar in by_size]
        try:
            for one in work:
                one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_one(
    client: httpx.Client, jar: Jar, target: Path, advance: Callable[[int], None]
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _download(client, jar, target, advance)
            return
        except httpx.HTTPError as error:
            if attempt == _ATTEMPTS:
                raise JarsUnavailable(
                    f"{jar.file_name} could not be fetched from {client.base_url}{jar.address} "
                    f"in {_ATTEMPTS} attempts: {error}; check the network (HTTPS_PROXY, "
                    "SSL_CERT_FILE) and run the same command again, it goes on from here"
                ) from error
            time.sleep(2 ** (attempt - 1))


def _download(client: httpx.Client, jar: Jar, target: Path, advance: Callable[[int], None]) -> None:
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    arrived = 0
    try:
        with client.stream("GET", jar.address) as response, part.open("wb") as file:
            response.raise_for_status()
            for block in response.iter_bytes(_BLOCK):
                file.write(block)
                digest.update(block)
                arrived += len(block)
                advance(len(block))
        if digest.hexdigest() != jar.sha256:
            raise JarMismatch(
                f"{jar.file_name} came with sha256 {digest.hexdigest()}, jars.lock says "
                f"{jar.sha256}; nothing was kept. Fetch again; if it differs again, the "
                "repository's file is not the one that was locked"
            )
        part.rename(target)
    except BaseException:
        advance(-arrived)
        raise
    finally:
        part.unlink(missing_ok=True)


def ensure_jars(lock_file: Path, jars: Path) -> int:
    """Bring a folder to what the lock says, with a progress bar; return how many were fetched.

    Parameters: lock_file, the lock; jars, the folder of all jars.
    """
    from jgo.constants import MAVEN_CENTRAL_URL
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    lock = parse_lock(lock_file.read_text())
    remove_others(lock, jars)
    wanted = missing(lock, jars)
    if wanted:
        columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            total = sum(jar.size for jar in wanted)
            task = progress.add_task(f"{len(wanted)} jars", total=total)
            fetch(
                wanted,
                jars,
                repository=MAVEN_CENTRAL_URL,
                advance=lambda count: progress.advance(task, count),
            )
    return len(wanted)
