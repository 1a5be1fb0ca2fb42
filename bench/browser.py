"""A real browser for the dashboard's pages: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import BrowserContext, sync_playwright

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def chromium() -> str:
    """Return the path of Chromium; RuntimeError names the package where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise RuntimeError(
            "Chromium is not installed, and the dashboard's pages are tried in it: install the "
            "packages chromium and fonts-dejavu-core (Debian: apt-get install chromium "
            "fonts-dejavu-core)"
        )
    return found


@contextmanager
def browser(**options: Any) -> Iterator[BrowserContext]:
    """Give a browser with a new, empty profile.

    Parameters: options, playwright's own of a context, such as `viewport`.
    """
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile, sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            profile, executable_path=chromium(), args=list(_FLAGS), **options
        )
        try:
            yield context
        finally:
            context.close()
