"""Writes drawn recipes as Scaper's JAMS files, in the layout of FSDSoundScapes."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tse_refine.data.corpora.base import Clip, FileCorpus
from tse_refine.data.datamodule import BACKGROUNDS, FOREGROUNDS, SPLIT_STAGES, MixtureDataModule
from tse_refine.data.recipes import Event, Recipe
from tse_refine.data.scaper.jams import SCENE_FILE, TARGETS_FILE, Scene, SceneEvent, scene_document
from tse_refine.data.scaper.loudness import ExcerptLoudness
from tse_refine.errors import InputError
from tse_refine.files.atomic import write_text


def export_scenes(data: MixtureDataModule, split: str, output: Path) -> Path:
    """Write every mixture of a split, for Scaper and for other people's loaders.

    ``output/jams/<split>/<8 digits>/`` gets ``mixture.jams`` and ``gt_events.csv`` (the classes in the order in which
    evaluation asks for them). ``output/{foregrounds,backgrounds}/<split>/<label>/`` get links to the recordings, since
    Scaper and those loaders go by such folders. ``ref_db`` and ``snr`` are what Scaper, which measures each excerpt at
    the scene's rate, needs to arrive at the same gains: within some tenths of a dB of the levels that were drawn.

    Args:
        data: its corpora are files. Of a training split that is redrawn each epoch the first epoch is written.
        split: ``train``, ``val`` or ``test``.
        output: where the layout goes; the split must not be there yet.

    Returns:
        The folder of the split's mixtures.

    Raises:
        InputError: the corpora are not files, two recordings of a class have the same name, or the split is there.
    """
    if not isinstance(data.foregrounds, FileCorpus) or not isinstance(data.backgrounds, FileCorpus):
        raise InputError(
            f"{FOREGROUNDS}, {BACKGROUNDS}: Scaper's recipes name files, but these sounds are synthesised when read. "
            "Use corpora of recordings."
        )
    if data.mixture.level != "lufs":
        raise InputError(f"data.mixture.level is {data.mixture.level}; Scaper's recipes have levels in LUFS only.")
    folder = output / "jams" / split
    if folder.exists():
        raise InputError(f"--output: {folder} is there already. Remove it or give another folder.")
    data.prepare_data()
    data.setup(SPLIT_STAGES[split])
    dataset = data.datasets[split]
    exporter = _Exporter(data, split, output)
    partial = folder.with_name(f".{split}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for index in range(len(dataset)):
        recipe = dataset.recipe((0, index))
        scene = exporter.scene(recipe)
        document = scene_document(scene, exporter.labels, exporter.folders)
        write_text(partial / f"{index:08d}" / SCENE_FILE, json.dumps(document, indent=1))
        with open(partial / f"{index:08d}" / TARGETS_FILE, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t").writerows([("label",), *((event.label,) for event in scene.events)])
    partial.rename(folder)
    return folder


class _Exporter:
    """Links the recordings under folders of their labels, and puts recipes in terms of them."""

    def __init__(self, data: MixtureDataModule, split: str, output: Path) -> None:
        self.data = data
        self._loudness = {
            FOREGROUNDS: ExcerptLoudness(data.foregrounds, data.sample_rate),
            BACKGROUNDS: ExcerptLoudness(data.backgrounds, data.sample_rate, data.mixture.duration_seconds),
        }
        self.split = split
        self._names = {FOREGROUNDS: "foregrounds", BACKGROUNDS: "backgrounds"}
        self._folder = {option: output.resolve() / name / split for option, name in self._names.items()}
        self._clip = {(option, clip.name): clip for option in self._names for clip in data.clips[option]}
        self._taken: dict[Path, str] = {}
        self.folders = tuple(str(folder) for folder in self._folder.values())
        self.labels = tuple(sorted({clip.label for clip in data.clips[option]}) for option in self._names)

    def _link(self, option: str, clip: Clip) -> Path:
        """Return the link to a clip's recording in the folder of its label; make it where it is not there."""
        path = self._folder[option] / clip.label / PurePosixPath(clip.name).name
        if path.parent.parent != self._folder[option] or {"/", "\\"} & set(clip.label) or clip.label in (".", ".."):
            raise InputError(f"{option}: the label {clip.label!r} cannot be the name of a folder; rename it.")
        if self._taken.setdefault(path, clip.name) != clip.name:
            raise InputError(
                f"{option}: {self._taken[path]} and {clip.name} have the same class and file name, which Scaper cannot "
                "tell apart; rename one."
            )
        corpus = self.data.corpora[option]
        assert isinstance(corpus, FileCorpus)
        target = corpus.path(clip).resolve()
        if path.is_symlink() and path.readlink() != target:
            path.unlink()  # of an earlier export of other recordings
        if path.exists() and not path.is_symlink():
            raise InputError(f"--output: {path} is there already and is no link; give another folder.")
        if not path.is_symlink():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        return path

    def scene(self, recipe: Recipe) -> Scene:
        """Return a recipe in Scaper's terms."""
        background, ref_db = self._event(BACKGROUNDS, recipe.background, 0.0)
        return Scene(
            duration=self.data.mixture.duration_seconds,
            sample_rate=self.data.sample_rate,
            ref_db=ref_db,
            background=replace(background, snr_db=0.0),
            events=tuple(self._event(FOREGROUNDS, event, ref_db)[0] for event in recipe.events),
            fade_seconds=recipe.fade_seconds,
            peak_rule=recipe.peak_rule,
        )

    def _event(self, option: str, event: Event, ref_db: float) -> tuple[SceneEvent, float]:
        """Return an event in seconds, and its level in LUFS."""
        rate = self.data.sample_rate
        name = self.data.banks[option].entry(event.clip).name
        clip = self._clip[option, name]
        placed = SceneEvent(
            label=clip.label,
            source_file=str(self._link(option, clip)),
            source_time=_seconds(event.start, rate),
            time=_seconds(event.onset, rate),
            duration=_seconds(event.length, rate),
            snr_db=0.0,
        )
        level = self._loudness[option](clip, placed)[0] + 20.0 * math.log10(event.gain)
        return replace(placed, snr_db=level - ref_db), level


def _seconds(samples: int, rate: int) -> float:
    """Return a time that Scaper, which cuts off fractions of a sample, takes back to the same sample.

    >>> int(_seconds(29, 100) * 100)  # 29 / 100 * 100 is 28.999999999999996
    29
    """
    seconds = samples / rate
    while int(seconds * rate) < samples:
        seconds = math.nextafter(seconds, math.inf)
    return seconds
