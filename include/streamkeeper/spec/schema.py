"""The JSON Schema of declarations, from the models: editors complete and check with it."""

from __future__ import annotations

import json
from typing import Any

from streamkeeper.spec.models import Derived, Spec
from streamkeeper.spec.producers import ReplayColumn

SCHEMA_FILE = "declaration.schema.json"
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}"
"""The first line of a declaration, by which an editor finds the schema beside it."""
# These may be written as their first key's value alone.
_SHORT = {Derived: "expression", ReplayColumn: "column"}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a declaration."""
    made = Spec.model_json_schema(mode="validation")
    # The file's name is the stream's name, and the app's unless it is given.
    made["properties"].pop("name")
    made["required"] = [key for key in made["required"] if key not in ("name", "app")]
    made["properties"]["app"].pop("default", None)
    definitions = made["$defs"]
    for model, key in _SHORT.items():
        full = definitions[model.__name__]
        short = dict(full["properties"][key])
        definitions[model.__name__] = {"anyOf": [short, full]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A declared stream of Streamkeeper",
        **{k: v for k, v in _plain(made).items() if k != "title"},
    }


def schema_text() -> str:
    """Return the schema as the file's text."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _plain(value: Any) -> Any:
    """Leave out the titles that repeat the keys, and put each description on one line."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {k: _plain(v) for k, v in value.items() if not (k == "title" and isinstance(v, str))}
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(kept["description"].split())
    return kept
