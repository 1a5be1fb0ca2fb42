"""Topics on Kafka: made as a stream needs them, told apart by id, measured by offsets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicDescription,
)

from streamkeeper.connections.kafka import CONNECTION, spark_kafka_options
from streamkeeper.errors import (
    KafkaUnavailable,
    SettingsError,
    StreamkeeperError,
    TopicDiffers,
    TopicMissing,
)
from streamkeeper.settings import Settings
from streamkeeper.spec.models import KafkaSource

log = logging.getLogger(__name__)
T = TypeVar("T")

TIMEOUT_S = 15.0
_TIME_TYPE, _CLEANUP = "message.timestamp.type", "cleanup.policy"
_TOPIC_CONFIG = {_TIME_TYPE: "LogAppendTime"}
_AWAY = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._RESOLVE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_CONTROLLER,
    }
)
# What the broker, or the client that looks at its certificate, does not accept.
_REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    }
)
# What brokers answer for a moment about a topic just made, or while its leader moves.
_MOVING = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)


class Admin(AdminClient):
    """An admin client that remembers its brokers' addresses for messages.

    Parameters: where, the settings, the bootstrap servers `host:port,...`, or a client's
    configuration with `bootstrap.servers`.
    Raises SettingsError when no address is set. The brokers are reached at the first call.
    """

    def __init__(self, where: Settings | str | Mapping[str, Any]) -> None:
        config = client_config(where)
        self.where = str(config["bootstrap.servers"])
        self.last_error = ""
        self.refusal: KafkaError | None = None
        # librdkafka would write a line to stderr for every attempt; the errors raised tell enough.
        super().__init__(config | {"error_cb": self._note}, logger=quiet_logger())

    def _note(self, error: KafkaError) -> None:
        self.last_error = error.str()
        if error.code() in _REFUSED:
            self.refusal = error


def client_config(where: Settings | str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a client's configuration; SettingsError when settings hold no address.

    Every client of Kafka in this project is configured by this function or by `source_options`.
    """
    if isinstance(where, Settings):
        return where.kafka_options | {"bootstrap.servers": where.need("kafka")}
    return {"bootstrap.servers": where} if isinstance(where, str) else dict(where)


def source_options(settings: Settings) -> dict[str, str]:
    """Return the options of Spark's Kafka source that say where the brokers are and how to log in.

    Raises SettingsError when no address is set, or a file of a key cannot be read.
    """
    java = spark_kafka_options(settings.kafka_options, _text_of)
    return java | {"kafka.bootstrap.servers": settings.need("kafka")}


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the connection {CONNECTION!r} names the file {path}, which cannot be read: {error}"
        ) from None


def is_away(error: KafkaError) -> bool:
    """Tell whether an error means that the brokers do not answer, not that they refuse."""
    return error.code() in _AWAY or error.code() in _MOVING


def unavailable(where: str, seconds: float, error: object) -> KafkaUnavailable:
    """Return the error for brokers that do not answer, with the next step."""
    return KafkaUnavailable(
        f"Kafka at {where} does not answer within {seconds:g} s: {error}; start the brokers "
        "(`make up`) or correct the connection kafka_default (STREAMKEEPER_KAFKA)"
    )


def refused(where: str, error: KafkaError) -> KafkaUnavailable:
    """Return the error for brokers that answer and refuse the connection, with the next step."""
    if error.code() == KafkaError._SSL:
        advice = "its security.protocol and ssl.ca.location"
    else:
        advice = "its sasl.mechanism, sasl.username and sasl.password"
    return KafkaUnavailable(
        f"Kafka at {where} refuses the connection {CONNECTION}: {error.str()}; correct {advice} "
        "(STREAMKEEPER_KAFKA_OPTIONS)"
    )


def ensure_topic(admin: AdminClient, source: KafkaSource, *, timeout_s: float = TIMEOUT_S) -> str:
    """Create the topic if it is missing, with the broker's time in every message.

    An existing topic with other partitions or replicas is used as it is, with a warning.
    Returns the topic's id.
    Raises TopicDiffers when an existing topic keeps the senders' times, or is compacted (offsets
    are missing) and not declared so, KafkaUnavailable when the brokers do not answer in time.
    """
    found = _describe(admin, [source.topic], timeout_s)[source.topic]
    created = found is None
    if found is None:
        _create(admin, source, timeout_s)
        found = _wait_for(admin, source.topic, timeout_s)
    _refuse_differences(admin, source, timeout_s)
    partitions = len(found.partitions)
    replicas = len(found.partitions[0].replicas)
    for what, is_there, declared in (
        ("partitions", partitions, source.partitions),
        ("replication", replicas, source.replication),
    ):
        if is_there != declared:
            log.warning(
                "the topic %s has %s %d, declared is %d; it is used as it is",
                *(source.topic, what, is_there, declared),
            )
    if created:
        log.info("created the topic %s, id %s", source.topic, found.topic_id)
    return str(found.topic_id)


