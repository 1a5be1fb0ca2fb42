"""Which generation a query goes on with: the newest, its first, or one that a person asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple

from streamkeeper import names
from streamkeeper.errors import LakeDisagreement, StoreUnavailable
from streamkeeper.generations import Generation, Request, new_start, new_target
from streamkeeper.settings import Settings
from streamkeeper.spans import tell
from streamkeeper.spec.models import Spec
from streamkeeper_io import kafka
from streamkeeper_io.batch_index import sync_index
from streamkeeper_io.store import Store
from streamkeeper_spark import fence
from streamkeeper_spark.files import LakeFiles

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owned:
    """A query's generation and its checkpoint, which is now this launch's.

    order: the ids of all of the query's generations, oldest first.
    """

    generation: Generation
    checkpoint: str
    order: tuple[str, ...]


class Topic(NamedTuple):
    """A topic as it is now: its id and, by partition, the first offset that it keeps."""

    ident: str
    begin: dict[int, int]


@dataclass(frozen=True)
class Owning:
    """Takes queries over for one launch, and begins their generations.

    Parameters: files and settings; store, tells what a person asked for; epoch, of the launch.
    """

    files: LakeFiles
    settings: Settings
    store: Store
    epoch: int

    def take(self, spec: Spec, query: str) -> Owned:
        """Become the owner of a query's generation, which is made if need be.

        Raises Fenced, LakeDisagreement, TopicReplaced, OffsetsLost, Unavailable.
        """
        admin = kafka.Admin(self.settings)
        topic = Topic(*kafka.begin_offsets(admin, spec.source.kafka.topic))
        known, request = self._told(spec, query)
        there = fence.generations_in(self.files, spec, query)
        everything = fence.in_order([*there, *known])
        if request is not None and all(g.request < request.number for g in everything):
            found = self._begin_anew(spec, query, request, everything, topic)
        else:
            found = self._go_on(spec, query, known, topic)
        checkpoint = fence.take_over(self.files, spec, found, self.epoch)
        fence.refuse_emptied(self.files, found, checkpoint)
        fence.refuse_lost(self.files, found, checkpoint, topic.begin)
        self._record(found)
        return Owned(
            found, checkpoint, tuple(g.generation for g in fence.in_order([*everything, found]))
        )

    def _go_on(
        self,
        spec: Spec,
        query: str,
        known: list[Generation],
        topic: Topic,
    ) -> Generation:
        found = fence.find_generation(self.files, spec, query, known)
        if found is None:
            return fence.begin_generation(
                self.files, spec, query, epoch=self.epoch, topic_id=topic.ident, start=topic.begin
            )
        fence.refuse_other_topic(found, topic.ident)
        return found

    def _begin_anew(
        self,
        spec: Spec,
        query: str,
        request: Request,
        before: list[Generation],
        topic: Topic,
    ) -> Generation:
        """Make the generation of a request.

        The newest one is taken over first: from then on its driver can plan no batch, so what it
        has planned is all that it can ever publish.
        """
        planned: dict[int, int] = {}
        if before:
            try:
                old = fence.take_over(self.files, spec, before[-1], self.epoch)
                planned = fence.logged(self.files, before[-1], old)
            except LakeDisagreement as error:
                log.warning("%s; the published batches tell where it stood", error)
        zone = names.zone_of_query(query)
        sync_index(self.store, self.settings.need("lake"), spec, zone)
        published = self.store.manifests(spec.name, zone)
        start = new_start(
            request,
            query,
            generations=before,
            manifests=published,
            begin=topic.begin,
            topic_id=topic.ident,
            lost=self.store.lost(spec.name),
        )
        target = new_target(before, published, planned, topic.ident)
        made = fence.begin_generation(
            self.files,
            spec,
            query,
            epoch=self.epoch,
            topic_id=topic.ident,
            start=start,
            target=target,
            request=request.number,
        )
        again = {p: [(first, target[p])] for p, first in start.items() if first < target.get(p, 0)}
        log.warning(
            "%s/%s: generation %s begins (%s by %s)%s",
            *(spec.name, query, made.generation, request.kind, request.by),
            f", reads again {tell(again)}" if again else "",
        )
        return made

    def _told(self, spec: Spec, query: str) -> tuple[list[Generation], Request | None]:
        try:
            known = self.store.generations(spec.name, query)
            request = self.store.last_request(spec.name)
        except StoreUnavailable as error:
            # The lake holds the generations too; the store being away does not stop landing.
            log.warning("generations are read from the lake alone: %s", error)
            return [], None
        return known, request if request is not None and request.concerns(query) else None

    def _record(self, generation: Generation) -> None:
        try:
            self.store.add_generation(generation)
        except StoreUnavailable as error:
            log.warning("generation %s is recorded later: %s", generation.generation, error)
