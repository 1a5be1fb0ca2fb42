"""Files of a watched folder with records of every size, against what real brokers take."""

from __future__ import annotations

import random
import secrets
from pathlib import Path

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from drivers import wait_for
from topics import InThread, declare, read_topic, run_producer

from streamkeeper.files import FileEntry
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec
from streamkeeper_apps.producer.folder import log
from streamkeeper_apps.producer.folder.ledger import Ledger
from streamkeeper_io.kafka import Admin, ensure_topic, largest_batch

DECLARATION = Path(__file__).parents[2] / "include" / "streams" / "building_files.yaml"
SIGNS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
DRAW = random.Random(7)
KAFKAS_OWN = 1_048_588


class Sized:
    """A stream of a folder, whose topic takes messages up to a size."""

    def __init__(self, settings: Settings, folder: Path, takes: int) -> None:
        given = load_spec(DECLARATION).dump()
        given["name"] = given["app"] = f"sized_{secrets.token_hex(4)}"
        given["source"]["kafka"]["topic"] = self.topic = given["name"]
        given["producer"]["folder"] |= {"every": "200ms", "settle": "300ms", "give_up": "1s"}
        self.spec = Spec.model_validate(given)
        declare(self.spec, folder / "declared")
        self.settings = settings.model_copy(
            update={"streams": folder / "declared", "files": folder}
        )
        self.folder = folder / "sensor_data"
        self.folder.mkdir()
        self.records: dict[str, list[bytes]] = {}
        self.admin = Admin(settings)
        ensure_topic(self.admin, self.spec.source.kafka)
        self.take(takes)

    def take(self, size: int) -> None:
        """Let the topic take messages up to so many bytes."""
        resource = ConfigResource(ResourceType.TOPIC, self.topic)
        resource.add_incremental_config(
            ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        )
        self.admin.incremental_alter_configs([resource])[resource].result(10)
        wait_for(lambda: largest_batch(self.admin, self.topic) == size, "the topic's limit", 10)

    def drop(self, path: str, *sizes: int) -> None:
        """Drop a file of records of these sizes, whole, of signs that no packing makes less."""
        drawn = ("".join(DRAW.choices(SIGNS, k=size - 17)) for size in sizes)
        rows = [b'{"device_id": "%s"}' % text.encode() for text in drawn]
        hidden = self.folder / f".{path}"
        hidden.write_bytes(b"\n".join(rows))
        hidden.rename(self.folder / path)
        self.records[path] = rows

    def entries(self) -> dict[str, FileEntry]:
        ledger = Ledger(self.settings, self.spec, 15)
        ledger.refresh()
        return ledger.entries

    def check(self, refused: dict[str, str]) -> None:
        """All files are in the topic whole and in their order, but for those refused, and why."""
        topic, entries = read_topic(self.settings, self.topic), self.entries()
        for path, records in self.records.items():
            found = [m.value for m in topic if m.headers["file"].decode() == path]
            assert found == ([] if path in refused else records), path
            assert entries[path].state == ("refused" if path in refused else "sent"), entries[path]
            assert entries[path].records == len(found)
            assert refused.get(path, "") in entries[path].why


@pytest.mark.parametrize("takes", [20_000, KAFKAS_OWN, 3_000_000])
def test_what_the_topic_takes_is_sent_and_a_file_with_more_is_refused(
    settings: Settings, tmp_path: Path, takes: int
) -> None:
    sized = Sized(settings, tmp_path, takes)
    # Headers and what Kafka puts around a record, as its protocol says; the number has 13 digits.
    around = 61 + 15 + sum(len(h) + 5 for h in ("sent_at", "file", "sha256", "record"))
    largest = takes - around - 13 - len("exact.json") - 64 - 13
    sized.drop("exact.json", 60, largest, 61, largest)
    sized.drop("above.json", 60, largest + 1)
    sized.drop("many.json", *[300] * 5_000)
    run_producer(sized.settings, "folder", sized.spec.name, "--once")
    sized.check({"above.json": f"the topic takes {largest:,} bytes as a record of this file"})


def test_a_topic_that_takes_less_while_the_producer_runs(
    settings: Settings, tmp_path: Path
) -> None:
    sized = Sized(settings, tmp_path, KAFKAS_OWN)
    watching = InThread(sized.settings, ["folder", sized.spec.name])
    try:
        watching.says("looked at every")
        sized.take(5_000)
        # The client would still put a million bytes into a batch.
        sized.drop("many.json", *[300] * 6_000)
        sized.drop("large.json", 60, 6_000)
        wait_for(lambda: len(sized.entries()) == 2, "both verdicts", 30)
        sized.take(10_000)
        sized.drop("larger.json", 60, 6_000)
        wait_for(lambda: len(sized.entries()) == 3, "the third verdict", 30)
        watching.stop()
        assert watching.code() == 0, watching.said
    finally:
        watching.end()
    sized.check({"large.json": "as a record of this file"})


def test_what_brokers_refuse_against_their_own_word(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is taken back, and after a second try only that file is refused."""
    sized = Sized(settings, tmp_path, 20_000)
    monkeypatch.setattr(log, "largest_batch", lambda *topic, **wait: KAFKAS_OWN)
    sized.drop("a.json", 60, 61)
    sized.drop("b.json", 60, 30_000, 61)
    sized.drop("c.json", 60, 61)
    said = run_producer(sized.settings, "folder", sized.spec.name, "--once")
    told = "Kafka does not take a record of 30,000 bytes: Broker: Message size too large"
    assert f"b.json: {told}; it is looked at again" in said
    assert f"b.json: refused: {told}" in said
    sized.check({"b.json": told})
