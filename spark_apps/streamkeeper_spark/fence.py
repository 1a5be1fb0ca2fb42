"""Generations of a query and the fence between launches.

A generation is a folder `_chk/<query>/<generation>/` with `generation.json` and the checkpoint
`e<epoch>/` of the launch that owns it. A launch takes a query over by one rename of that folder;
from then on the older driver can neither log nor commit a batch. A new generation is made beside
and moved into its place by a rename too, and its id follows from what it is the nth of, so two
launches can never both begin one.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from types import MappingProxyType

from streamkeeper.errors import Fenced, LakeDisagreement, OffsetsLost, TopicReplaced
from streamkeeper.generations import Generation, gone
from streamkeeper.names import GENERATION_FILE, TEMPORARY, checkpoint_path
from streamkeeper.spans import Offsets, size, spans_of, tell
from streamkeeper.spec.models import Spec
from streamkeeper_spark.files import LakeFiles
from streamkeeper_spark.source import logged_offsets

_CHECKPOINT = re.compile(r"^e(\d+)$")
_NAMESPACE = uuid.UUID("6f0d3c9e-3d07-4f0e-9a52-6d1c0e5a7b11")


def nth_generation(spec: Spec, query: str, topic_id: str, number: int) -> str:
    """Return the id of a query's generation; the same for everyone who asks for the nth."""
    return str(uuid.uuid5(_NAMESPACE, f"{spec.name}/{query}/{topic_id}/{number}"))


def find_generation(
    files: LakeFiles, spec: Spec, query: str, known: list[Generation]
) -> Generation | None:
    """Return the generation that a query goes on with, or None if it has none.

    Parameters: known, the generations in the store, oldest first; empty if it is away.
    Raises LakeDisagreement when the store knows one whose checkpoint is gone.
    """
    root = checkpoint_path(spec, query)
    there = generations_in(files, spec, query)
    newest = there[-1] if there else None
    # One that the store does not know yet may have taken the place of one that is gone.
    ids = {g.generation for g in there}
    if known and in_order([*there, known[-1]])[-1].generation not in ids:
        raise LakeDisagreement(
            f"{spec.name}: the store knows generation {known[-1].generation} of the query "
            f"{query!r}, but its checkpoint is not in {root}; restore that folder, or reset the "
            f"stream: `streamkeeper stream reset {spec.name}`"
        )
    return newest


def generations_in(files: LakeFiles, spec: Spec, query: str) -> list[Generation]:
    """Return the generations of a query that lie in the lake, oldest first."""
    root = checkpoint_path(spec, query)
    there = [read_generation(files, root, name) for name in files.names(root) if name[0] != "_"]
    return in_order(there)


def in_order(generations: Iterable[Generation]) -> list[Generation]:
    """Return each generation once, oldest first."""
    by_id = {g.generation: g for g in generations}
    return sorted(by_id.values(), key=lambda g: (g.epoch, g.request))


def read_generation(files: LakeFiles, root: str, name: str) -> Generation:
    """Read the `generation.json` of one generation's folder."""
    return Generation.model_validate_json(files.read(f"{root}/{name}/{GENERATION_FILE}"))


def begin_generation(
    files: LakeFiles,
    spec: Spec,
    query: str,
    *,
    epoch: int,
    topic_id: str,
    start: Offsets,
    target: Offsets = MappingProxyType({}),
    request: int = 0,
) -> Generation:
    """Make a generation of a query, with its checkpoint owned by `epoch`.

    Parameters: epoch, of this launch; start, the first offset of every partition; target, where
    the generation before it stood; request, the number of the one it is made for, 0 for the first.
    Raises Fenced when another launch has made it meanwhile.
    """
    root = checkpoint_path(spec, query)
    generation = Generation(
        stream=spec.name,
        query=query,
        generation=nth_generation(spec, query, topic_id, request + 1),
        topic=spec.source.kafka.topic,
        topic_id=topic_id,
        start=dict(start),
        target=dict(target),
        request=request,
        epoch=epoch,
    )
    beside = f"{root}/_{TEMPORARY.strip('_')}-{epoch}"
    files.delete(beside)
    files.write(f"{beside}/{GENERATION_FILE}", generation.model_dump_json())
    # Spark takes its query's id from this file; so the id is the generation.
    files.write(f"{beside}/e{epoch}/metadata", json.dumps({"id": generation.generation}))
    try:
        files.rename(beside, f"{root}/{generation.generation}")
    except FileExistsError:
        files.delete(beside)
        raise Fenced(
            f"{spec.name}: another launch began the query {query!r} at the same time"
        ) from None
    return generation


def refuse_other_topic(generation: Generation, topic_id: str) -> None:
    """Raise TopicReplaced when the topic is not the one that the generation began with."""
    if generation.topic_id != topic_id:
        raise TopicReplaced(
            f"{generation.stream}: the topic {generation.topic!r} now has the id {topic_id}; the "
            f"query {generation.query!r} began with {generation.topic_id}. The topic was deleted "
            "and made again, so the recorded offsets mean other messages; reset the stream: "
            f"`streamkeeper stream reset {generation.stream}`"
        )


