"""The fixtures of the tests on real servers."""

from __future__ import annotations

from fixtures import airflow, drivers, settings, spark, stack, store, unused_address

__all__ = ["airflow", "drivers", "settings", "spark", "stack", "store", "unused_address"]
