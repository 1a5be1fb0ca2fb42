"""Looks at a watched folder: which files lie in it, and which of them cannot be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from streamkeeper.files import Seen, is_hidden, matches
from streamkeeper.spec.producers import Folder

_OUT = "is a symbolic link out of the folder, which is not followed"


def look_at(root: Path, declared: Folder) -> list[Seen]:
    """Return the files of a folder by their paths; hidden and unfinished ones are left out.

    Subfolders are looked at where a pattern leads into them. Raises OSError when the folder itself
    cannot be read.
    """
    os.scandir(root).close()
    deep = any("/" in pattern for pattern in declared.patterns)
    return sorted(_below(root, root.resolve(), "", declared, deep), key=lambda seen: seen.path)


def _below(root: Path, real: Path, folder: str, declared: Folder, deep: bool) -> Iterator[Seen]:
    try:
        with os.scandir(root / folder) as found:
            entries = list(found)
    except OSError as error:
        yield Seen(_told(folder), problem=f"the folder cannot be read: {error.strerror}")
        return
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if is_hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            if deep:
                yield from _below(root, real, path, declared, deep)
            continue
        if (one := _seen(entry, real, path, declared)) is not None:
            yield one


def _seen(entry: os.DirEntry[str], real: Path, path: str, declared: Folder) -> Seen | None:
    """Return what is to be seen of one file; None for what has gone or is no file."""
    told = _told(path)
    if told != path:
        return Seen(told, problem="its name is not UTF-8")
    fits = matches(path, declared.patterns)
    try:
        if entry.is_symlink() and not Path(entry.path).resolve(strict=True).is_relative_to(real):
            return Seen(path, matches=fits, problem=_OUT)
        found = entry.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return Seen(path, matches=fits, problem=f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return None
    denied = fits and not os.access(entry.path, os.R_OK)
    problem = "cannot be read: permission denied" if denied else ""
    return Seen(path, found.st_size, found.st_mtime_ns, found.st_ino, fits, problem)


def _told(path: str) -> str:
    """Return a path as text that every program can write."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
