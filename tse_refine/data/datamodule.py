"""The LightningDataModule: corpora in, batches of mixtures out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn

from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.corpora.acquisition import complete
from tse_refine.data.corpora.base import SPLITS, Clip, Corpus, check_splits
from tse_refine.data.dataset import MixtureDataset, MixtureLoader, MixtureSampler, as_it_is
from tse_refine.data.queries import QueryConfig
from tse_refine.data.recipes import ClipPools, MixtureConfig, RecipeBook, RecipeSource
from tse_refine.data.rendering import Renderer
from tse_refine.data.scaper.importing import import_recipes, scenes_digest
from tse_refine.errors import InputError

FOREGROUNDS, BACKGROUNDS = "data.foregrounds", "data.backgrounds"
STAGE_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}

SPLIT_STAGES = {"train": "fit", "val": "validate", "test": "test"}  # a stage that sets the split up


class MixtureDataModule(LightningDataModule):
    """Mixtures generated on the fly from labelled recordings.

    Args:
        foregrounds: corpus of the sounds to extract; its labels are the classes.
        backgrounds: corpus of the backgrounds; its labels do not matter.
        sample_rate: of mixtures and model, Hz, a multiple of 10.
        mixture: what a mixture is made of.
        queries: how training queries are drawn.
        batch_size: mixtures a batch, on each device.
        num_workers: processes that render mixtures; 0 renders in the main process.
        num_train: training mixtures an epoch.
        num_val: validation mixtures.
        num_test: test mixtures.
        seed: defines the data set; repeat an experiment with another ``seed_everything`` and leave this as it is.
        redraw: new training mixtures each epoch; otherwise the same set again (the published way).
        recipes: folder with ``jams/{train,val,test}/<id>/mixture.jams``: mixtures as Scaper's files describe them
            (such as FSDSoundScapes) instead of drawn ones; of ``mixture`` only the duration counts then.
        cache_dir: where decoded recordings are kept.
        download: download published recordings that are missing; ``tse-refine prepare`` does so.
        skip_unusable: leave out missing, unreadable, empty and silent recordings and list them in a file, instead of
            refusing them.
        predict_indices: which test mixtures ``predict`` extracts from; by default the first eight.
        digest: digest of the data set that a config was saved with; other data are reported with a warning.
    """

    def __init__(
        self,
        foregrounds: Corpus,
        backgrounds: Corpus,
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
        digest: str | None = None,
    ) -> None:
        super().__init__()
        self.foregrounds = foregrounds
        self.backgrounds = backgrounds
        self.corpora = {FOREGROUNDS: foregrounds, BACKGROUNDS: backgrounds}
        self.sample_rate = sample_rate
        self.mixture = mixture
        self.queries = queries
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.sizes = {"train": num_train, "val": num_val, "test": num_test}
        self.seed = seed
        self.redraw = redraw
        self.recipes = Path(recipes).expanduser() if recipes else None
        self.cache_dir = Path(cache_dir).expanduser()
        self.skip_unusable = skip_unusable
        self.predict_indices = list(range(min(8, num_test))) if predict_indices is None else predict_indices
        self.expected_digest = digest
        if download:
            for corpus in (foregrounds, backgrounds):
                complete(corpus)
        self._check()

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the classes by index, from the corpus's tables alone."""
        return sorted({clip.label for clip in self.clips[FOREGROUNDS]})

    @cached_property
    def clips(self) -> dict[str, list[Clip]]:
        """All clips, from the corpora's tables alone: of ``data.foregrounds`` and of ``data.backgrounds``."""
        return {option: _clips(corpus, option) for option, corpus in self.corpora.items()}

    @cached_property
    def banks(self) -> dict[str, ClipBank]:
        """The banks of foregrounds and backgrounds; decodes what has not been decoded."""
        return {
            option: open_clip_bank(corpus, self.sample_rate, self.cache_dir, self.skip_unusable, option)
            for option, corpus in self.corpora.items()
        }

    @cached_property
    def digest(self) -> str:
        """Names the data set: recordings, their splits, settings and seed, not how many mixtures are drawn of it."""
        parts = [
            [self.banks[option].digest, [[clip.name, clip.label, clip.split] for clip in clips]]
            for option, clips in self.clips.items()
        ]
        settings = [parts, self.sample_rate, asdict(self.mixture), asdict(self.queries), self.seed, self.redraw]
        if self.recipes:
            settings.append(scenes_digest(self.recipes, self.cache_dir))
        return hashlib.blake2b(json.dumps(settings).encode(), digest_size=8).hexdigest()

    @property
    def splits(self) -> list[str]:
        """The splits that there are: with recordings, or with recipes where those come from files."""
        if self.recipes:
            return [split for split in SPLITS if (self.recipes / "jams" / split).exists()]
        return [s for s in SPLITS if any(clip.split == s for clips in self.clips.values() for clip in clips)]

    def prepare_data(self) -> None:
        """Decode the recordings once, in one process, and read the recipes where they come from files."""
        _ = self.banks
        if self.recipes:
            for split in self.splits:
                self.recipe_source(split)

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
        self.datasets = {split: self._dataset(split) for split in STAGE_SPLITS[stage]}

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
        return self._served("test", [(0, index) for index in self.predict_indices])

    def _check(self) -> None:
        if self.sample_rate <= 0 or self.sample_rate % 10:
            raise InputError(f"data.sample_rate is {self.sample_rate}; a positive multiple of 10 Hz is expected.")
        if self.seed < 0:
            raise InputError(f"data.seed is {self.seed}; a number from 0 is expected.")
        for name in ("batch_size", "num_train", "num_val", "num_test"):
            value = self.batch_size if name == "batch_size" else self.sizes[name.removeprefix("num_")]
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
                f"{FOREGROUNDS}: the class {joined[0]!r} holds a |, which joins names in the result files."
            )
        num_classes = len(self.class_names)
        if self.recipes:  # they say what a mixture is; their splits are compared with those of the foregrounds
            return
        self.mixture.check(num_classes)
        self.queries.check(self.mixture.num_events, num_classes)
        check_splits(self.clips)
        for split in self.splits:
            self._pools(split, self.clips)

    def _pools(self, split: str, clips: Mapping[str, Sequence[Clip]]) -> dict[str, list[Clip]]:
        """Return the clips of a split by class, the backgrounds under ``""``; refuse a gap."""
        pools: dict[str, list[Clip]] = {name: [] for name in self.class_names}
        for clip in clips[FOREGROUNDS]:
            if clip.split == split:
                pools[clip.label].append(clip)
        lacking = [name for name, members in pools.items() if not members]
        if lacking:
            raise InputError(
                f"{FOREGROUNDS}: the {split} split has no clip of {', '.join(lacking)}. Every class needs clips in "
                "every split: give the split more folds or recordings, or leave the class out."
            )
        pools[""] = [clip for clip in clips[BACKGROUNDS] if clip.split == split]
        if not pools[""]:
            raise InputError(f"{BACKGROUNDS}: the {split} split has no background. Give it more folds or recordings.")
        return pools

    def recipe_source(self, split: str) -> RecipeSource:
        """Return where the recipes of a split come from.

        Args:
            split: ``train``, ``val`` or ``test``.

        Raises:
            InputError: the split lacks a background or a class, or the files' recipes cannot be used.
        """
        banks = (self.banks[FOREGROUNDS], self.banks[BACKGROUNDS])
        if self.recipes:
            imported = import_recipes(
                self.recipes,
                split,
                (self.foregrounds, self.backgrounds),
                banks,
                self.mixture.duration_seconds,
                self.queries,
                self.seed,
                self.cache_dir,
            )
            if len(imported) < self.sizes[split]:
                raise InputError(
                    f"data.num_{split} is {self.sizes[split]}, but {self.recipes / 'jams' / split} holds "
                    f"{len(imported)} mixtures; give --data.num_{split} {len(imported)} or less."
                )
            return imported
        usable = {
            option: [clip for clip in clips if clip.name in self.banks[option]] for option, clips in self.clips.items()
        }
        pools = self._pools(split, usable)
        clip_pools = ClipPools(
            foregrounds=[np.array([banks[0].position(clip.name) for clip in pools[name]]) for name in self.class_names],
            backgrounds=np.array([banks[1].position(clip.name) for clip in pools[""]]),
        )
        return RecipeBook(split, clip_pools, *banks, self.mixture, self.queries, self.seed)

    def _dataset(self, split: str) -> MixtureDataset:
        renderer = Renderer(self.banks[FOREGROUNDS], self.banks[BACKGROUNDS])
        return MixtureDataset(self.recipe_source(split), renderer, self.sizes[split], with_sources=split != "train")

    def _loader(self, split: str) -> MixtureLoader:
        trains = split == "train"
        sampler = MixtureSampler(
            self.sizes[split],
            redraw=trains and self.redraw,
            shuffle=trains and not self.redraw,
            seed=self.seed,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            rank=self.trainer.global_rank if self.trainer else 0,
            samples_done=self._samples_done if trains else lambda: 0,
        )
        return self._served(split, sampler)

    def _served(self, split: str, keys: Iterable[tuple[int, int]]) -> MixtureLoader:
        return MixtureLoader(
            self.datasets[split],
            batch_size=self.batch_size,
            sampler=keys,
            num_workers=self.num_workers,
            collate_fn=as_it_is,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def _samples_done(self) -> int:
        """Return how many samples of the epoch that starts a resumed training has behind it."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready * self.batch_size if self.trainer else 0


def _clips(corpus: Corpus, option: str) -> list[Clip]:
    """Return the clips of a corpus; a refusal says whose they are."""
    try:
        return corpus.clips()
    except InputError as error:
        raise InputError(f"{option}: {error}") from error
