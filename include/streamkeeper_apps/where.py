"""Finds the settings of a command that a person runs: environment, then the checkout's file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from streamkeeper.errors import SettingsError
from streamkeeper.settings import Settings

SETTINGS_FILE = Path(".local") / "settings.json"
_FOLDERS = ("streams", "files", "state", "jars")


def find_settings(folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings: each from its variable, else from `.local/settings.json`, else default.

    The file is looked for in a folder and those above it; relative folders lie below the checkout.

    Parameters: folder, where to look from; by default the working directory.
    Raises SettingsError for a file that cannot be read.
    """
    folder = (folder or Path.cwd()).resolve()
    root = next(_checkouts(folder), folder)
    settings = Settings.from_environment(environ)
    file = root / SETTINGS_FILE
    known = _read(file) if file.is_file() else {}
    merged = known | {name: getattr(settings, name) for name in settings.model_fields_set}
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(f"{file} is malformed: {error}; `make up` writes it anew") from None
    return settings.model_copy(update={name: root / getattr(settings, name) for name in _FOLDERS})


def _checkouts(folder: Path) -> Iterator[Path]:
    """Yield folders that hold settings or declarations, the nearest first, settings preferred."""
    places = (folder, *folder.parents)
    yield from (p for p in places if (p / SETTINGS_FILE).is_file())
    yield from (p for p in places if (p / "include" / "streams").is_dir())


def _read(file: Path) -> dict[str, object]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"{file} cannot be read: {error}; `make up` writes it anew"
        raise SettingsError(message) from None
    if not isinstance(data, dict):
        raise SettingsError(f"{file} holds no settings; `make up` writes it anew")
    return data
