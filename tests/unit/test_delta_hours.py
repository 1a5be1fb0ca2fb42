"""Delta tables of KPIs and anomalies, on local files: an hour has the rows of its last revision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkeeper.errors import DeclarationError, TableDiffers
from streamkeeper.hourly_tables import table_types
from streamkeeper.hours import HOUR
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import DeltaSink
from streamkeeper_apps.explain import explain
from streamkeeper_io.delta import DeltaWriter
from streamkeeper_io.delta_hours import HourRows, HourTable, hour_shape

EVERYTHING = Path(__file__).parents[1] / "streams" / "everything.yaml"
DATA: dict[str, Any] = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))
SPEC = load_spec(EVERYTHING)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LAKE = "file:///"


def sink(folder: Path, **changes: Any) -> DeltaSink:
    given = {"kind": "delta", "of": "unusual", "path": f"{folder}/gold"} | changes
    return DeltaSink.model_validate(given)


def rows(*labels: str, revision: int = 1, hour: datetime = NOON) -> HourRows:
    """Return a revision of an hour with a verdict for each label."""
    types = table_types(SPEC, "unusual")
    made = [dict.fromkeys(types) | {"class": c, "level": 1, "value": 2.5} for c in labels]
    shape = hour_shape(SPEC, sink(Path("/x"))).columns
    columns = pa.schema([shape.field(name) for name in types])
    return HourRows(hour, revision, pa.Table.from_pylist(made, columns))


def content(folder: Path) -> dict[datetime, tuple[int, list[str]]]:
    """Return what the table has, by deltalake's own reader: hour -> revision, labels."""
    found: dict[datetime, tuple[int, list[str]]] = {}
    table = pa.table(DeltaTable(f"{folder}/gold").to_pyarrow_table())
    for row in table.sort_by("class").to_pylist():
        revision, labels = found.setdefault(row["hour"], (row["_revision"], []))
        assert revision == row["_revision"]
        labels.append(row["class"])
    return found


def test_hours_are_replaced_as_a_whole_and_an_older_revision_is_refused(tmp_path: Path) -> None:
    table, later = HourTable(LAKE, SPEC, sink(tmp_path)), NOON + HOUR
    assert table.replace([rows("a", "b"), rows("c", hour=later)]) == 3
    assert DeltaTable(f"{tmp_path}/gold").version() == 1, "one commit, beside that of the table"
    assert table.replace([rows("a", "b"), rows("c", hour=later)]) == 0
    assert table.replace([rows("d", revision=2), rows("e", hour=later)]) == 1
    assert table.replace([rows("z", revision=1)]) == 0
    assert content(tmp_path) == {NOON: (2, ["d"]), later: (1, ["c"])}
    assert table.replace([rows(revision=3)]) == 0, "rows that went"
    assert table.replace([rows("z", revision=2)]) == 0
    assert content(tmp_path) == {later: (1, ["c"])}
    assert table.replace([]) == 0


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=3,
                 unique_by=lambda pair: pair[0]),
        max_size=6,
    )
)  # fmt: skip
def test_any_order_of_closes_leaves_the_last_revision(
    tmp_path_factory: pytest.TempPathFactory, closes: list[list[tuple[int, int]]]
) -> None:
    folder, expected = tmp_path_factory.mktemp("t"), dict[datetime, int]()
    table = HourTable(LAKE, SPEC, sink(folder, partition_by=["class"]))
    for some in closes:
        made = [rows(f"{h}-{k}", "x", revision=k, hour=NOON + h * HOUR) for h, k in some]
        table.replace(made)
        for hour, revision in some:
            at = NOON + hour * HOUR
            expected[at] = max(expected.get(at, 0), revision)
    found = content(folder) if expected else {}
    assert {hour: revision for hour, (revision, _) in found.items()} == expected
    for hour, (revision, labels) in found.items():
        assert labels == [f"{(hour - NOON) // HOUR}-{revision}", "x"]


