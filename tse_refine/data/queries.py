"""Queries: drawn in training, nested in evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tse_refine.errors import InputError, did_you_mean
from tse_refine.files.atomic import normalized_name
from tse_refine.files.documents import checked_name

ALL = "all"  # in a query, every class; no class has this name


def plain_name(name: str) -> str:
    """Return the name of a class without what does not matter in a query: case, spaces, ``_``, ``-``, Unicode form.

    >>> plain_name("Car-horn") == plain_name("car_horn")
    True
    """
    return "".join(letter for letter in normalized_name(name).casefold() if letter not in " _-")


def check_aliases(aliases: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the aliases of each class, checked: each means one class, in every spelling that queries allow.

    Args:
        aliases: other words for classes, by class.
        class_names: names of all classes.

    Raises:
        InputError: names something else than a class, or an alias that is not a line of text, names another class or
            means every class.

    >>> check_aliases({"Bark": ["dog", "Woof"]}, ["Bark", "Siren"])
    {'Bark': ('dog', 'Woof')}
    """
    class_of = {plain_name(name): name for name in class_names}
    checked = {}
    for name, words in aliases.items():
        if (name := normalized_name(name)) not in class_names:
            raise InputError(f"{name!r} is not a class, but has aliases; {did_you_mean(name, list(class_names))}")
        try:
            checked[name] = tuple(dict.fromkeys(normalized_name(checked_name(word, "an alias")) for word in words))
        except ValueError as error:
            raise InputError(f"{name!r}: {error}.") from error
        for word in checked[name]:
            if plain_name(word) == ALL:
                raise InputError(f"{word!r}, an alias of {name!r}, means every class in a query; choose another word.")
            if (other := class_of.setdefault(plain_name(word), name)) != name:
                raise InputError(f"{word!r} names two classes, {other!r} and {name!r}; an alias must name one.")
    return checked


@dataclass
class QueryConfig:
    """Distribution of training queries.

    Attributes:
        target_counts: possible numbers of active classes in a query, equally likely; of inactive ones in a mixture of
            background alone, whose target is silence.
        inactive_sample_rate: fraction of the other training mixtures whose query has inactive classes only, with
            silence as the target, in [0, 1]; 0 in the proposed training and baseline 1, 0.1 in baseline 2.
        partial_sample_rate: fraction of the other training mixtures whose query also has inactive classes, which do not
            change the target, in [0, 1]; 0 in the paper, 0.5 in baseline 3 (ours).
        inactive_counts: possible numbers of those inactive classes, equally likely.
    """

    target_counts: tuple[int, ...] = (1, 2, 3)
    inactive_sample_rate: float = 0.0
    partial_sample_rate: float = 0.0
    inactive_counts: tuple[int, ...] = (1, 2, 3)

    def settings(self) -> dict[str, Any]:
        """Return what decides on the queries, for a digest: options without effect are left out."""
        idle = () if self.partial_sample_rate > 0.0 else ("partial_sample_rate", "inactive_counts")
        return {name: value for name, value in asdict(self).items() if name not in idle}

    def check(self, num_events: Sequence[int], num_classes: int) -> None:
        """Reject settings that mixtures cannot satisfy.

        Args:
            num_events: possible numbers of active classes in a mixture, one of them at least 1.
            num_classes: number of classes.

        Raises:
            InputError: a count or the rate is out of range.
        """
        fewest = min(number for number in num_events if number > 0)
        if not self.target_counts or min(self.target_counts) < 1 or max(self.target_counts) > fewest:
            raise InputError(
                f"data.queries.target_counts is {list(self.target_counts)}; each must be from 1 to {fewest}, the "
                "fewest active classes of a mixture with any (data.mixture.num_events)."
            )
        if not self.inactive_counts or min(self.inactive_counts) < 1:
            raise InputError(
                f"data.queries.inactive_counts is {list(self.inactive_counts)}; numbers of at least 1 are expected."
            )
        for name, counts_name in (
            ("inactive_sample_rate", "target_counts"),
            ("partial_sample_rate", "inactive_counts"),
        ):
            counts = getattr(self, counts_name)
            rate, most = getattr(self, name), max(num_events) + max(counts)
            if not 0.0 <= rate <= 1.0:
                raise InputError(f"data.queries.{name} is {rate}; a fraction from 0 to 1 is expected.")
            if rate > 0.0 and num_classes < most:
                raise InputError(
                    f"data.queries.{name} is {rate}, but {num_classes} classes leave too few inactive ones beside "
                    f"{max(num_events)} active: at least {most} classes are needed, or smaller numbers in "
                    f"data.queries.{counts_name}, which is {list(counts)}."
                )


