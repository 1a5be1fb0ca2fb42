"""The task that mails the reports of closed hours."""

from __future__ import annotations

import tempfile
from email.utils import make_msgid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from streamkeeper.hours import Revision
from streamkeeper.names import format_hour, parse_hour
from streamkeeper.spec.models import Spec
from streamkeeper_airflow.hooks.connections import (
    MAIL,
    settings_from_connections,
    store_from_connection,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from streamkeeper_io.store import Store


class MailReportsOperator(BaseOperator):
    """Mails each closed hour that has no mail yet; with the parameter `hour`, that hour again.

    An event of the hours asset is a wake-up only: one run may stand for many closes, so the task
    drains the store.

    Parameters: spec, the stream.
    """

    def __init__(self, *, spec: Spec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec

    def execute(self, context: Context) -> list[str]:
        """Send the mails; return the hours that were mailed."""
        store = store_from_connection()
        asked = context["params"].get("hour")
        due = [self._asked(store, asked)] if asked else store.unmailed(self.spec.name)
        if not due:
            self.log.info("No closed hour of %s is without a mail", self.spec.name)
        for revision in due:
            told, message_id = self._send(store, revision)
            # After the sending: a crash between the two sends the mail twice, never not at all.
            store.record_mail(self.spec.name, told.hour, told.revision, message_id)
        return [format_hour(revision.hour) for revision in due]

    def _asked(self, store: Store, text: str) -> Revision:
        hour = parse_hour(text)
        revision = store.revision(self.spec.name, hour)
        if revision is None:
            known = [format_hour(r.hour) for r in store.revisions(self.spec.name)]
            raise AirflowFailException(
                f"{self.spec.name} {text} has not been closed; closed hours: "
                f"{', '.join(known[-24:]) or 'none'}; close it with hours__{self.spec.name}"
            )
        return revision

    def _send(self, store: Store, revision: Revision) -> tuple[Revision, str]:
        """Send the report of an hour; return the revision that it tells, and its Message-ID."""
        from streamkeeper_airflow.hooks.smtp import ReportSmtpHook
        from streamkeeper_io.reports import build_report

        report_spec = self.spec.report
        assert report_spec is not None
        report = build_report(settings_from_connections(), store, self.spec, revision)
        hour, number = format_hour(report.revision.hour), str(report.revision.revision)
        message_id = make_msgid(f"{self.spec.name}.{hour}.{number}", "streamkeeper")
        with tempfile.TemporaryDirectory() as folder, ReportSmtpHook(smtp_conn_id=MAIL) as hook:
            files = []
            for name, content in report.pictures.items():
                path = Path(folder) / name
                path.write_bytes(content)
                files.append(str(path))
            hook.send_email_smtp(
                to=list(report_spec.to),
                from_email=report_spec.sender,
                subject=report.subject,
                html_content=report.html,
                # The provider gives an attachment the Content-ID <file name>; `related` makes
                # mail programs show it where the text says cid:file name.
                files=files,
                mime_subtype="related",
                custom_headers={
                    "Message-ID": message_id,
                    "X-Streamkeeper-Stream": self.spec.name,
                    "X-Streamkeeper-Hour": hour,
                    "X-Streamkeeper-Revision": number,
                },
            )
        self.log.info("Mailed %r to %s", report.subject, ", ".join(report_spec.to))
        return report.revision, message_id
