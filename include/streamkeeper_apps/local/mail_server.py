"""A mail server for one machine: keeps each mail as a file and shows them on a page."""

from __future__ import annotations

import argparse
import itertools
import mimetypes
import signal
import threading
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from aiosmtpd.controller import Controller

_HTML = "text/html; charset=utf-8"
_BYTES = "application/octet-stream"
_PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px system-ui;margin:2em auto;max-width:60em}}td{{padding:.3em 1em .3em 0}}
iframe{{width:100%;height:75vh;border:1px solid #ccc}}</style><h1>{title}</h1>{body}"""


class Keeper:
    """Takes every mail and keeps it as `<time>-<n>.eml`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = itertools.count(1)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep one mail; the name is aiosmtpd's."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{next(self._count)}.eml"
        new = self.folder / f".{name}"
        new.write_bytes(envelope.content)
        new.rename(self.folder / name)
        return "250 kept"


def mail_files(folder: Path) -> list[Path]:
    """The kept mails, the newest first."""
    return sorted(folder.glob("[!.]*.eml"), reverse=True)


def read_mail(path: Path) -> EmailMessage:
    """Read one kept mail."""
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def html_of(mail: EmailMessage, address: str) -> str:
    """The mail's HTML (else its text) with `cid:` pictures pointed at `address`/<content id>."""
    body = mail.get_body(preferencelist=("html", "plain"))
    if body is None:
        return "<p>This mail has no text.</p>"
    text = str(body.get_content())
    if body.get_content_type() != "text/html":
        return f"<pre>{escape(text)}</pre>"
    for content_id in parts_by_id(mail):
        text = text.replace(f"cid:{content_id}", f"{address}/{quote(content_id, safe='')}")
    return text


def parts_by_id(mail: EmailMessage) -> dict[str, EmailMessage]:
    """The mail's parts that have a Content-ID."""
    found = {}
    for part in mail.walk():
        content_id = str(part.get("Content-ID", "")).strip().strip("<>")
        if content_id and isinstance(part, EmailMessage):
            found[content_id] = part
    return found


def _list_page(folder: Path) -> str:
    rows = []
    for path in mail_files(folder):
        mail = read_mail(path)
        subject = escape(str(mail.get("Subject", "(no subject)")))
        cells = (escape(str(mail.get("To", ""))), f"{path.stem[:15]}Z")
        link = f'<a href="/mail/{quote(path.name)}">{subject}</a>'
        rows.append(f"<tr><td>{link}<td>{cells[0]}<td>{cells[1]}</tr>")
    body = f"<table>{''.join(rows)}</table>" if rows else "<p>No mail has arrived yet.</p>"
    return _PAGE.format(title="Mails", body=body)


def _mail_page(path: Path) -> str:
    mail = read_mail(path)
    heads = "".join(
        f"<tr><td><b>{name}</b><td>{escape(str(mail.get(name, '')))}</tr>"
        for name in ("From", "To", "Date")
    )
    address = f"/mail/{quote(path.name)}"
    # A mail is a stranger's text: the sandbox lets it run nothing.
    frame = f'<iframe sandbox src="{address}/html"></iframe>'
    links = f'<p><a href="/">all mails</a> · <a href="{address}/source">source</a></p>'
    title = escape(str(mail.get("Subject", "(no subject)")))
    return _PAGE.format(title=title, body=f"<table>{heads}</table>{links}{frame}")


def respond(folder: Path, path: str) -> tuple[HTTPStatus, str, bytes]:
    """Answer a GET: status, content type and body.

    Parameters: folder of the mails; path, the request's path.
    """
    parts = [unquote(part) for part in urlsplit(path).path.split("/") if part]
    if not parts:
        found: tuple[str, bytes] | None = (_HTML, _list_page(folder).encode())
    else:
        # Only names that the folder lists are opened, so no path leads out of it.
        file = next((f for f in mail_files(folder) if parts[:2] == ["mail", f.name]), None)
        found = _view(file, parts[2:]) if file else None
    if found is None:
        return HTTPStatus.NOT_FOUND, "text/plain", b"there is no such mail or part"
    return HTTPStatus.OK, *found


def _view(file: Path, parts: list[str]) -> tuple[str, bytes] | None:
    """Content type and body of one view of a mail; None when there is no such view."""
    match parts:
        case []:
            return _HTML, _mail_page(file).encode()
        case ["html"]:
            text = html_of(read_mail(file), f"/mail/{quote(file.name)}/part")
            return _HTML, text.encode()
        case ["source"]:
            return "text/plain; charset=utf-8", file.read_bytes()
        case ["part", content_id] if part := parts_by_id(read_mail(file)).get(content_id):
            content = part.get_payload(decode=True)
            return _picture_type(content_id), content if isinstance(content, bytes) else b""
    return None


def _picture_type(name: str) -> str:
    """The type of a picture by its name: mailers call attachments octet-streams.

    Anything else stays one, so that no part of a mail is run as a page.
    """
    guessed, _ = mimetypes.guess_type(name)
    return guessed if guessed in ("image/png", "image/jpeg", "image/gif") else _BYTES


def _handler(folder: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content_type, body = respond(folder, self.path)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            # The page shows strangers' texts: no scripts, nothing from elsewhere.
            policy_text = "default-src 'self'; style-src 'unsafe-inline'; script-src 'none'"
            self.send_header("Content-Security-Policy", policy_text)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Keep the log for mails."""

    return Handler


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--page-port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    controller = Controller(
        Keeper(asked.folder), hostname=asked.host, port=asked.smtp_port, data_size_limit=64 << 20
    )
    page = ThreadingHTTPServer((asked.host, asked.page_port), _handler(asked.folder))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    controller.start()
    threading.Thread(target=page.serve_forever, daemon=True).start()
    ended.wait()
    page.shutdown()
    controller.stop()


if __name__ == "__main__":
    main()
