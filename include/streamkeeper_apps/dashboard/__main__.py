"""Streamlit with the page's modules imported before the first visitor comes."""

from __future__ import annotations

import sys

from streamlit.web.cli import main

from streamkeeper_apps.dashboard import live, trend
from streamkeeper_io import lake_readings, postgres_readings

# A page needs all of them, and to import them takes longer than to draw it.
NEEDED = (live, trend, lake_readings, postgres_readings)

if __name__ == "__main__":
    sys.exit(main())
