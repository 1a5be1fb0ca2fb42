"""Rewinds, resets and what was lost: shows what will happen, then asks the driver for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from rich.console import Console
from rich.table import Table

from streamkeeper import names
from streamkeeper.closing import due_again
from streamkeeper.errors import StreamkeeperError
from streamkeeper.generations import Counted
from streamkeeper.names import format_hour
from streamkeeper.rewinds import (
    Plan,
    ResetFrom,
    Seen,
    messages_of,
    plan_abandon,
    plan_accept_lost,
    plan_reset,
    plan_rewind,
)
from streamkeeper.settings import Settings
from streamkeeper.spans import tell
from streamkeeper.spec.models import Spec
from streamkeeper_apps.control import Control, lives
from streamkeeper_apps.streams import declared
from streamkeeper_io import kafka
from streamkeeper_io.batch_index import sync_index
from streamkeeper_io.lake import use_lake
from streamkeeper_io.store import Store

_SHOWN_HOURS = 12


@dataclass(frozen=True)
class Going:
    """How a command goes on after it has shown its plan.

    dry_run: not at all; yes: without asking; wait_s: how long to wait for the next launch.
    """

    dry_run: bool = False
    yes: bool = False
    wait_s: float = 180.0


class Rewinding:
    """Asks for new generations of a stream.

    Parameters: settings; store; by, who asks, as the store records it; console; confirm, is
    given what is asked for and returns whether to go on.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        by: str,
        console: Console | None = None,
        confirm: Callable[[str], bool] | None = None,
    ) -> None:
        self._settings, self._store, self._by = settings, store, by
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._confirm = confirm or _ask

    def rewind(
        self, name: str, wanted: dict[int, int] | datetime | Literal["begin"], going: Going
    ) -> int:
        """Read again from offsets, from an instant of the broker's clock, or all that is kept."""
        spec = declared(self._settings, name)
        seen = self._see(spec)
        offsets = wanted if isinstance(wanted, dict) else self._offsets(spec, seen, wanted)
        return self._go(spec, plan_rewind(seen, offsets, self._by, _now()), going)

    def reset(self, name: str, begins: ResetFrom, wanted: dict[int, int], going: Going) -> int:
        """Begin anew on the topic that is there now."""
        spec = declared(self._settings, name)
        plan = plan_reset(self._see(spec), begins, wanted, self._by, _now())
        return self._go(spec, plan, going)

    def abandon(self, name: str, going: Going) -> int:
        """Give a rewind up that has not passed its target."""
        spec = declared(self._settings, name)
        return self._go(spec, plan_abandon(self._see(spec), self._by, _now()), going)

    def accept_lost(self, name: str, going: Going) -> int:
        """Go on behind messages that were deleted before they were read."""
        spec = declared(self._settings, name)
        return self._go(spec, plan_accept_lost(self._see(spec), self._by, _now()), going)

    def due(self, name: str) -> int:
        """Print the closed hours that are due again."""
        spec = declared(self._settings, name)
        sync_index(self._store, use_lake(self._settings), spec)
        counted = Counted(
            self._store.generations(name, names.LAND), self._store.manifests(name, "raw")
        )
        latest = {r.hour: r for r in self._store.revisions(name)}
        hours = due_again(latest, counted)
        for hour in hours:
            self._say(f"{format_hour(hour)} is due again, revision {latest[hour].revision + 1}")
        closes = names.hours_dag_id(name)
        if hours:
            self._say(
                f"close them: `airflow backfill create --dag-id {closes} --reprocess-behavior "
                f"completed --from-date {hours[0]:%Y-%m-%dT%H:%M} --to-date "
                f"{hours[-1]:%Y-%m-%dT%H:%M}`, or trigger {closes} with `hour`"
            )
        else:
            self._say(f"{name}: no closed hour is due again")
        return 0

    # Seeing
    def _see(self, spec: Spec) -> Seen:
        admin, topic = kafka.Admin(self._settings), spec.source.kafka.topic
        topic_id, begin = kafka.begin_offsets(admin, topic)
        _, end = kafka.end_offsets(admin, topic)
        queries = [names.LAND, *(names.window_query(w.name) for w in spec.windows)]
        for query in queries:
            zone = names.zone_of_query(query)
            sync_index(self._store, use_lake(self._settings), spec, zone)
        store, name = self._store, spec.name
        return Seen(
            stream=name,
            topic=topic,
            topic_id=topic_id,
            begin=begin,
            end=end,
            generations={q: store.generations(name, q) for q in queries},
            manifests={q: store.manifests(name, names.zone_of_query(q)) for q in queries},
            revisions=store.revisions(name),
            lost=store.lost(name),
            last_number=store.last_number(name),
            compacted=spec.source.kafka.kind == "compacted",
        )

    def _offsets(
        self, spec: Spec, seen: Seen, wanted: datetime | Literal["begin"]
    ) -> dict[int, int]:
        if wanted == "begin":
            return dict(seen.begin)
        topic = spec.source.kafka.topic
        _, found = kafka.offsets_at(kafka.Admin(self._settings), topic, wanted)
        # A partition without later messages goes on where it stands.
        return {p: min(offset, seen.stands[p]) for p, offset in found.items() if p in seen.stands}

    # Telling
    def _go(self, spec: Spec, plan: Plan, going: Going) -> int:
        self._show(spec, plan)
        name, request = spec.name, plan.request
        if going.dry_run:
            self._say("a dry run: nothing was changed")
            return 0
        if not going.yes and not self._confirm(f"{request.kind} {name}"):
            self._say("nothing was changed")
            return 1
        self._store.add_request(request, list(plan.lost))
        self._say(f"{name}: request {request.number} is recorded; the next launch begins with it")
        return 0 if self._relaunch(spec, going.wait_s) else 1

    def _relaunch(self, spec: Spec, wait_s: float) -> bool:
        name = spec.name
        if self._store.desired(name) == "stopped":
            self._say(f"{name} is stopped; `streamkeeper stream start {name}` launches it")
            return True
        driver = self._store.holder("driver", spec.app)
        if not lives(driver) and wait_s <= 0:
            self._say(f"{name}: its DAG {names.keep_dag_id(spec.app)} launches it")
            return True
        return Control(self._settings, self._store, self._by, self._console).restart(name, wait_s)

    def _show(self, spec: Spec, plan: Plan) -> None:
        table = Table("query", "generation now", "begins at", "reads again", "messages")
        for step in plan.steps:
            table.add_row(
                step.query,
                step.old.generation if step.old else "-",
                ", ".join(f"{p}: {offset}" for p, offset in step.start.items()),
                tell(step.again) or "nothing",
                f"{messages_of(step.again):,}",
            )
        self._console.print(table)
        self._say(
            f"messages to read up to the topic's end: {plan.messages:,}; "
            f"the topic keeps {tell(plan.kept) or 'none'}"
        )
        hours = [format_hour(hour) for hour in plan.hours]
        more = f", ... {hours[-1]}" if len(hours) > _SHOWN_HOURS else ""
        self._say(
            f"closed hours that will be due again: {len(hours)}"
            + (f" ({', '.join(hours[:_SHOWN_HOURS])}{more})" if hours else "")
        )
        sinks = [_sink(sink) for sink in spec.sinks if sink.kind != "console"]
        if sinks and any(step.again for step in plan.steps):
            self._say(f"sinks that get these rows again: {', '.join(sinks)}")
        for note in plan.notes:
            self._say(f"note: {note}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


def _sink(sink: object) -> str:
    place = f"{getattr(sink, 'keyspace', '')}.{getattr(sink, 'table', '')}"
    return f"{getattr(sink, 'kind', '')} {place} of {getattr(sink, 'of', '')}"


def _now() -> datetime:
    return datetime.now(UTC)


def _ask(what: str) -> bool:
    if not sys.stdin.isatty():
        raise StreamkeeperError(f"{what}: nobody is here to ask; say --yes, or --dry-run to look")
    return input(f"{what}? [y/N] ").strip().lower() in {"y", "yes"}
