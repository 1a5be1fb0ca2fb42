"""Times in which an entity's messages are other than usual: failures, warnings, extreme values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from streamkeeper.spec.models import FieldSpec
from streamkeeper.spec.producers import Episode, Simulator
from streamkeeper_apps.producer.columns import Block, Column, draw
from streamkeeper_apps.producer.generators import instead

_MICROSECOND = timedelta(microseconds=1)


class Episodes:
    """The declared episodes of a simulator: which message is in which, and what it then holds.

    Parameters: simulator; fields, of the declaration.
    """

    def __init__(self, simulator: Simulator, fields: Mapping[str, FieldSpec]) -> None:
        self._seed = simulator.seed
        self._episodes: list[tuple[Episode, dict[str, Column]]] = [
            (
                episode,
                {
                    name: instead(f"~episode/{episode.name}/{name}", self._seed, made, fields[name])
                    for name, made in episode.fields.items()
                },
            )
            for episode in simulator.episodes
        ]

    def change(self, block: Block, made: dict[str, Sequence[str]]) -> None:
        """Put in what the messages of a block hold that are in an episode.

        Parameters: made, the fields as they usually are, as JSON texts.
        """
        usual = np.ones(len(block.times), dtype=np.bool_)
        for episode, columns in self._episodes:
            places = np.flatnonzero(usual & self._during(episode, block))
            if not len(places):
                continue
            usual[places] = False
            part = Block(*(values[places] for values in block))
            for name, column in columns.items():
                texts = list(made[name])
                for place, text in zip(places.tolist(), column(part), strict=True):
                    texts[place] = text
                made[name] = texts

    def _during(self, episode: Episode, block: Block) -> NDArray[np.bool_]:
        """Tell which messages are in an episode.

        Each entity divides its time, from a beginning of its own, into parts of `every`; within
        each part lies one whole episode.
        """
        every = episode.every // _MICROSECOND
        least, most = (limit // _MICROSECOND for limit in episode.lasts)
        never = np.zeros_like(block.entities)
        shifted = block.times + self._drawn(episode, "begun", block.entities, never) % every
        part, within = np.divmod(shifted, every)
        length = least + self._drawn(episode, "lasts", block.entities, part) % (most - least + 1)
        start = self._drawn(episode, "start", block.entities, part) % (every - length + 1)
        return (start <= within) & (within < start + length)

    def _drawn(
        self, episode: Episode, what: str, entities: NDArray[np.int64], part: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        bits = draw(self._seed, f"~episode/{episode.name}~{what}", entities, part)
        return (bits >> np.uint64(1)).astype(np.int64)
