"""The main job, driven as a user would: through Airflow, on real servers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streamkeeper import names
from streamkeeper.generations import Counted
from streamkeeper.hours import HOUR, Look, completeness, look_due
from streamkeeper.launches import Launch
from streamkeeper_apps.local.airflow_api import AirflowApi
from streamkeeper_apps.local.memory import MemoryWatch
from streamkeeper_apps.local.places import write_private
from streamkeeper_apps.local.stack import LocalStack
from streamkeeper_apps.local.waiting import NotSeen, wait_for
from streamkeeper_apps.streams import declared
from streamkeeper_io.batch_index import sync_index
from streamkeeper_io.kafka import Admin, end_offsets
from streamkeeper_io.store import Store

STREAM = "temperature"
TIMINGS_FILE = "demo.json"
_RAW = "raw"
_STEP_S = 300.0
_LINE_EVERY_S = 15.0


@dataclass
class Demo:
    """One run of the demo on a stack that serves.

    stack; console, where it tells; hours_back, full clock hours before the present one.
    """

    stack: LocalStack
    console: Console
    hours_back: int = 3
    began: float = field(default_factory=lambda: psutil.Process().create_time())
    timings: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = self.stack.settings()
        self.spec = declared(self.settings, STREAM)
        self.store = Store(self.settings.store)
        self.keep, self.produce = names.keep_dag_id(self.spec.app), names.produce_dag_id(STREAM)
        self.close, self.report = names.hours_dag_id(STREAM), names.report_dag_id(STREAM)
        this_hour = names.hour_of(datetime.now(UTC))
        self.hours = [this_hour - back * HOUR for back in range(self.hours_back, 0, -1)]
        self.mails_before = set(self._mails())

    def _mails(self) -> list[Path]:
        return sorted((self.stack.places.root / "mails").glob("[!.]*.eml"))

    def mark(self, name: str) -> None:
        """Keep in `demo.json` how many seconds after this process's start something happened."""
        self.timings.setdefault(name, round(time.time() - self.began, 1))
        told = {"began": datetime.fromtimestamp(self.began, UTC).isoformat(), **self.timings}
        write_private(self.stack.places.root / TIMINGS_FILE, json.dumps(told, indent=1))

    def say(self, text: str) -> None:
        """Tell one step with the seconds since the start."""
        self.console.print(
            f"[dim]{time.time() - self.began:5.0f} s[/]  {text}", highlight=False, soft_wrap=True
        )

    # The steps
    def run(self) -> None:
        """Run the main job until its report mails are there.

        Raises NotSeen when a step does not come to its end.
        """
        self.mark("servers_up_s")
        home = self.stack.airflow
        password = home.password if home.asks_password else None
        with AirflowApi(home.url, password) as api, MemoryWatch(self.stack.places) as watch:
            self.api = api
            self._unpause()
            self._land()
            runs = self._close_hours()
            self._await_mails()
            self._show_runs(runs)
            self.timings["memory_gib"] = round(watch.most_gib, 2)
        self.mark("shown_s")

    def _unpause(self) -> None:
        wanted = (self.keep, self.produce, self.close, self.report)
        wait_for(
            f"the DAGs {', '.join(wanted)}",
            lambda: all(self.api.dag(dag_id) for dag_id in wanted),
            timeout_s=_STEP_S,
            detail=lambda: json.dumps(self.api.call("GET", "importErrors"), indent=1)[:3000],
        )
        self.mark("dags_seen_s")
        for dag_id in (self.keep, self.produce, self.report):
            self.api.pause(dag_id, False)
        self.say(f"unpaused in Airflow: {self.keep}, {self.produce}, {self.report}")

    def _land(self) -> None:
        """Wait until the producer is live and everything that it sent before has landed."""
        self._launched("producer", STREAM)
        with _bars(self.console) as bar:
            sent = bar("sent to Kafka")
            landed = bar("landed on HDFS")
            expected = self._expected()
            target: Look | None = None

            def done() -> bool:
                nonlocal target
                launch = self.store.holder("producer", STREAM)
                told = launch.progress if launch else {}
                if target is None:
                    sent(min(int(told.get("acked", 0)), expected), expected)
                    if self._past_is_sent(told):
                        self.mark("past_sent_s")
                        target = self._look()
                read = self._landed_rows()
                landed(read, max(expected, read))
                return target is not None and self._has_landed(target)

            wait_for("the past on HDFS", done, timeout_s=_STEP_S, detail=self._launch_detail)
        self.mark("past_landed_s")
        self.say(f"the hours {self._hour_list()} and the present one so far have landed")
        self._launched("driver", self.spec.app)

    def _expected(self) -> int:
        """Messages of the full hours."""
        simulator = self.spec.producer.simulator
        assert simulator is not None
        return int(len(self.hours) * HOUR / simulator.every) * simulator.entities

    def _past_is_sent(self, told: dict[str, Any]) -> bool:
        """Every message of the full hours is acknowledged."""
        upto = told.get("event_time")
        return bool(upto) and datetime.fromisoformat(str(upto)) >= self.hours[-1] + HOUR

    def _launched(self, kind: Any, name: str) -> Launch:
        def look() -> Launch | None:
            launch = self.store.holder(kind, name)
            return launch if launch and launch.process and not launch.ended_at else None

        launch = wait_for(
            f"a {kind} of {name}", look, timeout_s=_STEP_S, detail=self._launch_detail
        )
        self.say(f"{kind} of {name}: launch {launch.epoch}, output in {launch.folder}/log")
        self.mark(f"{kind}_launched_s")
        return launch

    def _launch_detail(self) -> str:
        told = []
        for dag_id in (self.keep, self.produce):
            runs = [f"{run['dag_run_id']} {run['state']}" for run in self.api.runs(dag_id)[:3]]
            told.append(f"{dag_id}: {', '.join(runs) or 'no run'}")
        return "\n".join(told) + f"\nlook at the runs' logs at {self.stack.airflow.url}"

    def _look(self) -> Look:
        """The topic's end now."""
        identity, ends = end_offsets(Admin(self.settings), self.spec.source.kafka.topic)
        return Look(
            stream=STREAM,
            hour=self.hours[-1],
            topic_id=identity,
            taken_at=datetime.now(UTC),
            end_offsets=ends,
        )

    def _landed_rows(self) -> int:
        sync_index(self.store, self.settings.lake, self.spec, _RAW)
        landed = self.store.landed_hours(STREAM, _RAW)
        return sum(landed.get(hour, 0) for hour in self.hours)

    def _has_landed(self, look: Look) -> bool:
        generations = self.store.generations(STREAM, names.LAND)
        counted = Counted(generations, self.store.manifests(STREAM, _RAW))
        return completeness(counted, look).complete

    def _hour_list(self) -> str:
        return ", ".join(f"{hour:%H:00}" for hour in self.hours)

    def _close_hours(self) -> list[dict[str, Any]]:
        """Backfill the past hours, and only with the backfill's runs there let the schedule go.

        A paused DAG runs no backfill (Airflow keeps its runs queued), so the backfill is made
        first. The newest hour has its run by then and gets no second one from the schedule.
        """
        number = self.api.backfill(self.close, self.hours[0], self.hours[-1])
        runs = [run for run in self.api.runs(self.close) if run["run_type"] == "backfill"]
        self.say(f"backfill {number} of {self.close}: {self._hour_list()} ({len(runs)} runs)")
        self.api.pause(self.close, False)
        self.say(f"unpaused {self.close}: each hour closes by itself from now on")
        self.mark("backfill_made_s")
        due = look_due(self.hours[-1], self.spec.hours.grace)
        waits = max(0.0, (due - datetime.now(UTC)).total_seconds())
        if waits > 0:
            self.say(
                f"the hour {self.hours[-1]:%H:00} is closed from {due:%H:%M} UTC on: its grace for "
                f"late readings ends then, in {waits:.0f} s"
            )
        return self._await_backfill(len(self.hours), waits)

    def _await_backfill(self, count: int, waits: float) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        with _bars(self.console) as bar:
            closed = bar("hours closed")

            def done() -> bool:
                nonlocal seen
                seen = [run for run in self.api.runs(self.close) if run["run_type"] == "backfill"]
                closed(sum(run["state"] == "success" for run in seen), count)
                self._note_mails()
                failed = [run["dag_run_id"] for run in seen if run["state"] == "failed"]
                if failed:
                    raise NotSeen(
                        f"runs of {self.close} failed: {', '.join(failed)}; their logs are at "
                        f"{self.stack.airflow.url}/dags/{self.close}"
                    )
                return sum(run["state"] == "success" for run in seen) >= count

            wait_for("the closed hours", done, timeout_s=2 * _STEP_S + waits, every_s=1)
        self.mark("hours_closed_s")
        self.say(f"closed: {self._hour_list()}")
        return seen

    def _note_mails(self) -> bool:
        if not set(self._mails()) - self.mails_before:
            return False
        self.mark("first_report_mail_s")
        return True

    def _await_mails(self) -> None:
        def done() -> bool:
            self._note_mails()
            unmailed = {revision.hour for revision in self.store.unmailed(STREAM)}
            closed = {revision.hour for revision in self.store.revisions(STREAM)}
            return set(self.hours) <= closed - unmailed

        wait_for("the report mails", done, timeout_s=_STEP_S)
        self.mark("all_report_mails_s")
        new = len(set(self._mails()) - self.mails_before)
        self.say(f"{new} report mails have arrived")

    # What it shows at the end
    def _show_runs(self, closes: list[dict[str, Any]]) -> None:
        self.console.print("[bold]What ran in Airflow[/]")
        kept = [r for dag in (self.keep, self.produce) for r in self.api.runs(dag)]
        for run in (*kept, *sorted(closes, key=_run_id), *reversed(self.api.runs(self.report))):
            line = f"  {run['dag_id']:<22} {run['dag_run_id']:<62} {run['state']}"
            self.console.print(line, highlight=False, soft_wrap=True)

    def show_addresses(self) -> None:
        """Print where to look, and at what first."""
        stack, url = self.stack, self.stack.airflow.url
        hdfs = f"http://127.0.0.1:{stack.namenode.http_port}/explorer.html#{self.spec.lake.path}"
        driver = self.store.holder("driver", self.spec.app)
        rows = [
            ("1", stack.mail.page, "the report mails; open the newest"),
            ("2", f"{url}/dags/{self.close}", "the backfilled hours; each run waits, then closes"),
            ("3", f"{url}/dags/{self.keep}", "the stream, held by one deferred task"),
            ("4", hdfs, "raw batches, curated hours, analytics, reports"),
            ("5", f"{stack.dashboard.url}/?stream={STREAM}", "the dashboard: live and the trend"),
            ("6", str((driver.progress if driver else {}).get("ui", "")), "Spark: the queries"),
        ]
        if stack.airflow.asks_password:
            file = stack.places.root / "secrets" / "airflow-admin"
            rows.insert(1, ("", "", f"Airflow asks: user admin, the password is in {file}"))
        self.console.print("[bold]Look here[/], in this order:")
        for number, address, what in rows:
            line = f"  {number:1} {address:<58} {what}"
            self.console.print(line, highlight=False, soft_wrap=True)


def _run_id(run: dict[str, Any]) -> str:
    return str(run["dag_run_id"])


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Give a function that adds a progress bar and returns its setter (done, total).

    Off a terminal each bar is a line now and then.
    """
    if not console.is_terminal:
        yield lambda name: _Lines(console, name).show
        return
    columns = (TextColumn("        {task.description:<16}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:

        def add(name: str) -> Callable[[int, int], None]:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield add


class _Lines:
    """One bar as lines: the first, then one whenever it moved and 15 s have passed, the last."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._shown, self._shown_at = -1, 0.0

    def show(self, done: int, total: int) -> None:
        """Tell how far it is."""
        moved = done != self._shown
        if moved and (done >= total or time.monotonic() - self._shown_at > _LINE_EVERY_S):
            self._console.print(f"         {self._name}: {done:,} of {total:,}", highlight=False)
            self._shown, self._shown_at = done, time.monotonic()
