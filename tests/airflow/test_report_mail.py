"""The mail that carries a report's picture."""

from __future__ import annotations

from pathlib import Path

from streamkeeper_airflow.hooks.smtp import ReportSmtpHook


def test_a_picture_is_sent_as_one_and_other_files_as_attachments(tmp_path: Path) -> None:
    files = [tmp_path / "chart.png", tmp_path / "hour.parquet"]
    for file in files:
        file.write_bytes(b"bytes")
    message, recipients = ReportSmtpHook()._build_mime_message(
        "from@localhost", ["to@localhost"], "subject", "<p>", [str(f) for f in files]
    )
    _, picture, other = message.get_payload()
    assert recipients == ["to@localhost"]
    assert (picture.get_content_type(), picture.get_content_disposition()) == (
        "image/png",
        "inline",
    )
    assert (picture["Content-ID"], picture.get_filename()) == ("<chart.png>", "chart.png")
    assert picture.get_payload(decode=True) == b"bytes"
    assert other.get_content_disposition() == "attachment"
