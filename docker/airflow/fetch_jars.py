"""Fetch the locked jars that drivers give to their executors; run while an image is built.

Usage: fetch_jars.py LOCK FOLDER [REPOSITORY]
"""

from __future__ import annotations

import sys
from pathlib import Path

from jgo.constants import MAVEN_CENTRAL_URL

from streamkeeper_apps.local.jars import fetch, missing, parse_lock

# The other folders of the lock are for servers, which have images of their own.
FOLDER = "spark"


def main(lock_file: str, folder: str, repository: str = MAVEN_CENTRAL_URL) -> None:
    """Fetch what is missing; JarMismatch for a jar with other bytes than the lock's."""
    jars = Path(folder)
    lock = [jar for jar in parse_lock(Path(lock_file).read_text()) if jar.folder == FOLDER]
    fetch(missing(lock, jars), jars, repository=repository)


if __name__ == "__main__":
    main(*sys.argv[1:])
