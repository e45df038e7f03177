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
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.corpora.base import BACKGROUNDS, FOREGROUNDS, INTERFERERS, Clip, Corpus
from tse_refine.data.queries import QueryConfig, draw_query, inactive_classes
from tse_refine.data.recipes import QUERY_DRAWS, Event, PeakRule, Recipe, mixture_generator
from tse_refine.data.scaper.jams import SCENE_FILE, TARGETS_FILE, Scene, SceneEvent, read_scene
from tse_refine.data.scaper.loudness import ExcerptLoudness
from tse_refine.errors import InputError
from tse_refine.files.atomic import normalized_name, replacing
from tse_refine.files.digests import FileDigests
from tse_refine.files.documents import one_line

_FORMAT = 1
_PEAK_RULES: tuple[PeakRule, ...] = ("limit", "normalize", "none")
_EVENT = np.dtype(
    [("clip", "i4"), ("label", "i4"), ("start", "i8"), ("length", "i8"), ("onset", "i8"), ("snr", "f8"), ("gain", "f8")]
)
_Row = tuple[int, int, int, int, int, float, float]  # of _EVENT
_SCENE = np.dtype([("first", "i8"), ("num_rows", "i4"), ("fade_in", "f8"), ("fade_out", "f8"), ("peak_rule", "i1")])


class ImportedRecipes:
    """The recipes of one split, read from files (see :class:`tse_refine.data.recipes.Recipes`).

    Evaluation queries the active classes in the files' order; the inactive ones and the training queries are drawn.
    Validation and test queries for the loss have the first events, as many as
    ``target_counts[index mod len(target_counts)]``: with the default counts the published ``index mod 3 + 1``; in a
    mixture of background alone as many inactive classes.

    Args:
        folder: folder of ``jams/<split>/<id>/mixture.jams``.
        split: ``train``, ``val`` or ``test``.
        corpora: foregrounds, backgrounds and, where mixtures have any, interferers with the clips that the files name;
            clips are identified by file name, and by the folders above it where several have that name.
        banks: their banks.
        duration_seconds: length that every mixture must have.
        queries: distribution of training queries.
        seed: seed of the queries.
        cache_dir: folder where the computed numbers are stored.

    Raises:
        InputError: there is no file, or one cannot be read, names a clip that the corpora or banks lack or that the
            corpus has in another split, or mixtures have another length.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        corpora: tuple[Corpus, ...],
        banks: tuple[ClipBank, ...],
        duration_seconds: float,
        queries: QueryConfig,
        seed: int,
        cache_dir: Path,
    ) -> None:
        parent = folder / "jams" / split
        folders = sorted(path.parent for path in parent.glob(f"*/{SCENE_FILE}"))
        if not folders:
            raise InputError(
                f"data.recipes: {parent} contains no mixture. A folder with jams/{{train,val,test}}/<id>/{SCENE_FILE} "
                "is expected, such as FSDSoundScapes."
            )
        files = [path / name for path in folders for name in (SCENE_FILE, TARGETS_FILE)]
        identity: list[Any] = [_FORMAT, [path.name for path in folders], FileDigests(cache_dir)(files)]
        identity += [*(bank.digest for bank in banks), banks[0].sample_rate, duration_seconds]
        identity += [[[clip.name, clip.label, clip.split] for clip in corpus.clips()] for corpus in corpora]
        key = hashlib.blake2b(json.dumps(identity).encode(), digest_size=10).hexdigest()
        path = cache_dir / f"recipes-{key}.npz"
        if not path.exists():
            scenes, events = _convert_scenes(folders, split, corpora, banks, duration_seconds)
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, scenes=scenes, events=events)
        self._scenes, self._events = _read_numbers(path)
        self.split = split
        self.queries = queries
        self.seed = seed
        self.num_classes = len(corpora[0].classes())
        self.num_samples = round(duration_seconds * banks[0].sample_rate)
        scene_of_row = np.repeat(np.arange(len(self._scenes)), self._scenes["num_rows"])
        num_events = np.bincount(scene_of_row, self._events["label"] >= 0)
        self.max_events = max(1, int(num_events.max()))  # a batch has sources, if of silence

    def __len__(self) -> int:
        return len(self._scenes)

    def draw(self, epoch: int, index: int) -> Recipe:
        """Return the recipe of a mixture; only its training query depends on the epoch."""
        first, num_rows, fade_in, fade_out, peak_rule = self._scenes[index].item()
        background, *sounds = (Event(*row) for row in self._events[first : first + num_rows].tolist())
        events = [event for event in sounds if event.class_index >= 0]
        interferers = tuple(event for event in sounds if event.class_index < 0)
        active = np.array([event.class_index for event in events], int)
        rng = mixture_generator(self.seed, self.split, epoch if self.split == "train" else 0, index, QUERY_DRAWS)
        order = (*active.tolist(), *rng.permutation(inactive_classes(active, self.num_classes)).tolist())
        if self.split == "train":
            query = tuple(draw_query(rng, active, self.num_classes, self.queries, allow_inactive=True).tolist())
        else:
            counts = self.queries.target_counts
            count = counts[index % len(counts)]
            query = order[: min(count, len(active)) if events else count]
        fades, rule = (fade_in, fade_out), _PEAK_RULES[peak_rule]
        return Recipe(self.split, epoch, index, background, tuple(events), query, order, fades, rule, interferers)


def _read_numbers(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return one row per mixture, and the rows of all mixtures: each one's background, events and interferers."""
    try:
        with np.load(path) as numbers:
            scenes, events = numbers["scenes"], numbers["events"]
        fits = scenes.dtype == _SCENE and events.dtype == _EVENT and scenes.ndim == events.ndim == 1 <= len(scenes)
        if not fits or scenes["num_rows"].min() < 1 or scenes["num_rows"].sum() != len(events):
            raise ValueError("its arrays are not those of recipes")
        if not all(np.isfinite(events[name]).all() for name in ("snr", "gain")):
            raise ValueError("a level in it is not finite")
    except Exception as error:  # on damaged bytes NumPy raises any exception
        raise InputError(
            f"data.cache_dir: {path} is damaged ({one_line(error)}). Remove that file; it will be made again."
        ) from error
    return scenes, events


