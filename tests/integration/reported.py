"""Reports as their readers see them: the mails that came, tables, numbers in a language."""

from __future__ import annotations

import email
import html
import re
from datetime import datetime
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from streamkeeper.texts import LanguageName
from streamkeeper_apps.local.stack import LocalStack

_NUMBERS = {"en": r"-?\d{1,3}(,\d{3})*(\.\d\d)?", "fr": r"-?\d{1,3}(\u202f\d{3})*(,\d\d)?"}
_PLAIN = {"en": str.maketrans("", "", ","), "fr": str.maketrans(",", ".", "\u202f")}


def mails(stack: LocalStack, stream: str) -> list[EmailMessage]:
    """Return the report mails of a stream that have come, the oldest first."""
    found = []
    for path in sorted((Path(stack.places.root) / "mails").glob("[!.]*.eml")):
        mail = email.message_from_bytes(path.read_bytes(), policy=default)
        assert isinstance(mail, EmailMessage)
        if mail["X-Streamkeeper-Stream"] == stream:
            found.append(mail)
    return found


def html_of(mail: EmailMessage) -> str:
    """Return the page of a mail."""
    (page,) = [part for part in mail.walk() if part.get_content_type() == "text/html"]
    return str(page.get_content())


def html_rows(page: str) -> list[list[str]]:
    """Return the rows of all tables of a page, without those that only hold other tables."""
    rows = re.findall(r"<tr[^>]*>((?:(?!<tr).)*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in rows]
    return [[html.unescape(cell) for cell in row] for row in cells if row]


def markdown_rows(text: str) -> list[list[str]]:
    """Return the rows of all tables of a text in Markdown, their headers too."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in unescaped(row).split("|")[1:-1]] for row in rows]


def unescaped(text: str) -> str:
    """Return Markdown without the strokes before its special characters."""
    return text.replace("\\", "")


def number(text: str, language: LanguageName) -> float:
    """Return a number that is written as a language writes numbers."""
    assert re.fullmatch(_NUMBERS[language], text), text
    return float(text.translate(_PLAIN[language]))


def holds(cells: list[str], row: tuple[Any, ...], language: LanguageName) -> bool:
    """Tell whether a row of a report shows these values as its language writes them."""
    if len(cells) != len(row):
        return False
    moment = {"en": "%Y-%m-%d %H:%M:%S", "fr": "%d/%m/%Y %H:%M:%S"}[language]
    for cell, value in zip(cells, row, strict=True):
        if isinstance(value, int | float):
            if not re.match(r"-?\d", cell) or number(cell, language) != pytest.approx(
                value, abs=0.0051
            ):
                return False
        elif cell != (value.strftime(moment) if isinstance(value, datetime) else value):
            return False
    return True