def test_a_close_that_froze_before_its_commit_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, other = (HourTable(LAKE, SPEC, sink(tmp_path)) for _ in range(2))
    other.replace([rows("a")])
    commit: Callable[..., None] = DeltaWriter._commit
    waking: list[int] = [1]

    def freeze(writer: DeltaWriter, *arguments: Any) -> None:
        if waking and writer is frozen._writer:
            waking.pop()
            other.replace([rows("new", revision=3)])
        commit(writer, *arguments)

    monkeypatch.setattr(DeltaWriter, "_commit", freeze)
    assert frozen.replace([rows("old", revision=2)]) == 0
    assert content(tmp_path) == {NOON: (3, ["new"])}


def test_a_table_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    write_deltalake(f"{tmp_path}/gold", pa.table({"hour": ["noon"], "value": [1.0]}))
    with pytest.raises(TableDiffers) as told:
        HourTable(LAKE, SPEC, sink(tmp_path)).replace([rows("a")])
    assert "and hours that are closed from then on are written into a new" in str(told.value)
    assert "it lacks _revision, so another program made it" in str(told.value)
    assert "the column hour is string, declared is timestamp" in str(told.value)
    assert DeltaTable(f"{tmp_path}/gold").version() == 0


def test_a_kpi_of_readings_and_one_of_groups_have_their_columns() -> None:
    of_groups = hour_shape(SPEC, sink(Path("/x"), of="by_class"))
    assert of_groups.columns.names == [
        *("hour", "class", "level", "n", "sensors", "about", "median", "p99", "rate"),
        *("mean_price", "_revision"),
    ]
    of_readings = hour_shape(SPEC, sink(Path("/x"), of="hottest"))
    assert of_readings.columns.names == ["hour", *SPEC.columns(), "_revision"]


# Declarations
def mistakes(folder: Path, sink: dict[str, Any], **parts: Any) -> list[str]:
    data = copy.deepcopy(DATA) | parts
    data["sinks"] = [{"kind": "delta", "path": "/gold"} | sink]
    path = folder / "everything.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    try:
        load_spec(path)
    except DeclarationError as error:
        return [str(m).replace(f"{folder}/everything.yaml", "") for m in error.mistakes]
    return []


@pytest.mark.parametrize(
    ("sink", "expected"),
    [
        ({"of": "unusuel"}, "sinks[0].of: 'unusuel' no such rows to write; valid: raw, by_class, "
         "hottest, unusual; did you mean 'unusual'?"),
        ({"of": "by_sensor"}, "sinks[0].of: 'by_sensor' windows are not written into Delta"),
        ({"of": "by_class", "columns": ["n"]}, "sinks[0].columns: ['n'] only `of: raw` has this"),
        ({"of": "by_class", "metadata": ["offset"]}, "only `of: raw` has this; a KPI's table"),
        ({"of": "unusual", "partition_by": ["score"]}, "sinks[0].partition_by[0]: 'score' is no "
         "key of the KPI; valid: class, level"),
        ({"kind": "postgresql", "table": "t", "of": "unusual"}, "KPIs and anomalies are written "
         "into Delta tables only, `kind: delta`; valid: raw, by_sensor"),
        ({"kind": "cassandra", "keyspace": "k", "table": "t", "of": "by_class"}, "KPIs and "
         "anomalies are written into Delta tables only"),
        ({"of": "unusual", "path": "/streams/everything/x"}, "lies in one another with"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, sink: dict[str, Any], expected: str) -> None:
    found = mistakes(tmp_path, sink)
    assert any(expected in told for told in found), found


def test_a_kpi_with_a_column_hour_has_no_delta_table(tmp_path: Path) -> None:
    kpis = [DATA["kpis"][0] | {"measures": DATA["kpis"][0]["measures"] | {"Hour": "count(*)"}}]
    found = mistakes(tmp_path, {"of": "by_class"}, kpis=[*kpis, DATA["kpis"][1]])
    assert any("the KPI's column 'Hour' is one that every such table has" in m for m in found)


def test_explain_tells_the_table(tmp_path: Path) -> None:
    given = SPEC.dump() | {"sinks": [sink(Path("/tables")).model_dump(mode="json")]}
    lines = "\n".join(explain(Spec.model_validate(given)))
    assert "Delta table /tables/gold, of unusual:\n  hour timestamp\n  class string" in lines
    assert "  _revision bigint: of the hour's close\n  partitioned by nothing; a close" in lines
