"""The texts of a report: subject and Markdown, in the report's language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from streamkeeper.hours import HOUR
from streamkeeper.reports import AnomalyTable, Broken, Cell, HourReport, KpiTable
from streamkeeper.texts import Language

_LONGEST_TEXT = 120
_SPECIAL = re.compile(r"[\\`*\[\]<>|&~!#]|(?<![^\W_])_|_(?![^\W_])")


def subject(report: HourReport) -> str:
    """Return the mail's subject: `[2 alerts] temperature 14:00`, without a bracket if all is well.

    The number is that of the conditions broken; the time is the hour's start in UTC.
    """
    number = len(report.broken)
    bracket = f"[{Language(report.language).counted('alerts', number)}] " if number else ""
    return f"{bracket}{report.stream} {report.hour:%H:%M}"


def plain(value: str, longest: int = _LONGEST_TEXT) -> str:
    """Return a value as one line of printable text, shortened to `longest` characters."""
    text = "".join(
        " " if c.isspace() else "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c
        for c in value
    )
    return text if len(text) <= longest else text[: longest - 1] + "…"


def escape(value: str) -> str:
    """Return a value as Markdown that shows it as it is, also within a table."""
    return _SPECIAL.sub(r"\\\g<0>", plain(value))


def show(value: Cell, language: Language) -> str:
    """Write a value for people, as Markdown: 12,345 and 23.46; a dash for null."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return language.text("yes" if value else "no")
    return language.number(value) if isinstance(value, int | float) else escape(value)


def markdown(report: HourReport, picture: str | None = None) -> str:
    """Return the report in Markdown.

    Parameters: picture, the file name of the picture beside it.
    """
    language = Language(report.language)
    parts = [
        f"# {escape(report.title)}",
        _first_line(report, language),
        *_partial(report, language),
        *_alerts(report, language),
    ]
    for anomalies in report.anomalies:
        if anomalies.judged:
            parts += _anomalies(anomalies, language)
    if not report.valid:
        parts.append(language.text("nothing"))
    elif picture:
        alt = language.text("picture", title=escape(report.title))
        parts.append(f"![{alt}]({picture})")
    for table in report.tables:
        if table.rows:
            parts += _kpi_texts(table, language)
    parts += _records(report, language)
    return "\n\n".join(parts) + "\n"


def _first_line(report: HourReport, language: Language) -> str:
    period = language.text(
        "period",
        date=language.date(report.hour),
        start=f"{report.hour:%H:%M}",
        end=f"{report.hour + HOUR:%H:%M}",
    )
    state = language.text(f"state.{report.state}")
    told = [
        f"**{period}**",
        language.counted("readings", report.valid),
        language.text("revision", number=report.revision, state=state),
    ]
    return " · ".join(told)


def _partial(report: HourReport, language: Language) -> Iterable[str]:
    if report.state != "partial":
        return
    told = [language.text("partial", reason=escape(language.reason(report.reason)))]
    for partition, holes in sorted(report.missing.items()):
        offsets = ", ".join(
            language.text("offsets", first=language.number(first), last=language.number(end - 1))
            for first, end in holes
        )
        told.append(language.text("lacks", partition=partition, offsets=offsets))
    yield "> " + " ".join(told)


def _alerts(report: HourReport, language: Language) -> Iterable[str]:
    if not report.broken:
        return
    yield f"## {language.counted('alerts', len(report.broken))}"
    for broken in report.broken:
        yield f"### {_broken_line(broken, report.valid, language)}"
        if broken.count == 1:
            yield language.text("worst.only")
        elif broken.count > len(broken.rows):
            yield language.text("worst.few", count=len(broken.rows))
        else:
            yield language.text("worst.all")
        yield _table(broken.columns, broken.rows, language)


def _anomalies(table: AnomalyTable, language: Language) -> Iterable[str]:
    yield f"## {escape(heading(table.name))}"
    told = language.text(
        "anomalies.of",
        count=language.counted("anomalies", table.found),
        rows=language.counted("kpi_rows", table.judged),
        of=escape(table.of),
    )
    if table.unknown:
        told += " " + language.counted("anomalies.unknown", table.unknown)
    yield told
    if not table.rows:
        return
    if table.found > len(table.rows):
        yield language.text("anomalies.few", count=len(table.rows))
    yield _table(_headers(table), table.rows, language)


def _headers(table: AnomalyTable | KpiTable) -> list[str]:
    return [f"{c} ({table.units[c]})" if c in table.units else c for c in table.columns]


def _broken_line(broken: Broken, valid: int, language: Language) -> str:
    of_readings = broken.of == "readings"
    count = language.counted("readings" if of_readings else "kpi_rows", broken.count)
    if of_readings:
        count = language.text("of_all", count=count, share=language.share(broken.count / valid))
    return language.text("broken", condition=escape(broken.condition), count=count)


def _kpi_texts(table: KpiTable, language: Language) -> Iterable[str]:
    yield f"## {escape(heading(table.name))}"
    headers = _headers(table)
    if table.kind == "single":
        names = language.text("measure"), language.text("value")
        yield _table(names, tuple(zip(headers, table.rows[0], strict=True)), language)
    else:
        yield _table(headers, table.rows, language)


def heading(name: str) -> str:
    """Return a declared name as a heading: `by_city` is `By city`."""
    return name.replace("_", " ").capitalize()


def _records(report: HourReport, language: Language) -> Iterable[str]:
    yield f"## {language.text('records.heading')}"
    counts: list[tuple[str, Cell]] = [
        ("read", report.valid + report.quarantined),
        ("valid", report.valid),
        ("added", report.added),
        ("quarantined", report.quarantined),
    ]
    rows = [(language.text(f"records.{name}"), n) for name, n in counts]
    for rule, n in report.quarantined_by_rule.items():
        rows.append((language.text("records.rule", rule=rule), n))
    yield _table((language.text("records"), language.text("number")), rows, language)
    yield language.text("closed", time=language.moment(report.closed_at))


def _table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], language: Language) -> str:
    numeric = [
        any(_is_number(row[i]) for row in rows)
        and all(_is_number(row[i]) or row[i] is None for row in rows)
        for i in range(len(headers))
    ]
    lines = [
        _line([escape(header) for header in headers]),
        _line(["---:" if right else "---" for right in numeric]),
        *(_line([show(value, language) for value in row]) for row in rows),
    ]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _is_number(value: Cell) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
