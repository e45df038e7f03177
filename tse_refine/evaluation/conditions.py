"""Conditions and thresholds: how they are given, checked and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tse_refine.errors import InputError

Condition = tuple[int, int]
Threshold = float | str  # a number, or one of the words below
NONE, ORACLE, GATE = "none", "oracle", "gate"
WORDS = (NONE, ORACLE, GATE)


def parse_conditions(given: Sequence[Any], option: str, most_active: int, num_classes: int) -> list[Condition]:
    """Check conditions as they come from YAML.

    Args:
        given: pairs [active, inactive].
        option: the option's name, for messages.
        most_active: active classes in the fullest mixture.
        num_classes: classes in all.

    Raises:
        InputError: one is not a pair, is empty, or asks for more classes than there are.
    """
    conditions = []
    for one in given:
        if not isinstance(one, list | tuple) or len(one) != 2 or not all(type(n) is int and n >= 0 for n in one):
            hint = "YAML reads 1:3 as the number 63 in base 60. " if isinstance(one, int | str) else ""
            raise InputError(
                f"{option}: {one!r} is no condition. {hint}Write pairs [active, inactive], such as [[1, 0], [1, 3]]."
            )
        active, inactive = one
        if active == inactive == 0:
            raise InputError(f"{option}: [0, 0] asks for nothing; use at least one class.")
        if active > most_active:
            raise InputError(
                f"{option}: [{active}, {inactive}] asks for {active} active classes, but a mixture has at most "
                f"{most_active} (data.mixture.num_events)."
            )
        fewest_inactive = num_classes - most_active
        if inactive > fewest_inactive:
            raise InputError(
                f"{option}: [{active}, {inactive}] asks for {inactive} inactive classes, but with {num_classes} "
                f"classes and up to {most_active} active ones a mixture may leave only {fewest_inactive}."
            )
        conditions.append((active, inactive))
    return unique(conditions)


def parse_thresholds(given: Sequence[Any], option: str) -> list[Threshold]:
    """Check thresholds as they come from YAML.

    Args:
        given: numbers in [0, 1] or the words ``none``, ``oracle``, ``gate``.
        option: the option's name, for messages.

    Raises:
        InputError: one is neither.
    """
    for one in given:
        is_number = isinstance(one, int | float) and not isinstance(one, bool) and 0.0 <= one <= 1.0
        if not is_number and one not in WORDS:
            raise InputError(
                f"{option}: {one!r} is no threshold; expected are numbers from 0 to 1 and {', '.join(WORDS)}."
            )
    return unique([one if isinstance(one, str) else float(f"{one:g}") for one in given])


def threshold_name(threshold: Threshold) -> str:
    """Return a threshold as result files write it.

    >>> threshold_name(0.30), threshold_name("oracle")
    ('0.3', 'oracle')
    """
    return threshold if isinstance(threshold, str) else f"{threshold:g}"


def threshold_key(threshold: Threshold) -> str:
    """Return a threshold as logged metric names write it: letters, digits and ``_`` only.

    >>> threshold_key(0.3), threshold_key(1e-05), threshold_key("none")
    ('delta_0p3', 'delta_1em05', 'none')
    """
    if isinstance(threshold, str):
        return threshold
    return "delta_" + f"{threshold:g}".replace(".", "p").replace("-", "m")


def key_threshold(key: str) -> str:
    """Return a threshold as result files write it from its name in logged metrics; undoes ``threshold_key``.

    >>> key_threshold("delta_0p3"), key_threshold("delta_1em05"), key_threshold("none")
    ('0.3', '1e-05', 'none')
    """
    if not key.startswith("delta_"):
        return key
    return key.removeprefix("delta_").replace("p", ".").replace("m", "-")


def condition_key(condition: Condition) -> str:
    """Return a condition as logged metric names write it.

    >>> condition_key((1, 3))
    '1a3i'
    """
    return f"{condition[0]}a{condition[1]}i"


def condition_name(condition: Condition) -> str:
    """Return a condition as people write it.

    >>> condition_name((1, 3))
    '(1:3)'
    """
    return f"({condition[0]}:{condition[1]})"


def unique(items: Sequence[Any]) -> list[Any]:
    """Return the items without repetitions, in their order."""
    return list(dict.fromkeys(items))
