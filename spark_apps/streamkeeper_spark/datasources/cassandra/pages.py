"""Pages of rows as Cassandra sends them, turned into Arrow columns without a Python object a cell.

The driver's own ways make a Python object of every cell, and its NumPy handler needs NumPy below
2. Here a page is one block of bytes; where each cell lies is found once, and each column is then
gathered by NumPy and Arrow.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from cassandra.protocol import ResultMessage, _ProtocolHandler

from streamkeeper.errors import StreamkeeperError
from streamkeeper_spark.datasources.cassandra.kinds import Kind, part_names

Numbers = npt.NDArray[Any]
_PROTOCOL = 5
_LENGTH = struct.Struct(">i").unpack_from
# Of these a cell has this many bytes; of all others any number.
_WIDTHS = {
    "bigint": 8, "counter": 8, "double": 8, "timestamp": 8, "time": 8,
    "int": 4, "float": 4, "date": 4, "smallint": 2, "tinyint": 1, "boolean": 1,
    "uuid": 16, "timeuuid": 16,
}  # fmt: skip
_NUMPY = {
    "bigint": ">i8", "counter": ">i8", "double": ">f8", "timestamp": ">i8", "time": ">i8",
    "int": ">i4", "float": ">f4", "date": ">u4", "smallint": ">i2", "tinyint": ">i1",
    "boolean": ">u1",
}  # fmt: skip
_MOST_MILLIS = (2**63 - 1) // 1000
_HEX = np.frombuffer("".join(f"{n:02x}" for n in range(256)).encode(), np.uint8).reshape(256, 2)
_HYPHENS = [4, 6, 8, 10]


class _RawRows(ResultMessage):
    """A page of rows that stays as it came."""

    def recv_results_rows(
        self, f: Any, protocol_version: int, user_type_map: Any, result_metadata: Any, _policy: Any
    ) -> None:
        self.recv_results_metadata(f, user_type_map)
        metadata = self.column_metadata or result_metadata
        self.column_names = [column[2] for column in metadata]
        self.column_types = [column[3] for column in metadata]
        self.parsed_rows = f.read()


class RawPages(_ProtocolHandler):
    """For a session's `client_protocol_handler`, beside `raw_page` as its row factory."""

    message_types_by_opcode = {  # noqa: RUF012 (the driver's own name and form)
        **_ProtocolHandler.message_types_by_opcode,
        ResultMessage.opcode: _RawRows,
    }


def raw_page(_names: Sequence[str], body: bytes) -> list[bytes]:
    """Return a page as the only row of a result."""
    return [body]


