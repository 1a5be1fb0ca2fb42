"""The dashboard as one of the stack's servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import httpx

from streamkeeper.settings import Settings
from streamkeeper_apps.dashboard.commands import HEALTH, LOOPBACK, PORT, command
from streamkeeper_apps.local.places import Places
from streamkeeper_apps.local.server import Server, digest_of_code


class Dashboard(Server):
    """Streamlit on `dashboard`; it tells itself which of the servers that it reads are away.

    Parameters: places; settings, asked for the servers' addresses.
    """

    name: ClassVar[str] = "dashboard"

    def __init__(self, places: Places, settings: Callable[[], Settings]) -> None:
        super().__init__(places)
        self._settings = settings

    @property
    def port(self) -> int:
        """The port of the pages."""
        return self.places.ports.get("dashboard", PORT)

    @property
    def url(self) -> str:
        """The address of the pages."""
        return f"http://{LOOPBACK}:{self.port}"

    def argv(self) -> list[str]:
        return command(self.port)

    def env(self) -> dict[str, str]:
        return self._settings().environment()

    def fingerprint(self) -> str:
        return digest_of_code(self.places.checkout / "include")

    def check(self) -> str | None:
        try:
            answer = httpx.get(self.url + HEALTH, timeout=3, trust_env=False)
        except httpx.HTTPError as error:
            return f"{self.url} does not answer ({type(error).__name__})"
        return None if answer.text == "ok" else f"{self.url}{HEALTH} answers {answer.text[:80]!r}"
