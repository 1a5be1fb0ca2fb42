"""Bad declarations, each with the text of its mistake; hostile YAML; names that need quoting."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from random_declarations import reserved
from streamkeeper.errors import DeclarationError
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper.spec.sinks import CassandraSink
from streamkeeper_apps.explain import explain
from streamkeeper_io.cassandra_sinks import sink_table

EVERYTHING = Path(__file__).parents[1] / "streams" / "everything.yaml"
DATA: dict[str, Any] = yaml.safe_load(EVERYTHING.read_text(encoding="utf-8"))


def mistakes(folder: Path, data: object) -> list[str]:
    """Load a declaration, given as data or text, and return its mistakes without the folder."""
    path = folder / "everything.yaml"
    text = (
        data if isinstance(data, str) else yaml.safe_dump(data, allow_unicode=True, sort_keys=False)
    )
    path.write_text(text, encoding="utf-8")
    try:
        load_spec(path)
    except DeclarationError as error:
        return [str(m).replace(f"{folder}/", "") for m in error.mistakes]
    return []


def changed(**changes: object) -> dict[str, Any]:
    """Return the declaration of every key with some replaced; `a__b` is b within a."""
    data = copy.deepcopy(DATA)
    for key, value in changes.items():
        *path, last = key.split("__")
        here: Any = data
        for step in path:
            here = here[int(step) if step.isdigit() else step]
        here[int(last) if last.isdigit() else last] = value
    return data


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Fields
        ({"fields__price__type": "decimal(40,2)"}, "a decimal has 1 to 38 digits"),
        ({"fields__price__type": "decimal(2,5)"}, "a decimal has 1 to 38 digits"),
        ({"fields__level__type": "int16"}, "fields.level.type: 'int16' is not one of the valid "
         "values; valid: string, integer, int32, double, float, boolean, timestamp, decimal(P,S); "
         "did you mean 'int32'?"),
        ({"fields__sensor__path": []}, "fields.sensor.path: [] is wrong: a path is keys"),
        ({"fields__sensor__path": 3}, "fields.sensor.path: 3 is wrong: a path is keys"),
        ({"fields__sensor__path": "a..b"}, "a path is 1 to 10 keys, with a point between two"),
        ({"fields__sensor__path": ".".join("a" * 11)}, "a path is 1 to 10 keys"),
        ({"fields__sensor__path": "values.t"},
         "fields.temperature.path: 'values.t' stands at the place of the field 'sensor'"),
        ({"fields__sensor__path": "values"},
         "fields.temperature.path: 'values.t' stands within or around the place of the field "
         "'sensor'"),
        ({"fields__sensor__path": "VALUES.T"}, "stands at the place of the field 'sensor'"),
        ({"fields__temperature__sent_unit": "F"}, "fields.temperature.sent_unit: 'F' is not a unit "
         "that is converted; valid: K, °C, °F; did you mean '°F'?"),
        ({"fields__temperature__sent_unit": "hPa"},
         "'hPa' measures pressure; `unit` °C does not; valid: K, °C, °F"),
        ({"fields__temperature__unit": None}, "needs `unit` beside it"),
        ({"fields__level__sent_unit": "m", "fields__level__unit": "km"},
         "a converted value is a double or float; the field's type is int32"),
        # Corrections
        ({"fields__level__also": ["epoch_s"]}, "only a timestamp has further forms; the field's "
         "type is int32"),
        ({"fields__at__also": ["iso8601"]}, "fields.at.also[0]: 'iso8601' stands twice"),
        ({"fields__sent__also": ["local"]}, "fields.sent.also[0]: 'local' needs `zone`"),
        ({"fields__at__also": ["locl"]}, "did you mean 'local'?"),
        ({"fields__energy__units__field": "energy_unt"}, "fields.energy.units.field: 'energy_unt' "
         "is no text field; valid: sensor, place, energy_unit; did you mean 'energy_unit'?"),
        ({"fields__energy__units__field": "sensor"}, "'sensor' has `allowed` values"),
        ({"fields__energy__units__landed": []}, "fields.energy.units.landed: [] is wrong"),
        ({"fields__energy__units__landed": ["kWh", "kWh"]}, "landed[1]: 'kWh' stands twice"),
        ({"fields__energy__units__spelled": {"k": "kWH"}}, "spelled.k: 'kWH' becomes none of the "
         "landed units; valid: kWh, J, kJ, Wh, MWh; did you mean 'kWh'?"),
        ({"fields__energy__unit": "kWh"}, "fields.energy.unit: 'kWh' has no place beside `units`"),
        ({"fields__energy__type": "integer"}, "a converted value is a double or float; the "
         "field's type is integer"),
        ({"fields__pressure": {"type": "float", "units": {"field": "energy_unit",
          "landed": ["hPa"]}}}, "'energy_unit' tells the unit of pressure already"),
        ({"producer__simulator__fields__at__written": ["local"]}, "written[0]: 'local'"),
        ({"producer__simulator__fields__at__written": ["epoch_us"]}, "'epoch_us' is no form in "
         "which at may be written; valid: iso8601, local, epoch_s"),
        ({"producer__simulator__fields__ok__written": ["epoch_s"]}, "needs `event_time: true`"),
        ({"fields__sent__format": "epoch_ns"}, "valid: iso8601, epoch_s, epoch_ms, epoch_us"),
        ({"fields__price__allowed": ["cheap"]}, "'cheap' is not a value of the field's type"),
        ({"fields__price__allowed": [[1]]}, "needs a plain value: a text, a number, true or false"),
        ({"source__csv": {"delimiter": ";"}}, "source.csv: needs `format: csv` beside it"),
        ({"source__format": "csv", "source__csv": {"delimiter": '"'}},
         "cannot stand between cells"),
        ({"source__format": "csv", "source__csv": {"columns": ["sensor", "sensor"]}},
         "'sensor' this column stands twice"),
        ({"source__format": "csv", "source__csv": {"columns": ["sensor", "att"]}},
         "fields.at: 'at' no such column is listed in source.csv.columns; valid: sensor, att; did "
         "you mean 'att'?"),
        ({"source__format": "csv"}, "fields.level.path: ['meta', 'le.vel'] a list of keys is a "
         "place in JSON; write the column"),
        # Derived columns and checks
        ({"derived__is_hot": "temprature > 40"}, "derived.is_hot: 'temprature > 40' no such field "
         "is declared: temprature; valid: sensor, order, level, temperature"),
        ({"derived__feels__expression": "day + 1"}, "derived.feels.expression: 'day + 1' no such "
         "field is declared: day"),  # declared below it
        ({"derived__is_hot": 3}, "derived.is_hot: 3 is wrong"),
        ({"derived__sensor": "1"}, "derived.sensor: 'sensor' a field has this name already"),
        ({"derived__Sensor": "1"}, "differs from the field 'sensor' by case only"),
        ({"derived___x": "1"}, "a field's name is letters, digits and _"),
        ({"derived__is_hot": "avg(temperature)"}, "avg is an aggregate of many readings"),
        ({"checks__0__expect": "temperature"},
         "checks[0].expect: 'temperature' is double, not a condition such as temperature > 40"),
        ({"checks__0__expect": True}, "checks[0].expect: True is wrong: an expression is a text"),
        ({"checks__0__on_fail": "ignore"}, "valid: warn, quarantine, fail"),
        ({"checks__0__name": "cheap"}, "checks[1].name: 'cheap' this name stands twice"),
        ({"checks__0__name": "No Name"}, "checks[0].name: 'No Name' is wrong"),
        ({"checks": [{"name": f"c{i}", "expect": "ok"} for i in range(201)]},
         "checks: 201 a stream has at most 200 of them"),
        # Windows, KPIs, alerts
        ({"windows__0__where": "n > 1"}, "windows[0].where: 'n > 1' no such field is declared: n"),
        ({"windows__0__where": "count(*) > 1"}, "count is an aggregate of many readings"),
        ({"windows__0__slide": "7s"},
         "windows[0].slide: '7s' the size, 30s, must be a whole number of slides"),
        ({"windows__0__slide": "1min"}, "the size, 30s, must be a whole number of slides"),
        ({"windows__0__slide": "100ms"},
         "windows[0].slide: '100ms' a reading may lie in at most 200 windows, not 300"),
        ({"windows__0__slide": "0s"}, "windows[0].slide: '0s' must be longer than nothing"),
        ({"windows__0__slide": 10}, "windows[0].slide: 10 is wrong: a duration is"),
        ({"windows__0__size": "0s"}, "windows[0].size: '0s' must be longer than nothing"),
        ({"windows__0__by": ["class", "day"]},
         "windows[0].by[1]: 'day' is a column that every window has"),
        ({"windows__0__by": ["sensor", "sensor"]}, "'sensor' this key stands twice"),
        ({"windows__0__measures__d": "count(distinct sensor)"},
         "windows[0].measures.d: 'count(distinct sensor)' count(distinct ...) cannot be kept by a "
         "stream; use approx_count_distinct"),
        ({"windows__0__measures__d": "temperature"}, "is no aggregate of readings"),
        ({"windows__0__measures": {"Bad": "count(*)"}}, "windows[0].measures.Bad: 'Bad' is wrong"),
        ({"kpis__0__where": "sensor"}, "kpis[0].where: 'sensor' is string, not a condition"),
        ({"kpis__0__measures__level": "count(*)"}, "has the name of a key in `by`"),
        ({"kpis__1__order_by": "temprature"}, "did you mean 'temperature'?"),
        ({"alerts__0__field": "class"}, "'class' an alert needs a number; valid: order, level, "
         "temperature, pressure, price, latitude, "),
        ({"alerts__0__where": "hot"}, "alerts[0].where: 'hot' no such field is declared: hot"),
        ({"alerts__1__kpi": "by_class.m"}, "no such KPI column; write kpi.column; valid: "
         "by_class.n, by_class.sensors"),
        ({"kpis__0__measures__n": "max(sensor)"}, "'by_class.n' this KPI column is no number"),
        ({"alerts__1__where": "ok"}, "put the condition into the KPI's own `where`"),
        # Sinks
        ({"sinks": [{"kind": "console", "counts": "clas"}]},
         "sinks[0].counts: 'clas' no such field"),
        ({"sinks": [{"kind": "console", "counts": "class", "of": "by_sensor"}]},
         "sinks[0].counts: 'class' only landed rows are counted"),
        ({"sinks": [{"kind": "metrics", "counts": ["class", "clas"]}]},
         "sinks[0].counts[1]: 'clas' no such field"),
        ({"sinks": [{"kind": "metrics"}, {"kind": "metrics", "counts": ["class"]}]},
         "sinks[1]: a stream has one sink of metrics; put its columns together"),
        ({"sinks__0__partition_by": []}, "sinks[0]: landed rows need `partition_by`"),
        ({"sinks__0__partition_by": ["snesor"]}, "sinks[0].partition_by[0]: 'snesor' no such field "
         "is declared"),
        ({"sinks__0__cluster_by": ["sensor"]}, "'sensor' stands twice in the primary key"),
        ({"sinks__0__cluster_by": ["temperature"]}, "'temperature' is a key of the table and may "
         "be null; add `required: true` to this field"),
        ({"sinks__0__partition_by": ["is_hot"]}, "is a key of the table and derived"),
        ({"sinks__0__columns": ["sensor"]}, "the key 'at' must be one of the columns"),
        ({"sinks__0__columns": []}, "sinks[0].columns"),
        ({"sinks__0__ttl": "0s"}, "sinks[0].ttl: '0s' is wrong"),
        ({"sinks__0__consistency": "MOST"}, "valid: ANY, ONE, TWO, THREE, QUORUM"),
        ({"sinks__1__partition_by": ["sensor"]}, "only `of: raw` has this"),
        ({"windows__0__by": ["class"]}, "sinks[1]: 'class' is a key of the table and derived"),
        ({"sinks__1__of": "by_snesor"}, "valid: raw, by_sensor; did you mean 'by_sensor'?"),
    ],
)  # fmt: skip
def test_mistakes_of_every_key(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    found = mistakes(tmp_path, changed(**changes))
    assert any(expected in mistake for mistake in found), found


def test_a_wrong_type_makes_no_other_mistakes_of_what_uses_it(tmp_path: Path) -> None:
    found = mistakes(tmp_path, changed(fields__temperature__type="duble"))
    assert "fields.temperature.type: 'duble' is not one of the valid values" in found[0]
    assert all(": fields." in mistake or ": producer." in mistake for mistake in found)


def test_a_mistake_of_an_expression_is_told_once_with_its_line(tmp_path: Path) -> None:
    text = EVERYTHING.read_text(encoding="utf-8").replace("price * 2 < 150", "prise * 2 < 150")
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "prise" in row)
    assert mistakes(tmp_path, text) == [
        f"everything.yaml:{line}: checks[1].expect: 'prise * 2 < 150' no such field is declared: "
        "prise; valid: sensor, order, level, temperature, pressure, price, ok, at, sent, place, "
        "latitude, light, ...; did you mean 'price'?"
    ]


def test_many_fields_are_told_soon(tmp_path: Path) -> None:
    fields = {f"f{i}": {"type": "double"} for i in range(10_000)}
    began = time.monotonic()
    found = mistakes(tmp_path, changed(fields=DATA["fields"] | fields))
    assert found == ["everything.yaml:14: fields: 10013 a stream has at most 1,000 fields and "
                     "derived columns"] or "at most 1,000 fields" in found[0]  # fmt: skip
    assert len(found) == 1
    assert time.monotonic() - began < 60


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LAUGHS, "everything.yaml:1: anchors and aliases (& and *) are not read; write the value"),
        (
            "base: &base {a: 1}\nfields:\n  <<: *base\n",
            "anchors and aliases (& and *) are not read",
        ),
        ("fields:\n\tx: 1\n", "everything.yaml:2: this is not YAML"),
        ("description: a\ndescription: b\n", "this key stands twice; it stands first in line 1"),
        ("fields: {a: {type: string}, a: {type: double}}\n", "fields.a: this key stands twice"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, "the file is nested too deep"),
        ("# " + "x" * 1_000_001, "the file is larger than 1000000 bytes"),
        ("description: !!python/name:os.system\n", "is not read; write a plain value"),
        ("description: \x00\n", "this is not YAML"),
        ("description: x\nfields: {{ fields }}\n", "everything.yaml:2"),
        ("%TAG ! tag:x,2000:\n---\na: !x 1\n", "is not read; write a plain value"),
    ],
)
def test_hostile_yaml(tmp_path: Path, text: str, expected: str) -> None:
    began = time.monotonic()
    found = mistakes(tmp_path, text)
    assert any(expected in mistake for mistake in found), found
    assert time.monotonic() - began < 20


def test_an_expression_nested_a_thousand_deep_is_one_mistake(tmp_path: Path) -> None:
    for deep in ("(" * 1000 + "ok" + ")" * 1000, "not " * 499 + "ok", "ok or " * 249 + "ok"):
        (told,) = mistakes(tmp_path, changed(checks__3__expect=deep))
        assert "checks[3].expect: " in told
        assert len(told) < 400


def test_reserved_words_are_names_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(reserved(), sort_keys=False), encoding="utf-8")
    spec = load_spec(path)
    assert list(explain(spec))
    window, raw = (sink_table(spec, s) for s in spec.sinks if isinstance(s, CassandraSink))
    assert window.create() == (
        'CREATE TABLE IF NOT EXISTS "use"."drop" ("select" double, "window" double, "day" date, '
        '"window_start" timestamp, "window_end" timestamp, "end" double, "distinct" double, '
        'PRIMARY KEY (("select", "window", "day"), "window_start")) WITH CLUSTERING ORDER BY '
        '("window_start" DESC)'
    )
    assert raw.create().startswith('CREATE TABLE IF NOT EXISTS "use"."alter" ("select" double, ')
    assert 'PRIMARY KEY (("key", "token"), "order", "at")' in raw.create()


def test_names_that_differ_by_case_only_are_refused(tmp_path: Path) -> None:
    found = mistakes(tmp_path, changed(fields=DATA["fields"] | {"SENSOR": {"type": "string"}}))
    assert any(
        "fields.SENSOR: 'SENSOR' differs from the field 'sensor' by case" in m for m in found
    )


def test_a_snapshot_of_a_wrong_expression_is_refused() -> None:
    plain = load_spec(EVERYTHING).dump()
    plain["checks"][0]["expect"] = "prise > 1"
    with pytest.raises(ValueError, match="no such field is declared: prise"):
        Spec.model_validate(plain)