class PageReader:
    """Turns pages of one statement into record batches.

    Parameters: kinds, of its columns; cql_types, the driver's classes of these; schema, Arrow's
    columns as Spark expects them.
    """

    def __init__(self, kinds: Sequence[Kind], cql_types: Sequence[Any], schema: pa.Schema) -> None:
        self._kinds, self._cql_types, self._schema = kinds, cql_types, schema
        self._widths = [_WIDTHS.get(kind.name) for kind in kinds]

    def read(self, body: bytes) -> pa.RecordBatch:
        """Return the rows of a page.

        Raises StreamkeeperError for a value that its Spark type cannot hold.
        """
        (count,) = _LENGTH(body, 0)
        lengths = cell_lengths(body, count, self._widths)
        ends = 4 + np.cumsum(4 + np.maximum(lengths, 0).ravel()).reshape(lengths.shape)
        starts = ends - np.maximum(lengths, 0)
        columns = [
            self._column(place, body, starts[:, place], lengths[:, place])
            for place in range(len(self._kinds))
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _column(self, place: int, body: bytes, starts: Numbers, lengths: Numbers) -> pa.Array:
        kind, field = self._kinds[place], self._schema.field(place)
        width = self._widths[place]
        try:
            if width is not None:
                valid = lengths == width
                cells = _gather(body, starts, valid, width)
                return _fixed(kind, cells, valid, field.type)
            raw = _binary(body, starts, lengths)
            if kind.name == "blob":
                return raw
            if kind.name in ("text", "varchar", "ascii"):
                return raw.cast(field.type)
            read = _reader(kind, self._cql_types[place])
            return pa.array([v if v is None else read(v) for v in raw.to_pylist()], field.type)
        except (pa.ArrowInvalid, OverflowError) as error:
            raise StreamkeeperError(
                f"the column {field.name!r} holds a value that Spark's {field.type} cannot hold: "
                f"{error}; read it with another type (.schema(...)) or leave it out "
                '(.option("columns", ...))'
            ) from error


def cell_lengths(body: bytes, count: int, widths: Sequence[int | None]) -> Numbers:
    """Return the bytes of each cell, -1 for null, by row and column.

    Parameters: body, the number of rows and then each cell with its length before it; widths, of
    the columns whose cells all have the same, unless they are null.
    """
    guessed = _guessed_lengths(body, count, widths)
    return _counted_lengths(body, count, len(widths)) if guessed is None else guessed


def _guessed_lengths(body: bytes, count: int, widths: Sequence[int | None]) -> Numbers | None:
    """Return the lengths if no cell of a fixed width is null; None if one is.

    Only the other cells are looked at one by one; whether the guess holds is seen afterwards.
    """
    loose = [place for place, width in enumerate(widths) if width is None]
    fixed = [place for place, width in enumerate(widths) if width is not None]
    sizes = [0 if width is None else width + 4 for width in widths]
    edges = [-1, *loose]
    gaps = [sum(sizes[a + 1 : b]) for a, b in zip(edges, loose, strict=False)]
    tail = sum(sizes[edges[-1] + 1 :])
    lengths = np.empty((count, len(widths)), np.int64)
    for place in fixed:
        lengths[:, place] = widths[place] or 0
    if loose:
        found = _loose_lengths(body, count, gaps, tail)
        if found is None:
            return None
        lengths[:, loose] = np.array(found, np.int64).reshape(count, len(loose))
    ends = 4 + np.cumsum(4 + np.maximum(lengths, 0).ravel()).reshape(lengths.shape)
    if count and ends[-1, -1] != len(body):
        return None
    block = np.frombuffer(body, np.uint8)
    for place in fixed:
        width = widths[place] or 0
        told = block[(ends[:, place] - width - 4)[:, None] + np.arange(4)].view(">i4")
        if not (told == width).all():
            return None
    return lengths


def _loose_lengths(body: bytes, count: int, gaps: Sequence[int], tail: int) -> list[int] | None:
    found: list[int] = []
    note, place = found.append, 4
    try:
        for _ in range(count):
            for gap in gaps:
                (length,) = _LENGTH(body, place + gap)
                note(length)
                place += gap + 4 + (length if length > 0 else 0)
            place += tail
    except struct.error:
        return None
    return found


def _counted_lengths(body: bytes, count: int, columns: int) -> Numbers:
    found: list[int] = []
    note, place = found.append, 4
    for _ in range(count * columns):
        (length,) = _LENGTH(body, place)
        note(length)
        place += 4 + (length if length > 0 else 0)
    return np.array(found, np.int64).reshape(count, columns)


def _gather(body: bytes, starts: Numbers, valid: Numbers, width: int) -> Numbers:
    """Return the bytes of cells of one width, those of nulls zero, by row."""
    block = np.frombuffer(body, np.uint8)
    if valid.all():
        return block[starts[:, None] + np.arange(width)]
    cells = np.zeros((len(starts), width), np.uint8)
    cells[valid] = block[starts[valid][:, None] + np.arange(width)]
    return cells


def _fixed(kind: Kind, cells: Numbers, valid: Numbers, wanted: pa.DataType) -> pa.Array:
    mask = None if valid.all() else ~valid
    if kind.name in ("uuid", "timeuuid"):
        return _uuid_texts(cells, mask, wanted)
    numbers = cells.view(_NUMPY[kind.name]).ravel()
    numbers = numbers.astype(numbers.dtype.newbyteorder("="))
    if kind.name == "timestamp":
        if len(numbers) and max(int(numbers.max()), -int(numbers.min())) > _MOST_MILLIS:
            raise OverflowError("a time further than 292,000 years from 1970")
        return pa.array(numbers * 1000, pa.int64(), mask=mask).view(wanted)
    if kind.name == "date":
        days = (numbers.astype(np.int64) - 2**31).astype(np.int32)
        return pa.array(days, pa.int32(), mask=mask).view(wanted)
    if kind.name == "boolean":
        return pa.array(numbers != 0, wanted, mask=mask)
    return pa.array(numbers, wanted, mask=mask)


def _uuid_texts(cells: Numbers, mask: Numbers | None, wanted: pa.DataType) -> pa.Array:
    count = len(cells)
    texts = np.full((count, 36), ord("-"), np.uint8)
    edges = [0, *_HYPHENS, 16]
    for place in range(5):
        low, high = edges[place], edges[place + 1]
        at, letters = 2 * low + place, 2 * (high - low)
        texts[:, at : at + letters] = _HEX[cells[:, low:high]].reshape(count, letters)
    buffer = pa.py_buffer(np.ascontiguousarray(texts))
    found = pa.Array.from_buffers(pa.binary(36), count, [None, buffer]).cast(pa.binary())
    found = found.cast(wanted)
    return found if mask is None else found.take(_places(np.arange(count), mask))


def _binary(body: bytes, starts: Numbers, lengths: Numbers) -> pa.Array:
    """Return cells of any length.

    The page itself is read as an array of cell, gap, cell, gap, ... of which the cells are taken.
    """
    count = len(starts)
    if not count:
        return pa.array([], pa.binary())
    edges = np.empty(2 * count, np.int32)
    edges[0::2] = starts
    edges[1::2] = starts + np.maximum(lengths, 0)
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(body)]
    whole = pa.Array.from_buffers(pa.binary(), 2 * count - 1, buffers)
    null = lengths < 0
    return whole.take(_places(np.arange(0, 2 * count, 2), null if null.any() else None))


def _places(places: Numbers, mask: Numbers | None) -> pa.Array:
    return pa.array(places, pa.int64(), mask=mask)


def _reader(kind: Kind, cql_type: Any) -> Callable[[bytes], Any]:
    if kind.name == "varint":
        return lambda raw: Decimal(cql_type.from_binary(raw, _PROTOCOL))
    if kind.name in ("decimal", "inet"):
        return lambda raw: cql_type.from_binary(raw, _PROTOCOL)
    return lambda raw: plain(cql_type.from_binary(raw, _PROTOCOL), kind)


def plain(value: Any, kind: Kind) -> Any:
    """Return a value of the driver as Arrow takes it."""
    if value is None:
        return None
    if kind.name in ("list", "set"):
        return [plain(item, kind.args[0]) for item in value]
    if kind.name == "map":
        key, item = kind.args
        return [(plain(k, key), plain(v, item)) for k, v in value.items()]
    if kind.args:
        parts = zip(part_names(kind), value, kind.args, strict=False)
        return {name: plain(part, arg) for name, part, arg in parts}
    if kind.name in _PLAIN:
        return _PLAIN[kind.name](value)
    return value


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "date": lambda value: value.days_from_epoch,
    "time": lambda value: value.nanosecond_time,
    "uuid": str,
    "timeuuid": str,
    "varint": Decimal,
    "duration": lambda value: {
        "months": value.months, "days": value.days, "nanoseconds": value.nanoseconds
    },
}  # fmt: skip
