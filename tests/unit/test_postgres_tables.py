"""PostgreSQL sinks: their tables, what differs, what `check` refuses, and where secrets go."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from streamkeeper.errors import DeclarationError, SettingsError
from streamkeeper.names import COORDINATES
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import PostgresSink
from streamkeeper_apps.check import shared_places
from streamkeeper_io.postgres import accepted, csv_bytes
from streamkeeper_io.postgres_sinks import postgres_type, sink_table
from streamkeeper_io.postgres_tables import (
    KEY_BYTES,
    ExistingTable,
    PostgresTable,
    differences,
    quoted,
)

EVERYTHING = Path(__file__).parents[1] / "streams" / "everything.yaml"
DATA: dict[str, Any] = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))
TABLE = PostgresTable(
    "public", "t", (("k", "text"), ("n", "bigint"), ("price", "numeric(10,2)")), ("k",),
    ("_write_number",),
)  # fmt: skip
AS_DECLARED = {"k": "text", "n": "bigint", "price": "numeric(10,2)", "_write_number": "bigint"}


def with_sink(**sink: Any) -> dict[str, Any]:
    """Return the declaration of every key with one PostgreSQL sink in place of all sinks."""
    data = copy.deepcopy(DATA)
    data["sinks"] = [{"kind": "postgresql", "of": "raw", "table": "t"} | sink]
    return data


def spec_of(data: dict[str, Any], folder: Path) -> Spec:
    path = folder / "everything.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return load_spec(path)


def table_of(spec: Spec) -> PostgresTable:
    (sink,) = spec.sinks
    assert isinstance(sink, PostgresSink)
    return sink_table(spec, sink)


def test_landed_rows_are_keyed_by_coordinates_unless_declared(tmp_path: Path) -> None:
    plain = table_of(spec_of(with_sink(), tmp_path))
    assert plain.key == COORDINATES
    assert [name for name, _ in plain.columns[:4]] == [*COORDINATES, "sensor"]
    assert "DISTINCT" not in plain.upsert()
    keyed = table_of(spec_of(with_sink(key=["sensor", "at"], columns=["sensor", "at"]), tmp_path))
    assert [name for name, _ in keyed.columns] == ["sensor", "at"]
    assert [name for name, _ in keyed.staged] == ["sensor", "at", "_partition", "_offset"]
    assert 's."_partition" DESC, s."_offset" DESC' in keyed.upsert()
    assert 'PRIMARY KEY ("sensor", "at")' in keyed.create()


def test_a_windows_key_may_be_null(tmp_path: Path) -> None:
    data = with_sink(of="by_sensor", table="plant.w")
    assert 'PRIMARY KEY ("sensor", "window_start")' in table_of(spec_of(data, tmp_path)).create()
    data["windows"][0]["by"] = ["class", "sensor"]
    table = table_of(spec_of(data, tmp_path))
    assert table.full_name == '"plant"."w"'
    assert 'UNIQUE NULLS NOT DISTINCT ("class", "sensor", "window_start")' in table.create()
    assert 't."class" IS NOT DISTINCT FROM s."class"' in table.remove()
    assert 't."sensor" = s."sensor"' in table.remove()


def test_every_type_has_one_of_postgres() -> None:
    kinds = ("string", "integer", "int32", "double", "float", "boolean", "timestamp")
    assert [postgres_type(kind) for kind in (*kinds, "decimal(38,18)")] == [
        *("text", "bigint", "integer", "double precision", "real", "boolean"),
        *("timestamp with time zone", "numeric(38,18)"),
    ]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (ExistingTable(AS_DECLARED, ["k"], [(frozenset("k"), False)]), []),
        # Wider types, and more columns.
        (
            ExistingTable(
                AS_DECLARED | {"k": "character varying", "price": "numeric", "more": "date"},
                [],
                [(frozenset("k"), False)],
            ),
            [],
        ),
        (
            ExistingTable(AS_DECLARED | {"n": "integer"}, [], [(frozenset("k"), False)]),
            ["the column n is integer, declared is bigint; declare another table, or run: "
             'ALTER TABLE "public"."t" ALTER COLUMN "n" TYPE bigint USING "n"::bigint;'],
        ),
        (
            ExistingTable({"k": "text", "n": "bigint", "price": "numeric(10,2)"}, ["x"],
                          [(frozenset("k"), False)]),
            ['the column _write_number is missing; run: ALTER TABLE "public"."t" ADD COLUMN '
             '"_write_number" bigint NOT NULL DEFAULT 0;',
             'the column x needs a value and is not declared; run: ALTER TABLE "public"."t" '
             'ALTER COLUMN "x" DROP NOT NULL;'],
        ),
        (
            ExistingTable(AS_DECLARED, [], [(frozenset("kn"), False)]),
            ["no unique index has the columns k; run: CREATE UNIQUE INDEX ON "
             '"public"."t" ("k");'],
        ),
    ],
)  # fmt: skip
def test_a_difference_is_told_with_what_to_run(found: ExistingTable, told: list[str]) -> None:
    assert differences(TABLE, found) == told


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        ({"key": ["sensr"]}, "sinks[0].key[0]: 'sensr' no such field is declared"),
        ({"key": ["order"]}, "'order' is a key of the table and may be null"),
        ({"key": ["day"]}, "'day' is a key of the table and may be null"),
        ({"key": ["sensor"], "columns": ["at"]}, "the key 'sensor' must be one of the columns"),
        ({"key": ["sensor", "sensor"]}, "sinks[0].key[1]: 'sensor' stands twice"),
        ({"indexes": [["at"], ["at"]]}, "sinks[0].indexes[1]: ['at'] stands twice"),
        ({"metadata": ["ofset"]}, "valid: topic_id, partition, offset, timestamp; did you mean "
         "'offset'?"),
        ({"indexes": [["at", "sensr"]]}, "sinks[0].indexes[0][1]: 'sensr' the table has no such "
         "column"),
        ({"indexes": [["_partition"]], "key": ["sensor"]}, "'_partition' the table has no such"),
        ({"indexes": [[]]}, "sinks[0].indexes[0]"),
        ({"of": "by_sensor", "key": ["sensor"]}, "sinks[0].key: ['sensor'] only `of: raw` has"),
        ({"table": "a.b.c"}, "sinks[0].table: 'a.b.c'"),
        ({"table": "streamkeeper_marks"}, "is a name for Streamkeeper's own tables"),
        ({"keyspace": "k"}, "sinks[0].keyspace: is not a key here"),
    ],
)  # fmt: skip
def test_what_check_refuses(tmp_path: Path, sink: dict[str, Any], told: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        spec_of(with_sink(**sink), tmp_path)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"n" * 63: {"type": "string"}}, ""),
        ({"n" * 64: {"type": "string"}}, "PostgreSQL's names have at most 63 bytes"),
        ({"xmin": {"type": "string"}}, "every table of PostgreSQL has a column of this name"),
        ({"select": {"type": "integer"}, "Select2": {"type": "integer"}}, ""),
        ({f"f{n}": {"type": "double"} for n in range(900)}, ""),
        ({f"f{n}": {"type": "double"} for n in range(970)}, "PostgreSQL's page of 8 KiB"),
    ],
)
def test_names_and_sizes_that_postgres_has_not(
    tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    data = with_sink()
    data["fields"] |= fields
    if not told:
        table = table_of(spec_of(data, tmp_path))
        assert all(quoted(name) in table.create() for name in fields)
        return
    with pytest.raises(DeclarationError, match=told):
        spec_of(data, tmp_path)


def test_two_streams_do_not_share_a_table(tmp_path: Path) -> None:
    one = spec_of(with_sink(), tmp_path)
    other = one.model_copy(update={"lake": one.lake.model_copy(update={"path": "/other"})})
    assert list(shared_places({"one": one, "other": other})) == [
        "one and other: both write the PostgreSQL table postgres_default/public.t; every sink "
        "needs a table of its own"
    ]
    data = with_sink()
    data["sinks"] *= 2
    data["sinks"][1] = data["sinks"][1] | {"table": "public.t", "connection": "postgres_default"}
    with pytest.raises(DeclarationError, match="two sinks write this table"):
        spec_of(data, tmp_path)


def test_rows_that_postgres_refuses_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    rows = pa.table(
        {"k": ["a", "b\x00", "", "k" * KEY_BYTES, "é" * KEY_BYTES], "n": [1, 2, 3, 4, 5]}
    )
    with caplog.at_level(logging.WARNING):
        kept = accepted(rows, TABLE)
    assert kept["n"].to_pylist() == [1, 3, 4]
    assert "2 rows are left out" in caplog.text
    # A text and null are not the same.
    assert csv_bytes(pa.table({"k": ["", None, 'a"b', "NULL"]})) == b'""\n\n"a""b"\n"NULL"\n'


def test_an_address_is_handed_on_and_hidden() -> None:
    url = "postgresql://keeper:mark%2Fsink@db/plant?sslpassword=mark2"
    settings = Settings(postgres={"plant_db": url})
    assert Settings.from_environment(settings.environment()) == settings
    assert settings.secrets() == ("mark/sink", "mark2")
    assert "mark" not in repr(settings)
    assert settings.postgres_url("plant_db") == url
    with pytest.raises(SettingsError, match="STREAMKEEPER_POSTGRES"):
        settings.postgres_url("other")
    with pytest.raises(SettingsError, match="'plant_db' is none of PostgreSQL's") as raised:
        Settings(postgres={"plant_db": "keeper:marked@db"})
    assert "marked" not in str(raised.value)
