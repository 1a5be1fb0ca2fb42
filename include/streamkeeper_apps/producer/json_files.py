"""Reads JSON lines, and JSON arrays element by element."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from streamkeeper.errors import StreamkeeperError
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.cells import NULL, converter, instant_reader, text, to_bytes
from streamkeeper_apps.producer.records import (
    DAMAGED,
    Record,
    Source,
    Writer,
    key_of,
    malformed,
    whole,
)

_CHUNK = 1 << 20
# What is larger is no record but a file of another kind; Kafka takes 1 MB by default.
_LARGEST = 64 * 1024 * 1024
_BLANKS = " \t\r\n"
_BLANK = re.compile(rf"[{_BLANKS}]*")
# A number could go on in the next chunk; anything else tells its own end.
_MAY_GO_ON = re.compile(r"[0-9.eE+-]*\Z")


class Literal(str):
    """A number as it is written."""


class _Twice(ValueError):
    """A key stands twice, so that nobody can tell which of the values is meant."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Literal, parse_int=Literal, parse_constant=Literal
)


_QUICK = json.JSONDecoder()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_STRICT = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Literal, parse_int=Literal, parse_constant=_refuse
)


def strict_object(raw: str) -> dict[str, Any] | str:
    """Return the object that a text is, or what is wrong with it."""
    try:
        found = _STRICT.decode(raw)
        json.dumps(found, ensure_ascii=False).encode()
    except _Twice:
        return "a key stands twice"
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    except (ValueError, RecursionError) as error:
        return str(error)
    return found if isinstance(found, dict) else "it is no object"


def encode(value: Any) -> str:
    """Return a value as JSON, numbers as they were written."""
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{text(k)}:{encode(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode, value)) + "]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return {None: NULL, True: "true", False: "false"}[value]


def find(value: Any, keys: Sequence[str]) -> Any:
    """Return what a path of keys leads to; None where it leads nowhere."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _getter(keys: Sequence[str]) -> Callable[[dict[str, Any]], Any]:
    """Return what finds the value at a path."""
    if len(keys) == 1:
        (key,) = keys
        return lambda value: value.get(key)
    return lambda value: find(value, keys)


class _JsonFile(Source):
    """Objects that are mapped by `columns`, or sent as they stand where there are none."""

    def __init__(self, path: Path, spec: Spec) -> None:
        super().__init__(path, spec)
        self._read = self._mapped() if self.replay.columns else self._as_it_stands()
        self._scan = self._scanner()

    def record(self, raw: str) -> Record:
        """Return the record of one value's text; what is no object is sent as it stands."""
        line = raw.encode("utf-8", "surrogateescape")
        begin = 0 if raw[:1] == "{" else len(raw) - len(raw.lstrip(_BLANKS))
        try:
            value, end = self._scan(raw, begin)
        except (StopIteration, ValueError, RecursionError):
            return malformed(line)
        if not isinstance(value, dict) or (end < len(raw) and raw[end:].strip(_BLANKS)):
            return malformed(line)
        return self._read(value, line)

    def _scanner(self) -> Callable[[str, int], tuple[Any, int]]:
        """Return what reads a value; numbers keep their digits where somebody sees them."""
        fields = [self.spec.event_time.field, *([self.replay.key] if self.replay.key else [])]
        texts = all(
            self.spec.fields[name].type in ("string", "timestamp")
            and self.spec.fields[name].format == "iso8601"
            for name in fields
        )
        decoder: Any = _DECODER if self.replay.columns or not texts else _QUICK
        scan: Callable[[str, int], tuple[Any, int]] = decoder.scan_once
        return scan

    def _mapped(self) -> Callable[[dict[str, Any], bytes], Record]:
        writer = Writer(self.spec)
        plan = [self._filler(writer, name) for name in writer.names]
        return lambda value, line: writer.record([fill(value) for fill in plan])

    def _as_it_stands(self) -> Callable[[dict[str, Any], bytes], Record]:
        event, named = self.spec.event_time.field, self.replay.key
        instant = instant_reader(self.spec.fields[event])
        time_of = _getter(self.spec.fields[event].keys(event))
        keyed = _getter(self.spec.fields[named].keys(named)) if named else None

        def read(value: dict[str, Any], line: bytes) -> Record:
            time = time_of(value)
            at = instant(f'"{time}"' if type(time) is str else encode(time))
            found = keyed(value) if keyed else None
            key = to_bytes(found) if type(found) is str else key_of(encode(found))
            return whole(key, line, at)

        return read

    def _filler(self, writer: Writer, name: str) -> Callable[[dict[str, Any]], str]:
        """Return what makes the JSON text of a field from an object."""
        constant = writer.constant(name)
        if constant is not None:
            return lambda value: constant
        column, field = self.replay.columns[name], self.spec.fields[name]
        where = column.column
        keys = tuple(where.split(".")) if isinstance(where, str) else where
        # In JSON an empty text is a text; only what is declared as missing is.
        missing = self.replay.missing if "missing" in self.replay.model_fields_set else ()
        convert = converter(field, column, missing)
        markers = frozenset(missing)

        def fill(value: dict[str, Any]) -> str:
            found = find(value, keys)
            if isinstance(found, Literal):
                return NULL if missing and convert(found) == NULL else str(found)
            if isinstance(found, str):
                if column.format is not None:
                    return convert(found)
                return NULL if found in markers else text(found)
            return encode(found)

        return fill


