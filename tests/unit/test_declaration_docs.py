"""docs/declaration.md names every key, and shows what the commands really answer."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from streamkeeper.spec.models import Spec
from streamkeeper.spec.producers import Drawn, Generator, Instead
from streamkeeper_apps.cli import main

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "declaration.md").read_text(encoding="utf-8")


def models_in(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the models within an annotation, and `.<name>` where they are values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
        return
    mapping = get_origin(annotation) is dict
    for argument in get_args(annotation):
        for path, model in models_in(argument):
            yield (".<name>" if mapping else "") + path, model


def keys(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield the dotted path of every key below a model; lists add nothing to it."""
    hints = typing.get_type_hints(model)
    for name in model.model_fields:
        if model is Spec and name == "name":
            continue
        here = f"{path}.{name}" if path else name
        inner = list(models_in(hints[name]))
        if not inner:
            yield here
        for step, found in inner:
            if found is Drawn:
                yield here  # the keys of a case are told as those of a field
                continue
            if found in (Generator, Instead):
                yield here + step
            yield from keys(found, here + step)


def test_every_key_is_told_and_no_other() -> None:
    told = re.findall(r"^\| `([^`]+)` \|", TEXT, re.MULTILINE)
    assert len(told) == len(set(told))
    assert set(told) == set(keys(Spec))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(("number", "name"), [(0, "rooms"), (1, "broken")])
def test_the_examples_are_answered_as_shown(
    number: int,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / f"{name}.yaml").write_text(blocks("yaml")[number], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code = main(["check", f"{name}.yaml"])
    assert capsys.readouterr().out == blocks("text")[number]
    assert code == number


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted path of every key of plain data; lists add nothing to it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            here = f"{path}.{name}" if path else name
            yield here
            yield from paths(inner, here)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, path)


def test_the_declaration_of_every_key_has_every_key() -> None:
    text = (DOCS.parent / "tests" / "streams" / "everything.yaml").read_text(encoding="utf-8")
    used = "\n".join(paths(yaml.safe_load(text)))
    missing = [
        key
        for key in keys(Spec)
        if not re.search(f"^{re.escape(key).replace('<name>', '[^.]+')}$", used, re.MULTILINE)
    ]
    # CSV is another format than the declaration's, a field is made in one way, and a topic is
    # filled by a simulator or from a folder.
    made = "producer.simulator.fields.<name>"
    left_out = ("source.csv", "producer.folder", f"{made}.entity", f"{made}.ipv4")
    assert [key for key in missing if not key.startswith(left_out)] == []
