"""Streamkeeper's errors.

StreamkeeperError
├── DeclarationError       a stream's YAML file is wrong (all its mistakes at once)
├── ExpressionError        an expression of a declaration is outside the subset of SQL
├── SettingsError          an address or a folder is missing or malformed
├── OptionsError           options of a data source are wrong (all mistakes at once)
├── Unavailable            something outside does not answer; try again later
│   ├── StoreUnavailable
│   ├── KafkaUnavailable
│   ├── LakeUnavailable
│   ├── CassandraUnavailable
│   └── PostgresUnavailable
├── Disagreement           two records of one fact differ; a person must decide
│   ├── LakeDisagreement   checkpoint and lake tell different spans for one batch
│   ├── OffsetsLost        messages were deleted before they were read
│   ├── TopicReplaced      the topic's id is not the one that the generation began with
│   ├── TopicDiffers       the topic exists with a configuration that loses or doubles
│   └── TableDiffers       a sink's table exists with other columns
├── CheckFailed            a record broke a check that ends the stream; a person must decide
├── TopicMissing           the topic is not there
├── Fenced                 a newer launch took this one's place
├── RevisionConflict       another close committed this revision first
├── LaunchConflict         another launch holds the lock of this name
└── RequestConflict        someone else asked for a new generation at the same time
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

_SHOWN_VALID = 12


class StreamkeeperError(Exception):
    """Base of every error that Streamkeeper raises on purpose."""


@dataclass(frozen=True)
class Mistake:
    """One mistake of a file: where it stands, what is wrong, and what would be right."""

    file: str
    line: int | None
    key: str
    message: str
    value: str = ""
    valid: tuple[str, ...] = ()
    nearest: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{where}: {self.key + ': ' if self.key else ''}{self.value}{self.message}"
        if self.valid:
            more = ", ..." if len(self.valid) > _SHOWN_VALID else ""
            text += f"; valid: {', '.join(self.valid[:_SHOWN_VALID])}{more}"
        return text + (f"; did you mean {self.nearest!r}?" if self.nearest else "")


class DeclarationError(StreamkeeperError):
    """A declaration has mistakes; `mistakes` lists all of them."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(m) for m in mistakes))


class ExpressionError(StreamkeeperError, ValueError):
    """An expression is outside the subset of SQL that declarations may use.

    `problem` tells what is wrong, `asked` the name that nothing has, `valid` the names instead.
    """

    def __init__(self, problem: str, asked: str = "", valid: tuple[str, ...] = ()) -> None:
        self.problem, self.asked, self.valid = problem, asked, valid
        nearest = difflib.get_close_matches(asked, valid, n=1) if asked else []
        self.nearest = nearest[0] if nearest else None
        super().__init__(problem)

    def __str__(self) -> str:
        text = f"{self.problem}: {self.asked}" if self.asked else self.problem
        if self.valid:
            text += f"; valid: {', '.join(self.valid[:_SHOWN_VALID])}"
        return text + (f"; did you mean {self.nearest!r}?" if self.nearest else "")


class OptionsError(StreamkeeperError):
    """A data source was given wrong options; `mistakes` lists all of them."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(m) for m in mistakes))


class SettingsError(StreamkeeperError):
    """A setting is missing or malformed."""


class Unavailable(StreamkeeperError):
    """Something outside does not answer; the same call may go through later."""


class StoreUnavailable(Unavailable):
    """The store (PostgreSQL) does not answer."""


class KafkaUnavailable(Unavailable):
    """The Kafka brokers do not answer."""


class LakeUnavailable(Unavailable):
    """HDFS does not answer."""


class CassandraUnavailable(Unavailable):
    """Cassandra does not answer."""


class PostgresUnavailable(Unavailable):
    """The PostgreSQL database of a sink does not answer."""


class Disagreement(StreamkeeperError):
    """Two records of one fact differ; nothing is changed until a person decides."""


class LakeDisagreement(Disagreement):
    """The checkpoint and the lake tell different spans for one batch."""


class OffsetsLost(Disagreement):
    """Messages were deleted before they were read: retention, or a topic that was emptied."""


class TopicReplaced(Disagreement):
    """The topic was deleted and made again under the same name."""


class TopicDiffers(Disagreement):
    """The topic exists with a configuration under which the ledger cannot hold."""


class TableDiffers(Disagreement):
    """A sink's table exists with columns other than the declared ones."""


class CheckFailed(StreamkeeperError):
    """A record broke a check declared with `on_fail: fail`; its batch is not published."""


class TopicMissing(StreamkeeperError):
    """The topic is not there."""


class Fenced(StreamkeeperError):
    """A newer launch took this one's place; what it holds in hand must not count."""


class RevisionConflict(StreamkeeperError):
    """Another close committed this revision of the hour first."""


class LaunchConflict(StreamkeeperError):
    """Another launch holds the lock of this name."""


class RequestConflict(StreamkeeperError):
    """Someone else asked for new generations of this stream at the same time."""