def take_over(files: LakeFiles, spec: Spec, generation: Generation, epoch: int) -> str:
    """Become the owner of a generation's checkpoint; return its path.

    Raises Fenced when a newer launch owns it, LakeDisagreement when there is none.
    """
    folder = f"{checkpoint_path(spec, generation.query)}/{generation.generation}"
    mine = f"{folder}/e{epoch}"
    while True:
        owner = owner_of(files, folder)
        if owner is None:
            raise LakeDisagreement(
                f"{spec.name}: {folder} holds no checkpoint; restore it, or reset the stream"
            )
        if owner == epoch:
            return mine
        if owner > epoch:
            raise Fenced(
                f"{spec.name}: launch {owner} owns the query {generation.query!r}; "
                f"this is launch {epoch}"
            )
        try:
            files.rename(f"{folder}/e{owner}", mine)
            return mine
        except FileNotFoundError:
            # Another launch was faster; the next look tells whether it is newer.
            continue


def refuse_emptied(files: LakeFiles, generation: Generation, checkpoint: str) -> None:
    """Raise LakeDisagreement when a checkpoint is not that of its generation any more.

    Raises Fenced when it is not there because a newer launch has taken it over.
    """
    try:
        found = json.loads(files.read(f"{checkpoint}/metadata"))["id"]
    except FileNotFoundError:
        refuse_taken(files, generation, checkpoint)
        found = "missing"
    if found != generation.generation:
        raise LakeDisagreement(
            f"{generation.stream}: {checkpoint} was emptied: its id is {found}, not "
            f"{generation.generation}; nothing was changed. Restore that folder, or reset the "
            f"stream: `streamkeeper stream reset {generation.stream}`"
        )


def committed(files: LakeFiles, generation: Generation, checkpoint: str) -> dict[int, int]:
    """Return the offsets up to which a query has committed its batches; Fenced."""
    last = _last(files, f"{checkpoint}/commits")
    found = dict(generation.start) | _logged(files, generation, checkpoint, last)
    refuse_taken(files, generation, checkpoint)
    return found


def logged(files: LakeFiles, generation: Generation, checkpoint: str) -> dict[int, int]:
    """Return the offsets up to which a query has planned its batches; Fenced."""
    last = _last(files, f"{checkpoint}/offsets")
    found = dict(generation.start) | _logged(files, generation, checkpoint, last)
    refuse_taken(files, generation, checkpoint)
    return found


def _last(files: LakeFiles, folder: str) -> int | None:
    return max((int(name) for name in files.names(folder) if name.isdigit()), default=None)


def _logged(
    files: LakeFiles, generation: Generation, checkpoint: str, batch: int | None
) -> dict[int, int]:
    if batch is None:
        return {}
    try:
        return logged_offsets(files.read(f"{checkpoint}/offsets/{batch}"), generation)
    except FileNotFoundError:
        return {}


def refuse_lost(files: LakeFiles, generation: Generation, checkpoint: str, begin: Offsets) -> None:
    """Raise OffsetsLost when messages were deleted before a query has read them.

    Parameters: begin, by partition the first offset that the topic still keeps.
    """
    missing = gone(committed(files, generation, checkpoint), begin)
    if missing:
        messages = sum(size(span) for span in spans_of(missing))
        name = generation.stream
        raise OffsetsLost(
            f"{name}: {messages:,} messages of {generation.topic!r} were deleted before the query "
            f"{generation.query!r} had read them: {tell(missing)}; accept them as lost with "
            f"`streamkeeper stream accept-lost {name}`, or begin anew with `streamkeeper stream "
            f"reset {name}`"
        )


def owner_of(files: LakeFiles, folder: str) -> int | None:
    """Return the newest epoch that has a checkpoint in a generation's folder."""
    matches = [_CHECKPOINT.match(name) for name in files.names(folder)]
    return max((int(m[1]) for m in matches if m), default=None)


def is_fenced(files: LakeFiles, checkpoint: str) -> bool:
    """Tell whether a newer launch has taken a checkpoint over."""
    folder, _, name = checkpoint.rpartition("/")
    owner = owner_of(files, folder)
    return owner is not None and owner > int(name[1:])


def refuse_taken(files: LakeFiles, generation: Generation, checkpoint: str) -> None:
    """Raise Fenced when a newer launch has taken a checkpoint over.

    Looked at after reading from it: what is missing then may only have moved, and an empty log
    would tell that nothing was planned.
    """
    if is_fenced(files, checkpoint):
        raise Fenced(
            f"{generation.stream}: {checkpoint} is gone; a newer launch took the query "
            f"{generation.query!r} over"
        )
