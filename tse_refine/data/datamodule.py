"""The LightningDataModule: corpora in, batches of mixtures out."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import default_convert

from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.corpora.acquisition import download_missing
from tse_refine.data.corpora.base import (
    BACKGROUNDS,
    FOREGROUNDS,
    IMPULSE_RESPONSES,
    INTERFERERS,
    SPLITS,
    Clip,
    Corpus,
    check_clips,
    check_splits,
)
from tse_refine.data.corpora.impulse_responses import ImpulseResponses
from tse_refine.data.corpora.synthetic import SyntheticBackgrounds
from tse_refine.data.dataset import MixtureDataset, MixtureLoader, RecipeSampler
from tse_refine.data.pools import Pools, check_other_contents, check_outside_classes, pools_of_split
from tse_refine.data.queries import ALL, QueryConfig, check_aliases, plain_name
from tse_refine.data.recipes import DrawnRecipes, MixtureConfig, Recipes
from tse_refine.data.rendering import Renderer
from tse_refine.data.scaper.exporting import SceneExporter
from tse_refine.data.scaper.importing import ImportedRecipes, scenes_digest
from tse_refine.errors import STOP_SIGNALS, InputError
from tse_refine.files.atomic import expand_home
from tse_refine.files.documents import shown

_HIGHEST_RATE = 1_000_000  # Hz
_STAGE_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
_SPLIT_STAGES = {"train": "fit", "val": "validate", "test": "test"}  # a stage that prepares the split


class MixtureDataModule(LightningDataModule):
    """Mixtures generated on the fly from labelled recordings.

    Args:
        foregrounds: corpus of the sounds to extract; its labels are the classes.
        backgrounds: corpus of the backgrounds; its labels are not used. Without one, synthesised wind, ventilation and
            traffic.
        sample_rate: sample rate of mixtures and model, Hz, a multiple of 10.
        mixture: distribution of mixtures.
        queries: distribution of training queries.
        batch_size: mixtures per batch and device.
        num_workers: processes that render mixtures; 0 renders in the main process.
        num_train: training mixtures per epoch.
        num_val: validation mixtures.
        num_test: test mixtures.
        seed: seed of the data set; to repeat an experiment, change ``seed_everything`` and not this.
        redraw: new training mixtures each epoch; otherwise the same set again (the published way).
        recipes: folder with ``jams/{train,val,test}/<id>/mixture.jams``: mixtures described by Scaper's files (such as
            FSDSoundScapes) instead of drawn ones; of ``mixture`` only the duration is used then.
        cache_dir: folder of decoded recordings.
        download: download published recordings that are missing, as ``tse-refine prepare`` does.
        skip_unusable: leave out missing, unreadable, empty and silent recordings and list them in a file, instead of
            rejecting the corpus.
        predict_indices: test mixtures that ``predict`` extracts from; by default the first eight.
        interferers: corpus of sounds outside the classes, which are mixed in and never a target; null for none.
        impulse_responses: corpus of impulse responses, whose labels are rooms; events and interferers of a mixture are
            convolved with those of one room, and the target is reverberant. Null for none.
        aliases: other words for classes in queries, by class, such as ``{Bark: [dog]}``; they take the place of the
            corpus's own for these classes.
        digest: digest of the data set that a config was saved with; other data are reported with a warning.
    """

    def __init__(
        self,
        foregrounds: Corpus,
        backgrounds: Corpus | None = None,
        sample_rate: int = 16_000,
        mixture: MixtureConfig = MixtureConfig(),  # noqa: B008  a dataclass that is never changed
        queries: QueryConfig = QueryConfig(),  # noqa: B008
        batch_size: int = 8,
        num_workers: int = 2,
        num_train: int = 50_000,
        num_val: int = 5_000,
        num_test: int = 10_000,
        seed: int = 0,
        redraw: bool = True,
        recipes: str | None = None,
        cache_dir: str = "cache",
        download: bool = False,
        skip_unusable: bool = False,
        predict_indices: list[int] | None = None,
        interferers: Corpus | None = None,
        impulse_responses: Corpus | None = None,
        aliases: dict[str, list[str]] | None = None,
        digest: str | None = None,
    ) -> None:
        super().__init__()
        if backgrounds is None:
            backgrounds = SyntheticBackgrounds()
            _report_synthetic_backgrounds(recipes)
        self.foregrounds = foregrounds
        self.backgrounds = backgrounds
        self.corpora = {FOREGROUNDS: foregrounds, BACKGROUNDS: backgrounds}
        if interferers is not None:
            self.corpora[INTERFERERS] = interferers
        if impulse_responses is not None:
            self.corpora[IMPULSE_RESPONSES] = ImpulseResponses(impulse_responses)
        self.sample_rate = sample_rate
        self.mixture = mixture
        self.queries = queries
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.sizes = {"train": num_train, "val": num_val, "test": num_test}
        self.seed = seed
        self.redraw = redraw
        self.recipes = expand_home(recipes) if recipes else None
        self.cache_dir = expand_home(cache_dir)
        self.skip_unusable = skip_unusable
        self.predict_indices = list(range(min(8, num_test))) if predict_indices is None else predict_indices
        self._aliases = aliases or {}
        self.expected_digest = digest
        if download:
            for corpus in (foregrounds, backgrounds, interferers, impulse_responses):
                if corpus is not None:
                    download_missing(corpus)
        self._check()

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the classes by index, from the corpus's tables alone."""
        return sorted({clip.label for clip in self.clips[FOREGROUNDS]})

    @cached_property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """Other words for classes in queries, by class: the corpus's, and those of the option."""
        try:
            own = {name: words for name, words in self.foregrounds.aliases().items() if name in self.class_names}
            return check_aliases(own | self._aliases, self.class_names)
        except InputError as error:
            raise InputError(f"data.aliases, or those of {FOREGROUNDS}: {error}") from error

    @cached_property
    def clips(self) -> dict[str, list[Clip]]:
        """All clips by the option of their corpus, such as ``data.foregrounds``, from the corpora's tables alone."""
        clips = {}
        for option, corpus in self.corpora.items():
            try:
                clips[option] = corpus.clips()
                check_clips(clips[option])
            except InputError as error:
                raise InputError(f"{option}: {error}") from error
        return clips

    @cached_property
    def banks(self) -> dict[str, ClipBank]:
        """The banks by the option of their corpus; recordings are decoded when a bank is missing."""
        if INTERFERERS in self.corpora:
            check_other_contents(self.clips, self.corpora, self.cache_dir)
        return {
            option: open_clip_bank(corpus, self.sample_rate, self.cache_dir, self.skip_unusable, option)
            for option, corpus in self.corpora.items()
        }

    @cached_property
    def digest(self) -> str:
        """Digest of the data set: recordings, their splits, settings and seed, but not the number of mixtures."""
        parts = [
            [self.banks[option].digest, [[clip.name, clip.label, clip.split] for clip in clips]]
            for option, clips in self.clips.items()
        ]
        distributions = (self.mixture.settings(self.corpora), self.queries.settings())
        settings: list[Any] = [parts, self.sample_rate, *distributions, self.seed, self.redraw]
        if self.recipes:
            settings.append(scenes_digest(self.recipes, self.cache_dir))
        return hashlib.blake2b(json.dumps(settings).encode(), digest_size=8).hexdigest()

    @property
    def splits(self) -> list[str]:
        """The splits that have recordings, or recipes where those are read from files."""
        if self.recipes:
            return [split for split in SPLITS if (self.recipes / "jams" / split).exists()]
        present = {clip.split for clips in self.clips.values() for clip in clips}
        return [split for split in SPLITS if split in present]

    def prepare_data(self) -> None:
        """Decode the recordings once, in one process, and read recipes that are files."""
        _ = self.banks
        if self.recipes:
            for split in self.splits:
                self.make_recipes(split)

    def setup(self, stage: str) -> None:
        """Open the banks and prepare the splits of a stage.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            InputError: a split lacks a background or a class, or has fewer mixtures than ``predict_indices`` needs.
        """
        if self.expected_digest not in (None, self.digest):
            rank_zero_warn(
                f"The data differ from those the config was saved with: their digest is {self.digest}, "
                f"data.digest is {self.expected_digest}."
            )
        banks = self.banks
        further = (banks.get(INTERFERERS), banks.get(IMPULSE_RESPONSES))
        renderer = Renderer(banks[FOREGROUNDS], banks[BACKGROUNDS], *further)
        self.datasets = {
            split: MixtureDataset(self.make_recipes(split), renderer, self.sizes[split], with_sources=split != "train")
            for split in _STAGE_SPLITS[stage]
        }

    def open_split(self, split: str) -> MixtureDataset:
        """Return the mixtures of a split for use without a trainer, decoding the recordings when necessary.

        Args:
            split: ``train``, ``val`` or ``test``.

        Raises:
            InputError: see :meth:`setup`.
        """
        self.prepare_data()
        self.setup(_SPLIT_STAGES[split])
        return self.datasets[split]

    def export_scenes(self, split: str, output: Path) -> Path:
        """Write the mixtures of a split as Scaper's JAMS files and return their folder.

        Args:
            split: ``train``, ``val`` or ``test``.
            output: folder for the layout of :class:`tse_refine.data.scaper.exporting.SceneExporter`.

        Raises:
            InputError: the data cannot be described by such files, or the split exists in ``output``.
        """
        exporter = SceneExporter(self.corpora, self.mixture, self.sample_rate, split, output)
        return exporter.write(self.open_split(split))

    def train_dataloader(self) -> MixtureLoader:
        """Return shuffled or redrawn training batches, without sources."""
        return self._loader("train")

    def val_dataloader(self) -> MixtureLoader:
        """Return the validation batches, with sources."""
        return self._loader("val")

    def test_dataloader(self) -> MixtureLoader:
        """Return the test batches, with sources."""
        return self._loader("test")

    def predict_dataloader(self) -> MixtureLoader:
        """Return the chosen test mixtures, with sources."""
        return self._make_loader("test", [(0, index) for index in self.predict_indices])

    def _check(self) -> None:
        if not 0 < self.sample_rate <= _HIGHEST_RATE or self.sample_rate % 10:
            raise InputError(
                f"data.sample_rate is {shown(self.sample_rate)}; a positive multiple of 10 Hz up to {_HIGHEST_RATE} is "
                "expected."
            )
        if self.seed < 0:
            raise InputError(f"data.seed is {self.seed}; a number from 0 is expected.")
        sizes = {f"num_{split}": size for split, size in self.sizes.items()}
        for name, value in {"batch_size": self.batch_size, **sizes}.items():
            if value < 1:
                raise InputError(f"data.{name} is {value}; at least 1 is expected.")
        outside = [index for index in self.predict_indices if not 0 <= index < self.sizes["test"]]
        if outside:
            raise InputError(
                f"data.predict_indices names the test mixtures {outside}; they run from 0 to {self.sizes['test'] - 1}."
            )
        joined = [name for name in self.class_names if "|" in name]
        if joined:
            raise InputError(
                f"{FOREGROUNDS}: the class {joined[0]!r} contains a |, which joins names in the result files."
            )
        reserved = [name for name in self.class_names if plain_name(name) == ALL]
        if reserved:
            raise InputError(
                f"{FOREGROUNDS}: the class {reserved[0]!r} has the name that means every class in a query. Rename it "
                "in the corpus, or leave it out."
            )
        _ = self.aliases  # rejects what is ambiguous
        if INTERFERERS in self.corpora:
            check_outside_classes(self.clips, self.aliases)
        if self.recipes and IMPULSE_RESPONSES in self.corpora:
            raise InputError(
                f"{IMPULSE_RESPONSES}: the mixtures of data.recipes are read as they are, without reverberation. Leave "
                "one of the two out."
            )
        if self.recipes:  # describe the mixtures; importing compares their splits with those of the foregrounds
            return
        self.mixture.check(len(self.class_names))
        self.queries.check(self.mixture.num_events, len(self.class_names))
        check_splits(self.clips)
        for split in self.splits:
            self._pools(split, self.clips)

    def _pools(self, split: str, clips: Mapping[str, Sequence[Clip]]) -> Pools:
        return pools_of_split(split, clips, self.class_names, self.mixture.num_interferers[1])

    def make_recipes(self, split: str) -> Recipes:
        """Return the recipes of a split, drawn or read from files.

        Args:
            split: ``train``, ``val`` or ``test``.

        Raises:
            InputError: the split lacks a background or a class, or the files' recipes cannot be used.
        """
        if self.recipes:
            imported = ImportedRecipes(
                self.recipes,
                split,
                tuple(self.corpora.values()),
                tuple(self.banks.values()),
                self.mixture.duration_seconds,
                self.queries,
                self.seed,
                self.cache_dir,
            )
            if len(imported) < self.sizes[split]:
                raise InputError(
                    f"data.num_{split} is {self.sizes[split]}, but {self.recipes / 'jams' / split} has "
                    f"{len(imported)} mixtures; give --data.num_{split} {len(imported)} or less."
                )
            return imported
        usable = {
            option: [clip for clip in clips if clip.name in self.banks[option]] for option, clips in self.clips.items()
        }
        pools = self._pools(split, usable)

        def numbers(option: str, members: Sequence[Clip]) -> np.ndarray:
            return np.array([self.banks[option].position(clip.name) for clip in members])

        return DrawnRecipes(
            split,
            [numbers(FOREGROUNDS, members) for members in pools.foregrounds],
            numbers(BACKGROUNDS, pools.backgrounds),
            self.banks[FOREGROUNDS],
            self.banks[BACKGROUNDS],
            self.mixture,
            self.queries,
            self.seed,
            None if pools.interferers is None else numbers(INTERFERERS, pools.interferers),
            self.banks.get(INTERFERERS),
            None if pools.rooms is None else [numbers(IMPULSE_RESPONSES, members) for members in pools.rooms],
        )

    def _loader(self, split: str) -> MixtureLoader:
        trains = split == "train"
        sampler = RecipeSampler(
            self.sizes[split],
            redraw=trains and self.redraw,
            shuffle=trains and not self.redraw,
            seed=self.seed,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
            samples_done=self._samples_done if trains else lambda: 0,
        )
        return self._make_loader(split, sampler)

    def _make_loader(self, split: str, keys: RecipeSampler | Sequence[tuple[int, int]]) -> MixtureLoader:
        return MixtureLoader(
            self.datasets[split],
            batch_size=self.batch_size,
            sampler=keys,
            num_workers=self.num_workers,
            collate_fn=default_convert,  # the dataset has assembled the batch
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_ignore_stop_signals,
        )

    def _samples_done(self) -> int:
        """Return how many samples of the starting epoch a resumed training has already used."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready * self.batch_size if self.trainer else 0


def _report_synthetic_backgrounds(recipes: str | None) -> None:
    """Report that there is no corpus of backgrounds; reject it where recipes name their recordings."""
    if recipes:
        raise InputError(
            f"{BACKGROUNDS} is null, but the mixtures of data.recipes name recordings of backgrounds. Give the corpus "
            "that has them."
        )
    rank_zero_warn(
        f"{BACKGROUNDS} is not given: mixtures get synthesised wind, ventilation and traffic. A few minutes recorded "
        "where the network will listen suit it better."
    )


def _ignore_stop_signals(worker: int) -> None:
    """Let a loader's process live on at signals to the whole group: the training needs it to end its step."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
