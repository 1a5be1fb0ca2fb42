"""DAGs from declarations. Reads YAML files and nothing else: it runs at every DAG parse."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param, get_parsing_context

from streamkeeper import names
from streamkeeper.errors import DeclarationError
from streamkeeper.spec.durations import format_duration
from streamkeeper.spec.loader import LoadedStreams, load_streams
from streamkeeper.spec.models import Spec
from streamkeeper_airflow.hooks.connections import folders
from streamkeeper_airflow.operators.analyse import AnalyseTableOperator
from streamkeeper_airflow.operators.broken import BrokenDeclarationOperator
from streamkeeper_airflow.operators.hours import CloseHoursOperator, WaitForHoursOperator
from streamkeeper_airflow.operators.keep import KeepDriverOperator, KeepProducerOperator
from streamkeeper_airflow.operators.periods import AnalysePeriodsOperator
from streamkeeper_airflow.operators.report import MailReportsOperator

_START = datetime(2020, 1, 1, tzinfo=UTC)
_FAILED_RUNS = 3
# A keeper that needs a person fails at once, without retries. These are for what Airflow itself
# breaks (a task's process killed with its scheduler): the next try of the same run adopts the
# launch, where the next run would drain it, for it cannot tell that from a mark.
_KEEP_RETRIES: dict[str, Any] = {"retries": 3, "retry_delay": timedelta(seconds=5)}
_HOUR = Param(
    None,
    type=["null", "string"],
    pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}$",
    description="An hour in UTC, such as 2026-11-24T14.",
)


def build_dags(folder: Path | None = None) -> list[DAG]:
    """Return the DAGs of all declared streams; in a task's process only the task's own.

    Parameters: folder, of the declarations; that of the settings when absent.
    """
    loaded = load_streams(folder or folders().streams)
    only = get_parsing_context().dag_id
    return [
        build()
        for dag_id, build in _builders(loaded, folder or folders().streams)
        if only in (None, dag_id)
    ]


def _builders(loaded: LoadedStreams, folder: Path) -> Iterator[tuple[str, Callable[[], DAG]]]:
    broken = tuple(folder / f"{name}.yaml" for name in loaded.broken)
    apps: dict[str, list[Spec]] = {}
    for spec in loaded.specs.values():
        apps.setdefault(spec.app, []).append(spec)
    for app, specs in apps.items():
        yield names.keep_dag_id(app), lambda a=app, s=specs: _keep(a, s, broken)  # type: ignore[misc]
    for name, spec in loaded.specs.items():
        if spec.producer.simulator is not None:
            yield names.produce_dag_id(name), lambda s=spec: _produce(s)  # type: ignore[misc]
        if spec.producer.folder is not None:
            yield names.produce_dag_id(name), lambda s=spec: _watch(s)  # type: ignore[misc]
        yield names.hours_dag_id(name), lambda s=spec: _hours(s)  # type: ignore[misc]
        if spec.report is not None:
            yield names.report_dag_id(name), lambda s=spec: _report(s)  # type: ignore[misc]
        if spec.period_kinds():
            yield names.periods_dag_id(name), lambda s=spec: _periods(s)  # type: ignore[misc]
        if spec.raw_tables():
            yield names.analyse_dag_id(name), lambda s=spec: _analyse(s)  # type: ignore[misc]
    for name, error in loaded.broken.items():
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
        yield names.broken_dag_id(safe), lambda n=safe, e=error: _broken(n, e)  # type: ignore[misc]
        # A launch of it may live; its keeper goes on and watches what the snapshot says.
        if safe == name and name not in apps:
            yield names.keep_dag_id(name), lambda n=name: _keep(n, [], broken)  # type: ignore[misc]


def _dag(dag_id: str, doc: str, tags: tuple[str, ...], **given: Any) -> DAG:
    return DAG(
        dag_id,
        doc_md=doc,
        description=doc.strip().splitlines()[0].lstrip("# "),
        tags=["streamkeeper", *tags],
        start_date=_START,
        catchup=False,
        default_args={"owner": "streamkeeper"},
        **given,
    )


def _keep(app: str, specs: list[Spec], broken: tuple[Path, ...]) -> DAG:
    doc = f"""\
# Keeps the Spark driver of `{app}` alive

{_streams_table(specs)}

One deferrable task launches the driver, or adopts the one that lives, and watches it from the
triggerer. A driver that dies is launched again, later each time when it dies young.

