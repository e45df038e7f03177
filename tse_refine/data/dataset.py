"""Mixtures by (epoch, index), and the sampler and loader that make batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from tse_refine.data.recipes import Recipe, Recipes
from tse_refine.data.rendering import Renderer

Batch = dict[str, torch.Tensor]


class MixtureDataset(Dataset[Batch]):
    """Renders batches of mixtures; a mixture does not depend on its batch, worker or rank.

    A batch holds ``mixture`` and ``target`` ``[batch, samples]``, ``query`` and ``activity`` ``[batch, classes]``
    (multi-hot, float32), ``index`` ``[batch]``, and when what sounds: ``source_classes`` ``[batch, events]`` (-1 pads)
    and ``source_spans`` ``[batch, events, 2]``, the first sample and the one after the last. For evaluation it also
    holds ``sources`` ``[batch, events, samples]`` and ``query_order`` ``[batch, classes]``, the orders of
    :func:`tse_refine.data.queries.draw_query_order`.

    Args:
        recipes: recipes of the mixtures.
        renderer: renderer of the recipes.
        size: number of mixtures.
        with_sources: whether batches are for evaluation.
    """

    def __init__(self, recipes: Recipes, renderer: Renderer, size: int, with_sources: bool) -> None:
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
        """Return one mixture: a batch of size 1 without its first dimension."""
        return {name: value[0] for name, value in self.__getitems__([key]).items()}

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """Return a batch for several (epoch, index), rendered in place; torch's fetcher prefers this to items."""
        # with a sampler of Lightning's own (overfit_batches), a key is only an index
        recipes = [self.recipe((0, key) if isinstance(key, int) else key) for key in keys]
        num_mixtures, num_classes, num_samples = len(keys), self.recipes.num_classes, self.recipes.num_samples
        batch = {
            "mixture": np.empty((num_mixtures, num_samples), np.float32),
            "target": np.empty((num_mixtures, num_samples), np.float32),
            "query": np.zeros((num_mixtures, num_classes), np.float32),
            "activity": np.zeros((num_mixtures, num_classes), np.float32),
            "index": np.array([recipe.index for recipe in recipes]),
            "source_classes": np.full((num_mixtures, self.recipes.max_events), -1),
            "source_spans": np.zeros((num_mixtures, self.recipes.max_events, 2), np.int64),
        }
        if self.with_sources:
            batch["sources"] = np.empty((num_mixtures, self.recipes.max_events, num_samples), np.float32)
            batch["query_order"] = np.array([recipe.query_order for recipe in recipes])
        for row, recipe in enumerate(recipes):
            classes = [event.class_index for event in recipe.events]
            sources = batch["sources"][row] if self.with_sources else None
            self.renderer.render(recipe, batch["mixture"][row], batch["target"][row], sources)
            batch["query"][row, list(recipe.query)] = 1.0
            batch["activity"][row, classes] = 1.0
            batch["source_classes"][row, : len(classes)] = classes
            for number, event in enumerate(recipe.events):
                batch["source_spans"][row, number] = event.onset, event.onset + event.length
        return {name: torch.from_numpy(value) for name, value in batch.items()}


class RecipeSampler(DistributedSampler[int]):
    """Yields (epoch, index), so that workers receive the epoch with each mixture.

    As a ``DistributedSampler`` it gets its epoch from Lightning, which does not replace it.

    Args:
        size: number of mixtures.
        redraw: new mixtures each epoch; otherwise the mixtures of epoch 0, in a new order each epoch if shuffled.
        shuffle: a new order each epoch; unnecessary for redrawn mixtures.
        seed: seed of the order.
        num_replicas: number of processes that share an epoch.
        rank: number of this process.
        samples_done: function that returns how many of this rank's samples to skip, called when an epoch starts.
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
        items: Any = range(size)  # only their number is used
        super().__init__(items, num_replicas=num_replicas, rank=rank, shuffle=shuffle, seed=seed)
        self.redraw = redraw
        self.samples_done = samples_done

    def __iter__(self) -> Iterator[tuple[int, int]]:  # type: ignore[override]
        epoch = self.epoch if self.redraw else 0
        return islice(((epoch, index) for index in super().__iter__()), self.samples_done(), None)


class MixtureLoader(DataLoader[Batch]):
    """A ``DataLoader`` that starts when its first batch is requested, not before.

    Lightning requests the iterator of a resumed training before it restores the epoch and the position in it. Workers
    that start at once would render the first batches of epoch 0.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing, since the trainer's progress and the sampler's epoch define the position in a resumed run."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing."""
