"""The `producer` part of a declaration: its mistakes are told with key, value and valid values."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamkeeper.errors import DeclarationError
from streamkeeper.launches import Launch, ProducedHour
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.heartbeat import hour_rows
from streamkeeper_apps.producer.layout import Layout
from streamkeeper_apps.producer.messages import HourCount
from streamkeeper_apps.producer.status import headline, rows

HOUR = datetime(2026, 11, 24, 10, tzinfo=UTC)


def declaration(**producer: Any) -> dict[str, Any]:
    return {
        "description": "x",
        "source": {"kafka": {"topic": "made"}},
        "fields": {
            "id": {"type": "string"},
            "t": {"type": "double", "range": [0, 1]},
            "at": {"type": "timestamp"},
        },
        "event_time": {"field": "at"},
        "lake": {"path": "/made"},
        "producer": producer,
    }


def simulator(fields: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    made = fields or {"t": {"uniform": [0, 1]}, "at": {"event_time": True}}
    return {"simulator": {"entities": 1, "fields": made} | more}


def replay(form: str, **more: Any) -> dict[str, Any]:
    return {"replay": {"format": form} | more}


def folder(**more: Any) -> dict[str, Any]:
    return {"folder": {"path": "files"} | more}


SITE = {"name": "Fès", "latitude": 34.03, "longitude": -5.0}
EPISODE: dict[str, Any] = {
    **{"name": "off", "every": "1h", "lasts": ["1min", "5min"]},
    "fields": {"t": {"missing": True}},
}


def episode(**changed: Any) -> dict[str, Any]:
    return simulator(episodes=[EPISODE | changed])


TIMED = {"share": 0.1, "by": "1s"}
AT = {"at": {"event_time": True}}
KEPT = {"id": {"assigned": ["a", "b"]}}
CROSSED = {"a": {"uniform": [1, 0]}, "b": {"constant": 1}}
HOST = {"columns": {"id": "host"}}


@pytest.mark.parametrize(
    ("producer", "text"),
    [
        (
            simulator(faults={"malformed": 0.6, "late": {"share": 0.5, "by": "1s"}}),
            "producer.simulator.faults: 1.1 the shares together are more than 1",
        ),
        (
            simulator({"at": {"event_time": True}}, faults={"out_of_range": 0.1}),
            "producer.simulator.faults.out_of_range: 0.1 no number that is made has a `range`",
        ),
        (
            simulator({"at": {"constant": "x"}}, faults={"late": TIMED}),
            "producer.simulator.faults.late: no field is made with `event_time: true`",
        ),
        (
            simulator(faults={"malformd": 0.1}),
            "producer.simulator.faults.malformd: is not a key here; valid: malformed, ",
        ),
        (
            simulator(faults={"late": {"share": 0.1, "by": "0s"}}),
            "producer.simulator.faults.late.by",
        ),
        (
            simulator(AT | {"id": {"choice": ["a", "b"], "weights": [1]}}),
            "producer.simulator.fields.id.weights: [1] a weight for each value of `choice`: 2 of",
        ),
        (
            simulator(AT | {"id": {"choice": ["a", "b"], "weights": [1, 0]}}),
            "producer.simulator.fields.id.weights[1]: 0 is wrong: input should be greater than 0",
        ),
        (
            simulator(AT | {"t": {"uniform": [0, 1], "weights": [1]}}),
            "producer.simulator.fields.t.weights: [1] needs `choice` beside it",
        ),
        (
            simulator(AT | {"t": {"by": "id", "cases": {"a": {"uniform": [0, 1]}}}}),
            "producer.simulator.fields.t.by: 'id' needs a field that the entity keeps",
        ),
        (
            simulator(AT | KEPT | {"t": {"by": "id", "cases": {"a": {"uniform": [0, 1]}}}}),
            "producer.simulator.fields.t.cases: 'b' no case for the value 'b' of id; valid: a",
        ),
        (
            simulator(AT | KEPT | {"t": {"by": "id", "cases": {"a": {}, "b": {"constant": 1}}}}),
            "producer.simulator.fields.t.cases.a: [] a case is drawn in exactly one way",
        ),
        (
            simulator(AT | KEPT | {"t": {"by": "id", "cases": CROSSED}}),
            "producer.simulator.fields.t.cases.a.uniform: [1, 0] the lower limit lies above",
        ),
        (
            simulator(AT | {"t": {"by": "id"}}),
            "producer.simulator.fields.t: 'id' `by` and `cases` stand together",
        ),
        (
            simulator(AT | {"t": {"lognormal": {"median": 5, "p95": 5}}}),
            "producer.simulator.fields.t.lognormal.p95: 5 must lie above the median",
        ),
        (
            simulator(AT | {"t": {"lognormal": {"median": 5, "p95": 9, "most": 4}}}),
            "producer.simulator.fields.t.lognormal.most: 4 must lie above the median",
        ),
        (
            simulator(AT | {"t": {"lognormal": {"median": 0, "p95": 9}}}),
            "producer.simulator.fields.t.lognormal.median: 0 is wrong: input should be greater",
        ),
        (
            simulator(AT | {"id": {"lognormal": {"median": 5, "p95": 9}}}),
            "producer.simulator.fields.id.lognormal: {'median': 5, 'p95': 9} draws a number; the "
            "field's type is string",
        ),
        (
            simulator(AT | {"id": {"ipv4": ["10.0.0.0/8", "10.0.0.1/8"]}}),
            "producer.simulator.fields.id.ipv4[1]: '10.0.0.1/8' is no network, such as "
            "198.51.100.0/24: 10.0.0.1/8 has host bits set",
        ),
        (
            simulator(AT | {"t": {"ipv4": ["10.0.0.0/8"]}}),
            "producer.simulator.fields.t.ipv4: makes a text; the field's type is double",
        ),
        (
            simulator(AT | {"id": {"choice": ["a"], "ipv4": ["10.0.0.0/8"]}}),
            "made in exactly one way; valid: entity, assigned, site, choice, uniform, lognormal, ",
        ),
        (
            simulator(AT | {"id": {"site": "name"}}),
            "producer.simulator.fields.id.site: 'name' needs `sites` in the simulator",
        ),
        (
            simulator(AT | {"t": {"site": "name"}}, sites=[SITE]),
            "producer.simulator.fields.t.site: 'name' makes a text; the field's type is double",
        ),
        (
            simulator(AT | {"id": {"site": "latitude"}}, sites=[SITE]),
            "fields.id.site: 'latitude' needs a double or float; the field's type is string",
        ),
        (
            simulator(sites=[SITE | {"latitude": 91}]),
            "producer.simulator.sites[0].latitude: 91 is wrong: input should be less than or equal",
        ),
        (
            simulator(AT | {"t": {"cycle": {"mean": 1, "amplitude": 1, "period": "0s"}}}),
            "producer.simulator.fields.t.cycle.period: '0s' must be longer than nothing",
        ),
        (
            simulator(AT | {"t": {"drain": {"lasts": "0s"}}}),
            "producer.simulator.fields.t.drain.lasts: '0s' must be longer than nothing",
        ),
        (
            simulator(AT | {"id": {"drain": {"lasts": "1h"}}}),
            "producer.simulator.fields.id.drain: {'lasts': '1h'} draws a number; the field's type",
        ),
        (episode(lasts=["10min", "1min"]), "episodes[0].lasts: ['10min', '1min'] the shorter of"),
        (episode(lasts=["1min", "2h"]), "lasts: ['1min', '2h'] is longer than `every`, in which"),
        (episode(lasts=["0s", "1min"]), "lasts: ['0s', '1min'] must be longer than nothing"),
        (episode(every="0s"), "episodes[0].every: '0s' must be longer than nothing"),
        (episode(fields={}), "episodes[0].fields: {} is wrong: dictionary should have at least 1"),
        (
            episode(fields={"at": {"missing": True}}),
            "producer.simulator.episodes[0].fields.at: 'at' an episode changes no event time",
        ),
        (
            episode(fields={"id": {"constant": "x"}}),
            "episodes[0].fields.id: 'id' is no field that the simulator makes; valid: t, at",
        ),
        (
            episode(fields={"t": {"constant": 1, "missing": True}}),
            "fields.t: ['constant', 'missing'] a field is made in exactly one way; valid: choice, ",
        ),
        (
            episode(fields={"t": {"uniform": [2, 1]}}),
            "episodes[0].fields.t.uniform: [2, 1] the lower limit lies above the upper one",
        ),
        (
            simulator(episodes=[EPISODE, EPISODE]),
            "producer.simulator.episodes[1].name: 'off' this name stands twice",
        ),
        (replay("csv"), "producer.replay.columns: the format csv needs `columns`"),
        (replay("apache_common"), "producer.replay.columns: the format apache_common needs"),
        (
            replay("apache_common", columns={"id": "agent"}),
            "columns.id: 'agent' is no part of a line of apache_common; valid: host, identity",
        ),
        (
            replay("apache_combined", columns={"id": "reffer"}),
            "did you mean 'referer'?",
        ),
        (
            replay("apache_common", columns={"at": {"column": "time", "format": "%Y"}}),
            "producer.replay.columns.at.format: '%Y' the time of a log is read without one",
        ),
        (
            replay("apache_common", delimiter=";", **HOST),
            "producer.replay.delimiter: ';' only CSV has a delimiter",
        ),
        (
            replay("csv", columns={"id": ["a", "b"]}),
            "producer.replay.columns.id: ['a', 'b'] a list of keys is a place in JSON",
        ),
        (
            replay("json_lines", constants={"id": "x"}),
            "producer.replay.constants: {'id': 'x'} needs `columns` beside it",
        ),
        (
            replay("json_array", key="idd"),
            "producer.replay.key: 'idd' no such field is declared; valid: id, t, at; "
            "did you mean 'id'?",
        ),
        (replay("xml"), "producer.replay.format: 'xml' is not one of the valid values"),
        (
            folder(),
            "source.kafka.kind: 'plain' a watched folder fills its topic in transactions, so that "
            "no crash loses or repeats a record; write source.kafka.kind: transactional",
        ),
        (
            folder(format="csv"),
            "producer.folder.format: 'csv' records are sent unchanged, and source.format is json",
        ),
        (
            folder() | simulator(),
            "producer.folder: a stream has one producer that is kept: a simulator or a folder",
        ),
        (folder(header=False), "producer.folder.header: only CSV has one; the format is json"),
        (folder(files=["*", "../*"]), "producer.folder.files[1]: '../*' must lie below the folder"),
        (folder(settle="0s"), "producer.folder.settle"),
        (folder(files=[]), "producer.folder.files"),
        (folder(encoding="utf-9"), "valid: utf-8, latin-1, utf-16; did you mean 'utf-8'?"),
    ],
)
def test_mistakes(tmp_path: Path, producer: dict[str, Any], text: str) -> None:
    path = tmp_path / "made.yaml"
    path.write_text(json.dumps(declaration(**producer)))
    with pytest.raises(DeclarationError) as caught:
        load_spec(path)
    told = [str(mistake) for mistake in caught.value.mistakes]
    assert any(text in mistake for mistake in told), told


@pytest.mark.parametrize(
    "producer",
    [
        simulator(faults={"malformed": 0.1, "late": TIMED, "out_of_order": TIMED}),
        replay("json_lines", key="id"),
        replay("json_array", columns={"at": ["a", "b.c"], "t": "v.t"}, missing=["-"]),
        replay("apache_combined", columns={"id": "agent", "at": "time"}, key="id"),
    ],
)
def test_what_is_right_comes_back_as_it_was_dumped(
    tmp_path: Path, producer: dict[str, Any]
) -> None:
    path = tmp_path / "made.yaml"
    path.write_text(json.dumps(declaration(**producer)))
    spec = load_spec(path)
    assert Spec.model_validate(spec.dump()) == spec


def test_messages_are_written_as_the_source_wants_them() -> None:
    data = declaration() | {"name": "made", "app": "made"}
    data["fields"]["t"]["path"] = "v.100%"
    data["fields"]["id"]["path"] = ["v", "a.b"]
    layout = Layout(Spec.model_validate(data), ["at", "t", "id"])
    assert layout.names == ["at", "t", "id"]
    assert layout.write(('"x"', "1.50", "null")) == '{"at":"x","v":{"100%":1.50,"a.b":null}}'
    data["source"] |= {
        "format": "csv",
        "csv": {"columns": ["id", "more", "at", "t"], "delimiter": ";", "missing": ["NA"]},
    }
    data["fields"]["t"].pop("path")
    data["fields"]["id"].pop("path")
    layout = Layout(Spec.model_validate(data), ["at", "t", "id"])
    assert layout.write(('"x"', "1.50", r'"a;\"b\n"')) == '"a;""b\n";NA;x;1.50'
    assert layout.write(("null", "null", '""')) == ";NA;NA;NA"


def test_counts_by_hour_come_back_from_the_store_as_they_went() -> None:
    count = HourCount(5, 3, 1)
    count.faults["late"] = 2
    found = hour_rows(7, "made", [(496_834, count), (None, HourCount(1, 1, 0))])
    assert [hour.hour for hour in found] == [datetime(2026, 9, 5, 10, tzinfo=UTC), None]
    assert [ProducedHour.model_validate(hour.model_dump(mode="json")) for hour in found] == found
    assert found[0].faults == {"late": 2}


def test_what_has_landed_stands_beside_the_newest_producer_of_the_hour() -> None:
    def told(epoch: int, hour: datetime | None) -> ProducedHour:
        return ProducedHour(
            epoch=epoch, stream="x", hour=hour, sent=1000, acked=999, failed=1, faults={"late": 7}
        )

    found = list(rows([told(3, HOUR), told(4, HOUR), told(4, None)], {HOUR: 1998}))
    assert found == [
        ["3", "2026-11-24 10:00", "1,000", "999", "1", "", "late 7"],
        ["4", "2026-11-24 10:00", "1,000", "999", "1", "1,998", "late 7"],
        ["4", "not told", "1,000", "999", "1", "", "late 7"],
    ]
    launch = Launch(epoch=4, kind="by_hand", name="x", owner="me@here", began_at=HOUR)
    assert headline(launch) == (
        "launch 4: by hand (me@here), since 2026-11-24 10:00:00 UTC, runs or was killed"
    )


def test_a_folder_comes_back_as_it_was_dumped(tmp_path: Path) -> None:
    path = tmp_path / "made.yaml"
    data = declaration(**folder(files=["**/*.json"], settle="5s", encoding="latin-1"))
    data["source"]["kafka"]["kind"] = "transactional"
    path.write_text(json.dumps(data))
    spec = load_spec(path)
    assert Spec.model_validate(spec.dump()) == spec
    data["source"]["kafka"]["topic"] = "t" * 244
    path.write_text(json.dumps(data))
    with pytest.raises(DeclarationError, match="the ledger of its files is kept in <topic>"):
        load_spec(path)