| You do | What happens |
|---|---|
| clear the task | the driver runs on, the new try adopts it |
| pause the DAG | the driver runs on, unsupervised |
| mark failed, mark success, delete | the driver drains; the next run launches it again |
| pause, then mark failed | the driver drains and stays down until you unpause |
| `streamkeeper stream stop NAME` | the stream drains and stays down, whatever Airflow does |

A run that fails needs a person: its log says why. After {_FAILED_RUNS} failed runs in a row the
DAG pauses itself.
"""
    with _dag(
        names.keep_dag_id(app),
        doc,
        ("keep", *_tags(specs)),
        schedule="@continuous",
        max_active_runs=1,
        max_consecutive_failed_dag_runs=_FAILED_RUNS,
    ) as dag:
        KeepDriverOperator(
            task_id="keep",
            launch_name=app,
            specs=specs,
            broken=broken,
            doc_md=doc,
            **_KEEP_RETRIES,
        )
    return dag


def _produce(spec: Spec) -> DAG:
    simulator = spec.producer.simulator
    assert simulator is not None
    doc = f"""\
# Keeps the producer of `{spec.name}` alive

Simulates {simulator.entities} entities, one message each {format_duration(simulator.every)}, into
the topic `{spec.source.kafka.topic}`. It first sends the past `hours_back` full hours back-dated,
then the present live; launched again, it goes on where it stood. With `limit` it ends after that
many messages.

To stop it: pause, then mark the task failed.
"""
    params = {
        "hours_back": Param(
            simulator.hours_back,
            type="integer",
            minimum=0,
            maximum=8760,
            description="Full hours to send back-dated before the present.",
        ),
        "limit": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            description="Messages to send at most; empty: no limit.",
        ),
    }
    return _produced(spec, doc, params)


def _watch(spec: Spec) -> DAG:
    folder = spec.producer.folder
    assert folder is not None
    doc = f"""\
# Keeps the producer of `{spec.name}` alive

Watches the folder `{folder.path}` and sends each record of its files
({", ".join(f"`{pattern}`" for pattern in folder.patterns)}) once into the topic
`{spec.source.kafka.topic}`. `streamkeeper produce files {spec.name}` tells what became of each.

To stop it: pause, then mark the task failed. Launched again, it goes on where it stood.
"""
    return _produced(spec, doc, {})


def _produced(spec: Spec, doc: str, params: dict[str, Param]) -> DAG:
    with _dag(
        names.produce_dag_id(spec.name),
        doc,
        ("produce", *spec.tags),
        schedule="@continuous",
        max_active_runs=1,
        max_consecutive_failed_dag_runs=_FAILED_RUNS,
        params=params,
    ) as dag:
        KeepProducerOperator(
            task_id="produce", launch_name=spec.name, specs=[spec], doc_md=doc, **_KEEP_RETRIES
        )
    return dag


def _hours(spec: Spec) -> DAG:
    grace, limit = format_duration(spec.hours.grace), format_duration(spec.hours.wait_limit)
    doc = f"""\
# Closes the hours of `{spec.name}`

`wait` takes one look at the topic's end, {grace} after the hour's end, and waits at no worker slot
until everything up to it has landed; after {limit} the hour is closed as partial. `close` writes
the hour's curated file, KPIs and final windows.

Run it by hand with `hour` (UTC, such as `2026-11-24T14`; empty: the last full hour), or backfill a
range in the UI.
"""
    with _dag(
        names.hours_dag_id(spec.name),
        doc,
        ("hours", *spec.tags),
        schedule=CronDataIntervalTimetable(spec.hours.schedule, timezone="UTC"),
        max_active_runs=4,
        params={"hour": _HOUR},
    ) as dag:
        wait = WaitForHoursOperator(
            task_id="wait", spec=spec, retries=2, retry_delay=timedelta(seconds=30)
        )
        close = CloseHoursOperator(
            task_id="close",
            spec=spec,
            wait_task_id=wait.task_id,
            # Each is a Spark session of its own; waiting costs nothing, closing a gigabyte.
            max_active_tis_per_dag=2,
            outlets=[Asset(names.hours_asset_uri(spec.name))],
            retries=3,
            retry_delay=timedelta(seconds=30),
            retry_exponential_backoff=True,
            max_retry_delay=timedelta(minutes=10),
        )
        wait >> close
    return dag


def _report(spec: Spec) -> DAG:
    assert spec.report is not None
    doc = f"""\
# Mails the hourly reports of `{spec.name}`

Runs when hours were closed and mails every closed hour that has no mail yet to
{", ".join(spec.report.to)}. Each hour is mailed at least once; a closed hour that is closed again
is mailed again as a new revision.

