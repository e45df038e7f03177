"""Recipes, mixtures in numbers: their clips, positions, levels and queries, without audio."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.bank.decoding import SILENCE_LUFS
from tse_refine.data.bank.loudness import HOPS_PER_SECOND, MIN_HOPS, gated_loudness, rms_level
from tse_refine.data.corpora.base import IMPULSE_RESPONSES, INTERFERERS, SPLITS
from tse_refine.data.queries import QueryConfig, draw_query, draw_query_order
from tse_refine.errors import InputError

# separate random generators, so that options of queries, interferers and rooms do not change the rest of a mixture
MIXTURE_DRAWS, QUERY_DRAWS, INTERFERER_DRAWS, ROOM_DRAWS = 0, 1, 2, 3
PeakRule = Literal["limit", "normalize", "none"]
_QUIETEST_BELOW_CLIP_DB = 40.0  # an excerpt this far below its clip's loudest is a pause
_MAX_DRAWS = 20

_LONGEST_SECONDS, _LARGEST_DB = 3600, 200  # of mixtures


@dataclass
class MixtureConfig:
    """Distribution of mixtures (the defaults follow the public FSDSoundScapes recipes).

    Attributes:
        duration_seconds: length of a mixture.
        num_events: possible numbers of distinct foreground classes, equally likely (a number that is listed twice is
            twice as likely); 0 is a mixture of background alone, in which no class is active.
        event_seconds: shortest and longest excerpt; a shorter clip is used whole.
        snr_db: lowest and highest level of an event above the background.
        background_db: level of the background, LUFS, or dB of RMS re full scale (-50 is ours; it only changes how often
            a mixture is scaled down because its peak exceeds 1).
        level: level measure, ``lufs`` (integrated loudness, ITU-R BS.1770) or ``rms``.
        num_interferers: fewest and most interferers of a mixture, every number equally likely; only with
            ``data.interferers``.
        interferer_snr_db: lowest and highest level of an interferer above the background; null for ``snr_db``.
        reverberation_rate: fraction of the mixtures whose events and interferers are in a room, in [0, 1]; only with
            ``data.impulse_responses``.
    """

    duration_seconds: float = 6.0
    num_events: tuple[int, ...] = (3, 4, 5)
    event_seconds: tuple[float, float] = (3.0, 5.0)
    snr_db: tuple[float, float] = (15.0, 25.0)
    background_db: float = -50.0
    level: Literal["lufs", "rms"] = "lufs"
    num_interferers: tuple[int, int] = (0, 2)
    interferer_snr_db: tuple[float, float] | None = None
    reverberation_rate: float = 1.0

    def settings(self, corpora: Collection[str]) -> dict[str, Any]:
        """Return what decides on the mixtures of these corpora, for a digest: options without effect are left out."""
        idle: list[str] = []
        if INTERFERERS not in corpora:
            idle += ["num_interferers", "interferer_snr_db"]
        if IMPULSE_RESPONSES not in corpora:
            idle.append("reverberation_rate")
        return {name: value for name, value in asdict(self).items() if name not in idle}

    def check(self, num_classes: int) -> None:
        """Reject settings that no mixture can satisfy.

        Args:
            num_classes: number of foreground classes.

        Raises:
            InputError: an option is out of range.
        """
        if not self.num_events or min(self.num_events) < 0 or max(self.num_events) < 1:
            raise InputError(
                f"data.mixture.num_events is {list(self.num_events)}; numbers of at least 0 are expected, one "
                "of them at least 1."
            )
        if max(self.num_events) > num_classes:
            raise InputError(
                f"data.mixture.num_events is up to {max(self.num_events)} distinct classes per mixture, but "
                f"data.foregrounds has {num_classes}; use more classes or fewer events."
            )
        shortest, longest = self.event_seconds
        if not 0.5 <= shortest <= longest <= self.duration_seconds:
            raise InputError(
                f"data.mixture.event_seconds is {list(self.event_seconds)}; shortest and longest must lie between "
                f"0.5 s (the shortest with a loudness) and data.mixture.duration_seconds ({self.duration_seconds:g})."
            )
        if self.duration_seconds > _LONGEST_SECONDS:
            raise InputError(
                f"data.mixture.duration_seconds is {self.duration_seconds:g}; at most {_LONGEST_SECONDS} is expected."
            )
        fewest, most = self.num_interferers
        if not 0 <= fewest <= most or most < 1:
            raise InputError(
                f"data.mixture.num_interferers is {list(self.num_interferers)}; the fewest, from 0, and the most, at "
                "least 1, are expected. For none at all, leave data.interferers out."
            )
        ranges = {"snr_db": self.snr_db, "interferer_snr_db": self.interferer_snr_db or self.snr_db}
        for name, levels in {**ranges, "background_db": [self.background_db]}.items():
            if not all(abs(level) <= _LARGEST_DB for level in levels):  # false for NaN
                raise InputError(
                    f"data.mixture.{name} is {', '.join(f'{level:g}' for level in levels)}; finite levels of at most "
                    f"{_LARGEST_DB} dB either way are expected."
                )
        if not 0.0 <= self.reverberation_rate <= 1.0:
            raise InputError(
                f"data.mixture.reverberation_rate is {self.reverberation_rate}; a fraction from 0 to 1 is expected."
            )
        for name, (lowest, highest) in ranges.items():
            if lowest > highest:
                raise InputError(f"data.mixture.{name} is {[lowest, highest]}; the lower level comes first.")


@dataclass(frozen=True)
class Event:
    """One excerpt in a mixture.

    Attributes:
        clip: number of the clip in the bank.
        class_index: index of its class; -1 for the background and for interferers.
        start: first sample of the excerpt in the clip.
        length: samples of the excerpt; of a background as many as the mixture has, a shorter clip being tiled.
        onset: first sample in the mixture.
        snr_db: nominal level above the background, 0 for the background itself.
        gain: linear factor of the recording for that level.
        response: number of the impulse response that the excerpt is convolved with; -1 for none.
    """

    clip: int
    class_index: int
    start: int
    length: int
    onset: int
    snr_db: float
    gain: float
    response: int = -1


@dataclass(frozen=True)
class Recipe:
    """All numbers of one mixture and its queries.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        epoch: training epoch; 0 where the set does not change.
        index: number of the mixture in its set.
        background: excerpt of the background.
        events: excerpts of the foregrounds, in the order in which evaluation queries their classes.
        query: class indices of the training query.
        query_order: class indices, each once, in the order of evaluation's queries: the active ones first.
        fade_seconds: lengths of the events' fade in and fade out, quarters of a sine.
        peak_rule: ``limit`` scales a mixture down whose peak exceeds 1, ``normalize`` scales every peak to 1, ``none``
            keeps the level.
        interferers: excerpts of sounds outside the classes, which are never a target.
    """

    split: str
    epoch: int
    index: int
    background: Event
    events: tuple[Event, ...]
    query: tuple[int, ...]
    query_order: tuple[int, ...]
    fade_seconds: tuple[float, float] = (0.01, 0.01)
    peak_rule: PeakRule = "limit"
    interferers: tuple[Event, ...] = ()


class Recipes(Protocol):
    """The recipes of one split, drawn or read from files.

    Attributes:
        num_classes: number of foreground classes.
        num_samples: length of a mixture, samples.
        max_events: largest number of events in a mixture.
    """

    num_classes: int
    num_samples: int
    max_events: int

    def draw(self, epoch: int, index: int) -> Recipe:
        """Return the recipe of a mixture."""


def mixture_generator(seed: int, split: str, epoch: int, index: int, purpose: int) -> np.random.Generator:
    """Return the random generator for one purpose of one mixture."""
    entropy = (seed, SPLITS.index(split), epoch, index, purpose)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


@dataclass
class DrawnRecipes:
    """Draws the recipes of one split: the same ``(seed, split, epoch, index)`` always gives the same recipe.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        foregrounds: clips of the split by class index, as numbers of the bank.
        backgrounds: backgrounds of the split, as numbers of the bank.
        foreground_bank: bank of the foreground clips.
        background_bank: bank of the backgrounds.
        mixture: distribution of mixtures.
        queries: distribution of queries.
        seed: seed of the data set.
        interferers: sounds outside the classes of the split, as numbers of their bank; None for mixtures without.
        interferer_bank: bank of those.
        rooms: impulse responses of each room of the split, as numbers of their bank; None for mixtures without.
    """

    split: str
    foregrounds: Sequence[np.ndarray]
    backgrounds: np.ndarray
    foreground_bank: ClipBank
    background_bank: ClipBank
    mixture: MixtureConfig
    queries: QueryConfig
    seed: int
    interferers: np.ndarray | None = None
    interferer_bank: ClipBank | None = None
    rooms: Sequence[np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.num_classes = len(self.foregrounds)
        self.num_samples = round(self.mixture.duration_seconds * self.foreground_bank.sample_rate)
        self.max_events = max(self.mixture.num_events)

    def draw(self, epoch: int, index: int) -> Recipe:
        """Draw one recipe.

        Args:
            epoch: training epoch; 0 for a fixed set.
            index: number of the mixture, from 0.
        """
        rng = mixture_generator(self.seed, self.split, epoch, index, MIXTURE_DRAWS)
        background = self._draw_background(rng)
        num_events = self.mixture.num_events[rng.integers(len(self.mixture.num_events))]
        active = rng.permutation(self.num_classes)[:num_events]
        events = {int(label): self._draw_event(rng, int(label)) for label in active}

        rng = mixture_generator(self.seed, self.split, epoch, index, QUERY_DRAWS)
        order = draw_query_order(rng, active, self.num_classes)
        query = draw_query(rng, active, self.num_classes, self.queries, allow_inactive=self.split == "train")
        in_order = [events[label] for label in order[:num_events].tolist()]
        sounds = self._in_a_room((*in_order, *self._draw_interferers(epoch, index)), epoch, index)
        return Recipe(
            split=self.split,
            epoch=epoch,
            index=index,
            background=background,
            events=sounds[: len(in_order)],
            query=tuple(query.tolist()),
            query_order=tuple(order.tolist()),
            interferers=sounds[len(in_order) :],
        )

    def _draw_event(self, rng: np.random.Generator, class_index: int) -> Event:
        pool = self.foregrounds[class_index]
        clip = int(pool[rng.integers(len(pool))])
        return self._place(rng, self.foreground_bank, clip, class_index, self.mixture.snr_db)

    def _draw_interferers(self, epoch: int, index: int) -> tuple[Event, ...]:
        """Draw distinct recordings, each equally likely whatever its label."""
        if self.interferers is None or self.interferer_bank is None:
            return ()
        rng = mixture_generator(self.seed, self.split, epoch, index, INTERFERER_DRAWS)
        fewest, most = self.mixture.num_interferers
        clips = rng.choice(self.interferers, rng.integers(fewest, most + 1), replace=False)
        snr_db = self.mixture.interferer_snr_db or self.mixture.snr_db
        return tuple(self._place(rng, self.interferer_bank, clip, -1, snr_db) for clip in clips.tolist())

    def _in_a_room(self, sounds: tuple[Event, ...], epoch: int, index: int) -> tuple[Event, ...]:
        """Draw a room for a mixture and, for each of its sounds, a response of that room."""
        if self.rooms is None:
            return sounds
        rng = mixture_generator(self.seed, self.split, epoch, index, ROOM_DRAWS)
        if rng.random() >= self.mixture.reverberation_rate:
            return sounds
        room = self.rooms[int(rng.integers(len(self.rooms)))]
        return tuple(replace(sound, response=int(room[rng.integers(len(room))])) for sound in sounds)

    def _place(
        self, rng: np.random.Generator, bank: ClipBank, clip: int, class_index: int, snr_range: tuple[float, float]
    ) -> Event:
        """Draw the excerpt of a clip, its level and its onset."""
        shortest, longest = self.mixture.event_seconds
        length = round(rng.uniform(shortest, longest) * bank.sample_rate)
        length = min(length, bank.entry(clip).length)
        start, level = self._draw_excerpt(rng, bank, clip, length)
        snr_db = rng.uniform(*snr_range)
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
        clip = int(self.backgrounds[rng.integers(len(self.backgrounds))])
        start, level = self._draw_excerpt(rng, self.background_bank, clip, self.num_samples)
        gain = 10.0 ** ((self.mixture.background_db - level) / 20.0)
        return Event(clip, -1, start, self.num_samples, onset=0, snr_db=0.0, gain=gain)

    def _draw_excerpt(self, rng: np.random.Generator, bank: ClipBank, clip: int, length: int) -> tuple[int, float]:
        """Draw an excerpt that starts on the clip's 100 ms grid; return its first sample and its level in dB."""
        hop = bank.sample_rate // HOPS_PER_SECOND
        weighted = bank.weighted_hops(clip)
        is_rms = self.mixture.level == "rms"
        num_hops = max(length // hop, MIN_HOPS)
        last_start = (bank.entry(clip).length - length) // hop
        if last_start <= 0:  # the whole clip, repeated where a background must be longer
            repeated = length > bank.entry(clip).length
            hops = np.arange(num_hops if repeated else min(num_hops, len(weighted))) % len(weighted)
            return 0, rms_level(bank.plain_hops(clip)[hops]) if is_rms else gated_loudness(weighted[hops])
        # the grid of energies may end a hop before the grid of starts: the clip's end is rarely on it
        last_start = min(last_start, len(weighted) - num_hops)
        quietest = max(SILENCE_LUFS, bank.entry(clip).loudest_lufs - _QUIETEST_BELOW_CLIP_DB)
        for _ in range(_MAX_DRAWS):
            start = int(rng.integers(last_start + 1))
            loudness = gated_loudness(weighted[start : start + num_hops])
            if loudness >= quietest:
                break
        else:  # a long pause with a short sound: the excerpt with the most power
            power = np.convolve(weighted, np.ones(num_hops), mode="valid")[: last_start + 1]
            start = int(power.argmax())
            loudness = gated_loudness(weighted[start : start + num_hops])
        if is_rms:
            loudness = rms_level(bank.plain_hops(clip)[start : start + num_hops])
        return start * hop, loudness
