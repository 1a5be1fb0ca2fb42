"""What reports say, in each language that they speak: one catalogue; numbers and dates."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

LanguageName = Literal["en", "fr"]
_THIN = "\u202f"  # French sets it between thousands, and before the percent sign and the colon

# Each text by its key and language. What ends with `.one` is of one thing, with `.many` of several.
CATALOGUE: dict[str, dict[LanguageName, str]] = {
    "alerts.one": {"en": "{count} alert", "fr": "{count} alerte"},
    "alerts.many": {"en": "{count} alerts", "fr": "{count} alertes"},
    "period": {
        "en": "{date}, {start} to {end} UTC",
        "fr": "{date}, de {start} à {end} UTC",
    },
    "readings.one": {"en": "{count} reading", "fr": "{count} mesure"},
    "readings.many": {"en": "{count} readings", "fr": "{count} mesures"},
    "kpi_rows.one": {"en": "{count} KPI row", "fr": "{count} ligne d'indicateurs"},
    "kpi_rows.many": {"en": "{count} KPI rows", "fr": "{count} lignes d'indicateurs"},
    "anomalies.one": {"en": "{count} anomaly", "fr": "{count} anomalie"},
    "anomalies.many": {"en": "{count} anomalies", "fr": "{count} anomalies"},
    "anomalies.of": {
        "en": "{count} in {rows} of {of}, compared with the hours before.",
        "fr": "{count} sur {rows} de {of}, par rapport aux heures précédentes.",
    },
    "anomalies.unknown.one": {
        "en": "{count} row could not be judged.",
        "fr": "{count} ligne n'a pas pu être jugée.",
    },
    "anomalies.unknown.many": {
        "en": "{count} rows could not be judged.",
        "fr": "{count} lignes n'ont pas pu être jugées.",
    },
    "anomalies.few": {
        "en": "The {count} farthest ones:",
        "fr": "Les {count} plus éloignées\u202f:",
    },
    "revision": {"en": "revision {number}, {state}", "fr": "révision {number}, {state}"},
    "state.complete": {"en": "complete", "fr": "complète"},
    "state.partial": {"en": "partial", "fr": "partielle"},
    "partial": {
        "en": "This hour is partial: {reason}.",
        "fr": "Cette heure est partielle\u202f: {reason}.",
    },
    "lacks": {
        "en": "Partition {partition} lacks the offsets {offsets}.",
        "fr": "Il manque à la partition {partition} les offsets {offsets}.",
    },
    "offsets": {"en": "{first} to {last}", "fr": "{first} à {last}"},
    "of_all": {"en": "{count}, {share} of all", "fr": "{count}, {share} du total"},
    "broken": {"en": "{condition}: {count}", "fr": "{condition}\u202f: {count}"},
    "worst.only": {"en": "It was:", "fr": "La voici\u202f:"},
    "worst.all": {"en": "Worst first:", "fr": "La pire d'abord\u202f:"},
    "worst.few": {"en": "The {count} worst:", "fr": "Les {count} pires\u202f:"},
    "above": {"en": "{what} above {limit}", "fr": "{what} au-dessus de {limit}"},
    "below": {"en": "{what} below {limit}", "fr": "{what} en dessous de {limit}"},
    "where": {"en": "{condition} where {where}", "fr": "{condition} où {where}"},
    "nothing": {
        "en": "No readings of this hour have landed, so it has no KPIs.",
        "fr": "Aucune mesure de cette heure n'est arrivée\u202f: il n'y a donc pas d'indicateurs.",
    },
    "picture": {
        "en": "{title}: the hour in pictures",
        "fr": "{title}\u202f: l'heure en images",
    },
    "measure": {"en": "measure", "fr": "indicateur"},
    "value": {"en": "value", "fr": "valeur"},
    "yes": {"en": "yes", "fr": "oui"},
    "no": {"en": "no", "fr": "non"},
    # The table of records
    "records.heading": {"en": "Records", "fr": "Messages"},
    "records": {"en": "records", "fr": "messages"},
    "number": {"en": "number", "fr": "nombre"},
    "records.read": {
        "en": "read: valid and quarantined",
        "fr": "lus\u202f: valides et mis en quarantaine",
    },
    "records.valid": {
        "en": "valid readings of this hour, by event time",
        "fr": "mesures valides de cette heure, par heure de mesure",
    },
    "records.added": {
        "en": "of these: new in this revision",
        "fr": "parmi elles\u202f: nouvelles dans cette révision",
    },
    "records.quarantined": {
        "en": "quarantined records that arrived in this hour",
        "fr": "messages mis en quarantaine, arrivés dans cette heure",
    },
    "records.rule": {"en": "of these: {rule}", "fr": "parmi eux\u202f: {rule}"},
    "closed": {
        "en": "Closed {time} UTC. Times are UTC.",
        "fr": "Clôturée le {time} UTC. Les heures sont en UTC.",
    },
    "footer": {"en": "Streamkeeper, stream {stream}", "fr": "Streamkeeper, flux {stream}"},
    # Why an hour is partial. Revisions keep the English text.
    "reason.no_look": {
        "en": "no look at the topic's end was taken yet",
        "fr": "la fin du topic n'a pas encore été relevée",
    },
    "reason.never_launched": {
        "en": "the stream has never been launched",
        "fr": "le flux n'a jamais été lancé",
    },
    "reason.replaced": {
        "en": "the topic was replaced: its id is {topic_id}, the generation began with {began}",
        "fr": "le topic a été remplacé\u202f: son id est {topic_id}, la génération a commencé avec "
        "{began}",
    },
    "reason.not_landed": {
        "en": "some offsets have not landed yet",
        "fr": "des offsets ne sont pas encore arrivés",
    },
    "reason.reading_again": {
        "en": "some offsets have not landed yet; generation {generation} counts once it has read "
        "{spans}",
        "fr": "des offsets ne sont pas encore arrivés\u202f; la génération {generation} comptera "
        "quand elle aura lu {spans}",
    },
    # Measures; `of` is what stands behind `mean`, or behind `moyenne`.
    "of": {"en": "{what}", "fr": "de {what}"},
    "of.vowel": {"en": "{what}", "fr": "d'{what}"},
    "the_readings": {"en": "readings", "fr": "mesures"},
    "different": {"en": "different {what}", "fr": "valeurs différentes {what}"},
    "avg": {"en": "mean {what}", "fr": "moyenne {what}"},
    "max": {"en": "highest {what}", "fr": "maximum {what}"},
    "min": {"en": "lowest {what}", "fr": "minimum {what}"},
    "sum": {"en": "sum of {what}", "fr": "somme {what}"},
    "count": {"en": "count of {what}", "fr": "nombre {what}"},
    "stddev": {"en": "spread of {what}", "fr": "écart type {what}"},
    "median": {"en": "median {what}", "fr": "médiane {what}"},
    "approx_count_distinct": {
        "en": "about how many different {what}",
        "fr": "nombre approché de valeurs différentes {what}",
    },
    # The picture
    "bars": {"en": "{measure} by {keys}", "fr": "{measure} par {keys}"},
    "bars.first": {
        "en": "{title}, first {shown} of {all}",
        "fr": "{title}, les {shown} premiers sur {all}",
    },
    "limit.above": {"en": "above {limit}: alert", "fr": "au-dessus de {limit}\u202f: alerte"},
    "limit.below": {"en": "below {limit}: alert", "fr": "en dessous de {limit}\u202f: alerte"},
    "none": {"en": "(none)", "fr": "(aucun)"},
    "course": {
        "en": "The hour in windows of {seconds} s",
        "fr": "L'heure en fenêtres de {seconds}\u202fs",
    },
    "course.keys": {
        "en": "{title}: mean line, band from the lowest to the highest {keys}",
        "fr": "{title}\u202f: moyenne en trait, bande du plus bas au plus haut par {keys}",
    },
}
MEASURES = (
    "avg", "max", "min", "sum", "count", "stddev", "median", "approx_count_distinct",
)  # fmt: skip
"""The functions that have a text; measures of others are shown as declared."""
_MONTHS: dict[LanguageName, str] = {
    "en": "January February March April May June July August September October November December",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
}
_PLACE = re.compile(r"\\\{(\w+)\\\}")  # of an escaped text


class Language:
    """One language: its texts, numbers and dates.

    Parameters: name, `en` or `fr`.
    """

    def __init__(self, name: LanguageName = "en") -> None:
        self.name = name
        self._french = name == "fr"

    def text(self, key: str, **values: object) -> str:
        """Return a text with its places filled; KeyError for a key that is none."""
        return CATALOGUE[key][self.name].format(**values)

    def counted(self, key: str, count: int) -> str:
        """Return a number of things, such as `1 alert` or `12,345 readings`."""
        one = count < 2 if self._french else count == 1
        return self.text(f"{key}.{'one' if one else 'many'}", count=self.number(count))

    def of(self, what: str) -> str:
        """Return what a measure is of, with French's `de` or `d'`."""
        vowel = what[:1].lower() in tuple("aeéèêiouyh")
        return self.text("of.vowel" if vowel else "of", what=what)

    def reason(self, stored: str) -> str:
        """Return why an hour is partial, of the English text that its revision keeps.

        A text that no catalogue has, such as that of an older version, stays as it is.
        """
        for key in sorted((k for k in CATALOGUE if k.startswith("reason.")), key=_longest_first):
            plain = re.escape(CATALOGUE[key]["en"])
            if found := re.fullmatch(_PLACE.sub(r"(?P<\1>.+)", plain), stored):
                return self.text(key, **found.groupdict())
        return stored

    # Numbers and dates
    def number(self, value: float) -> str:
        """Write a number: `12,345` and `23.46`, in French `12 345` and `23,46`."""
        return self._written(f"{value:,}" if isinstance(value, int) else f"{value:,.2f}")

    def short(self, value: float) -> str:
        """Write a number with as few digits as it has, such as a limit: `40` or `0.25`."""
        return self._written(f"{value:g}")

    def exact(self, text: str) -> str:
        """Write a decimal, whose digits are all kept."""
        return self._written(text)

    def share(self, value: float) -> str:
        """Write a share of 1 as a percentage: `12.5%`, in French `12,5 %`."""
        text = self._written(f"{value:.1%}")
        return text.replace("%", f"{_THIN}%") if self._french else text

    def _written(self, text: str) -> str:
        return text.translate({44: _THIN, 46: ","}) if self._french else text

    def date(self, day: datetime) -> str:
        """Write a day: `24 November 2026`, in French `24 novembre 2026` and `1er novembre 2026`."""
        number = "1er" if self._french and day.day == 1 else f"{day:%d}"
        if self._french:
            number = number.lstrip("0")
        return f"{number} {_MONTHS[self.name].split()[day.month - 1]} {day.year}"

    def moment(self, at: datetime) -> str:
        """Write an instant in UTC: `2026-11-24 14:00:00`, in French `24/11/2026 14:00:00`."""
        form = "%d/%m/%Y %H:%M:%S" if self._french else "%Y-%m-%d %H:%M:%S"
        return at.astimezone(UTC).strftime(form)


def _longest_first(key: str) -> int:
    return -len(CATALOGUE[key]["en"])


def english(key: str, **values: object) -> str:
    """Return a text of the catalogue in English, in which revisions keep it."""
    return Language().text(key, **values)
