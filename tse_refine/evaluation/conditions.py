"""Conditions (active:inactive): how a query matches the mixture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tse_refine.errors import InputError
from tse_refine.evaluation.metrics import ATTENUATION, FMQ, FUQ, PMQ, SNRI, Measure


class Condition(NamedTuple):
    """A query for some active and some inactive classes.

    Attributes:
        active: queried classes that are in the mixture.
        inactive: queried classes that are not.

    >>> Condition(1, 3).name, Condition(1, 3).key, Condition(1, 3).kind, Condition(1, 3).measure.label
    ('(1:3)', '1a3i', 'PMQ', 'SNRi')
    """

    active: int
    inactive: int

    @property
    def name(self) -> str:
        """The condition as people write it."""
        return f"({self.active}:{self.inactive})"

    @property
    def key(self) -> str:
        """The condition in the names of logged metrics."""
        return f"{self.active}a{self.inactive}i"

    @property
    def kind(self) -> str:
        """The kind of the query: fully matched (FMQ), partially matched (PMQ) or fully unmatched (FUQ)."""
        return FUQ if not self.active else PMQ if self.inactive else FMQ

    @property
    def measure(self) -> Measure:
        """The measure that tables show: SNRi, or attenuation where nothing queried is in the mixture."""
        return SNRI if self.active else ATTENUATION

    @classmethod
    def from_key(cls, key: str) -> Condition:
        """Return the condition of a logged metric.

        Args:
            key: key of a condition, such as ``1a3i``.

        Raises:
            ValueError: it is not the key of a condition.

        >>> Condition.from_key("1a3i")
        Condition(active=1, inactive=3)
        """
        match = re.fullmatch(r"(\d+)a(\d+)i", key)
        if match is None:
            raise ValueError(f"{key!r} is not the key of a condition, such as 1a3i")
        return cls(int(match[1]), int(match[2]))


MATCHED, PARTIAL, UNMATCHED = (
    Condition(1, 0),
    Condition(1, 3),
    Condition(0, 1),
)  # of each kind one that the paper prints
TABLE_CONDITIONS = (MATCHED, Condition(1, 1), PARTIAL, UNMATCHED)  # the paper's Table 1


def parse_conditions(given: Sequence[Any], option: str, most_active: int, num_classes: int) -> tuple[Condition, ...]:
    """Check conditions as they come from YAML.

    Args:
        given: pairs [active, inactive].
        option: name of the option, for messages.
        most_active: active classes in the fullest mixture.
        num_classes: number of classes.

    Returns:
        The conditions, each once, in their order.

    Raises:
        InputError: one is not a pair, is empty, or queries more classes than there are.
    """
    conditions = []
    fewest_inactive = num_classes - most_active
    for pair in given:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(type(n) is int and n >= 0 for n in pair):
            hint = "YAML reads 1:3 as the number 63 in base 60. " if isinstance(pair, int | str) else ""
            raise InputError(
                f"{option}: {pair!r} is not a valid condition. {hint}Write pairs [active, inactive], such as "
                "[[1, 0], [1, 3]]."
            )
        condition = Condition(*pair)
        if sum(condition) == 0:
            raise InputError(f"{option}: [0, 0] queries nothing; use at least one class.")
        if condition.active > most_active:
            raise InputError(
                f"{option}: {list(condition)} queries {condition.active} active classes, but a mixture has at most "
                f"{most_active} (data.mixture.num_events)."
            )
        if condition.inactive > fewest_inactive:
            raise InputError(
                f"{option}: {list(condition)} queries {condition.inactive} inactive classes, but with {num_classes} "
                f"classes and up to {most_active} active ones a mixture may leave only {fewest_inactive}."
            )
        conditions.append(condition)
    return tuple(dict.fromkeys(conditions))
