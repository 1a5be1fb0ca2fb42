"""Shows the ledger of a watched folder, beside what has landed of each file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streamkeeper.files import FileEntry
from streamkeeper.settings import Settings
from streamkeeper_apps.producer.folder.landed import Landed, landed_by_file
from streamkeeper_apps.producer.folder.ledger import Ledger
from streamkeeper_apps.producer.folder.run import folder_of
from streamkeeper_apps.streams import declared

_WAIT_S = 8.0


def show_files(settings: Settings, options: argparse.Namespace) -> int:
    """Print what the ledger says of each file; return the exit code.

    Raises KafkaUnavailable, TopicMissing; StreamkeeperError for a stream without a folder.
    """
    spec = declared(settings, options.stream)
    root, _ = folder_of(settings, spec)
    ledger = Ledger(settings, spec, _WAIT_S)
    ledger.refresh()
    entries = sorted(ledger.entries.values(), key=lambda entry: entry.path)
    landed, lacking = landed_by_file(settings, spec, entries) if options.landed else (None, 0)
    if options.json:
        for entry in entries:
            told = landed[entry.path]._asdict() if landed else {}
            sys.stdout.write(json.dumps(entry.model_dump(mode="json") | told) + "\n")
        return 0
    console = Console(highlight=False, soft_wrap=True)
    console.print(table(entries, ledger.asked, landed))
    records = sum(entry.earlier + entry.records for entry in entries)
    console.print(f"{len(entries):,} files of {root}, {records:,} records in the topic")
    if lacking:
        console.print(f"{lacking:,} batches without their files are not counted as landed")
    return 0


def table(
    entries: list[FileEntry],
    asked: Mapping[str, object],
    landed: Mapping[str, Landed] | None = None,
) -> Table:
    """Return the table of the files.

    Parameters: asked, which of them are to be read again; landed, what has landed of each.
    """
    counted = ("valid", "quarantined") if landed is not None else ()
    made = Table("file", "state", "records", *counted, "bytes", "when (UTC)", "why, and what else")
    for entry in entries:
        told = [entry.why] if entry.why else []
        if entry.earlier:
            told.append(f"{entry.earlier:,} records of earlier readings besides")
        if entry.path in asked:
            told.append("is to be read again")
        made.add_row(
            _plain(entry.path),
            entry.state,
            f"{entry.records:,}",
            *(f"{count:,}" for count in (landed[entry.path] if landed is not None else ())),
            f"{entry.size:,}",
            f"{entry.at:%F %T}",
            _plain("; ".join([*told, *entry.notes])),
        )
    return made


def _plain(text: str) -> str:
    """Return a text without what a terminal or the table takes for a sign to it."""
    return escape("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))
