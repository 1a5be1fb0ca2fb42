"""Random expressions and declarations that are right, and one whose names are reserved words."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from streamkeeper.spec.field_types import is_number
from streamkeeper.spec.units import UNITS

TYPES = ("string", "integer", "int32", "double", "float", "boolean", "timestamp", "decimal")
NUMBERS = ("integer", "double", "decimal")
_WORDS = ("Fes", "a b", "", "it\\'s", "é", "100%", "x_y", "\\\\", "2026-11-24", "-7", "1e3")
_PATTERNS = ("F%", "_", "100\\\\%", "%'%".replace("'", "\\'"))


class Maker:
    """Makes expressions of a wanted kind over columns: a type, `number`, or an aggregate's."""

    def __init__(self, rng: random.Random, columns: Mapping[str, str]) -> None:
        self.rng, self.columns = rng, columns

    def _column(self, kind: str) -> str | None:
        fits = [name for name, found in self.columns.items() if _fits(found, kind)]
        return f"`{self.rng.choice(fits)}`" if fits else None

    def make(self, kind: str, depth: int) -> str:
        """Return an expression of a kind: string, number, boolean or timestamp."""
        if depth <= 0 or self.rng.random() < 0.15:
            column = self._column(kind)
            return column if column and self.rng.random() < 0.8 else self._literal(kind)
        return getattr(self, f"_{kind}")(depth - 1)

    def _literal(self, kind: str) -> str:
        rng = self.rng
        if kind == "string":
            return f"'{rng.choice(_WORDS)}'"
        if kind == "number":
            return rng.choice(["0", "7", "-3", "0.5", "1e3", "9223372036854775807", "12.345"])
        if kind == "boolean":
            return rng.choice(["true", "false"])
        return self._column("timestamp") or "`at`"

    def _number(self, d: int) -> str:
        rng, n = self.rng, lambda: self.make("number", d)
        return rng.choice(
            [
                lambda: f"({n()} {rng.choice('+-*/%')} {n()})",
                lambda: f"-({n()})",
                lambda: f"{rng.choice(['abs', 'ceil', 'floor', 'sign', 'sqrt', 'exp'])}({n()})",
                lambda: f"{rng.choice(['ln', 'log10'])}({n()})",
                lambda: f"round({n()}, {rng.randint(0, 12)})",
                lambda: f"power({n()}, {n()})",
                lambda: f"{rng.choice(['greatest', 'least', 'coalesce'])}({n()}, {n()}, {n()})",
                lambda: f"nullif({n()}, {n()})",
                lambda: f"length({self.make('string', d)})",
                lambda: f"{rng.choice(['year', 'hour', 'day'])}({self.make('timestamp', d)})",
                lambda: f"unix_millis({self.make('timestamp', d)})",
                lambda: f"if({self.make('boolean', d)}, {n()}, {n()})",
                lambda: f"case when {self.make('boolean', d)} then {n()} else null end",
                lambda: f"case {n()} when {n()} then {n()} else {n()} end",
                lambda: f"cast({self.make('string', d)} as {self._number_type()})",
                lambda: f"cast({n()} as {self._number_type()})",
            ]
        )()

    def _number_type(self) -> str:
        return self.rng.choice(["integer", "double", "float", "decimal(10,2)", "decimal(38,6)"])

    def _string(self, d: int) -> str:
        rng, s = self.rng, lambda: self.make("string", d)
        return rng.choice(
            [
                lambda: f"concat({s()}, {s()})",
                lambda: f"({s()} || {s()})",
                lambda: f"{rng.choice(['lower', 'upper', 'trim'])}({s()})",
                lambda: f"substring({s()}, {rng.randint(1, 3)}, {rng.randint(0, 4)})",
                lambda: f"replace({s()}, {s()}, {s()})",
                lambda: f"split_part({s()}, {s()}, {rng.randint(1, 3)})",
                lambda: f"coalesce({s()}, {s()})",
                lambda: f"date_format({self.make('timestamp', d)}, 'yyyy-MM-dd HH:mm:ss.SSS')",
                lambda: f"cast({self.make('number', d)} as string)",
                lambda: f"if({self.make('boolean', d)}, {s()}, {s()})",
            ]
        )()

    def _boolean(self, d: int) -> str:
        rng, b = self.rng, lambda: self.make("boolean", d)
        kind = rng.choice(["number", "string", "boolean"])
        x = lambda: self.make(kind, d)  # noqa: E731
        return rng.choice(
            [
                lambda: f"({x()} {rng.choice(['=', '<>', '<', '<=', '>', '>=', '<=>'])} {x()})",
                lambda: f"({b()} {rng.choice(['and', 'or'])} {b()})",
                lambda: f"(not {b()})",
                lambda: f"({x()} between {x()} and {x()})",
                lambda: f"({x()} {rng.choice(['in', 'not in'])} ({x()}, {x()}))",
                lambda: f"({x()} is {rng.choice(['null', 'not null'])})",
                lambda: f"({b()} is {rng.choice(['true', 'false', 'not true'])})",
                lambda: f"({self.make('string', d)} like '{rng.choice(_PATTERNS)}')",
                lambda: f"{rng.choice(['contains', 'startswith'])}({self._two('string', d)})",
                lambda: f"({self.make('timestamp', d)} >= '2026-11-24T12:00:00+01:00')",
                lambda: f"cast({self.make('string', d)} as boolean)",
            ]
        )()

    def _two(self, kind: str, d: int) -> str:
        return f"{self.make(kind, d)}, {self.make(kind, d)}"

    def _timestamp(self, d: int) -> str:
        unit = self.rng.choice(["year", "quarter", "month", "week", "day", "hour", "minute"])
        inner = self.make("timestamp", d)
        return self.rng.choice([f"date_trunc('{unit}', {inner})", f"coalesce({inner}, {inner})"])

    def measure(self, depth: int, *, streaming: bool) -> str:
        """Return a measure."""
        rng, n = self.rng, lambda: self.make("number", depth - 1)
        if depth > 1 and rng.random() < 0.3:
            a, b = (self.measure(depth - 1, streaming=streaming) for _ in range(2))
            return f"round({a} {rng.choice('+-*/')} {b}, 2)"
        made = [
            lambda: "count(*)",
            lambda: f"count({n()})",
            lambda: f"{rng.choice(['avg', 'sum', 'stddev', 'variance', 'median'])}({n()})",
            lambda: f"coalesce({rng.choice(['min', 'max'])}({n()}), 0)",
            lambda: f"count_if({self.make('boolean', depth - 1)})",
            lambda: f"percentile({n()}, {rng.random():.3f})",
            lambda: f"approx_percentile({n()}, {rng.random():.3f}, {rng.randint(1, 10_000)})",
            lambda: f"approx_count_distinct({self.make('string', depth - 1)}, 0.1)",
        ]
        if not streaming:
            made.append(lambda: f"count(distinct {n()}, {self.make('string', depth - 1)})")
        return rng.choice(made)()


