"""SQL about JSON texts: what Spark's parser reads of them, and what it does not tell."""

from __future__ import annotations

from collections.abc import Mapping

from streamkeeper.spec.models import Spec
from streamkeeper.spec.pieces import text_literal
from streamkeeper_spark.sql import TEXT, known, let, quoted

_OPTIONS = {"mode": "PERMISSIVE", "allowNonNumericNumbers": "false", "allowSingleQuotes": "false"}
_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = r"\\u[dD][89a-fA-F]"
Tree = dict[str, "Tree | str"]
"""The keys of an object; a leaf is the name of the field that stands there."""


def key_tree(spec: Spec) -> Tree:
    """Return the keys that the declaration names, as they stand in one another."""
    tree: Tree = {}
    for name, declared in spec.fields.items():
        *above, last = declared.keys(name)
        inner = tree
        for key in above:
            found = inner.setdefault(key, {})
            assert isinstance(found, dict), f"{name} stands within another field"
            inner = found
        inner[last] = name
    return tree


def containers(tree: Tree, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the ways to the declared objects within the message, outer ones first."""
    found: list[tuple[str, ...]] = []
    for key, inner in tree.items():
        if isinstance(inner, dict):
            found += [(*above, key), *containers(inner, (*above, key))]
    return found


def only(tree: Tree, keys: tuple[str, ...]) -> Tree:
    """Return the part of a tree that leads to one field."""
    first, *further = keys
    inner = tree[first]
    return {first: inner if isinstance(inner, str) else only(inner, tuple(further))}


def struct_fields(tree: Tree, types: Mapping[str, str]) -> str:
    """Return the fields of a struct as Spark's DDL writes them."""
    fields = [
        f"{quoted(key)}: STRUCT<{struct_fields(inner, types)}>"
        if isinstance(inner, dict)
        else f"{quoted(key)}: {types[inner]}"
        for key, inner in tree.items()
    ]
    return ", ".join(fields)


def from_json(text: str, schema: str, **options: str) -> str:
    given = ", ".join(f"'{key}', '{value}'" for key, value in (_OPTIONS | options).items())
    return f"from_json({text}, {text_literal(f'STRUCT<{schema}>')}, map({given}))"


def kind_of(variant: str) -> str:
    """Return the type of a value as it was sent, such as `STRING`; null for null or absent."""
    return f"nullif(schema_of_variant({variant}), 'VOID')"


def kind_of_object(keys: tuple[str, ...]) -> str:
    """Return as what a declared object was sent; null if it is one, or is null or absent."""
    *above, last = keys
    schemas = [f"{quoted(last)}: VARIANT", f"{quoted(last)}: STRING"]
    for key in reversed(above):
        schemas = [f"{quoted(key)}: STRUCT<{schema}>" for schema in schemas]
    variant, text = (f"{from_json(TEXT, schema)}.{quoted(*keys)}" for schema in schemas)
    kind = kind_of(variant)
    # An object with equal keys somewhere within has no variant.
    return (
        f"CASE WHEN {kind} IS NOT NULL THEN if({kind} LIKE 'OBJECT%', NULL, "
        f"lower(regexp_replace({kind}, '[(<].*', ''))) "
        f"WHEN startswith({text}, '[') THEN 'array' END"
    )


def is_one_object(text: str) -> str:
    """Return the exact condition that a text is one JSON object and nothing else."""
    alone = f"json_array_length(concat('[', {text}, ']')) = 1"
    return known(f"{alone} AND json_object_keys({text}) IS NOT NULL")


def has_half_a_pair(text: str) -> str:
    """Return the condition that a text escapes half of a surrogate pair; the parser makes `?`."""
    unescaped = f"replace({text}, {text_literal(chr(92) * 2)}, ' ')"
    without = f"regexp_replace({unescaped}, {text_literal(_PAIR)}, ' ')"
    return f"{without} RLIKE {text_literal(_HALF)}"


def has_repeated_keys(text: str) -> str:
    """Return the condition that a key stands more than once in an object."""
    keys = f"json_object_keys({text})"
    return known(f"size({keys}) != size(array_distinct({keys}))")


def repeated_keys(text: str) -> str:
    """Return the keys that stand more than once in an object."""
    keys = f"json_object_keys({text})"
    return let(
        "_keys",
        keys,
        "array_distinct(filter(_keys, _k -> size(filter(_keys, _j -> _j = _k)) > 1))",
    )
