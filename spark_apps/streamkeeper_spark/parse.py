"""Reading JSON messages by Spark's own parser, as strictly as the declaration says.

Spark's parser is lenient: it takes the first object of a text and ignores what follows, keeps the
last of two equal keys, and makes a text of a number. So the text is parsed between two keys of a
larger object, whose names nobody can guess; whatever breaks the frame makes the record corrupt.
Where it would round numbers, they are put into texts of their own first, with a mark in front.
What survives that is settled by counting commas or braces (`JsonReader.settled`), and only records
that the count does not settle are parsed a second time, exactly.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from streamkeeper.spec.models import FieldSpec, Spec
from streamkeeper.spec.pieces import text_literal
from streamkeeper_spark import exact
from streamkeeper_spark.json_texts import (
    containers,
    from_json,
    has_half_a_pair,
    has_repeated_keys,
    is_one_object,
    key_tree,
    kind_of,
    kind_of_object,
    only,
    repeated_keys,
    struct_fields,
)
from streamkeeper_spark.schema import parsed_type
from streamkeeper_spark.sql import TEXT, all_of, known, let, matches, quoted, shown
from streamkeeper_spark.written import (
    REPLACEMENTS,
    STARTS_LIKE_ANOTHER_TYPE,
    has_replacement,
    how_it_is_written,
    is_rounded,
    is_text,
    looks_like_another_type,
    may_be,
)

_CORRUPT = "corrupt"
# What a JSON number, object or array looks like once the parser has made a text of it. A number too
# large for a double becomes the word with quotation marks around it. An address such as 198.18.0.1
# is none: no number has two points.
_LIKE_ANOTHER_TYPE = (
    r"(?s)-?[0-9]++(?:\.[0-9]*+)?+(?:[eE][+-]?[0-9]*+)?+|\{.*+|\[.*+"
    r'|"-?Infinity"'
)
_NUMBERS = r"^(BIGINT|DOUBLE|FLOAT|DECIMAL\\(.*)$"
_KINDS = {
    "string": "^STRING$",
    "integer": "^BIGINT$",
    "int32": "^BIGINT$",
    "boolean": "^BOOLEAN$",
    "iso8601": "^STRING$",
    "epoch_ms": "^BIGINT$",
    "epoch_us": "^BIGINT$",
}
_LOOSE = {
    "string": r"^(STRING|BOOLEAN|BIGINT|DOUBLE|FLOAT|DECIMAL\\(.*)$",
    "boolean": "^(STRING|BOOLEAN)$",
    "iso8601": "^STRING$",
}
_LOOSE_NUMBERS = r"^(STRING|BIGINT|DOUBLE|FLOAT|DECIMAL\\(.*)$"
_ESCAPE = "\\u"
# A number, true or false, with all that stands between it and the one before: texts are skipped
# whole. What is not written as JSON has it stays as it is, and the parser refuses it.
_SCALAR = (
    r'(?s)\G((?:[^"0-9tf-]++|"(?:[^"\\]++|\\.)*+")*+)'
    r"(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false)"
    r"(?=[ \t\r\n]*+(?:[,\]}]|\z))"
)


@dataclass(frozen=True)
class Frame:
    """The two keys around a message; drawn anew by every launch, so that no sender knows them."""

    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def record(self) -> str:
        """The key whose value is the message."""
        return f"r{self.token}"

    @property
    def end(self) -> str:
        """The key behind the message."""
        return f"e{self.token}"


class JsonReader:
    """The SQL that reads one stream's JSON messages.

    All of it is about the columns `_value`, the message, and `_parsed`, made by `parsed`.

    Parameters: spec; frame, the keys that guard the parsing.
    """

    def __init__(self, spec: Spec, frame: Frame) -> None:
        self._spec, self._frame, self._strict = spec, frame, spec.source.strict
        self._texts = not self._strict or any(map(is_rounded, spec.fields.values()))
        self._mark = text_literal(frame.token)
        self._tree = key_tree(spec)
        self._inner = containers(self._tree)

    @property
    def parsed(self) -> str:
        """The column `_parsed`: the record, the key behind it, and the text if it is corrupt."""
        types = {
            name: "string" if self._texts else parsed_type(f) for name, f in self._fields.items()
        }
        schema = (
            f"{self._frame.record}: STRUCT<{struct_fields(self._tree, types)}>, "
            f"{self._frame.end}: INT, {_CORRUPT}: STRING"
        )
        before, after = f'{{"{self._frame.record}":', f',"{self._frame.end}":1}}'
        text = TEXT
        if self._texts:
            text = self._with_marks(TEXT)
        framed = f"concat({text_literal(before)}, {text}, {text_literal(after)})"
        return from_json(framed, schema, columnNameOfCorruptRecord=_CORRUPT)

    def _with_marks(self, text: str) -> str:
        """Return a message whose numbers and booleans are texts with a mark in front."""
        quoted_scalars = text_literal(f'$1"{self._frame.token}$2"')
        return f"regexp_replace({text}, {text_literal(_SCALAR)}, {quoted_scalars})"

    @property
    def _fields(self) -> dict[str, FieldSpec]:
        return self._spec.fields

    def _at(self, keys: tuple[str, ...] = ()) -> str:
        return quoted("_parsed", self._frame.record, *keys)

    def sent(self, name: str) -> str:
        """Return what the parser read of a field; null where nothing, or nothing fit, was sent."""
        return self._at(self._fields[name].keys(name))

    def value(self, name: str) -> str:
        """Return a field's value in its landed type and the unit sent; null where it is inexact."""
        declared, sent = self._fields[name], self.sent(name)
        if self._texts:
            return exact.from_text(self._unmarked(sent, declared), declared, strict=self._strict)
        if declared.also:
            return self._time_in_any_form(name)
        if declared.type == "timestamp" and not is_text(declared):
            return exact.time_from_count(sent, declared.format)
        return exact.from_text(sent, declared, strict=True) if is_text(declared) else sent

    def _time_in_any_form(self, name: str) -> str:
        """Return a time that may be sent as a text or as a number.

        The parser makes a text of either; it may have rounded a number with a fraction, which is
        read once more.
        """
        declared, sent = self._fields[name], self.sent(name)
        read = exact.from_text(sent, declared, strict=True)
        if not exact.has_fractions(declared):
            return read
        keys = declared.keys(name)
        schema = struct_fields(only(self._tree, keys), {name: "STRING"})
        number = f"{from_json(self._with_marks(TEXT), schema)}.{quoted(*keys)}"
        again = let(
            "_number",
            number,
            exact.from_text(self._unmarked("_number", declared), declared, strict=True),
        )
        return f"CASE WHEN {exact.is_fraction(sent)} THEN {again} ELSE {read} END"

    def text(self, name: str) -> str:
        """Return what was sent of a field as a text, as far as it may be read; else null."""
        sent = self.sent(name)
        return self._unmarked(sent, self._fields[name]) if self._texts else sent

    def _unmarked(self, sent: str, declared: FieldSpec) -> str:
        """Return a value's text as it was sent; null if it was sent as what may not be read."""
        marked = f"startswith({sent}, {self._mark})"
        number = f"substring({sent}, {len(self._frame.token) + 1})"
        if declared.type == "string":
            # The texts of objects and arrays are no values, and must not tell the mark.
            inner = f"left({sent}, 1) IN ('{{', '[')"
            plain = f"if({inner}, replace({sent}, {self._mark}, ''), {sent})"
            return f"if({marked}, {'NULL' if self._strict else number}, {plain})"
        if declared.also:
            return f"if({marked}, {number}, {sent})"
        if is_text(declared):
            return sent
        return f"if({marked}, {number}, {'NULL' if self._strict else sent})"

    @property
    def clean(self) -> str:
        """The condition that the parser found one object in the frame and nothing that is wrong."""
        return all_of(
            [
                known(f"{quoted('_parsed', self._frame.end)} = 1"),
                f"_parsed.{_CORRUPT} IS NULL",
                f"{self._at()} IS NOT NULL",
            ]
        )

    @property
    def settled(self) -> str:
        """The condition that a clean record was sent as declared; never null.

        The plain forms are those that a count settles; the verdict does not depend on them.
        """
        plain = self._plain_form() if self._strict else self._plain_loose_form()
        exactly = all_of([f"is_valid_utf8({TEXT})", *self._exactly()])
        return known(f"CASE WHEN {plain} THEN true ELSE {exactly} END")

    def _plain_form(self) -> str:
        """Return a condition under which a record holds each declared field once, and no more.

        An object has a comma before each member but its first one. So a record with one comma
        less than it has fields holds no second object, no equal keys, no undeclared keys and no
        nulls, provided that its texts were sent as texts; a comma in a text only adds to them.
        What is not valid UTF-8, and half of a surrogate pair, the parser replaces by a character
        that is looked for where it could stand.
        """
        if any(has_replacement(key) for f in self._fields for key in self._fields[f].keys(f)):
            return "false"
        fields = " + ".join(f"if({self.sent(name)} IS NULL, 0, 1)" for name in self._fields)
        return all_of([self._has_commas(f"{fields} - 1"), *self._texts_as_sent()])

    def _has_commas(self, number: str) -> str:
        """Return the condition that a message has so many commas outside of the texts read.

        Where nothing is escaped, a text stands in the message as it was read; so its commas can be
        told from the others. They are counted only where there are more than the number.

        Parameters: number, SQL.
        """
        # What is read of a field with `allowed` may be an object's text: its verdict is another.
        texts = [n for n, f in self._fields.items() if f.type == "string" and f.allowed is None]
        counted = _commas(TEXT, self._mark)
        if not texts:
            return f"{counted} = {number}"
        within = " + ".join(f"coalesce({_commas(self.sent(n), self._mark)}, 0)" for n in texts)
        return (
            f"CASE WHEN {counted} = {number} THEN true "
            f"WHEN {counted} < {number} OR {_has(TEXT, chr(92))} THEN false "
            f"ELSE {counted} - ({within}) = {number} END"
        )

    def _texts_as_sent(self) -> list[str]:
        """Return the conditions that what was read of each text field is the text that was sent."""
        conditions = self._no_arrays() if self._texts else []
        for name, declared in self._fields.items():
            sent = self.sent(name)
            if not self._texts and may_be(declared, looks_like_another_type):
                conditions.append(self._is_surely_text(name))
            if may_be(declared, has_replacement):
                half, bytes_ = (_has(sent, c) for c in REPLACEMENTS)
                conditions.append(f"{sent} IS NULL OR NOT {bytes_}")
                # Half of a pair can be sent by an escape only; a question mark alone is none.
                conditions.append(f"{sent} IS NULL OR NOT {half} OR NOT {_has(TEXT, _ESCAPE)}")
        return conditions

    def _plain_loose_form(self) -> str:
        """Return a condition under which a record is one object, however its values are written.

        It has a brace for each object that was read and none else, nothing escaped, and it ends
        with the outermost one; so nothing follows it. Its texts are no arrays.
        """
        conditions = [
            f"is_valid_utf8({TEXT})",
            f"{_count('{')} = {1 + len(self._inner)}",
            f"NOT {_has(TEXT, chr(92))}",
            f"endswith({TEXT}, '}}')",
            *(f"{self._at(keys)} IS NOT NULL" for keys in self._inner),
        ]
        return all_of([*conditions, *self._no_arrays()])

    def _no_arrays(self) -> list[str]:
        """Return the conditions that no text is that of an array or object, or looks like one."""
        return [
            f"{self.sent(n)} IS NULL OR left({self.sent(n)}, 1) NOT IN ('{{', '[')"
            for n, f in self._fields.items()
            if f.type == "string"
        ]

    def _is_surely_text(self, name: str) -> str:
        """Return the condition that a text cannot have been sent as anything else, or is null."""
        sent = self.sent(name)
        first = f"substring({sent}, 1, 1)"
        begins = ", ".join(f"'{c}'" for c in STARTS_LIKE_ANOTHER_TYPE)
        return (
            f"{sent} IS NULL OR NOT CASE WHEN {first} IN ({begins}) "
            f"THEN {matches(sent, _LIKE_ANOTHER_TYPE)} "
            f"WHEN {first} IN ('t', 'f') THEN {sent} IN ('true', 'false') ELSE false END"
        )

    def _exactly(self) -> list[str]:
        """Return the conditions that hold exactly for records sent as declared; they are slow."""
        keys = "_keys IS NOT NULL"
        if self._strict:
            keys += " AND size(_keys) = size(array_distinct(_keys))"
        conditions = [
            f"json_array_length(concat('[', {TEXT}, ']')) = 1",
            let("_keys", f"json_object_keys({TEXT})", keys),
            f"NOT {has_half_a_pair(TEXT)}",
        ]
        if self._strict:
            conditions += [f"NOT {has_repeated_keys(text)}" for text in self._objects()[1:]]
        # The parser makes a text of anything; what it was must be asked for.
        kinds = [
            f"{self.sent(name)} IS NULL OR "
            + known(f"{kind_of(quoted('_sent', *f.keys(name)))} RLIKE '{self._kinds(f)}'")
            for name, f in self._fields.items()
            if f.type == "string"
        ]
        if kinds:
            conditions.append(let("_sent", self._exact(), all_of(kinds)))
        return conditions

    def _objects(self) -> list[str]:
        """Return the texts of all declared objects, the whole message first; null for others."""
        texts = [TEXT]
        for keys in self._inner:
            text = TEXT
            for key in keys:
                text = f"{from_json(text, f'{quoted(key)}: STRING')}.{quoted(key)}"
            texts.append(f"if({self._at(keys)} IS NULL, NULL, {text})")
        return texts

    def _exact(self) -> str:
        """Return the declared fields as variants, which keep the type as sent."""
        types = dict.fromkeys(self._fields, "VARIANT")
        return from_json(TEXT, struct_fields(self._tree, types))

    def _kinds(self, declared: FieldSpec) -> str:
        if declared.also:
            return _LOOSE_NUMBERS
        wanted = declared.format if declared.type == "timestamp" else declared.type
        if self._strict:
            return _KINDS.get(wanted, _NUMBERS)
        return _LOOSE.get(wanted, _LOOSE_NUMBERS)

    @property
    def error(self) -> str:
        """The finding on the message as a whole; null when it is one proper object."""
        framed = known(f"{quoted('_parsed', self._frame.end)} = 1")
        repeated = ""
        for text in self._objects() if self._strict else []:
            told = f"substring(array_join({repeated_keys(text)}, ', '), 1, 80)"
            repeated += (
                f" WHEN {has_repeated_keys(text)} THEN concat('parse:json: duplicate key ', {told})"
            )
        return (
            f"CASE WHEN NOT ({framed} AND {is_one_object(TEXT)}) "
            "THEN 'parse:json: not one JSON object' "
            f"WHEN {has_half_a_pair(TEXT)} THEN 'parse:json: half of a surrogate pair'"
            f"{repeated} END"
        )

    @property
    def unread(self) -> str:
        """The finding on a record in which nothing else was found."""
        return "'parse:json: the parser could not read it'"

    def mistyped(self) -> str:
        """Return the findings on the types, an array in the order of the fields, with nulls.

        What lands of a field stands in the column of its name.
        """
        inner = [f"{kind_of_object(keys)} AS {quoted('.'.join(keys))}" for keys in self._inner]
        wrong = f"struct({', '.join(inner)})" if inner else "NULL"
        found = [self._mistyped(name) for name in self._fields]
        body = let("_wrong", wrong, f"array({', '.join(found)})")
        return let("_sent", self._exact(), body)

    def _mistyped(self, name: str) -> str:
        declared, sent = self._fields[name], self.sent(name)
        variant = quoted("_sent", *declared.keys(name))
        kind = kind_of(variant)
        misfit = known(f"NOT {kind} RLIKE '{self._kinds(declared)}'")
        # An object with equal keys has no variant, though the parser may make a text of it.
        lost = f"({sent} IS NOT NULL AND {kind} IS NULL)"
        unread = f"(({sent} IS NOT NULL OR {kind} IS NOT NULL) AND {quoted(name)} IS NULL)"
        told = shown(f"coalesce(to_json({variant}), 'an object')")
        sent_as = f"lower(regexp_replace(coalesce({kind}, 'object'), '[(<].*', ''))"
        not_as = text_literal(f", not as {declared.type}")
        as_sent = f"concat({told}, ' was sent as ', {sent_as}, {not_as})"
        cases = [
            f"WHEN {quoted('_wrong', '.'.join(keys))} IS NOT NULL THEN concat("
            f"{text_literal('.'.join(keys) + ' was sent as ')}, "
            f"{quoted('_wrong', '.'.join(keys))}, ', not as an object')"
            for keys in self._inner
            if declared.keys(name)[: len(keys)] == keys
        ]
        if declared.type != "timestamp":
            cases.append(f"WHEN {misfit} OR {lost} THEN {as_sent}")
        cases.append(
            f"WHEN {misfit} OR {lost} OR {unread} THEN "
            f"concat({told}, {text_literal(how_it_is_written(declared))})"
        )
        return f"concat('type:', {text_literal(name)}, ': ', CASE {' '.join(cases)} END)"


def _commas(text: str, mark: str) -> str:
    """Return how many commas a text has; no other function of Spark counts as fast.

    Parameters: text and mark, SQL; mark, what no text has as a part between commas.
    """
    return f"(find_in_set({mark}, concat({text}, ',', {mark})) - 2)"


def _has(text: str, piece: str) -> str:
    """Return the condition that a text has a piece in it."""
    return f"contains({text}, {text_literal(piece)})"


def _count(character: str) -> str:
    """Return how often a character of ASCII stands in the message; patterns take far longer."""
    without = f"replace({TEXT}, {text_literal(character)}, '')"
    return f"(octet_length({TEXT}) - octet_length({without}))"
