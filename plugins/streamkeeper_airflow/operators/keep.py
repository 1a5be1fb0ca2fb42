"""The deferrable task that keeps one process alive: a driver or a producer."""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from streamkeeper.errors import LaunchConflict, StreamkeeperError, Unavailable
from streamkeeper.launches import Kind, Launch
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.supervision import (
    Drain,
    Fail,
    Finish,
    Owner,
    Relaunch,
    Sight,
    Start,
    Verdict,
    Watch,
    after_end,
    backoff,
    decide,
)
from streamkeeper_airflow.hooks.connections import (
    child_environment,
    home,
    settings_from_connections,
    store_from_connection,
)
from streamkeeper_airflow.hooks.spark import SparkCommandHook, submit_conf
from streamkeeper_airflow.observer import SNAPSHOT, Observer, how_owner_ended
from streamkeeper_airflow.triggers.keep import KeepTrigger, file_sha256

if TYPE_CHECKING:
    from airflow.sdk import Context

    from streamkeeper_io.store import Store

_TAKEN = "taken for dead by the keeper: on another host, with an unchanged heartbeat"


class KeepOperator(BaseOperator):
    """Adopts a live launch or makes one, then defers until something is to be done about it.

    Parameters: launch_name, the name of the lock; specs, the streams to run; broken, path of each
    broken declaration: no launch is made while this app's own one is among them.
    """

    kind: ClassVar[Kind]
    may_finish: ClassVar[bool] = False

    def __init__(
        self,
        *,
        launch_name: str,
        specs: Sequence[Spec],
        broken: Sequence[Path] = (),
        poll_s: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.launch_name, self.specs, self.broken = launch_name, tuple(specs), tuple(broken)
        self.poll_s = poll_s

    @abstractmethod
    def command(self, settings: Settings, snapshot: Path, launch: Launch) -> list[str]:
        """Return the command line of the process to launch."""

    def options(self, context: Context) -> dict[str, Any]:
        """Return what the snapshot tells the process besides its streams."""
        return {}

    def provision(self, settings: Settings, specs: Sequence[Spec]) -> None:
        """Make what the process needs before it starts."""
        from streamkeeper_airflow.hooks.kafka import TopicHook

        for spec in specs:
            topic_id = TopicHook().ensure(spec)
            self.log.info("Topic %s is there, id %s", spec.source.kafka.topic, topic_id)

    def execute(self, context: Context) -> None:
        """Look, adopt or launch, and defer."""
        self._step(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Act on the trigger's event: what follows the launch's end, or a new look."""
        deaths = int(event["quick_deaths"])
        if event["what"] == "look":
            self._step(context, deaths)
            return
        try:
            launch, verdict = self._conclude(int(event["epoch"]), deaths)
        except Unavailable as error:
            self._wait(context, deaths + 1, str(error))
            return
        self._follow(context, launch, verdict)

    def _observer(self) -> Observer:
        names = [spec.name for spec in self.specs]
        return Observer(self.kind, self.launch_name, names, [p.stem for p in self.broken])

    def _step(self, context: Context, quick_deaths: int = 0) -> None:
        try:
            epoch = self._adopt_or_launch(context)
        except LaunchConflict as error:
            self._wait(context, quick_deaths + 1, str(error))
        except Unavailable as error:
            self._wait(context, quick_deaths + 1, f"not launched: {error}")
        except StreamkeeperError as error:
            raise AirflowFailException(str(error)) from error
        else:
            self._defer(context, epoch=epoch, quick_deaths=quick_deaths)

    def _adopt_or_launch(self, context: Context) -> int | None:
        settings = settings_from_connections(self.specs)
        store = store_from_connection()
        observer = self._observer()
        sight = observer.look(store)
        me = _owner(context)
        if isinstance(decide(sight), Watch) and sight.launch is not None:
            ended_by = how_owner_ended(Owner.parse(sight.launch.owner), me)
            sight = observer.look(store, ended_by)
        match decide(sight):
            case Start(expected):
                return self._launch(context, settings, store, sight, expected)
            case Drain(epoch, by):
                self.log.info("Launch %s is asked to drain: %s", epoch, by)
                store.request_stop(epoch, by)
        if sight.launch is None or sight.running is False:
            self.log.info("%s %s is not wanted now; resting", self.kind, self.launch_name)
            return None
        self.log.info("Watching launch %s: %s", sight.launch.epoch, sight.launch.process)
        store.adopt(sight.launch.epoch, str(me))
        return sight.launch.epoch

    def _launch(
        self,
        context: Context,
        settings: Settings,
        store: Store,
        sight: Sight,
        expected: int | None,
    ) -> int | None:
        specs = [spec for spec in self.specs if spec.name in sight.wanted]
        if not specs:
            self.log.error("Nothing to launch: the declaration is broken; mend it, see the DAG")
            return None
        launcher = self._observer().launcher
        previous = sight.launch
        if previous is not None and sight.running is not None:
            store.end_launch(previous.epoch, launcher.exit_code(previous), "seen by the keeper")
            launcher.end(previous)  # what may be left of its session
        self.provision(settings, specs)
        launch = store.begin_launch(
            self.kind, self.launch_name, owner=str(_owner(context)), expected=expected
        )
        folder = settings.state / "launches" / f"{self.kind}-{self.launch_name}" / str(launch.epoch)
        store.update_launch(launch.epoch, folder=str(folder))
        launch = launch.model_copy(update={"folder": str(folder)})
        options = self.options(context)
        snapshot = _write_snapshot(launch, specs, options)
        process = launcher.start(
            self.command(settings, snapshot, launch),
            folder=folder,
            env=child_environment(settings),
            epoch=launch.epoch,
            cwd=home(),
        )
        store.update_launch(launch.epoch, process=process)
        # For whoever must find the process without a store, such as `make down`.
        _write_snapshot(launch.model_copy(update={"process": process}), specs, options)
        self.log.info("Launch %s started: process %s, log %s/log", launch.epoch, process, folder)
        return launch.epoch

    def _conclude(self, epoch: int, quick_deaths: int) -> tuple[Launch, Verdict]:
        """Record the end of a launch; return it and what follows."""
        store = store_from_connection()
        observer = self._observer()
        sight = observer.look(store)
        launch = store.launch(epoch)
        code = observer.launcher.exit_code(launch)
        store.end_launch(epoch, code, "seen by the keeper" if sight.running is False else _TAKEN)
        verdict = after_end(
            launch,
            code,
            now=datetime.now(UTC),
            wanted=bool(sight.wanted),
            quick_deaths=quick_deaths,
            may_finish=self.may_finish,
        )
        return launch, verdict

    def _follow(self, context: Context, launch: Launch, verdict: Verdict) -> None:
        tail = self._observer().launcher.log_tail(launch)
        match verdict:
            case Finish(text):
                self.log.info("%s", text)
            case Fail(text):
                raise AirflowFailException(f"{text}; a person must decide. Its log ends:\n{tail}")
            case Relaunch(delay, deaths, text):
                self.log.warning("%s", text)
                if not launch.stop_requested_at:
                    self.log.warning("Its log ends:\n%s", tail)
                if delay:
                    self._defer(context, quick_deaths=deaths, delay=delay)
                self._step(context, deaths)

    def _wait(self, context: Context, quick_deaths: int, text: str) -> None:
        delay = backoff(quick_deaths)
        self.log.warning("%s; looking again in %g s", text, delay.total_seconds())
        self._defer(context, quick_deaths=quick_deaths, delay=delay)

    def _defer(
        self,
        context: Context,
        *,
        epoch: int | None = None,
        quick_deaths: int = 0,
        delay: timedelta | None = None,
    ) -> None:
        launch_at = (datetime.now(UTC) + delay).isoformat() if delay else None
        self.defer(
            trigger=KeepTrigger(
                kind=self.kind,
                name=self.launch_name,
                streams=[spec.name for spec in self.specs],
                broken=[path.stem for path in self.broken],
                owner=str(_owner(context)),
                epoch=epoch,
                quick_deaths=quick_deaths,
                launch_at=launch_at,
                declarations=self._declarations(),
                poll_s=self.poll_s,
            ),
            method_name="execute_complete",
        )

    def _declarations(self) -> dict[str, str]:
        # With specs the app can run; only an app with nothing to run waits for its file to change.
        return {} if self.specs else {str(p): file_sha256(str(p)) for p in self.broken}


class KeepDriverOperator(KeepOperator):
    """Keeps the Spark driver of an app alive."""

    kind = "driver"

    def command(self, settings: Settings, snapshot: Path, launch: Launch) -> list[str]:
        """Return spark-submit's command line, built by the Spark provider's hook."""
        hook = SparkCommandHook(
            conf=submit_conf(settings),
            name=f"streamkeeper {self.launch_name} launch {launch.epoch}",
            application_args=["--launch", str(snapshot)],
        )
        return hook.command(str(home() / "spark_apps" / "stream.py"))


class KeepProducerOperator(KeepOperator):
    """Keeps the producer of a stream alive; one with a limit ends when all is sent."""

    kind = "producer"
    may_finish = True

    def command(self, settings: Settings, snapshot: Path, launch: Launch) -> list[str]:
        """Return the command line of the producer."""
        program = str(Path(sys.executable).parent / "streamkeeper")
        kind = "folder" if any(spec.producer.folder for spec in self.specs) else "simulate"
        return [program, "produce", kind, self.launch_name, "--launch", str(snapshot)]

    def options(self, context: Context) -> dict[str, Any]:
        """Return hours_back and limit of this run; a folder's producer knows neither."""
        params: Mapping[str, Any] = context["params"]
        return {name: params.get(name) for name in ("hours_back", "limit")}


def _owner(context: Context) -> Owner:
    ti = context["ti"]
    return Owner(ti.dag_id, ti.task_id, ti.run_id, ti.try_number)


def _write_snapshot(launch: Launch, specs: Sequence[Spec], options: dict[str, Any]) -> Path:
    folder = Path(launch.folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SNAPSHOT
    content = {
        "launch": launch.model_dump(mode="json"),
        "specs": [spec.dump() for spec in specs],
        "options": options,
    }
    # The process that was just started may be reading it.
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1))
    return new.replace(path)
