"""The mail server: keeps what arrives, shows it without letting it run anything."""

from __future__ import annotations

import smtplib
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from streamkeeper_apps.local.leftovers import end_belonging
from streamkeeper_apps.local.mail import Mail
from streamkeeper_apps.local.mail_server import mail_files, respond
from streamkeeper_apps.local.places import LOOPBACK, Places

PICTURE = b"\x89PNG\r\n\x1a\n not really"


def report() -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = "[2 alerts] temperature 14:00 <script>alert(1)</script>"
    mail["From"], mail["To"] = "streamkeeper@localhost", "operations@localhost"
    mail.set_content("plain")
    mail.add_alternative('<p>Fès <img src="cid:chart.png"></p>', subtype="html")
    html = mail.get_body(("html",))
    assert isinstance(html, EmailMessage)
    # As Airflow's SMTP hook attaches it.
    html.add_related(PICTURE, "application", "octet-stream", cid="<chart.png>")
    html.add_related(b"<script>", "text", "html", cid="<page.html>")
    return mail


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "20261124T140501.000001-1.eml").write_bytes(report().as_bytes())
    (tmp_path / ".half-written.eml").write_bytes(b"x")
    return tmp_path


def test_the_list_shows_mails_and_escapes_their_subjects(folder: Path) -> None:
    status, _, body = respond(folder, "/")
    assert status == HTTPStatus.OK
    assert b"[2 alerts] temperature 14:00 &lt;script&gt;" in body
    assert b"<script>" not in body
    assert b"half-written" not in body


def test_a_mail_shows_its_html_with_its_picture(folder: Path) -> None:
    name = "20261124T140501.000001-1.eml"
    status, kind, body = respond(folder, f"/mail/{name}/html")
    assert (status, kind) == (HTTPStatus.OK, "text/html; charset=utf-8")
    address = f"/mail/{name}/part/chart.png"
    assert f'src="{address}"' in body.decode()
    assert "Fès" in body.decode()
    assert respond(folder, address) == (HTTPStatus.OK, "image/png", PICTURE)


def test_a_part_that_is_no_picture_is_never_a_page(folder: Path) -> None:
    path = "/mail/20261124T140501.000001-1.eml/part/page.html"
    assert respond(folder, path) == (HTTPStatus.OK, "application/octet-stream", b"<script>")


@pytest.mark.parametrize(
    "path",
    ["/mail/../../etc/passwd", "/mail/%2e%2e%2fsecret.eml", "/mail/.half-written.eml", "/nothing"],
)
def test_nothing_but_kept_mails_is_shown(folder: Path, path: str) -> None:
    assert respond(folder, path)[0] == HTTPStatus.NOT_FOUND


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Mail]:
    places = Places.at(tmp_path, environ={})
    server = Mail(places)
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()
        end_belonging(places, grace_s=0)


def test_a_mail_that_was_accepted_is_kept_and_shown(served: Mail) -> None:
    with smtplib.SMTP(LOOPBACK, served.port) as client:
        client.send_message(report())
    [kept] = mail_files(served.places.root / "mails")
    assert b"[2 alerts] temperature 14:00" in kept.read_bytes()
    page = httpx.get(f"{served.page}mail/{kept.name}", trust_env=False)
    assert page.status_code == HTTPStatus.OK
    assert "script-src 'none'" in page.headers["Content-Security-Policy"]
    assert sys.executable in served.argv()