class JsonLines(_JsonFile):
    """A JSON value a line."""

    def records(self) -> Iterator[Record]:
        """Yield every line; blank ones are counted and left out."""
        record, scan, read = self.record, self._scan, self._read
        for line in self.lines():
            raw = line.decode("utf-8", "surrogateescape")
            try:
                value, end = scan(raw, 0)
            except (StopIteration, ValueError, RecursionError):
                value, end = None, 0
            # The plain case is settled here, without another frame.
            plain = type(value) is dict and end == len(raw)
            yield read(value, line) if plain else record(raw)


class JsonArray(_JsonFile):
    """One array of values, however long: it is read a piece at a time."""

    def records(self) -> Iterator[Record]:
        """Yield every element.

        Raises StreamkeeperError where the text is no JSON array any more; what stands before was
        read.
        """
        pieces = Pieces(self.stream, "utf-8-sig", self._wrong)
        try:
            for element in pieces.elements():
                yield self.record(element.decode("utf-8", "surrogateescape"))
        except DAMAGED as error:
            raise self.damaged(f"byte {self.position} of it", error) from None

    def _wrong(self, count: int, reason: str, cut: bool) -> StreamkeeperError:
        if not count and reason == NO_ARRAY:
            reason = f"{NO_ARRAY}; for a value a line: json_lines"
        return StreamkeeperError(
            f"{self.path}: after element {count}: {reason}; the elements before it were read"
        )


NO_ARRAY = "a JSON array begins with ["
Wrong = Callable[[int, str, bool], StreamkeeperError]
"""Makes the error for what follows so many values: how many, why, whether it merely breaks off."""


class Pieces:
    """The values of a stream of JSON, read on as it is needed.

    Parameters: stream; codec, which passes bytes that it cannot decode through where it can;
    wrong, makes the errors.
    """

    def __init__(self, stream: Any, codec: str, wrong: Wrong) -> None:
        self._stream, self._wrong = stream, wrong
        errors = "surrogateescape" if codec.startswith("utf-8") else "strict"
        self._decode = codecs.getincrementaldecoder(codec)(errors).decode
        self._text, self._at, self._ended = "", 0, False

    def elements(self) -> Iterator[bytes]:
        """Yield every element of one array, its bytes as they stand.

        Raises the error that `wrong` makes where the text is no array any more.
        """
        if self.peek() != "[":
            raise self._wrong(0, NO_ARRAY, False)
        self._at += 1
        count = 0
        while (sign := self.peek()) != "]":
            if count:
                if sign != ",":
                    told = f"{sign or 'the end'!r} stands where , or ] must be"
                    raise self._wrong(count, told, not sign)
                self._at += 1
                self.peek()
            yield self.value(count)
            count += 1
        self._at += 1
        if sign := self.peek():
            raise self._wrong(count, f"{sign!r} stands behind the array", False)

    def peek(self) -> str:
        """Skip blanks; return the next sign, empty at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def value(self, count: int) -> bytes:
        """Return the bytes of the next value; count, how many came before it."""
        while True:
            try:
                _, end = _PLAIN.raw_decode(self._text, self._at)
                goes_on = self._text[end - 1].isdigit() and _MAY_GO_ON.match(self._text, end)
                if not goes_on or not self._more():
                    found = self._text[self._at : end]
                    self._at = end
                    return found.encode("utf-8", "surrogateescape")
            except (ValueError, RecursionError) as error:
                if not self._more():
                    cut = self._ended and _breaks_off(error, self._text)
                    raise self._wrong(count, f"no JSON value: {error}", cut) from None

    def _more(self) -> bool:
        """Read on; tell whether there was more."""
        if self._ended or len(self._text) - self._at > _LARGEST:
            return False
        # Twice as much as is open, so that a long value is not scanned again and again.
        raw = self._piece(max(_CHUNK, len(self._text) - self._at))
        self._ended = not raw
        self._text = self._text[self._at :] + self._decode(raw, final=not raw)
        self._at = 0
        return not self._ended

    def _piece(self, size: int) -> bytes:
        """Return about so many bytes, fewer before the end or a damage; that is raised next."""
        got = bytearray()
        try:
            while len(got) < size and (raw := self._stream.read1(size - len(got))):
                got += raw
        except DAMAGED:
            if not got:
                raise
        return bytes(got)


# An error so near to the end of a text is one of what is missing there.
_NEAR_THE_END = 8


def _breaks_off(error: Exception, text: str) -> bool:
    """Tell whether what is wrong with a text is that it ends."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    near = error.pos >= len(text.rstrip(_BLANKS)) - _NEAR_THE_END
    return near or error.msg.startswith("Unterminated string")


_PLAIN = json.JSONDecoder(parse_float=str, parse_int=str)
