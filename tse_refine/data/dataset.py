"""Mixtures by (epoch, index), the sampler that says which, and the loader that serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from tse_refine.data.recipes import Recipe, RecipeSource
from tse_refine.data.rendering import Renderer

Batch = dict[str, torch.Tensor]


class MixtureDataset(Dataset):
    """Renders batches of mixtures; a mixture does not depend on the batch, worker or rank that asks for it.

    A batch holds ``mixture`` and ``target`` ``[batch, samples]``, ``query`` and ``activity`` ``[batch, classes]``
    (multi-hot, float32) and ``index`` ``[batch]``. For evaluation it also holds ``sources``
    ``[batch, events, samples]``, ``source_classes`` ``[batch, events]`` (-1 pads) and ``query_order``
    ``[batch, classes]`` (see :func:`tse_refine.data.queries.draw_query_order`).

    Args:
        recipes: where the recipes come from.
        renderer: makes sound of them.
        size: number of mixtures.
        with_sources: whether batches are for evaluation.
    """

    def __init__(self, recipes: RecipeSource, renderer: Renderer, size: int, with_sources: bool) -> None:
        self.recipes = recipes
        self.renderer = renderer
        self.size = size
        self.with_sources = with_sources

    def __len__(self) -> int:
        return self.size

    def recipe(self, key: tuple[int, int]) -> Recipe:
        """Return the recipe of an (epoch, index)."""
        return self.recipes.draw(*key)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """Return one mixture: a batch of one without its first dimension."""
        return {name: value[0] for name, value in self.__getitems__([key]).items()}

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """Return a batch for several (epoch, index), rendered in place: torch's fetcher prefers this to items."""
        # where Lightning puts a sampler of its own (overfit_batches), a key is only an index
        recipes = [self.recipe((0, key) if isinstance(key, int) else key) for key in keys]
        num_classes, num_samples = self.recipes.num_classes, self.recipes.num_samples
        mixture = np.empty((len(keys), num_samples), np.float32)
        target = np.empty_like(mixture)
        query = np.zeros((len(keys), num_classes), np.float32)
        activity = np.zeros_like(query)
        sources: Sequence[np.ndarray | None] = [None] * len(keys)
        if self.with_sources:
            num_rows = self.recipes.max_events
            sources = np.empty((len(keys), num_rows, num_samples), np.float32)
        for row, recipe in enumerate(recipes):
            self.renderer.render(recipe, mixture[row], target[row], sources[row])
            query[row, list(recipe.query)] = 1.0
            activity[row, [event.class_index for event in recipe.events]] = 1.0
        batch = {"mixture": mixture, "target": target, "query": query, "activity": activity}
        batch["index"] = np.array([recipe.index for recipe in recipes])
        if self.with_sources:
            source_classes = np.full((len(keys), num_rows), -1)
            for row, recipe in enumerate(recipes):
                source_classes[row, : len(recipe.events)] = [event.class_index for event in recipe.events]
            batch |= {"sources": sources, "source_classes": source_classes}
            batch["query_order"] = np.array([recipe.query_order for recipe in recipes])
        return {name: torch.from_numpy(value) for name, value in batch.items()}


class MixtureSampler(DistributedSampler):
    """Yields (epoch, index), so that workers know the epoch without being told.

    It is a ``DistributedSampler``, so that Lightning sets its epoch and does not wrap it in one of its own.

    Args:
        size: number of mixtures.
        redraw: new mixtures each epoch; otherwise the mixtures of epoch 0, in a new order each epoch where shuffled.
        shuffle: a new order each epoch; needless where mixtures are redrawn.
        seed: of the order.
        num_replicas: processes that share an epoch.
        rank: which of them this is.
        samples_done: asked when an epoch starts: how many of this rank's samples it has behind it already.
    """

    def __init__(
        self,
        size: int,
        redraw: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        samples_done: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(range(size), num_replicas=num_replicas, rank=rank, shuffle=shuffle, seed=seed)
        self.redraw = redraw
        self.samples_done = samples_done

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch if self.redraw else 0
        return islice(((epoch, index) for index in super().__iter__()), self.samples_done(), None)


class MixtureLoader(DataLoader):
    """A ``DataLoader`` that starts when its first batch is asked for, not before.

    Lightning asks for the iterator of a resumed training before it restores the epoch and the position in it. Workers
    that start at once would render the first batches of epoch 0 into it.
    """

    def __iter__(self) -> Iterator[Batch]:
        yield from super().__iter__()

    def state_dict(self) -> dict:
        """Return nothing: the trainer's progress and the sampler's epoch say where to go on; tells so to Lightning."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Take back nothing."""


def as_it_is(batch: Batch) -> Batch:
    """Collate what the dataset has already put together."""
    return batch
