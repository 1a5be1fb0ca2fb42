"""Where one machine's servers keep their files, ports and secrets."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streamkeeper.errors import SettingsError

CHECKOUT = Path(__file__).resolve().parents[3]
LOOPBACK = "127.0.0.1"
STACK_VARIABLE = "STREAMKEEPER_STACK"
PORTS_VARIABLE = "STREAMKEEPER_PORTS"
# Below the ports that the kernel gives to outgoing connections, so that none of those takes ours
# while its server is down.
_PORTS = range(20_000, 32_000)
# Unix sockets of temporary folders must fit into 107 characters.
_LONGEST_TEMPORARY = 70
# Two threads that ask first for a secret must get the same one.
_one_secret_at_a_time = threading.Lock()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step."""
    new = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.rename(path)


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on a loopback port now."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def parse_ports(text: str) -> dict[str, int]:
    """Read `kafka=9092,airflow=8080`; SettingsError names what is wrong."""
    found = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, number = part.partition("=")
        if not number.isdigit() or not 0 < int(number) < 65536:
            raise SettingsError(
                f"{PORTS_VARIABLE}: {part!r} is not NAME=PORT; write kafka=9092,airflow=8080"
            )
        found[name] = int(number)
    return found


@dataclass
class Ports:
    """The ports of a stack by name, kept in a file so that they stay the same at every start.

    file: JSON of name to port, may be edited while the servers are down; wanted: ports that the
    user asks for; prefer_known: try a server's customary port before a random one.
    """

    file: Path
    wanted: Mapping[str, int] = field(default_factory=dict)
    prefer_known: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def get(self, name: str, known: int | None = None) -> int:
        """Return the port of a name, chosen at its first use.

        Parameters: name; known, the customary port.
        """
        with self._lock:
            chosen = self._read()
            if name in self.wanted:
                chosen[name] = self.wanted[name]
            elif name not in chosen:
                chosen[name] = self._choose(known, set(chosen.values()))
            write_private(self.file, json.dumps(chosen, indent=1))
            return chosen[name]

    def _read(self) -> dict[str, int]:
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def _choose(self, known: int | None, taken: set[int]) -> int:
        if known and self.prefer_known and known not in taken and port_is_free(known):
            return known
        for port in random.sample(_PORTS, 1000):
            if port not in taken and port_is_free(port):
                return port
        raise SettingsError("no free port was found on loopback")


@dataclass(frozen=True)
class Places:
    """Folders, ports and secrets of one stack.

    root: folder of everything that its servers write; jars: folder of the locked jars; checkout:
    the project's folder.
    """

    root: Path
    jars: Path
    ports: Ports
    checkout: Path = CHECKOUT

    @classmethod
    def at(
        cls,
        root: Path,
        jars: Path | None = None,
        *,
        prefer_known: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> Places:
        """Make the root's folders and read what is kept there."""
        root = root.resolve()
        for name in ("run", "logs", "conf", "data", "tmp", "state", "mails", "cache"):
            (root / name).mkdir(parents=True, exist_ok=True)
        wanted = parse_ports(environ.get(PORTS_VARIABLE, ""))
        ports = Ports(root / "ports.json", wanted, prefer_known)
        return cls(root, (jars or root / "jars").resolve(), ports)

    @property
    def stack_id(self) -> str:
        """The mark in the environment of every process of this stack."""
        return self.secret("stack", lambda: str(uuid.uuid4()))

    def secret(self, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(24)) -> str:
        """Return a secret that is made once and kept in a file of mode 600.

        Parameters: name, the file's name; make, called without arguments for the first value.
        """
        folder = self.root / "secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / name
        with _one_secret_at_a_time:
            if not path.exists():
                write_private(path, make())
            return path.read_text()

    def conf(self, server: str) -> Path:
        """The folder of a server's written configuration."""
        return self.root / "conf" / server

    def data(self, server: str) -> Path:
        """The folder of a server's data."""
        return self.root / "data" / server

    def log_folder(self, server: str) -> Path:
        """The folder of a server's output (`log`) and exit code."""
        return self.root / "logs" / server

    @property
    def temporary(self) -> Path | None:
        """The folder for temporary files; None when its path is too long for Unix sockets."""
        folder = self.root / "tmp"
        return folder if len(str(folder)) <= _LONGEST_TEMPORARY else None

    def environment(self) -> dict[str, str]:
        """The environment of this stack's processes: the caller's, marked."""
        found = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        found[STACK_VARIABLE] = self.stack_id
        # Libraries keep caches (fonts, ...) in the home folder unless told otherwise.
        found["XDG_CACHE_HOME"] = found["MPLCONFIGDIR"] = str(self.root / "cache")
        if self.temporary:
            found["TMPDIR"] = str(self.temporary)
        return found
