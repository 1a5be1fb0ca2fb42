"""The command `streamkeeper check`: every mistake of the declarations, and what they declare."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink, DeltaSink, PostgresSink, Sink


def add_check_command(commands: Any) -> None:
    """Add `check` to the command line.

    Parameters: commands, argparse's subparsers.
    """
    check = commands.add_parser(
        "check",
        help="check declarations",
        description="Tells every mistake of the declarations and what they declare; the exit code "
        "is 1 when there is a mistake.",
    )
    check.add_argument(
        "names", metavar="NAME", nargs="*", help="streams, or paths of YAML files (default: all)"
    )
    check.add_argument(
        "--explain",
        action="store_true",
        help="tell all that they create: topics, rows, rules, tables, paths, DAGs",
    )
    check.add_argument(
        "--sample",
        type=int,
        metavar="N",
        help="try them on the newest N messages of their topics, and land nothing",
    )
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from rich.console import Console

    from streamkeeper.errors import DeclarationError, StreamkeeperError
    from streamkeeper.spec.loader import load_spec
    from streamkeeper_apps.streams import stream_names, unknown
    from streamkeeper_apps.where import find_settings

    settings = find_settings()
    paths = [_path(settings.streams, name) for name in options.names or stream_names(settings)]
    if not paths:
        raise StreamkeeperError(f"there is no *.yaml file in {settings.streams}")
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    specs, mistakes = dict[str, Spec](), 0
    for path in paths:
        if not path.is_file():
            raise unknown(settings, path.stem)
        try:
            spec = specs[path.stem] = load_spec(path)
        except DeclarationError as error:
            mistakes += len(error.mistakes)
            console.print(f"[red]✗[/red] {path.stem}: {_count(len(error.mistakes), 'mistake')}")
            for mistake in error.mistakes:
                console.print(f"  {mistake}", markup=False)
        else:
            console.print(f"[green]✓[/green] {path.stem}")
            for line in _told(spec) if options.explain else summary(spec):
                console.print(f"  {line}", markup=False)
            if options.sample is not None:
                for line in _sampled(settings, path, options.sample):
                    console.print(f"  {line}", markup=False)
    for text in shared_places(specs):
        mistakes += 1
        console.print(f"[red]✗[/red] {text}")
    for path in settings.streams.glob("*.yml"):
        console.print(f"[yellow]![/yellow] {path} is not read; its name must end in .yaml")
    right = f"{len(specs)} of {_count(len(paths), 'declaration')} can be used"
    console.print(f"{right}; {_count(mistakes, 'mistake')}")
    return 1 if mistakes else 0


def _path(folder: Path, name: str) -> Path:
    return Path(name) if name.endswith(".yaml") else folder / f"{name}.yaml"


def _told(spec: Spec) -> Iterator[str]:
    from streamkeeper_apps.explain import explain

    return explain(spec)


def _sampled(settings: Settings, path: Path, messages: int) -> Iterator[str]:
    from streamkeeper_apps.sample import sample, told

    return told(sample(settings, path, messages))


def summary(spec: Spec) -> Iterator[str]:
    """Yield the lines that tell what a stream declares."""
    topic = spec.source.kafka
    checks = sum(map(_checks, spec.fields.values())) + len(spec.checks)
    yield (
        f"topic {topic.topic}, {_count(topic.partitions, 'partition')} -> {spec.lake.path} "
        f"every {_seconds(spec.lake.every)}"
    )
    derived = f", {len(spec.derived)} derived" if spec.derived else ""
    yield (
        f"{_count(len(spec.fields), 'field')}{derived}, {_count(checks, 'check')}, "
        f"event time {spec.event_time.field}"
    )
    for window in spec.windows:
        by = f" by {', '.join(window.by)}" if window.by else ""
        each = f" each {_seconds(window.slide)}" if window.slide else ""
        measures = ", ".join(window.measures)
        yield f"window {window.name}: {_seconds(window.size)}{each}{by}: {measures}"
    for sink in spec.sinks:
        where = _place(sink)
        yield f"sink {sink.kind}{where and f' {where}'} of {sink.of}"
    simulator = spec.producer.simulator
    if simulator:
        yield (
            f"simulator: {_count(simulator.entities, 'entity', 'entities')}, one message each "
            f"{_seconds(simulator.every)}, from {_count(simulator.hours_back, 'hour')} back on"
        )
    folder = spec.producer.folder
    if folder:
        yield f"folder {folder.path}: {', '.join(folder.patterns)}, {folder.format}"
    replay = spec.producer.replay
    if replay:
        yield f"replay of {replay.format}: {', '.join(replay.columns) or 'messages as they stand'}"
    if spec.kpis:
        yield f"KPIs {', '.join(kpi.name for kpi in spec.kpis)}"
    if spec.anomalies:
        yield f"anomalies {', '.join(f'{a.name} of {a.of}' for a in spec.anomalies)}"
    if spec.alerts:
        yield f"alerts {', '.join(alert.name for alert in spec.alerts)}"
    if spec.report:
        yield f"report to {', '.join(spec.report.to)}, hours closed at {spec.hours.schedule} (UTC)"


def shared_places(specs: Mapping[str, Spec]) -> Iterator[str]:
    """Yield a text for every folder or table that two streams would both write."""
    folders = [(PurePosixPath(s.lake.path), name) for name, s in specs.items()]
    yield from _shared_folders(specs, folders)
    for i, (folder, name) in enumerate(folders):
        for other_folder, other in folders[i + 1 :]:
            if folder.is_relative_to(other_folder) or other_folder.is_relative_to(folder):
                yield (
                    f"{name} and {other}: lake.path {folder} and {other_folder} lie in one "
                    "another; every stream needs a folder of its own"
                )
    owners: dict[str, str] = {}
    for name, spec in specs.items():
        for table in _tables(spec):
            if table in owners:
                yield (
                    f"{owners[table]} and {name}: both write the {table}; "
                    "every sink needs a table of its own"
                )
            owners.setdefault(table, name)


def _shared_folders(
    specs: Mapping[str, Spec], folders: Sequence[tuple[PurePosixPath, str]]
) -> Iterator[str]:
    """Yield a text for every Delta table within, or around, another stream's folder or table."""
    tables = [
        (PurePosixPath(sink.path), name)
        for name, spec in specs.items()
        for sink in spec.sinks
        if isinstance(sink, DeltaSink)
    ]
    for i, (table, name) in enumerate(tables):
        for other, owner in (*folders, *tables[i + 1 :]):
            lies = table.is_relative_to(other) or other.is_relative_to(table)
            if owner != name and table != other and lies:
                yield (
                    f"{name} and {owner}: the Delta table {table} and {other} lie in one another; "
                    "every table needs a folder of its own"
                )


def _tables(spec: Spec) -> Iterable[str]:
    kinds = {
        "cassandra": "Cassandra table",
        "postgresql": "PostgreSQL table",
        "delta": "Delta table",
    }
    return sorted({f"{kinds[s.kind]} {_place(s)}" for s in spec.sinks if _place(s)})


def _place(sink: Sink) -> str:
    """Return where a sink's table is; empty for a sink without one."""
    if isinstance(sink, CassandraSink):
        return f"{sink.keyspace}.{sink.table}"
    if isinstance(sink, PostgresSink):
        return f"{sink.connection}/{'.'.join(sink.place)}"
    if isinstance(sink, DeltaSink):
        return sink.path
    return ""


def _checks(field: Any) -> int:
    return 1 + field.required + (field.range is not None) + (field.allowed is not None)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _seconds(duration: Any) -> str:
    from streamkeeper.spec.durations import format_duration

    return format_duration(duration)
