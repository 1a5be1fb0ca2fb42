"""Secrets: told by the name of an option, and taken out of every text that leaves a process."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Collection, Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "***"
SECRET_NAMES = (
    r"(?i)pass(word|wd|phrase)|secret|token|credential|access[._-]?key"
    r"|jaas|ssl[._]key[._]pem|ssl[._]keystore[._]key|private"
)
"""What a name contains whose value is a secret; Spark hides values by it too."""
_SECRET = re.compile(SECRET_NAMES)
# Hiding every "a" of a text would hide the text, and tell the secret by its gaps.
_SHORTEST = 3


def is_secret(name: str) -> bool:
    """Tell whether the value of an option with this name is a secret."""
    return _SECRET.search(name) is not None


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return a text in which every secret is replaced, also where it is written as in a URL."""
    found = {form for secret in secrets for form in _forms(secret) if len(form) >= _SHORTEST}
    # The longest first: a secret may be a part of another one.
    for form in sorted(found, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text


def _forms(secret: str) -> tuple[str, ...]:
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
    return secret, quote(secret, safe=""), quote_plus(secret), escaped, repr(secret)[1:-1]


class Redacting(logging.Formatter):
    """A formatter that writes what another one does, without the secrets.

    Parameters: inner, the formatter; secrets.
    """

    def __init__(self, inner: logging.Formatter, secrets: Collection[str]) -> None:
        super().__init__()
        self._inner, self._secrets = inner, tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text, its traceback included."""
        return redact(self._inner.format(record), self._secrets)


def redact_logs(secrets: Collection[str]) -> None:
    """Keep secrets out of all that the root logger's handlers write from now on."""
    for handler in logging.getLogger().handlers if secrets else ():
        inner = handler.formatter or logging.Formatter()
        handler.setFormatter(Redacting(inner, secrets))


def told(error: BaseException, secrets: Iterable[str]) -> str:
    """Return an error with its traceback, without the secrets."""
    return redact("".join(traceback.format_exception(error)), secrets)
