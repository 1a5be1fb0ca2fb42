"""The store's index of published batches, brought up to what lies in the lake."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from streamkeeper.generations import Generation
from streamkeeper.names import (
    GENERATION_FILE,
    checkpoint_path,
    query_of_zone,
    raw_path,
    window_path,
)
from streamkeeper.spec.models import Spec
from streamkeeper_io.lake import published_batches, read_manifest, read_text
from streamkeeper_io.store import Store

log = logging.getLogger(__name__)
_READERS = 8


def sync_index(store: Store, lake: str, spec: Spec, zone: str = "raw") -> int:
    """Index the published batches of a zone that the store does not know yet; return how many.

    Parameters: lake, its address; zone, `raw` or `windows/<window>`.
    Raises LakeUnavailable, StoreUnavailable.
    """
    folder = raw_path(spec) if zone == "raw" else window_path(spec, zone.removeprefix("windows/"))
    known = store.indexed_batches(spec.name, zone)
    new = [batch for batch in published_batches(lake, folder) if batch not in known]
    if new:
        _record_generations(store, lake, spec, zone, {batch.generation for batch in new})
        with ThreadPoolExecutor(_READERS) as pool:
            store.index_batches(pool.map(partial(read_manifest, lake, folder), new))
    return len(new)


def _record_generations(store: Store, lake: str, spec: Spec, zone: str, ids: set[str]) -> None:
    """Record generations that began while the store was away."""
    query = query_of_zone(zone)
    unknown = ids - {g.generation for g in store.generations(spec.name, query)}
    for ident in unknown:
        path = f"{checkpoint_path(spec, query)}/{ident}/{GENERATION_FILE}"
        try:
            store.add_generation(Generation.model_validate_json(read_text(lake, path)))
        except FileNotFoundError:
            log.warning("%s: %s is gone; its batches count for no hour", spec.name, path)
