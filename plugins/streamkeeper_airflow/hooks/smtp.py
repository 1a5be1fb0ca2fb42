"""Airflow's SMTP hook, with pictures that a mail program shows in the text."""

from __future__ import annotations

import mimetypes
from typing import Any

from airflow.providers.smtp.hooks.smtp import SmtpHook


class ReportSmtpHook(SmtpHook):
    """Sends attached pictures as what they are.

    The provider sends every file as `application/octet-stream` and as an attachment; many mail
    programs show such a picture as a file beside the text only.
    """

    def _build_mime_message(self, *args: Any, **kwargs: Any) -> Any:
        message, recipients = super()._build_mime_message(*args, **kwargs)
        for part in message.walk():
            name = part.get_filename()
            kind = mimetypes.guess_type(name)[0] if name else None
            if kind is not None and kind.startswith("image/"):
                part.set_type(kind)
                part.replace_header("Content-Disposition", f'inline; filename="{name}"')
        return message, recipients
