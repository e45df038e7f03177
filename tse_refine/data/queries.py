"""Which classes are asked for: queries in training, nested queries in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tse_refine.errors import InputError


@dataclass
class QueryConfig:
    """How training queries are drawn.

    Attributes:
        target_counts: how many active classes a query asks for; one of these numbers, each as likely (1, 2, 3).
        inactive_sample_rate: fraction of training mixtures whose query asks only for classes that are not there,
            with silence as the target; 0 is the proposed training and baseline 1, 0.1 is baseline 2; in [0, 1].
    """

    target_counts: tuple[int, ...] = (1, 2, 3)
    inactive_sample_rate: float = 0.0

    def check(self, num_events: Sequence[int], num_classes: int) -> None:
        """Refuse counts that a mixture cannot serve.

        Args:
            num_events: how many classes a mixture may hold.
            num_classes: classes in all.

        Raises:
            InputError: a count is out of range, or the rate is no fraction.
        """
        if not self.target_counts or min(self.target_counts) < 1 or max(self.target_counts) > min(num_events):
            raise InputError(
                f"data.queries.target_counts is {list(self.target_counts)}; each must be from 1 to {min(num_events)}, "
                "the fewest active classes of a mixture (data.mixture.num_events)."
            )
        if not 0.0 <= self.inactive_sample_rate <= 1.0:
            raise InputError(
                f"data.queries.inactive_sample_rate is {self.inactive_sample_rate}; a fraction from 0 to 1 is expected."
            )
        most = max(num_events) + max(self.target_counts)
        if self.inactive_sample_rate > 0.0 and num_classes < most:
            raise InputError(
                f"data.queries.inactive_sample_rate is {self.inactive_sample_rate}, but {num_classes} classes leave "
                f"too few inactive ones beside {max(num_events)} active: at least {most} classes are needed."
            )


def draw_query(
    rng: np.random.Generator, active: np.ndarray, num_classes: int, config: QueryConfig, allow_inactive: bool
) -> np.ndarray:
    """Draw the query that training asks of a mixture.

    Args:
        rng: source of chance.
        active: class indices in the mixture, ``[events]``.
        num_classes: classes in all.
        config: the distribution.
        allow_inactive: whether the query may ask for inactive classes only (training; never validation).

    Returns:
        Class indices, ``[queried]``: all active, or all inactive.
    """
    count = config.target_counts[rng.integers(len(config.target_counts))]
    asks_inactive = rng.random() < config.inactive_sample_rate
    asked = rng.permutation(active)[:count]
    if asks_inactive and allow_inactive:
        asked = rng.permutation(inactive_classes(active, num_classes))[:count]
    return asked


def draw_query_order(rng: np.random.Generator, active: np.ndarray, num_classes: int) -> np.ndarray:
    """Draw the order in which evaluation asks for the classes of a mixture.

    Condition (a:i) asks for the first ``a`` active classes and the first ``i`` inactive ones, so that the queries of
    one mixture are nested and every model is asked the same questions.

    Args:
        rng: source of chance.
        active: class indices in the mixture, ``[events]``.
        num_classes: classes in all.

    Returns:
        Every class index once, ``[classes]``: the active ones first, then the inactive ones.
    """
    return np.concatenate([rng.permutation(active), rng.permutation(inactive_classes(active, num_classes))])


def inactive_classes(active: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the class indices that are not in ``active``, ascending; ten times as fast as ``np.setdiff1d``."""
    absent = np.ones(num_classes, bool)
    absent[active] = False
    return np.flatnonzero(absent)


def condition_queries(
    query_order: torch.Tensor, num_active: torch.Tensor, conditions: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """Return the query of each condition for each mixture.

    Args:
        query_order: from :func:`draw_query_order`, ``[batch, classes]``.
        num_active: active classes of each mixture, ``[batch]``.
        conditions: pairs (active, inactive).

    Returns:
        Multi-hot, ``[batch, conditions, classes]``, float32. Where a mixture has fewer active or inactive classes than
        a condition asks for, the query holds as many as there are.

    >>> condition_queries(torch.tensor([[2, 0, 1, 3]]), torch.tensor([2]), [(1, 0), (2, 1)])
    tensor([[[0., 0., 1., 0.],
             [1., 1., 1., 0.]]])
    """
    place = torch.argsort(query_order, dim=1)[:, None, :]  # [batch, 1, classes]: where the order has each class
    num_active = num_active[:, None, None]
    asked_active = torch.tensor([a for a, _ in conditions], device=place.device)[None, :, None]
    asked_inactive = torch.tensor([i for _, i in conditions], device=place.device)[None, :, None]
    is_active = place < num_active
    return torch.where(is_active, place < asked_active, place - num_active < asked_inactive).float()
