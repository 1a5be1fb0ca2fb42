"""For all rings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

RINGS = ("unit", "airflow", "spark", "integration", "chaos")

# A busy machine is no mistake of the code: property tests have no deadline for each example.
settings.register_profile("streamkeeper", deadline=None)
settings.register_profile("wide", deadline=None, max_examples=2_000)
settings.load_profile("streamkeeper")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast rings first, and mark each test with its ring."""
    here = Path(__file__).parent
    ring_of = {item: item.path.relative_to(here).parts[0] for item in items}
    for item, ring in ring_of.items():
        if ring != "unit":
            item.add_marker(ring)
    items.sort(key=lambda item: RINGS.index(ring_of[item]))


class FileScheduling(LoadScopeScheduling):
    """Gives each file's tests to one process, and all that need Airflow's servers to one.

    Tests of a file share what it starts and may build on one another. pytest-xdist's own groups
    (`xdist_group`) have no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "airflow" if "integration/test_airflow_" in file else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """Tell pytest-xdist how tests are shared out."""
    return FileScheduling(config, log)