def topic_id(admin: AdminClient, topic: str, *, timeout_s: float = TIMEOUT_S) -> str:
    """Return the id of a topic, which a topic made again under its name does not share.

    Raises TopicMissing, KafkaUnavailable.
    """
    return str(_existing(admin, topic, timeout_s).topic_id)


def end_offsets(
    admin: AdminClient, topic: str, *, timeout_s: float = TIMEOUT_S
) -> tuple[str, dict[int, int]]:
    """Return a topic's id and, by partition, the offset that the next message will get.

    Raises TopicMissing, KafkaUnavailable.
    """
    return _offsets(admin, topic, OffsetSpec.latest(), timeout_s)


def begin_offsets(
    admin: AdminClient, topic: str, *, timeout_s: float = TIMEOUT_S
) -> tuple[str, dict[int, int]]:
    """Return a topic's id and, by partition, the first offset that is still kept.

    Raises TopicMissing, KafkaUnavailable.
    """
    return _offsets(admin, topic, OffsetSpec.earliest(), timeout_s)


def offsets_at(
    admin: AdminClient, topic: str, instant: datetime, *, timeout_s: float = TIMEOUT_S
) -> tuple[str, dict[int, int]]:
    """Return a topic's id and, by partition, its first message of an instant or later.

    A partition without such a message is left out.
    Raises TopicMissing, KafkaUnavailable.
    """
    which = OffsetSpec.for_timestamp(int(instant.timestamp() * 1000))
    ident, found = _offsets(admin, topic, which, timeout_s)
    return ident, {p: offset for p, offset in found.items() if offset >= 0}


def end_offsets_of(
    admin: AdminClient, topics: Iterable[str], *, timeout_s: float = TIMEOUT_S
) -> dict[str, tuple[str, dict[int, int]]]:
    """Return id and end offsets of many topics in one call; missing topics are left out.

    Raises KafkaUnavailable.
    """
    there = {n: d for n, d in _describe(admin, topics, timeout_s).items() if d is not None}
    return _list(admin, there, OffsetSpec.latest(), timeout_s)


def _offsets(
    admin: AdminClient, topic: str, which: OffsetSpec, timeout_s: float
) -> tuple[str, dict[int, int]]:
    return _list(admin, {topic: _existing(admin, topic, timeout_s)}, which, timeout_s)[topic]


def _list(
    admin: AdminClient, topics: Mapping[str, TopicDescription], which: OffsetSpec, timeout_s: float
) -> dict[str, tuple[str, dict[int, int]]]:
    asked = {
        TopicPartition(name, partition.id): which
        for name, description in topics.items()
        for partition in description.partitions
    }
    found: dict[str, tuple[str, dict[int, int]]] = {
        name: (str(description.topic_id), {}) for name, description in topics.items()
    }
    deadline = time.monotonic() + timeout_s
    while asked:
        answers = _ask(
            admin, timeout_s, lambda: admin.list_offsets(asked, request_timeout=timeout_s)
        )
        for place, future in answers.items():
            try:
                found[place.topic][1][place.partition] = future.result(timeout_s + 1).offset
                del asked[place]
            except Exception as error:
                if _code(error) not in _MOVING or time.monotonic() > deadline:
                    raise _told(admin, error, timeout_s) from error
        if asked:
            time.sleep(0.1)
    return {name: (ident, dict(sorted(by.items()))) for name, (ident, by) in found.items()}


def _existing(admin: AdminClient, topic: str, timeout_s: float) -> TopicDescription:
    found = _describe(admin, [topic], timeout_s)[topic]
    if found is None:
        raise TopicMissing(
            f"Kafka at {_where(admin)} has no topic {topic!r}; "
            "the keep__ DAG and `streamkeeper produce` create it"
        )
    return found


def _describe(
    admin: AdminClient, topics: Iterable[str], timeout_s: float
) -> dict[str, TopicDescription | None]:
    names = TopicCollection(list(topics))
    futures = _ask(
        admin, timeout_s, lambda: admin.describe_topics(names, request_timeout=timeout_s)
    )
    found: dict[str, TopicDescription | None] = {}
    for name, future in futures.items():
        try:
            found[name] = future.result(timeout=timeout_s + 1)
        except Exception as error:
            if _code(error) != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise _told(admin, error, timeout_s) from error
            found[name] = None
    return found


