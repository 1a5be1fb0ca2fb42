"""The trigger that waits until hours are complete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from streamkeeper.errors import StreamkeeperError
from streamkeeper.generations import Counted
from streamkeeper.hours import Look, completeness, next_step, still_filling
from streamkeeper.names import LAND, parse_hour
from streamkeeper.spec.models import Spec
from streamkeeper.supervision import Limits
from streamkeeper_airflow.hooks.connections import settings_from_connections, store_from_connection

if TYPE_CHECKING:
    from streamkeeper_io.store import Store

# Threads of their own: a lake that hangs must not keep the keepers' triggers from looking.
_LOOKS = ThreadPoolExecutor(4, thread_name_prefix="hours")


class HoursTrigger(BaseTrigger):
    """Polls until every hour is complete, or its wait limit has passed.

    Yields {"hours": [...], "states": {hour: {"state", "missing", "reason"}}}.

    Parameters: spec, the declaration as plain data; hours, written as 2026-11-24T14; since, ISO
    8601, when the waiting began; poll_s, seconds between two looks.
    """

    def __init__(
        self,
        *,
        spec: dict[str, Any],
        hours: list[str],
        since: str | None = None,
        poll_s: float = 3.0,
    ) -> None:
        super().__init__()
        self.spec, self.hours, self.poll_s = spec, hours, poll_s
        self.since = since or datetime.now(UTC).isoformat()
        self._spec = Spec.model_validate(spec)
        self._said: dict[str, str] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {n: getattr(self, n) for n in ("spec", "hours", "since", "poll_s")}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every `poll_s` seconds, in a thread, until all hours are decided."""
        while True:
            states = await asyncio.get_running_loop().run_in_executor(_LOOKS, self._poll)
            if states is not None:
                yield TriggerEvent({"hours": self.hours, "states": states})
                return
            await asyncio.sleep(self.poll_s)

    def _poll(self) -> dict[str, Any] | None:
        try:
            store = store_from_connection()
            self._sync(store)
            states = {hour: self._look_at(store, hour) for hour in self.hours}
        except StreamkeeperError as error:
            self._say("", str(error))
            return None
        except Exception as error:
            # Whatever is away comes back; a failing trigger would fail the task.
            self._say("", f"{type(error).__name__}: {error}")
            return None
        done = all(seen["state"] in ("complete", "partial") for seen in states.values())
        return states if done else None

    def _sync(self, store: Store) -> None:
        from streamkeeper_io.batch_index import sync_index

        sync_index(store, settings_from_connections().lake, self._spec)

    def _look_at(self, store: Store, text: str) -> dict[str, Any]:
        hour, now = parse_hour(text), datetime.now(UTC)
        look = store.look(self._spec.name, hour)
        filling = still_filling(hour, _event_times(store, self._spec.name, now))
        name = self._spec.name
        counted = Counted(store.generations(name, LAND), store.manifests(name, "raw"))
        done = completeness(counted, look, store.lost(name))
        step = next_step(
            hour,
            now=now,
            since=datetime.fromisoformat(self.since),
            grace=self._spec.hours.grace,
            wait_limit=self._spec.hours.wait_limit,
            look=look,
            filling=filling,
            done=done,
        )
        if step == "look":
            self._take_look(store, hour)
        reason = "a live producer still fills it" if filling else done.reason
        self._say(text, f"{step}: {reason}" if reason else step)
        missing = {str(p): [list(h) for h in gaps] for p, gaps in done.missing.items()}
        return {"state": step, "reason": reason, "missing": missing}

    def _take_look(self, store: Store, hour: datetime) -> None:
        from streamkeeper_airflow.hooks.kafka import TopicHook

        topic_id, ends = TopicHook().end_offsets(self._spec.source.kafka.topic)
        look = Look(
            stream=self._spec.name,
            hour=hour,
            topic_id=topic_id,
            taken_at=datetime.now(UTC),
            end_offsets=ends,
        )
        store.add_look(look)

    def _say(self, hour: str, text: str) -> None:
        if self._said.get(hour) != text:
            self.log.info("%s %s", hour or self._spec.name, text)
        self._said[hour] = text


def _event_times(store: Store, stream: str, now: datetime) -> list[datetime | None]:
    """Return the event times up to which the live producers of a stream have sent all."""
    producer = store.holder("producer", stream)
    if producer is None or producer.ended_at is not None:
        return []
    seen = producer.heartbeat_at or producer.began_at
    if now - seen > Limits().expiry:
        return []
    text = producer.progress.get("event_time")
    return [datetime.fromisoformat(text) if text else None]
