"""The fixtures and helpers of the integration ring, on servers of this run's own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from fixtures import drivers, settings, stack, store, unused_address

__all__ = ["drivers", "settings", "stack", "store", "unused_address"]