Run it by hand with `hour` to send the report of that hour again.
"""
    with _dag(
        names.report_dag_id(spec.name),
        doc,
        ("report", *spec.tags),
        schedule=[Asset(names.hours_asset_uri(spec.name))],
        max_active_runs=1,
        params={"hour": _HOUR},
    ) as dag:
        MailReportsOperator(
            task_id="mail",
            spec=spec,
            retries=5,
            retry_delay=timedelta(seconds=30),
            retry_exponential_backoff=True,
            max_retry_delay=timedelta(minutes=15),
        )
    return dag


def _periods(spec: Spec) -> DAG:
    doc = f"""\
# KPIs of days and of everything of `{spec.name}`

Computes {", ".join(kpi.name for kpi in spec.kpis if kpi.periods)} anew from the rows of closed
hours: each day that has ended, and everything, where an hour of it was closed since. The files lie
beside the hourly ones, below `{spec.lake.path}/analytics`; each tells the hours and revisions that
it covers.

Run it by hand with `period` `day` and a `day`, or with `period` `all`, for that one alone.
"""
    with _dag(
        names.periods_dag_id(spec.name),
        doc,
        ("periods", *spec.tags),
        schedule=CronDataIntervalTimetable(spec.hours.daily, timezone="UTC"),
        max_active_runs=1,
        params={
            "period": Param(
                None,
                type=["null", "string"],
                enum=[None, *spec.period_kinds()],
                description="day or all; empty: all that are due.",
            ),
            "day": Param(
                None,
                type=["null", "string"],
                pattern=r"^\d{4}-\d{2}-\d{2}$",
                description="A day in UTC, such as 2026-11-24.",
            ),
        },
    ) as dag:
        AnalysePeriodsOperator(
            task_id="analyse",
            spec=spec,
            doc_md=doc,
            retries=3,
            retry_delay=timedelta(seconds=30),
            retry_exponential_backoff=True,
            max_retry_delay=timedelta(minutes=10),
        )
    return dag


def _analyse(spec: Spec) -> DAG:
    tables = list(spec.raw_tables())
    doc = f"""\
# Analyses what Cassandra keeps of `{spec.name}`

Reads `{"`, `".join(tables)}` through Spark, with the conditions on the key answered by Cassandra,
computes the KPIs {", ".join(kpi.name for kpi in spec.kpis) or "(none are declared)"}, and compares
them with those of the lake's closed hours. The log shows the result and the file that keeps it;
the task fails when the two differ.

Run it by hand: `hour` (UTC, such as `2026-11-24T14`; empty: the last closed one) and `key`
(`COLUMN=VALUE,...`; empty: all).
"""
    with _dag(
        names.analyse_dag_id(spec.name),
        doc,
        ("analyse", *spec.tags),
        schedule=None,
        max_active_runs=2,
        params={
            "hour": _HOUR,
            "key": Param(
                None,
                type=["null", "string"],
                pattern=r"^[A-Za-z][A-Za-z0-9_]*=.+$",
                description="Values of a key column, such as sensor_id=3 or city=Fes,Rabat.",
            ),
            "table": Param(tables[0], enum=tables, description="Keyspace and table."),
        },
    ) as dag:
        AnalyseTableOperator(
            task_id="analyse", spec=spec, doc_md=doc, retries=1, retry_delay=timedelta(seconds=30)
        )
    return dag


def _broken(name: str, error: DeclarationError) -> DAG:
    doc = f"""\
# The declaration of `{name}` has mistakes

```
{error}
```

Mend the file; `streamkeeper check` tells the same. This DAG goes away once the file is right.
"""
    with _dag(
        names.broken_dag_id(name),
        doc,
        ("broken",),
        schedule=None,
        is_paused_upon_creation=True,
    ) as dag:
        BrokenDeclarationOperator(task_id="mistakes", mistakes=str(error), doc_md=doc)
    return dag


def _tags(specs: list[Spec]) -> list[str]:
    return sorted({tag for spec in specs for tag in spec.tags})


def _streams_table(specs: list[Spec]) -> str:
    if not specs:
        return "Its declaration has mistakes now: a driver that lives is watched, none is launched."
    rows = (
        f"| `{s.name}` | {s.description} | `{s.source.kafka.topic}` | `{s.lake.path}` |"
        for s in specs
    )
    return "\n".join(["| Stream | | Topic | Lake |", "|---|---|---|---|", *rows])


def dags_by_id(folder: Path | None = None) -> Mapping[str, DAG]:
    """Return what a DAG file puts into its namespace."""
    return {dag.dag_id: dag for dag in build_dags(folder)}