def _fits(found: str, kind: str) -> bool:
    return is_number(found) if kind == "number" else found == kind


def declaration(seed: int) -> dict[str, Any]:
    """Return a random declaration that can be used, as a YAML file would hold it."""
    rng = random.Random(seed)
    fields = {f"f{i}": _field(rng, i) for i in range(rng.randint(1, 8))}
    fields["at"] = {"type": "timestamp", "required": True}
    columns = {name: _type(field) for name, field in fields.items()}
    maker = Maker(rng, columns)
    data: dict[str, Any] = {
        "description": "Made at random.",
        "source": _source(rng, fields),
        "fields": fields,
        "derived": {f"d{i}": maker.make(_kind(rng), 3) for i in range(rng.randint(0, 3))},
        "checks": [_check(rng, maker, i) for i in range(rng.randint(0, 4))],
        "event_time": {"field": "at"},
        "lake": {"path": "/random"},
    }
    keys = [name for name, field in fields.items() if field.get("required")]
    data["windows"] = [
        {
            "name": f"w{i}",
            **rng.choice(
                [
                    *({"size": size} for size in ("1s", "30s", "1h", "1d")),
                    *({"size": "5min", "slide": slide} for slide in ("30s", "1min", "5min")),
                ]
            ),
            "watermark": "1min",
            "by": rng.sample(keys, rng.randint(0, len(keys))),
            "where": maker.make("boolean", 2),
            "measures": {f"m{j}": maker.measure(2, streaming=True) for j in range(3)},
        }
        for i in range(rng.randint(0, 2))
    ]
    data["kpis"] = [
        {
            "name": f"k{i}",
            "by": rng.sample(list(fields), rng.randint(0, len(fields))),
            "measures": {f"m{j}": maker.measure(2, streaming=False) for j in range(3)},
            "order_by": "m0",
        }
        for i in range(rng.randint(0, 2))
    ]
    windows = [w["name"] for w in data["windows"]]
    data["sinks"] = [
        {"kind": "cassandra", "of": name, "keyspace": "random", "table": name} for name in windows
    ]
    raw = {"kind": "cassandra", "of": "raw", "keyspace": "random", "table": "raw"}
    data["sinks"].append(raw | {"partition_by": keys, "ttl": "1d"})
    data["sinks"] += [
        {"kind": "postgresql", "of": name, "table": f"random.{name}"} for name in windows
    ]
    data["sinks"].append(_postgres_raw(rng, [*fields, *data["derived"]], keys))
    return data