def _create(admin: AdminClient, source: KafkaSource, timeout_s: float) -> None:
    topic = NewTopic(
        source.topic,
        num_partitions=source.partitions,
        replication_factor=source.replication,
        config=_TOPIC_CONFIG | ({_CLEANUP: "compact"} if source.kind == "compacted" else {}),
    )
    futures = _ask(
        admin,
        timeout_s,
        lambda: admin.create_topics(
            [topic], operation_timeout=timeout_s, request_timeout=timeout_s
        ),
    )
    try:
        futures[source.topic].result(timeout=timeout_s + 1)
    except Exception as error:
        # Another process was faster; what it made is looked at like any existing topic.
        if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
            raise _told(admin, error, timeout_s) from error


def _wait_for(admin: AdminClient, topic: str, timeout_s: float) -> TopicDescription:
    """Return the description of a topic just made: brokers learn of it a moment later."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = _describe(admin, [topic], timeout_s)[topic]
        if found is not None and found.partitions:
            return found
        time.sleep(0.05)
    raise unavailable(_where(admin), timeout_s, f"the new topic {topic} does not appear")


def largest_batch(admin: AdminClient, topic: str, *, timeout_s: float = TIMEOUT_S) -> int:
    """Return how many bytes a batch of messages may have in a topic; raises KafkaUnavailable."""
    config = _config_of(admin, topic, timeout_s)
    return min(int(config[name].value) for name in ("max.message.bytes", "segment.bytes"))


def _config_of(admin: AdminClient, topic: str, timeout_s: float) -> Mapping[str, Any]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    futures = _ask(
        admin, timeout_s, lambda: admin.describe_configs([resource], request_timeout=timeout_s)
    )
    return _result(admin, futures[resource], timeout_s)


def _refuse_differences(admin: AdminClient, source: KafkaSource, timeout_s: float) -> None:
    config = _config_of(admin, source.topic, timeout_s)
    wrong, compacted = [], "compact" in config[_CLEANUP].value
    if config[_TIME_TYPE].value != _TOPIC_CONFIG[_TIME_TYPE]:
        wrong.append(f"{_TIME_TYPE} is {config[_TIME_TYPE].value}, needed is LogAppendTime")
    if compacted and source.kind != "compacted":
        wrong.append(
            f"{_CLEANUP} is {config[_CLEANUP].value}, needed is delete (or declare "
            "source.kafka.kind: compacted)"
        )
    if source.kind == "compacted" and not compacted:
        log.warning("the topic %s is declared compacted, but keeps all messages", source.topic)
    if wrong:
        raise TopicDiffers(
            f"the topic {source.topic!r} at {_where(admin)} is there, but {'; '.join(wrong)}; "
            "change it with kafka-configs --alter, or declare another topic"
        )


def _ask(admin: AdminClient, timeout_s: float, call: Callable[[], dict[Any, T]]) -> dict[Any, T]:
    try:
        return call()
    except KafkaException as error:
        raise _told(admin, error, timeout_s) from error


def _result(admin: AdminClient, future: Future[T], timeout_s: float) -> T:
    try:
        return future.result(timeout=timeout_s + 1)
    except Exception as error:
        raise _told(admin, error, timeout_s) from error


def _told(admin: AdminClient, error: Exception, timeout_s: float) -> StreamkeeperError:
    reason = error.args[0] if error.args else error
    if isinstance(reason, KafkaError) and not is_away(reason):
        return StreamkeeperError(f"Kafka at {_where(admin)} refuses: {reason.str()}")
    admin.poll(0)  # serves the callback that notes why connections fail
    if refusal := getattr(admin, "refusal", None):
        return refused(_where(admin), refusal)
    text = reason.str() if isinstance(reason, KafkaError) else str(reason)
    return unavailable(_where(admin), timeout_s, getattr(admin, "last_error", "") or text)


def _code(error: Exception) -> int | None:
    reason = error.args[0] if error.args else None
    return reason.code() if isinstance(reason, KafkaError) else None


def _where(admin: AdminClient) -> str:
    return str(getattr(admin, "where", "the brokers of kafka_default"))


def quiet_logger() -> logging.Logger:
    """Return a logger that says nothing, for librdkafka's own lines."""
    quiet = logging.getLogger("librdkafka")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    return quiet