def scenes_digest(folder: Path, cache_dir: Path) -> str:
    """Return a digest of every recipe below a folder."""
    scenes = sorted((folder / "jams").rglob(SCENE_FILE))
    files = [path.with_name(name) for path in scenes for name in (SCENE_FILE, TARGETS_FILE)]
    names = [str(path.relative_to(folder)) for path in files]
    digests = list(zip(names, FileDigests(cache_dir)(files), strict=True))
    return hashlib.blake2b(json.dumps(digests).encode(), digest_size=10).hexdigest()


def _convert_scenes(
    folders: Sequence[Path],
    split: str,
    corpora: tuple[Corpus, ...],
    banks: tuple[ClipBank, ...],
    duration_seconds: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Read scenes and return their numbers, as rows of ``_SCENE`` and of ``_EVENT``."""
    class_names = corpora[0].classes()
    foregrounds = _Excerpts(FOREGROUNDS, corpora[0], banks[0])
    backgrounds = _Excerpts(BACKGROUNDS, corpora[1], banks[1], duration_seconds)
    interferers = _Excerpts(INTERFERERS, corpora[2], banks[2]) if len(corpora) > 2 else None

    def convert(folder: Path) -> tuple[Scene, list[_Row]]:
        path = folder / SCENE_FILE
        scene = read_scene(folder)
        if scene.duration != duration_seconds:
            raise InputError(
                f"{path}: lasts {scene.duration:g} s, data.mixture.duration_seconds is {duration_seconds:g}; "
                f"give --data.mixture.duration_seconds {scene.duration:g}."
            )
        rows = [backgrounds.row(backgrounds.clip(scene.background, path), scene.background, scene, path)]
        sounds = [(event, foregrounds) for event in scene.events]
        for event in scene.interferers:
            if interferers is None:
                raise InputError(
                    f"{path}: {event.label} is an interferer. Give {INTERFERERS} the corpus that these mixtures were "
                    "drawn from."
                )
            sounds.append((event, interferers))
        for event, excerpts in sounds:
            clip = excerpts.clip(event, path)
            if clip.label != event.label:
                raise InputError(f"{path}: labels {clip.name} {event.label}; its label in the corpus is {clip.label}.")
            if clip.split != split:
                raise InputError(
                    f"{path}: uses {clip.name}, which the corpus has in its {clip.split} split. Give the corpus the "
                    "splits that these mixtures were drawn from (FSDKaggle2018: init_args.splits)."
                )
            class_index = class_names.index(clip.label) if excerpts is foregrounds else -1
            rows.append(excerpts.row(clip, event, scene, path, class_index))
        return scene, rows

    scenes = np.empty(len(folders), _SCENE)
    rows: list[_Row] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = tqdm(pool.map(convert, folders), f"{split} recipes", len(folders), unit="mixture", disable=None)
        for number, (scene, events) in enumerate(done):
            scenes[number] = (len(rows), len(events), *scene.fade_seconds, _PEAK_RULES.index(scene.peak_rule))
            rows += events
    return scenes, np.array(rows, _EVENT)


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(normalized_name(name))


class _Excerpts:
    """The recordings of one option: finds the clips that scenes name and measures their excerpts."""

    def __init__(self, option: str, corpus: Corpus, bank: ClipBank, repeated_to_seconds: float = 0.0) -> None:
        self.option = option
        self.bank = bank
        self.loudness = ExcerptLoudness(corpus, repeated_to_seconds)
        self.clips: dict[str, list[Clip]] = defaultdict(list)
        for clip in corpus.clips():
            self.clips[_path(clip.name).name].append(clip)

    def clip(self, event: SceneEvent, path: Path) -> Clip:
        """Return the clip that an event of a scene file names."""
        name = _path(event.source_file.replace("\\", "/"))
        clips = self.clips[name.name]
        for depth in range(2, len(name.parts) + 1):  # of several clips those that share most folders with the name
            clips = [clip for clip in clips if _path(clip.name).parts[-depth:] == name.parts[-depth:]] or clips
        if len(clips) != 1:
            what = "has no clip" if not clips else "has several clips"
            raise InputError(
                f"{path}: {self.option} {what} {'/'.join(name.parts[-2:])}. Give the corpora that these mixtures were "
                "drawn from."
            )
        return clips[0]

    def row(self, clip: Clip, event: SceneEvent, scene: Scene, path: Path, class_index: int = -1) -> _Row:
        """Return the numbers of an event or, without a class, of the background or an interferer."""
        if clip.name not in self.bank:
            raise InputError(f"{path}: uses {clip.name}, which cannot be used (see rejected.csv of the clip bank).")
        number = self.bank.position(clip.name)
        loudness, start_seconds, seconds = self.loudness(clip, event, scene.sample_rate)
        if not seconds:
            raise InputError(f"{path}: {clip.name} has no sound at {event.source_time:g} s.")
        rate = self.bank.sample_rate
        num_samples = round(scene.duration * rate)
        onset_seconds = int(scene.sample_rate * event.time) / scene.sample_rate
        onset = min(round(onset_seconds * rate), num_samples - 1)
        # one rounding of the shift onset - start instead of two
        start = max(0, onset + round((start_seconds - onset_seconds) * rate))
        length = min(round(seconds * rate), self.bank.entry(number).length - start, num_samples - onset)
        gain = 10.0 ** ((scene.ref_db + event.snr_db - loudness) / 20.0)
        return (number, class_index, start, length, onset, event.snr_db, gain)