def _postgres_raw(rng: random.Random, columns: list[str], keys: list[str]) -> dict[str, Any]:
    sink: dict[str, Any] = {"kind": "postgresql", "of": "raw", "table": "random.raw"}
    if rng.random() < 0.5:
        sink["key"] = rng.sample(keys, rng.randint(1, len(keys)))
    if rng.random() < 0.5:
        others = rng.sample(columns, rng.randint(0, len(columns)))
        sink["columns"] = list(dict.fromkeys([*sink.get("key", keys), *others]))
    if rng.random() < 0.5:
        own = ["topic_id", "partition", "offset", "timestamp"]
        sink["metadata"] = rng.sample(own, rng.randint(1, len(own)))
    indexed = sink.get("columns", columns)
    sink["indexes"] = [rng.sample(indexed, rng.randint(1, len(indexed)))]
    return sink


def _source(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    source: dict[str, Any] = {"kafka": {"topic": "random"}, "strict": rng.random() < 0.5}
    if rng.random() < 0.3:
        for number, field in enumerate(fields.values()):
            if field.pop("path", None):
                field["path"] = f"Column {number}.x"
        columns = [str(field.get("path", name)) for name, field in fields.items()]
        source |= {"format": "csv", "csv": {"columns": ["unused", *columns], "delimiter": ";"}}
    return source


def _kind(rng: random.Random) -> str:
    return rng.choice(["number", "string", "boolean", "timestamp"])


def _type(field: dict[str, Any]) -> str:
    return str(field["type"])


def _field(rng: random.Random, number: int) -> dict[str, Any]:
    kind = rng.choice(TYPES)
    field: dict[str, Any] = {"type": "decimal(12,3)" if kind == "decimal" else kind}
    field["required"] = rng.random() < 0.5
    if rng.random() < 0.3:
        field["path"] = rng.choice([f"in.f{number}", ["in", f"a.{number}"]])
    if kind in ("integer", "int32", "double", "float", "decimal") and rng.random() < 0.5:
        field["range"] = [-50, rng.choice([None, 1000])]
    if kind in ("double", "float") and rng.random() < 0.5:
        field["unit"] = rng.choice(list(UNITS))
        same = [u for u in UNITS if UNITS[u].dimension == UNITS[field["unit"]].dimension]
        field["sent_unit"] = rng.choice(same)
    if kind == "timestamp":
        field["format"] = rng.choice(["iso8601", "epoch_s", "epoch_ms", "epoch_us"])
    return field


def _check(rng: random.Random, maker: Maker, number: int) -> dict[str, Any]:
    on_fail = rng.choice(["warn", "quarantine", "fail"])
    return {"name": f"c{number}", "expect": maker.make("boolean", 3), "on_fail": on_fail}


# Words that CQL, SQL or Spark keep for themselves, as names of everything that has a name.
RESERVED = (
    *("select", "from", "where", "order", "table", "group", "by", "timestamp", "token", "ttl"),
    *("writetime", "set", "list", "keyspace", "primary", "key", "index", "window", "date", "null"),
    *("true", "case", "interval", "values", "and", "or", "not", "between", "current_date", "row"),
)


def reserved() -> dict[str, Any]:
    """Return a declaration whose fields, columns, measures and tables are reserved words."""
    fields = {name: {"type": "double", "required": True} for name in RESERVED}
    fields["at"] = {"type": "timestamp", "required": True}
    return {
        "description": "Reserved words.",
        "source": {"kafka": {"topic": "reserved"}},
        "fields": fields,
        "derived": {"all": "`select` + `from` / `order`", "union": "`timestamp` > 1"},
        "checks": [{"name": "except", "expect": "`null` <> `true` or `case` between 1 and 2"}],
        "event_time": {"field": "at"},
        "lake": {"path": "/reserved"},
        "windows": [
            {
                "name": "insert",
                "size": "1min",
                "watermark": "1min",
                "by": ["select", "window"],
                "where": "`union`",
                "measures": {"end": "avg(`where`)", "distinct": "sum(`group`)"},
            }
        ],
        "sinks": [
            {"kind": "cassandra", "of": "insert", "keyspace": "use", "table": "drop"},
            {
                **{"kind": "cassandra", "of": "raw", "keyspace": "use", "table": "alter"},
                **{"partition_by": ["key", "token"], "cluster_by": ["order", "at"]},
            },
        ],
        "alerts": [{"name": "grant", "field": "all", "above": 1, "where": "`union`"}],
        "kpis": [
            {
                "name": "view",
                "by": ["window"],
                "measures": {"asc": "max(`all`)", "limit": "count_if(`union`)"},
                "order_by": "limit",
            }
        ],
    }
