"""Roots of stacks that belong to one run, such as a run of the tests, and end with it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from streamkeeper.launches import Process
from streamkeeper_apps.local.leftovers import end_belonging
from streamkeeper_apps.local.places import Places
from streamkeeper_io import processes

_OWNER = "owner.json"


def scratch_root(parent: Path) -> Path:
    """Make a root for this process below a folder, after ending what dead owners left there.

    The root stays when its stack is down, for its logs; the next run deletes it.
    """
    end_orphans(parent)
    root = parent / f"run{os.getpid()}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / _OWNER).write_text(processes.identify(os.getpid()).model_dump_json())
    return root


def end_orphans(parent: Path) -> list[Path]:
    """End the processes of roots whose owner no longer runs, delete the roots, return them."""
    ended = []
    for file in sorted(parent.glob(f"run*/{_OWNER}")):
        # Another run may delete the same root, or write its own owner, at this moment.
        with suppress(ValueError, FileNotFoundError):
            if processes.alive(Process.model_validate_json(file.read_text())):
                continue
            end_belonging(Places.at(file.parent))
            shutil.rmtree(file.parent, ignore_errors=True)
            ended.append(file.parent)
    return ended
