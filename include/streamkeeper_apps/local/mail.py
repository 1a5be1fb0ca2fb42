"""The mail server as one of the stack's servers."""

from __future__ import annotations

import smtplib
import sys
from typing import ClassVar

import httpx

from streamkeeper_apps.local.places import LOOPBACK
from streamkeeper_apps.local.server import Server


class Mail(Server):
    """SMTP on `smtp`, a page to read the mails on `mails`."""

    name: ClassVar[str] = "mail"

    @property
    def port(self) -> int:
        """The SMTP port."""
        return self.places.ports.get("smtp", 8026)

    @property
    def page(self) -> str:
        """The address of the page."""
        return f"http://{LOOPBACK}:{self.places.ports.get('mails', 8025)}/"

    def argv(self) -> list[str]:
        return [
            sys.executable,
            *("-m", "streamkeeper_apps.local.mail_server"),
            *("--host", LOOPBACK, "--smtp-port", str(self.port)),
            *("--page-port", str(self.places.ports.get("mails", 8025))),
            *("--folder", str(self.places.root / "mails")),
        ]

    def check(self) -> str | None:
        try:
            with smtplib.SMTP(LOOPBACK, self.port, timeout=3) as client:
                client.noop()
            httpx.get(self.page, timeout=3, trust_env=False).raise_for_status()
        except (OSError, smtplib.SMTPException, httpx.HTTPError) as error:
            return str(error)
        return None
