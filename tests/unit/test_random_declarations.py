"""Random declarations that are right: each loads, survives a round trip and is explained."""

from __future__ import annotations

import random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from random_declarations import Maker, declaration
from streamkeeper.spec.expressions import parse_expression
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.check import summary
from streamkeeper_apps.explain import explain

COLUMNS = {"a": "integer", "b": "double", "c": "decimal(9,3)", "s": "string", "t": "timestamp"}


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_random_declarations_are_checked_and_explained(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    path = tmp_path_factory.mktemp("random") / "made.yaml"
    text = yaml.safe_dump(declaration(seed), allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    spec = load_spec(path)
    assert Spec.model_validate(spec.dump()) == spec
    assert list(summary(spec))
    told = "\n".join(explain(spec))
    for name in spec.columns():
        assert f"  {name} " in told
    for sink in spec.sinks:
        name = getattr(sink, "table", "").rpartition(".")[2]
        kind = "PostgreSQL" if sink.kind == "postgresql" else "Cassandra"
        lines = told.partition(f"{kind} table random.{name}, of {sink.of}:\n")[2]
        assert f'"random"."{name}"' in lines.partition(";")[0]


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from(["number", "string", "boolean", "timestamp"]))
def test_random_expressions_are_read(seed: int, kind: str) -> None:
    rng = random.Random(seed)
    found = parse_expression(Maker(rng, COLUMNS).make(kind, 4), COLUMNS)
    assert kind in (found.type, "number")
    measure = Maker(rng, COLUMNS).measure(3, streaming=True)
    assert parse_expression(measure, COLUMNS, aggregates=True, streaming=True).aggregate
