"""Mistakes of a declaration's `producer` part that one key alone does not show."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from streamkeeper.spec.document import KeyPath, Problem
from streamkeeper.spec.field_types import is_number
from streamkeeper.spec.raw import duration, items, texts, time_zones, unique

LOG_FIELDS: dict[str, tuple[str, ...]] = {
    "apache_common": (
        *("host", "identity", "user", "time", "request", "method", "path", "protocol"),
        *("status", "bytes"),
    ),
}
LOG_FIELDS["apache_combined"] = (*LOG_FIELDS["apache_common"], "referer", "agent")
_JSON = ("json_lines", "json_array")
_ENTITY = re.compile(r"^[^{}]*\{(:0?[0-9]{1,2}d)?\}[^{}]*$")
_GENERATORS = (
    *("entity", "assigned", "site", "choice", "uniform", "lognormal", "ipv4", "cycle", "drain"),
    *("constant", "event_time", "by"),
)
_NO_TIME = "must be longer than nothing"
_INSTEAD = ("choice", "uniform", "constant", "missing")
_OF_A_CASE = ("choice", "uniform", "lognormal", "ipv4", "cycle", "drain", "constant")
_FAULTS = ("malformed", "out_of_range", "duplicate", "late", "out_of_order")


def producer_problems(data: dict[str, Any], fields: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    """Yield the mistakes of the simulator and the replay.

    Parameters: data, the raw declaration; fields, its fields.
    """
    producer = data.get("producer")
    if not isinstance(producer, dict):
        return
    if isinstance(simulator := producer.get("simulator"), dict):
        yield from _Simulator(simulator, fields).problems()
    if isinstance(replay := producer.get("replay"), dict):
        yield from _Replay(replay, fields).problems()
    if isinstance(folder := producer.get("folder"), dict):
        yield from _folder_problems(folder, producer, _mapping(data.get("source")))


def _folder_problems(
    folder: dict[str, Any], producer: dict[str, Any], source: dict[str, Any]
) -> Iterator[Problem]:
    """Yield the mistakes of a watched folder."""
    path: KeyPath = ("producer", "folder")
    kafka = _mapping(source.get("kafka"))
    kind = kafka.get("kind", "plain")
    if kind != "transactional":
        message = (
            "a watched folder fills its topic in transactions, so that no crash loses or repeats "
            "a record; write source.kafka.kind: transactional"
        )
        yield Problem(("source", "kafka", "kind"), message, kind)
    topic = kafka.get("topic")
    if isinstance(topic, str) and len(topic) > 243:
        message = "is too long: the ledger of its files is kept in <topic>.files; at most 243 signs"
        yield Problem(("source", "kafka", "topic"), message, topic)
    if "simulator" in producer:
        message = "a stream has one producer that is kept: a simulator or a folder"
        yield Problem(path, message)
    form, wanted = folder.get("format", "json"), source.get("format", "json")
    if isinstance(form, str) and isinstance(wanted, str) and form.split("_")[0] != wanted:
        message = f"records are sent unchanged, and source.format is {wanted}"
        yield Problem((*path, "format"), message, form)
    if "header" in folder and form != "csv":
        yield Problem((*path, "header"), f"only CSV has one; the format is {form}")
    for i, pattern in enumerate(texts(folder.get("files"))):
        if pattern.startswith("/") or ".." in pattern.split("/"):
            yield Problem((*path, "files", i), "must lie below the folder", pattern)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class _Part:
    path: KeyPath

    def __init__(self, raw: dict[str, Any], fields: dict[str, dict[str, Any]]) -> None:
        self.raw, self.fields = raw, fields

    def type(self, field: str) -> Any:
        return self.fields.get(field, {}).get("type")

    def known(self, path: KeyPath, field: Any) -> Iterator[Problem]:
        if isinstance(field, str) and field not in self.fields:
            yield Problem(path, "no such field is declared", field, tuple(self.fields))

    def made(self, made: set[str]) -> Iterator[Problem]:
        """Check the key and the required fields against the fields that are made."""
        key = self.raw.get("key")
        if isinstance(key, str) and key not in made:
            yield Problem((*self.path, "key"), "the key must be a field it makes", key, tuple(made))
        for name, field in self.fields.items():
            if field.get("required") is True and name not in made:
                yield Problem(self.path, f"the required field {name!r} is not made", name)


class _Simulator(_Part):
    path: KeyPath = ("producer", "simulator")

    def problems(self) -> Iterator[Problem]:
        generators = _mapping(self.raw.get("fields"))
        for name, generator in generators.items():
            here: KeyPath = (*self.path, "fields", name)
            yield from self.known(here, name)
            given = [k for k in _GENERATORS if k in _mapping(generator)]
            if len(given) != 1:
                yield Problem(here, "a field is made in exactly one way", given, _GENERATORS)
            yield from self._generator(here, name, _mapping(generator))
            yield from self._cases(here, name, _mapping(generator), generators)
        yield from self.made(set(generators))
        yield from self._episodes(generators)
        yield from self._faults(generators)

    def _generator(self, path: KeyPath, name: str, made: dict[str, Any]) -> Iterator[Problem]:
        pattern = made.get("entity")
        if isinstance(pattern, str) and not _ENTITY.match(pattern):
            message = "a pattern has one number in braces, such as sensor_{:02d}"
            yield Problem((*path, "entity"), message, pattern)
        elif isinstance(pattern, str) and is_number(self.type(name)) and pattern != "{}":
            message = "the entities of a number field are numbered by {} alone"
            yield Problem((*path, "entity"), message, pattern, ("{}",))
        if crossed(made.get("uniform")):
            message = "the lower limit lies above the upper one"
            yield Problem((*path, "uniform"), message, made["uniform"])
        yield from self._numbers(path, name, made)
        yield from self._site((*path, "site"), name, made.get("site"))
        for key, part in (("cycle", "period"), ("drain", "lasts")):
            if duration(_mapping(made.get(key)).get(part)) == timedelta(0):
                yield Problem((*path, key, part), _NO_TIME, made[key][part])
        yield from self._weights(path, made)
        yield from self._lognormal((*path, "lognormal"), _mapping(made.get("lognormal")))
        yield from self._networks((*path, "ipv4"), name, made)
        for key in ("assigned", "choice"):
            if made.get(key) == []:
                yield Problem((*path, key), "needs at least one value", made[key])
        if "event_time" in made and self.type(name) not in ("timestamp", None):
            message = f"makes a timestamp; the field's type is {self.type(name)}"
            yield Problem((*path, "event_time"), message)
        if "written" in made and made.get("event_time") is not True:
            yield Problem((*path, "written"), "needs `event_time: true` beside it", made["written"])
        field_ = self.fields.get(name, {})
        forms = (str(field_.get("format", "iso8601")), *texts(field_.get("also")))
        for i, form in enumerate(texts(made.get("written"))):
            if form not in forms:
                message = f"is no form in which {name} may be written"
                yield Problem((*path, "written", i), message, form, forms)
        if made.get("event_time") is False:
            yield Problem((*path, "event_time"), "can only be true", False)

    def _numbers(self, path: KeyPath, name: str, made: dict[str, Any]) -> Iterator[Problem]:
        for key in ("uniform", "lognormal", "cycle", "drain"):
            if key in made and name in self.fields and not is_number(self.type(name)):
                message = f"draws a number; the field's type is {self.type(name)}"
                yield Problem((*path, key), message, made[key])

    def _site(self, path: KeyPath, name: str, part: Any) -> Iterator[Problem]:
        if part is None:
            return
        if not self.raw.get("sites"):
            yield Problem(path, "needs `sites` in the simulator, at least one", part)
        kind = self.type(name)
        if part == "name" and kind not in ("string", None):
            yield Problem(path, f"makes a text; the field's type is {kind}", part)
        if part in ("latitude", "longitude") and kind not in ("double", "float", None):
            yield Problem(path, f"needs a double or float; the field's type is {kind}", part)

    def _episodes(self, generators: dict[str, Any]) -> Iterator[Problem]:
        episodes = items(self.raw.get("episodes"))
        yield from unique((*self.path, "episodes"), episodes)
        for i, given in enumerate(episodes):
            episode, path = _mapping(given), (*self.path, "episodes", i)
            yield from _episode_times(path, episode)
            for name, made in _mapping(episode.get("fields")).items():
                here: KeyPath = (*path, "fields", name)
                if name not in generators:
                    message = "is no field that the simulator makes"
                    yield Problem(here, message, name, tuple(generators))
                if "event_time" in _mapping(generators.get(name)):
                    yield Problem(here, "an episode changes no event time", name)
                how = [k for k in _INSTEAD if k in _mapping(made)]
                if len(how) != 1:
                    yield Problem(here, "a field is made in exactly one way", how, _INSTEAD)
                if crossed(_mapping(made).get("uniform")):
                    message = "the lower limit lies above the upper one"
                    yield Problem((*here, "uniform"), message, made["uniform"])
                yield from self._numbers(here, name, _mapping(made))

    def _cases(
        self, path: KeyPath, name: str, made: dict[str, Any], generators: dict[str, Any]
    ) -> Iterator[Problem]:
        by, cases = made.get("by"), _mapping(made.get("cases"))
        if ("by" in made) != ("cases" in made):
            yield Problem(path, "`by` and `cases` stand together", made.get("by"))
        if not isinstance(by, str) or "cases" not in made:
            return
        other = _mapping(generators.get(by))
        values = other.get("assigned", [other["constant"]] if "constant" in other else None)
        if not isinstance(values, list):
            kept = [n for n, g in generators.items() if {"assigned", "constant"} & set(_mapping(g))]
            message = "needs a field that the entity keeps: `assigned` or `constant`"
            yield Problem((*path, "by"), message, by, tuple(kept))
            return
        for value in dict.fromkeys(map(str, values)):
            if value not in cases:
                message = f"no case for the value {value!r} of {by}"
                yield Problem((*path, "cases"), message, value, tuple(cases))
        for case, generator in cases.items():
            here: KeyPath = (*path, "cases", case)
            given = [k for k in _GENERATORS if k in _mapping(generator)]
            if len(given) != 1 or given[0] not in _OF_A_CASE:
                yield Problem(here, "a case is drawn in exactly one way", given, _OF_A_CASE)
            yield from self._generator(here, name, _mapping(generator))

    def _weights(self, path: KeyPath, made: dict[str, Any]) -> Iterator[Problem]:
        weights, choice = made.get("weights"), made.get("choice")
        if "weights" in made and "choice" not in made:
            yield Problem((*path, "weights"), "needs `choice` beside it", weights)
        if isinstance(weights, list) and isinstance(choice, list) and len(weights) != len(choice):
            message = f"a weight for each value of `choice`: {len(choice)} of them, in their order"
            yield Problem((*path, "weights"), message, weights)

    def _lognormal(self, path: KeyPath, of: dict[str, Any]) -> Iterator[Problem]:
        for high in ("p95", "most"):
            if crossed([of.get("median"), of.get(high)]) or of.get("median") == of.get(high, ""):
                yield Problem((*path, high), "must lie above the median", of[high])

    def _networks(self, path: KeyPath, name: str, made: dict[str, Any]) -> Iterator[Problem]:
        if "ipv4" in made and self.type(name) not in ("string", None):
            yield Problem(path, f"makes a text; the field's type is {self.type(name)}")
        for i, network in enumerate(texts(made.get("ipv4"))):
            try:
                ipaddress.IPv4Network(network)
            except ValueError as error:
                message = f"is no network, such as 198.51.100.0/24: {error}"
                yield Problem((*path, i), message, network)

    def _faults(self, generators: dict[str, Any]) -> Iterator[Problem]:
        faults = _mapping(self.raw.get("faults"))
        path: KeyPath = (*self.path, "faults")
        shares = [_share(faults.get(kind)) for kind in _FAULTS]
        if sum(shares) > 1:
            message = "the shares together are more than 1; a message has one fault at most"
            yield Problem(path, message, round(sum(shares), 6))
        ranged = [name for name in generators if _limited(self.fields.get(name, {}))]
        if _share(faults.get("out_of_range")) > 0 and not ranged:
            message = "no number that is made has a `range`; declare one, or leave this fault out"
            yield Problem((*path, "out_of_range"), message, faults["out_of_range"])
        times = [n for n, made in generators.items() if _mapping(made).get("event_time") is True]
        if _share(faults.get("late")) > 0 and not times:
            message = "no field is made with `event_time: true`; without it nothing is late"
            yield Problem((*path, "late"), message)


class _Replay(_Part):
    path: KeyPath = ("producer", "replay")

    def problems(self) -> Iterator[Problem]:
        form = self.raw.get("format", "csv")
        form = form if isinstance(form, str) else ""
        columns, constants = (_mapping(self.raw.get(key)) for key in ("columns", "constants"))
        for part, names in (("columns", columns), ("constants", constants)):
            for name in names:
                yield from self.known((*self.path, part, name), name)
        for name, column in columns.items():
            yield from self._column((*self.path, "columns", name), name, column, form)
        for name in set(columns) & set(constants):
            message = "is filled by a column already"
            yield Problem((*self.path, "constants", name), message, constants[name])
        if "delimiter" in self.raw and form != "csv":
            message = f"only CSV has a delimiter; the format is {form}"
            yield Problem((*self.path, "delimiter"), message, self.raw["delimiter"])
        if columns:
            yield from self.made(set(columns) | set(constants))
        elif form in _JSON and isinstance(self.raw.get("columns", {}), dict):
            yield from self._as_it_stands(constants)
        elif form in ("csv", *LOG_FIELDS) and isinstance(self.raw.get("columns", {}), dict):
            message = f"the format {form} needs `columns`: which column fills which field"
            yield Problem((*self.path, "columns"), message, valid=tuple(self.fields))

    def _as_it_stands(self, constants: dict[str, Any]) -> Iterator[Problem]:
        yield from self.known((*self.path, "key"), self.raw.get("key"))
        for part in ("constants", "missing"):
            if self.raw.get(part):
                message = "needs `columns` beside it; without them messages are sent as they stand"
                yield Problem((*self.path, part), message, self.raw[part])

    def _column(self, path: KeyPath, name: str, raw: Any, form: Any) -> Iterator[Problem]:
        column = _mapping(raw)
        where = raw if isinstance(raw, str | list) else column.get("column")
        if form in LOG_FIELDS and isinstance(where, str) and where not in LOG_FIELDS[form]:
            yield Problem(path, f"is no part of a line of {form}", where, LOG_FIELDS[form])
        if isinstance(where, list) and form not in _JSON:
            message = f"a list of keys is a place in JSON; the format is {form}"
            yield Problem(path, message, where)
        pattern, zone = column.get("format"), column.get("zone")
        if isinstance(zone, str) and zone not in time_zones():
            valid = time_zones()
            yield Problem((*path, "zone"), "no such time zone", zone, valid)
        if pattern is not None and name in self.fields and self.type(name) != "timestamp":
            message = f"only a timestamp has a format; the field's type is {self.type(name)}"
            yield Problem((*path, "format"), message, pattern)
        if pattern is not None and form in LOG_FIELDS:
            message = "the time of a log is read without one; leave it out"
            yield Problem((*path, "format"), message, pattern)
        elif isinstance(pattern, str) and "%z" not in pattern and zone is None:
            message = "tells no zone; add `zone`, such as UTC"
            yield Problem((*path, "format"), message, pattern)
        if zone is not None and pattern is None:
            yield Problem((*path, "zone"), "needs a `format` beside it", zone)


def _episode_times(path: KeyPath, episode: dict[str, Any]) -> Iterator[Problem]:
    every = duration(episode.get("every"))
    lasts = [duration(limit) for limit in items(episode.get("lasts"))]
    if every == timedelta(0):
        yield Problem((*path, "every"), _NO_TIME, episode["every"])
    if len(lasts) != 2 or None in lasts:
        return
    least, most = (limit or timedelta(0) for limit in lasts)
    if least > most:
        message = "the shorter of the two comes first"
        yield Problem((*path, "lasts"), message, episode["lasts"])
    elif least == timedelta(0):
        yield Problem((*path, "lasts"), _NO_TIME, episode["lasts"])
    elif every and most > every:
        message = "is longer than `every`, in which one whole episode lies"
        yield Problem((*path, "lasts"), message, episode["lasts"])


def _share(fault: Any) -> float:
    share = _mapping(fault).get("share") if isinstance(fault, dict) else fault
    if not isinstance(share, int | float) or isinstance(share, bool):
        return 0.0
    return float(share) if 0 <= share <= 1 else 0.0


def _limited(field: dict[str, Any]) -> bool:
    limits = field.get("range")
    ends = limits if isinstance(limits, list) else []
    return is_number(field.get("type")) and any(isinstance(v, int | float) for v in ends)


def crossed(limits: Any) -> bool:
    """Tell whether a pair of limits has the larger one first."""
    return (
        isinstance(limits, list)
        and len(limits) == 2
        and all(isinstance(v, int | float) for v in limits)
        and bool(limits[0] > limits[1])
    )
