"""Reading CSV messages, one record each, as RFC 4180 writes them.

Spark's own CSV parser drops what follows the first line, and takes stray quotation marks as they
come. So the record is cut at its delimiters here: at once where it has no quotation mark, and else
after every delimiter outside of quotes was exchanged for a token that no sender knows.
"""

from __future__ import annotations

from streamkeeper.spec.models import FieldSpec, Spec
from streamkeeper.spec.pieces import text_literal
from streamkeeper_spark import exact
from streamkeeper_spark.parse import Frame
from streamkeeper_spark.sql import TEXT, known, quoted, shown
from streamkeeper_spark.written import how_it_is_written

_BREAK = r"[\r\n]"


class CsvReader:
    """The SQL that reads one stream's CSV messages.

    All of it is about the columns `_value`, the message, and `_parsed`, made by `parsed`: the
    record's cells, or null where it is not one record of the declared columns.

    Parameters: spec; frame, of the launch: its token stands for a delimiter.
    """

    def __init__(self, spec: Spec, frame: Frame) -> None:
        self._spec, self._csv, self._strict = spec, spec.source.csv, spec.source.strict
        self._token = text_literal(frame.token)
        columns = {name: csv_column(name, f) for name, f in spec.fields.items()}
        order = list(self._csv.columns or columns.values())
        self._width = len(order)
        self._places = {name: order.index(column) for name, column in columns.items()}

    @property
    def _line(self) -> str:
        """The message without the end of its line."""
        return f"regexp_replace({TEXT}, '\\\\r?\\\\n\\\\z', '')"

    @property
    def parsed(self) -> str:
        """The column `_parsed`: an array of the cells."""
        return (
            f"CASE WHEN {self.error} IS NULL THEN "
            f"CASE WHEN contains({TEXT}, '\"') THEN "
            f"transform({self._cut}, c -> if(startswith(c, '\"'), "
            "replace(substring(c, 2, length(c) - 2), '\"\"', '\"'), c)) "
            f"ELSE {self._simply_cut} END END"
        )

    @property
    def _simply_cut(self) -> str:
        return f"split({self._line}, {self._delimiter}, -1)"

    @property
    def _delimiter(self) -> str:
        return text_literal(_literally(self._csv.delimiter))

    @property
    def _pieces(self) -> str:
        """The record between its quotation marks: every second piece stands within quotes."""
        return f"split({self._line}, '\"', -1)"

    @property
    def _cut(self) -> str:
        """The cells of a record with quotation marks, as they are written."""
        delimiter = text_literal(self._csv.delimiter)
        marked = (
            f"transform({self._pieces}, "
            f"(p, i) -> if(i % 2 = 0, replace(p, {delimiter}, {self._token}), p))"
        )
        return f"split(array_join({marked}, '\"'), {self._token}, -1)"

    @property
    def error(self) -> str:
        """The finding on the message as a whole; null when it is one record."""
        outside = f"filter({self._pieces}, (p, i) -> i % 2 = 0)"
        # A cell has either no quotation mark, or one at each end and only double ones between.
        proper = (
            "if(startswith(c, '\"'), length(c) > 1 AND endswith(c, '\"') AND "
            "NOT contains(replace(substring(c, 2, length(c) - 2), '\"\"', ''), '\"'), "
            "NOT contains(c, '\"'))"
        )
        with_marks = (
            f"CASE WHEN size({self._pieces}) % 2 = 0 "
            "THEN 'parse:csv: a quotation mark is not closed' "
            f"WHEN exists({outside}, p -> p RLIKE '{_sql(_BREAK)}') "
            "THEN 'parse:csv: more than one line' "
            f"WHEN NOT forall({self._cut}, c -> {proper}) "
            "THEN 'parse:csv: a quotation mark within a cell' "
            f"ELSE {self._of_width(self._cut)} END"
        )
        return (
            f"CASE WHEN startswith({TEXT}, '\ufeff') THEN 'parse:csv: a byte order mark' "
            f"WHEN contains({TEXT}, '\"') THEN {with_marks} "
            f"WHEN {self._line} RLIKE '{_sql(_BREAK)}' THEN 'parse:csv: more than one line' "
            f"ELSE {self._of_width(self._simply_cut)} END"
        )

    def _of_width(self, cells: str) -> str:
        wrong = f"concat('parse:csv: ', size({cells}), ' columns, not {self._width}')"
        return f"CASE WHEN size({cells}) != {self._width} THEN {wrong} END"

    @property
    def clean(self) -> str:
        """The condition that the record was read."""
        return "`_parsed` IS NOT NULL"

    @property
    def settled(self) -> str:
        """What is left to ask of a record that was read."""
        return f"is_valid_utf8({TEXT})"

    @property
    def unread(self) -> str:
        """The finding on a record in which nothing else was found."""
        return "'parse:csv: it could not be read'"

    def sent(self, name: str) -> str:
        """Return a field's text; null where it is missing."""
        cell = f"`_parsed`[{self._places[name]}]"
        if not self._csv.missing:
            return cell
        missing = ", ".join(text_literal(text) for text in self._csv.missing)
        return f"if({cell} IN ({missing}), NULL, {cell})"

    def value(self, name: str) -> str:
        """Return a field's value in its landed type and the unit sent; null where it is inexact."""
        return exact.from_text(self.sent(name), self._spec.fields[name], strict=self._strict)

    def text(self, name: str) -> str:
        """Return what was sent of a field as a text; null where it is missing."""
        return self.sent(name)

    def mistyped(self) -> str:
        """Return the findings on the types, an array in the order of the fields, with nulls.

        What lands of a field stands in the column of its name.
        """
        found = []
        for name, declared in self._spec.fields.items():
            sent = self.sent(name)
            told = text_literal(how_it_is_written(declared))
            message = f"concat('type:', {text_literal(name)}, ': ''', {shown(sent)}, '''', {told})"
            bad = f"{sent} IS NOT NULL AND {quoted(name)} IS NULL"
            found.append(f"CASE WHEN {known(bad)} THEN {message} END")
        return f"array({', '.join(found)})"


def csv_column(name: str, declared: FieldSpec) -> str:
    """Return the column of a CSV record that fills a field."""
    if isinstance(declared.path, str):
        return declared.path
    return ".".join(declared.keys(name))


def _literally(character: str) -> str:
    """Return the regular expression of Java that finds one character."""
    return f"\\x{{{ord(character):x}}}"


def _sql(pattern: str) -> str:
    return pattern.replace("\\", "\\\\")