def draw_query(
    rng: np.random.Generator, active: np.ndarray, num_classes: int, config: QueryConfig, allow_inactive: bool
) -> np.ndarray:
    """Draw the training query of a mixture.

    Args:
        rng: random generator.
        active: class indices in the mixture, ``[events]``; where there is none, inactive classes are queried.
        num_classes: number of classes.
        config: distribution of queries.
        allow_inactive: whether a mixture with active classes may be queried for inactive ones (in training, not in
            validation).

    Returns:
        Class indices, ``[queried]``: all active, all inactive, or active ones and then inactive ones.
    """
    count = config.target_counts[rng.integers(len(config.target_counts))]
    is_inactive = rng.random() < config.inactive_sample_rate
    query = rng.permutation(active)[:count]
    if len(active) and not allow_inactive:
        return query
    if is_inactive or not len(active):
        return rng.permutation(inactive_classes(active, num_classes))[:count]
    if config.partial_sample_rate > 0.0 and rng.random() < config.partial_sample_rate:
        count = config.inactive_counts[rng.integers(len(config.inactive_counts))]
        query = np.concatenate([query, rng.permutation(inactive_classes(active, num_classes))[:count]])
    return query


def draw_query_order(rng: np.random.Generator, active: np.ndarray, num_classes: int) -> np.ndarray:
    """Draw the order in which evaluation queries the classes of a mixture.

    Condition (a:i) queries the first ``a`` active classes and the first ``i`` inactive ones, so that the queries of one
    mixture are nested and the same for every model.

    Args:
        rng: random generator.
        active: class indices in the mixture, ``[events]``.
        num_classes: number of classes.

    Returns:
        Every class index once, ``[classes]``: the active ones first, then the inactive ones.
    """
    return np.concatenate([rng.permutation(active), rng.permutation(inactive_classes(active, num_classes))])


def inactive_classes(active: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the class indices that are not in ``active``, ascending."""
    absent = np.ones(num_classes, bool)  # ten times as fast as np.setdiff1d
    absent[active] = False
    return np.flatnonzero(absent)


def condition_queries(
    query_order: torch.Tensor, num_active: torch.Tensor, conditions: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """Return one query per mixture and condition.

    Args:
        query_order: orders from :func:`draw_query_order`, ``[batch, classes]``.
        num_active: number of active classes of each mixture, ``[batch]``.
        conditions: pairs (active, inactive).

    Returns:
        Multi-hot, ``[batch, conditions, classes]``, float32. Where a mixture has fewer active or inactive classes than
        a condition needs, the query has all of them.

    >>> condition_queries(torch.tensor([[2, 0, 1, 3]]), torch.tensor([2]), [(1, 0), (2, 1)])
    tensor([[[0., 0., 1., 0.],
             [1., 1., 1., 0.]]])
    """
    place = torch.argsort(query_order, dim=1)[:, None, :]  # [batch, 1, classes]: place of each class in the order
    num_active = num_active[:, None, None]
    counts = torch.tensor(conditions, dtype=torch.long, device=place.device).reshape(-1, 2)
    queried_active, queried_inactive = (counts[None, :, kind, None] for kind in (0, 1))
    return torch.where(place < num_active, place < queried_active, place - num_active < queried_inactive).float()
