"""Writes drawn recipes as Scaper's JAMS files, in the layout of FSDSoundScapes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.corpora.base import (
    BACKGROUNDS,
    FOREGROUNDS,
    IMPULSE_RESPONSES,
    INTERFERERS,
    Clip,
    Corpus,
    FileCorpus,
)
from tse_refine.data.dataset import MixtureDataset
from tse_refine.data.recipes import Event, MixtureConfig, Recipe
from tse_refine.data.scaper.jams import SCENE_FILE, TARGETS_FILE, Scene, SceneEvent, scene_document
from tse_refine.data.scaper.loudness import ExcerptLoudness
from tse_refine.errors import InputError
from tse_refine.files.atomic import remove_leftovers, replacing_folder
from tse_refine.files.tables import write_csv


class SceneExporter:
    """Writes the mixtures of a split for Scaper and other loaders of its files.

    ``output/jams/<split>/<8 digits>/`` gets ``mixture.jams`` and ``gt_events.csv`` (the classes in the order in which
    evaluation queries them). ``output/{foregrounds,backgrounds}/<split>/<label>/`` get links to the recordings, since
    Scaper needs such folders; those of interferers are among the foregrounds. ``ref_db`` and ``snr`` give the same
    gains in Scaper, which measures each excerpt at the scene's rate: they are within some tenths of a dB of the levels
    that were drawn.

    Args:
        corpora: foregrounds, backgrounds and, if any, interferers, by their options; their recordings are files.
        mixture: distribution of the mixtures.
        sample_rate: sample rate of the mixtures, Hz.
        split: ``train``, ``val`` or ``test``.
        output: folder for the layout, without this split.

    Raises:
        InputError: the corpora are not files, levels are not in LUFS, mixtures are in rooms, or the split exists.
    """

    def __init__(
        self, corpora: Mapping[str, Corpus], mixture: MixtureConfig, sample_rate: int, split: str, output: Path
    ) -> None:
        if IMPULSE_RESPONSES in corpora:
            raise InputError(
                f"{IMPULSE_RESPONSES}: Scaper's recipes have no impulse responses. Leave them out to write dry ones."
            )
        self._corpora = {option: corpus for option, corpus in corpora.items() if isinstance(corpus, FileCorpus)}
        if len(self._corpora) < len(corpora):
            raise InputError(
                f"{', '.join(corpora)}: Scaper's recipes name files, but these sounds are synthesised when "
                "read. Use corpora of recordings."
            )
        if mixture.level != "lufs":
            raise InputError(f"data.mixture.level is {mixture.level}; Scaper's recipes have levels in LUFS only.")
        self.folder = output / "jams" / split
        if self.folder.exists():
            raise InputError(f"--output: {self.folder} exists. Remove it or give another folder.")
        self.mixture = mixture
        self.sample_rate = sample_rate
        folders = {FOREGROUNDS: "foregrounds", BACKGROUNDS: "backgrounds", INTERFERERS: "foregrounds"}
        self._links = {option: output.resolve() / folders[option] / split for option in corpora}
        self._clips = {(option, clip.name): clip for option in corpora for clip in corpora[option].clips()}
        self._loudness = {
            option: ExcerptLoudness(corpus, mixture.duration_seconds if option == BACKGROUNDS else 0.0)
            for option, corpus in corpora.items()
        }
        self._linked: dict[Path, str] = {}

    def write(self, dataset: MixtureDataset) -> Path:
        """Write all mixtures; return their folder.

        Args:
            dataset: mixtures of the split; of a training set that is redrawn each epoch the first epoch is written.

        Raises:
            InputError: two recordings of a class have the same file name, or a label cannot be the name of a folder.
        """
        banks = {FOREGROUNDS: dataset.renderer.foreground_bank, BACKGROUNDS: dataset.renderer.background_bank}
        if dataset.renderer.interferer_bank is not None:
            banks[INTERFERERS] = dataset.renderer.interferer_bank
        paths = [str(self._links[option]) for option in (FOREGROUNDS, BACKGROUNDS)]
        labels = [
            sorted({clip.label for (option, _), clip in self._clips.items() if str(self._links[option]) == path})
            for path in paths
        ]
        with replacing_folder(self.folder) as folder:
            remove_leftovers(folder.parent)
            for index in range(len(dataset)):
                scene = self._scene(dataset.recipe((0, index)), banks)
                document = json.dumps(scene_document(scene, labels, paths), indent=1)
                (folder / f"{index:08d}").mkdir()
                (folder / f"{index:08d}" / SCENE_FILE).write_text(document, encoding="utf-8")
                rows = [{"label": event.label} for event in scene.events]
                write_csv(folder / f"{index:08d}" / TARGETS_FILE, ("label",), rows, delimiter="\t")
        return self.folder

    def _scene(self, recipe: Recipe, banks: Mapping[str, ClipBank]) -> Scene:
        background, ref_db = self._event(BACKGROUNDS, recipe.background, 0.0, banks)
        return Scene(
            duration=self.mixture.duration_seconds,
            sample_rate=self.sample_rate,
            ref_db=ref_db,
            background=replace(background, snr_db=0.0),
            events=tuple(self._event(FOREGROUNDS, event, ref_db, banks)[0] for event in recipe.events),
            fade_seconds=recipe.fade_seconds,
            peak_rule=recipe.peak_rule,
            interferers=tuple(self._event(INTERFERERS, event, ref_db, banks)[0] for event in recipe.interferers),
        )

    def _event(
        self, option: str, event: Event, ref_db: float, banks: Mapping[str, ClipBank]
    ) -> tuple[SceneEvent, float]:
        """Return an event in seconds, and its level in LUFS."""
        clip = self._clips[option, banks[option].entry(event.clip).name]
        placed = SceneEvent(
            label=clip.label,
            source_file=str(self._link(option, clip)),
            source_time=_seconds(event.start, self.sample_rate),
            time=_seconds(event.onset, self.sample_rate),
            duration=_seconds(event.length, self.sample_rate),
            snr_db=0.0,
        )
        loudness, _, _ = self._loudness[option](clip, placed, self.sample_rate)
        level = loudness + 20.0 * math.log10(event.gain)
        return replace(placed, snr_db=level - ref_db), level

    def _link(self, option: str, clip: Clip) -> Path:
        """Return the link to a clip's recording in the folder of its label; create it when missing."""
        path = self._links[option] / clip.label / PurePosixPath(clip.name).name
        if path.parent.parent != self._links[option] or {"/", "\\"} & set(clip.label) or clip.label in (".", ".."):
            raise InputError(f"{option}: the label {clip.label!r} cannot be the name of a folder; rename it.")
        if self._linked.setdefault(path, clip.name) != clip.name:
            raise InputError(
                f"{option}: {self._linked[path]} and {clip.name} have the same class and file name, which Scaper "
                "cannot distinguish; rename one."
            )
        target = self._corpora[option].path(clip).resolve()
        if path.is_symlink() and path.readlink() != target:
            path.unlink()  # of an earlier export of other recordings
        if path.exists() and not path.is_symlink():
            raise InputError(f"--output: {path} exists and is not a link; give another folder.")
        if not path.is_symlink():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        return path


def _seconds(samples: int, rate: int) -> float:
    """Return a time that Scaper, which truncates to samples, converts back to the same sample.

    >>> int(_seconds(29, 100) * 100)  # 29 / 100 * 100 is 28.999999999999996
    29
    """
    seconds = samples / rate
    while int(seconds * rate) < samples:
        seconds = math.nextafter(seconds, math.inf)
    return seconds
