"""Reads recipes from Scaper's JAMS files, such as the public FSDSoundScapes mixtures, instead of drawing them.

Layout: ``jams/{train,val,test}/<id>/mixture.jams``, each with an optional ``gt_events.csv``. The numbers of each event
that rendering needs, above all its gain, are computed once and stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.corpora.base import BACKGROUNDS, FOREGROUNDS, Clip, Corpus
from tse_refine.data.queries import QueryConfig, draw_query, inactive_classes
from tse_refine.data.recipes import QUERY_DRAWS, Event, PeakRule, Recipe, mixture_generator
from tse_refine.data.scaper.jams import SCENE_FILE, TARGETS_FILE, Scene, SceneEvent, read_scene
from tse_refine.data.scaper.loudness import ExcerptLoudness
from tse_refine.errors import InputError
from tse_refine.files.atomic import replacing
from tse_refine.files.digests import FileDigests

_FORMAT = 1
_PEAK_RULES: tuple[PeakRule, ...] = ("limit", "normalize", "none")
_EVENT = np.dtype(
    [("clip", "i4"), ("label", "i4"), ("start", "i8"), ("length", "i8"), ("onset", "i8"), ("snr", "f8"), ("gain", "f8")]
)
_Row = tuple[int, int, int, int, int, float, float]  # of _EVENT
_SCENE = np.dtype([("first", "i8"), ("num_rows", "i4"), ("fade_in", "f8"), ("fade_out", "f8"), ("peak_rule", "i1")])


@dataclass
class ImportedRecipes:
    """The recipes of one split, read from files (see :class:`tse_refine.data.recipes.Recipes`).

    Evaluation queries the active classes in the files' order; the inactive ones and the training queries are drawn.
    Validation and test queries for the loss have the first events, as many as
    ``target_counts[index mod len(target_counts)]``: with the default counts the published ``index mod 3 + 1``.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        scenes: one row per mixture.
        events: rows of all mixtures, each mixture's background first.
        num_classes: number of foreground classes.
        num_samples: length of a mixture, samples.
        queries: distribution of training queries.
        seed: seed of the queries.
    """

    split: str
    scenes: np.ndarray
    events: np.ndarray
    num_classes: int
    num_samples: int
    queries: QueryConfig
    seed: int

    def __post_init__(self) -> None:
        self.max_events = int(self.scenes["num_rows"].max()) - 1

    def __len__(self) -> int:
        return len(self.scenes)

    def draw(self, epoch: int, index: int) -> Recipe:
        """Return the recipe of a mixture; only its training query depends on the epoch."""
        first, num_rows, fade_in, fade_out, peak_rule = self.scenes[index].item()
        background, *events = (Event(*row) for row in self.events[first : first + num_rows].tolist())
        active = np.array([event.class_index for event in events])
        rng = mixture_generator(self.seed, self.split, epoch if self.split == "train" else 0, index, QUERY_DRAWS)
        order = (*active.tolist(), *rng.permutation(inactive_classes(active, self.num_classes)).tolist())
        if self.split == "train":
            query = tuple(draw_query(rng, active, self.num_classes, self.queries, allow_inactive=True).tolist())
        else:
            counts = self.queries.target_counts
            query = order[: min(counts[index % len(counts)], len(active))]
        fades = (fade_in, fade_out)
        return Recipe(self.split, epoch, index, background, tuple(events), query, order, fades, _PEAK_RULES[peak_rule])


def import_recipes(
    folder: Path,
    split: str,
    corpora: tuple[Corpus, Corpus],
    banks: tuple[ClipBank, ClipBank],
    duration_seconds: float,
    queries: QueryConfig,
    seed: int,
    cache_dir: Path,
) -> ImportedRecipes:
    """Read the recipes of a split; the computed numbers are stored in ``cache_dir``.

    Args:
        folder: folder of ``jams/<split>/<id>/mixture.jams``.
        split: ``train``, ``val`` or ``test``.
        corpora: foregrounds and backgrounds with the clips that the files name; clips are identified by file name, and
            by the folders above it where several have that name.
        banks: their banks.
        duration_seconds: length that every mixture must have.
        queries: distribution of training queries.
        seed: seed of the queries.
        cache_dir: folder of the computed numbers.

    Raises:
        InputError: a file cannot be read, names a clip that the corpora or banks lack or that the corpus has in another
            split, or mixtures have another length.
    """
    folders = scene_folders(folder, split)
    files = [path / name for path in folders for name in (SCENE_FILE, TARGETS_FILE)]
    identity: list[Any] = [_FORMAT, [path.name for path in folders], FileDigests(cache_dir)(files)]
    identity += [*(bank.digest for bank in banks), banks[0].sample_rate, duration_seconds]
    identity += [[[clip.name, clip.label, clip.split] for clip in corpus.clips()] for corpus in corpora]
    key = hashlib.blake2b(json.dumps(identity).encode(), digest_size=10).hexdigest()
    path = Path(cache_dir) / f"recipes-{key}.npz"
    if not path.exists():
        importer = _Importer(split, corpora, banks, duration_seconds)
        scenes, events = importer.run(folders)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, scenes=scenes, events=events)
    with np.load(path) as numbers:
        scenes, events = numbers["scenes"], numbers["events"]
    num_classes = len(corpora[0].classes())
    num_samples = round(duration_seconds * banks[0].sample_rate)
    return ImportedRecipes(split, scenes, events, num_classes, num_samples, queries, seed)


def scene_folders(folder: Path, split: str) -> list[Path]:
    """Return the folders of a split's mixtures, in the order of their names.

    Args:
        folder: folder that holds ``jams``.
        split: ``train``, ``val`` or ``test``.

    Raises:
        InputError: there are none.
    """
    parent = Path(folder) / "jams" / split
    folders = sorted(path.parent for path in parent.glob(f"*/{SCENE_FILE}"))
    if not folders:
        raise InputError(
            f"data.recipes: {parent} contains no mixture. A folder with jams/{{train,val,test}}/<id>/{SCENE_FILE} is "
            "expected, such as FSDSoundScapes."
        )
    return folders


def scenes_digest(folder: Path, cache_dir: Path) -> str:
    """Return a digest of every recipe below a folder."""
    scenes = sorted((Path(folder) / "jams").rglob(SCENE_FILE))
    files = [path.with_name(name) for path in scenes for name in (SCENE_FILE, TARGETS_FILE)]
    names = [str(path.relative_to(folder)) for path in files]
    digests = list(zip(names, FileDigests(cache_dir)(files), strict=True))
    return hashlib.blake2b(json.dumps(digests).encode(), digest_size=10).hexdigest()


class _Importer:
    """Converts scenes to rows of numbers."""

    def __init__(
        self, split: str, corpora: tuple[Corpus, Corpus], banks: tuple[ClipBank, ClipBank], duration_seconds: float
    ) -> None:
        self.split = split
        self.duration_seconds = duration_seconds
        self.sample_rate = banks[0].sample_rate
        self.class_names = corpora[0].classes()
        self.foregrounds = _Excerpts(FOREGROUNDS, corpora[0], banks[0])
        self.backgrounds = _Excerpts(BACKGROUNDS, corpora[1], banks[1], duration_seconds)

    def run(self, folders: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
        scenes = np.empty(len(folders), _SCENE)
        rows: list[_Row] = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            done = pool.map(self._scene, folders)
            progress = tqdm(done, f"{self.split} recipes", len(folders), unit="mixture", disable=None)
            for number, (scene, events) in enumerate(progress):
                scenes[number] = (len(rows), len(events), *scene.fade_seconds, _PEAK_RULES.index(scene.peak_rule))
                rows += events
        return scenes, np.array(rows, _EVENT)

    def _scene(self, folder: Path) -> tuple[Scene, list[_Row]]:
        path = folder / SCENE_FILE
        scene = read_scene(folder)
        if scene.duration != self.duration_seconds:
            raise InputError(
                f"{path}: lasts {scene.duration:g} s, data.mixture.duration_seconds is {self.duration_seconds:g}; "
                f"give --data.mixture.duration_seconds {scene.duration:g}."
            )
        rows = [self._background(scene, path)]
        return scene, rows + [self._event(event, scene, path) for event in scene.events]

    def _background(self, scene: Scene, path: Path) -> _Row:
        clip = self.backgrounds.clip(scene.background, path)
        number, available = self.backgrounds.number(clip, path)
        start_seconds, seconds, gain = self.backgrounds.measure(clip, scene.background, scene, path)
        start = round(start_seconds * self.sample_rate)
        length = min(round(seconds * self.sample_rate), available - start)
        return (number, -1, start, length, 0, scene.background.snr_db, gain)

    def _event(self, event: SceneEvent, scene: Scene, path: Path) -> _Row:
        clip = self.foregrounds.clip(event, path)
        number, available = self.foregrounds.number(clip, path)
        if clip.label != event.label:
            raise InputError(f"{path}: labels {clip.name} {event.label}; its label in the corpus is {clip.label}.")
        if clip.split != self.split:
            raise InputError(
                f"{path}: uses {clip.name}, which the corpus has in its {clip.split} split. Give the corpus the splits "
                "that these mixtures were drawn from (FSDKaggle2018: init_args.splits)."
            )
        start_seconds, seconds, gain = self.foregrounds.measure(clip, event, scene, path)
        num_samples = round(self.duration_seconds * self.sample_rate)
        onset_seconds = int(scene.sample_rate * event.time) / scene.sample_rate
        onset = min(round(onset_seconds * self.sample_rate), num_samples - 1)
        # one rounding of the shift onset - start instead of two
        start = max(0, onset + round((start_seconds - onset_seconds) * self.sample_rate))
        length = min(round(seconds * self.sample_rate), available - start, num_samples - onset)
        return (number, self.class_names.index(clip.label), start, length, onset, event.snr_db, gain)


class _Excerpts:
    """The recordings of one option: finds the clips that scenes name and measures their excerpts."""

    def __init__(self, option: str, corpus: Corpus, bank: ClipBank, repeated_to_seconds: float = 0.0) -> None:
        self.option = option
        self.corpus = corpus
        self.bank = bank
        self.repeated_to_seconds = repeated_to_seconds
        self.clips: dict[str, list[Clip]] = defaultdict(list)
        for clip in corpus.clips():
            self.clips[PurePosixPath(clip.name).name].append(clip)
        self.loudness: dict[int, ExcerptLoudness] = {}

    def clip(self, event: SceneEvent, path: Path) -> Clip:
        """Return the clip that an event of a scene file names."""
        name = PurePosixPath(event.source_file.replace("\\", "/"))
        clips = self.clips[name.name]
        if len(clips) > 1:
            shared = [_shared_end(PurePosixPath(clip.name), name) for clip in clips]
            clips = [clip for clip, length in zip(clips, shared, strict=True) if length == max(shared)]
        if len(clips) != 1:
            what = "has no clip" if not clips else "has several clips"
            raise InputError(
                f"{path}: {self.option} {what} {'/'.join(name.parts[-2:])}. Give the corpora that these mixtures were "
                "drawn from."
            )
        return clips[0]

    def number(self, clip: Clip, path: Path) -> tuple[int, int]:
        """Return a clip's number in the bank and its length in samples."""
        if clip.name not in self.bank:
            raise InputError(f"{path}: uses {clip.name}, which cannot be used (see rejected.csv of the clip bank).")
        number = self.bank.position(clip.name)
        return number, self.bank.entry(number).length

    def measure(self, clip: Clip, event: SceneEvent, scene: Scene, path: Path) -> tuple[float, float, float]:
        """Return start and length of an excerpt in seconds, and its gain."""
        if scene.sample_rate not in self.loudness:
            self.loudness[scene.sample_rate] = ExcerptLoudness(self.corpus, scene.sample_rate, self.repeated_to_seconds)
        measured = self.loudness[scene.sample_rate]
        loudness, seconds = measured(clip, event)
        if not seconds:
            raise InputError(f"{path}: {clip.name} has no sound at {event.source_time:g} s.")
        rate = measured.rate(clip)
        gain = 10.0 ** ((scene.ref_db + event.snr_db - loudness) / 20.0)
        return int(event.source_time * rate) / rate, seconds, gain


def _shared_end(first: PurePosixPath, second: PurePosixPath) -> int:
    """Return the number of equal parts at the ends of two paths."""
    pairs = zip(reversed(first.parts), reversed(second.parts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
