"""Reads declarations from YAML files and tells all mistakes of a file at once."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from streamkeeper.errors import DeclarationError, Mistake
from streamkeeper.spec.document import Document, KeyPath, Problem, read_document
from streamkeeper.spec.models import Spec
from streamkeeper.spec.references import References

STREAM_NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")


@dataclass(frozen=True)
class LoadedStreams:
    """The declarations of a folder by stream name; `broken` holds those with mistakes."""

    specs: dict[str, Spec]
    broken: dict[str, DeclarationError]


def load_spec(path: Path) -> Spec:
    """Read one declaration; the file's name is the stream's name.

    Raises DeclarationError with every mistake of the file: line, key, value, valid values and
    nearest match.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DeclarationError((Mistake(str(path), None, "", f"is not UTF-8: {error}"),)) from None
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise DeclarationError((Mistake(str(path), None, "", message),)) from None
    document = read_document(text)
    problems = list(document.problems)
    spec = None
    if isinstance(document.data, dict):
        spec, found = _validate(path.stem, document.data)
        problems += found
    elif not problems:
        problems.append(Problem((), "a declaration is a mapping of keys, such as `source:`"))
    if problems or spec is None:
        mistakes = {_mistake(path, document, problem): None for problem in problems}
        raise DeclarationError(tuple(sorted(mistakes, key=lambda m: (m.line or 0, m.key))))
    return spec


def load_streams(folder: Path) -> LoadedStreams:
    """Read every `*.yaml` of a folder; a broken file hides no other."""
    loaded = LoadedStreams({}, {})
    for path in sorted(folder.glob("*.yaml")):
        try:
            loaded.specs[path.stem] = load_spec(path)
        except DeclarationError as error:
            loaded.broken[path.stem] = error
    return loaded


def spec_sha256(spec: Spec) -> str:
    """Return the hash that tells one version of a declaration from another."""
    return hashlib.sha256(json.dumps(spec.dump(), sort_keys=True).encode()).hexdigest()


def _validate(name: str, data: dict[str, Any]) -> tuple[Spec | None, list[Problem]]:
    problems = []
    if not STREAM_NAME.match(name):
        message = "the file's name is the stream's: small letters, digits and _, from a letter on"
        problems.append(Problem((), message, name))
    if "name" in data:
        problems.append(Problem(("name",), "the file's name is the stream's name; remove this key"))
    problems += References(data).problems()
    filled = {"app": name} | data | {"name": name if STREAM_NAME.match(name) else "unnamed"}
    try:
        return Spec.model_validate(filled), problems
    except ValidationError as error:
        found = error.errors(include_url=False)
        # What is wrong with an expression is told by the references, with its key.
        told = [_problem(e) for e in found if e["type"] != "expression" or not problems]
        return None, problems + told


def _problem(error: Any) -> Problem:
    path: KeyPath = tuple(error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return Problem(path, "is not a key here", None, _keys_at(path[:-1]))
    if kind == "missing":
        return Problem(path, "is missing", None)
    if "expected" in context or "expected_tags" in context:
        text = str(context.get("expected_tags") or context["expected"])
        valid = tuple(re.findall(r"'([^']*)'", text))
        given = error.get("input")
        if kind == "union_tag_invalid":
            path, given = (*path, "kind"), context["tag"]
        return Problem(path, "is not one of the valid values", given, valid)
    message = str(context["error"]) if kind == "value_error" else error["msg"]
    message = message[0].lower() + message[1:]
    return Problem(path, f"is wrong: {message}", error.get("input"))


def _keys_at(path: KeyPath) -> tuple[str, ...]:
    """Return the keys that the model at a path knows."""
    here: Any = Spec
    for step in path:
        here = _step(_inner(here), step)
    model = _inner(here)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return tuple(k for k in model.model_fields if not (model is Spec and k == "name"))
    return ()


def _inner(annotation: Any) -> Any:
    """Take off Annotated and Optional."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (typing.Union, types.UnionType):
        options = [_inner(a) for a in get_args(annotation) if a is not type(None)]
        return options[0] if len(options) == 1 else options
    return annotation


def _step(here: Any, step: str | int) -> Any:
    if isinstance(here, list):  # a union told apart by `kind`: the path holds its value
        return next((o for o in here if step in get_args(o.model_fields["kind"].annotation)), None)
    if isinstance(here, type) and issubclass(here, BaseModel):
        field = here.model_fields.get(str(step))
        return field.annotation if field else None
    arguments = get_args(here)
    return arguments[-1 if get_origin(here) is dict else 0] if arguments else None


# What pydantic puts into a path besides keys.
_KINDS = ("cassandra", "console", "postgresql", "[key]")


def _mistake(path: Path, document: Document, problem: Problem) -> Mistake:
    known = tuple(step for step in problem.path if step not in _KINDS)
    line, place = problem.line, known
    while line is None and place:
        line = document.lines.get(place)
        place = place[:-1]
    value = "" if problem.value is None else f"{_shorten(problem.value)} "
    asked = str(known[-1]) if problem.value is None and known else str(problem.value)
    asked = problem.asked or asked
    nearest = difflib.get_close_matches(asked, problem.valid, n=1)
    return Mistake(
        file=str(path),
        line=line,
        key=_dotted(known),
        message=problem.message,
        value=value,
        valid=problem.valid,
        nearest=nearest[0] if nearest else None,
    )


def _dotted(path: KeyPath) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
