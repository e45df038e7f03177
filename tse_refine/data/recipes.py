"""Recipes: which clips, where, how loud, and the queries. Numbers only, no audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.bank.decoding import SILENCE_LUFS
from tse_refine.data.bank.loudness import HOPS_PER_SECOND, MIN_HOPS, gated_loudness, rms_level
from tse_refine.data.corpora.base import SPLITS
from tse_refine.data.queries import QueryConfig, draw_query, draw_query_order
from tse_refine.errors import InputError

QUIETEST_BELOW_CLIP_DB = 40.0  # an excerpt this far under its clip's loudest is a pause
_MAX_DRAWS = 20
MIXTURE_STREAM, QUERY_STREAM = 0, 1  # apart, so that options of queries leave the mixtures as they are


@dataclass
class MixtureConfig:
    """What a mixture is made of (the defaults follow the public FSDSoundScapes recipes).

    Attributes:
        duration_seconds: length of a mixture.
        num_events: how many distinct foreground classes; one of these numbers, each as likely.
        event_seconds: shortest and longest excerpt; a shorter clip is used whole.
        snr_db: lowest and highest level of an event above the background.
        background_db: level of the background: LUFS, or dB of RMS re full scale (-50, ours: it only decides how often
            a peak above 1 makes the whole mixture softer).
        level: ``lufs`` (integrated loudness, ITU-R BS.1770) or ``rms``.
    """

    duration_seconds: float = 6.0
    num_events: tuple[int, ...] = (3, 4, 5)
    event_seconds: tuple[float, float] = (3.0, 5.0)
    snr_db: tuple[float, float] = (15.0, 25.0)
    background_db: float = -50.0
    level: Literal["lufs", "rms"] = "lufs"

    def check(self, num_classes: int) -> None:
        """Refuse settings that no mixture can satisfy.

        Args:
            num_classes: foreground classes in all.

        Raises:
            InputError: names the option, what was found and what would be right.
        """
        if not self.num_events or min(self.num_events) < 1:
            raise InputError(f"data.mixture.num_events is {list(self.num_events)}; numbers of at least 1 are expected.")
        if max(self.num_events) > num_classes:
            raise InputError(
                f"data.mixture.num_events asks for up to {max(self.num_events)} distinct classes in a mixture, but "
                f"data.foregrounds has {num_classes}; use more classes or fewer events."
            )
        shortest, longest = self.event_seconds
        if not 0.5 <= shortest <= longest <= self.duration_seconds:
            raise InputError(
                f"data.mixture.event_seconds is {list(self.event_seconds)}; shortest and longest must lie between "
                f"0.5 s (the shortest with a loudness) and data.mixture.duration_seconds ({self.duration_seconds:g})."
            )
        if self.snr_db[0] > self.snr_db[1]:
            raise InputError(f"data.mixture.snr_db is {list(self.snr_db)}; the lower level comes first.")


@dataclass(frozen=True)
class Event:
    """One excerpt in a mixture.

    Attributes:
        clip: its number in the bank.
        class_index: its class; -1 for the background.
        start: first sample of the excerpt in the clip.
        length: samples of the excerpt; for a background the whole mixture's, tiled from the clip's start if shorter.
        onset: first sample in the mixture.
        snr_db: nominal level above the background, 0 for the background itself.
        gain: linear factor that brings the recording to that level.
    """

    clip: int
    class_index: int
    start: int
    length: int
    onset: int
    snr_db: float
    gain: float


@dataclass(frozen=True)
class Recipe:
    """All numbers of one mixture and of what is asked about it.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        epoch: 0 where the set does not change.
        index: number of the mixture in its set.
        background: the background.
        events: in the order in which evaluation asks for their classes.
        query: class indices that training asks for.
        query_order: every class once, in evaluation's order: the active ones first.
        fade_seconds: lengths of the events' fade in and fade out, quarters of a sine.
        peak_rule: ``limit`` scales the whole mixture down where its peak exceeds 1, ``normalize`` scales every peak
            to 1, ``none`` leaves the level.
    """

    split: str
    epoch: int
    index: int
    background: Event
    events: tuple[Event, ...]
    query: tuple[int, ...]
    query_order: tuple[int, ...]
    fade_seconds: tuple[float, float] = (0.01, 0.01)
    peak_rule: Literal["limit", "normalize", "none"] = "limit"


@dataclass(frozen=True)
class ClipPools:
    """The clips of one split, by their numbers in the two banks.

    Attributes:
        foregrounds: for each class index, the clips of that class.
        backgrounds: all backgrounds.
    """

    foregrounds: Sequence[np.ndarray] = field(repr=False)
    backgrounds: np.ndarray = field(repr=False)


class RecipeSource(Protocol):
    """Where the recipes of one split come from: drawn here, or read from files.

    Attributes:
        num_classes: foreground classes in all.
        num_samples: length of a mixture.
        max_events: the most events of a mixture.
    """

    num_classes: int
    num_samples: int
    max_events: int

    def draw(self, epoch: int, index: int) -> Recipe:
        """Return the recipe of a mixture."""


def stream(seed: int, split: str, epoch: int, index: int, purpose: int) -> np.random.Generator:
    """Return the source of chance for one purpose of one mixture."""
    entropy = (seed, SPLITS.index(split), epoch, index, purpose)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


class RecipeBook:
    """Draws the recipes of one split: the same ``(seed, split, epoch, index)`` always gives the same recipe.

    Args:
        split: ``train``, ``val`` or ``test``.
        pools: the clips to draw from.
        foreground_bank: bank of the foreground clips.
        background_bank: bank of the backgrounds.
        mixture: the distribution of mixtures.
        queries: the distribution of queries.
        seed: defines the data set.
    """

    def __init__(
        self,
        split: str,
        pools: ClipPools,
        foreground_bank: ClipBank,
        background_bank: ClipBank,
        mixture: MixtureConfig,
        queries: QueryConfig,
        seed: int,
    ) -> None:
        self.split = split
        self.pools = pools
        self.foreground_bank = foreground_bank
        self.background_bank = background_bank
        self.mixture = mixture
        self.queries = queries
        self.seed = seed
        self.num_classes = len(pools.foregrounds)
        self.num_samples = round(mixture.duration_seconds * foreground_bank.sample_rate)
        self.max_events = max(mixture.num_events)

    def draw(self, epoch: int, index: int) -> Recipe:
        """Draw one recipe.

        Args:
            epoch: of the training; always 0 for a fixed set.
            index: number of the mixture, from 0.
        """
        rng = stream(self.seed, self.split, epoch, index, MIXTURE_STREAM)
        background = self._draw_background(rng)
        num_events = self.mixture.num_events[rng.integers(len(self.mixture.num_events))]
        active = rng.permutation(self.num_classes)[:num_events]
        events = {int(label): self._draw_event(rng, int(label)) for label in active}

        rng = stream(self.seed, self.split, epoch, index, QUERY_STREAM)
        order = draw_query_order(rng, active, self.num_classes)
        query = draw_query(rng, active, self.num_classes, self.queries, allow_inactive=self.split == "train")
        return Recipe(
            split=self.split,
            epoch=epoch,
            index=index,
            background=background,
            events=tuple(events[label] for label in order[:num_events].tolist()),
            query=tuple(query.tolist()),
            query_order=tuple(order.tolist()),
        )

    def _draw_event(self, rng: np.random.Generator, class_index: int) -> Event:
        pool = self.pools.foregrounds[class_index]
        clip = int(pool[rng.integers(len(pool))])
        shortest, longest = self.mixture.event_seconds
        wanted = round(rng.uniform(shortest, longest) * self.foreground_bank.sample_rate)
        length = min(wanted, self.foreground_bank.entry(clip).length)
        start, level = self._draw_excerpt(rng, self.foreground_bank, clip, length)
        snr_db = rng.uniform(*self.mixture.snr_db)
        return Event(
            clip=clip,
            class_index=class_index,
            start=start,
            length=length,
            onset=int(rng.integers(self.num_samples - length + 1)),
            snr_db=snr_db,
            gain=10.0 ** ((self.mixture.background_db + snr_db - level) / 20.0),
        )

    def _draw_background(self, rng: np.random.Generator) -> Event:
        clip = int(self.pools.backgrounds[rng.integers(len(self.pools.backgrounds))])
        start, level = self._draw_excerpt(rng, self.background_bank, clip, self.num_samples)
        gain = 10.0 ** ((self.mixture.background_db - level) / 20.0)
        return Event(clip, -1, start, self.num_samples, onset=0, snr_db=0.0, gain=gain)

    def _draw_excerpt(self, rng: np.random.Generator, bank: ClipBank, clip: int, length: int) -> tuple[int, float]:
        """Draw where on the clip's 100 ms grid an excerpt starts; return that sample and the excerpt's level in dB."""
        hop = bank.sample_rate // HOPS_PER_SECOND
        weighted = bank.weighted_hops(clip)
        num_hops = max(length // hop, MIN_HOPS)
        last_start = (bank.entry(clip).length - length) // hop
        if last_start <= 0:  # the whole clip, repeated where a background must be longer
            repeated = length > bank.entry(clip).length
            hops = np.arange(num_hops if repeated else min(num_hops, len(weighted))) % len(weighted)
            return 0, self._level(bank, clip, hops)
        # the grid of energies may end a hop before the grid of starts: the clip's end rarely lies on it
        last_start = min(last_start, len(weighted) - num_hops)
        quietest = max(SILENCE_LUFS, bank.entry(clip).loudest_lufs - QUIETEST_BELOW_CLIP_DB)
        for _ in range(_MAX_DRAWS):
            start = int(rng.integers(last_start + 1))
            loudness = gated_loudness(weighted[start : start + num_hops])
            if loudness >= quietest:
                break
        else:  # a long pause with a short sound: take the excerpt that has most of it
            power = np.convolve(weighted, np.ones(num_hops), mode="valid")[: last_start + 1]
            start = int(power.argmax())
            loudness = gated_loudness(weighted[start : start + num_hops])
        if self.mixture.level == "rms":
            loudness = rms_level(bank.plain_hops(clip)[start : start + num_hops])
        return start * hop, loudness

    def _level(self, bank: ClipBank, clip: int, hops: np.ndarray) -> float:
        if self.mixture.level == "rms":
            return rms_level(bank.plain_hops(clip)[hops])
        return gated_loudness(bank.weighted_hops(clip)[hops])
