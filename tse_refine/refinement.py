"""Context-aware query refinement, the method of arXiv 2509.08292: remove from the query what is probably inactive.

Each rule is one class. Its name (``0.3``, ``soft:0.2-0.6``, ``oracle``) stands for it in options, result files and
exports; :func:`parse_refinement` is the only reader of names.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from tse_refine.errors import InputError

DEFAULT_THRESHOLD = 0.1  # ours: the paper wants few false negatives, and its value is lost
_MANY = 4  # queried classes from which on a CountThreshold rises no more
KEPT_WEIGHT = 0.5  # a class counts as kept where its weight in the refined query is at least this
_NUMBER_SEPARATOR = re.compile(r"(?<=\d)-")  # not the sign of an exponent, as in 1e-05


def refine(query: Tensor, probability: Tensor, threshold: float | Tensor) -> Tensor:
    """Remove from the query the classes that are probably not in the mixture (arXiv 2509.08292, section 3).

    Args:
        query: multi-hot, ``[batch, classes]``.
        probability: clip-level class probabilities, ``[batch, classes]``, in [0, 1].
        threshold: decision threshold (delta) in [0, 1]; a class stays where ``probability >= threshold``. A tensor
            of one number for a graph that takes it as an input.

    Returns:
        The refined query, ``[batch, classes]``; it never holds a class that was not queried.

    >>> refine(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[0.9, 0.1, 0.8]]), threshold=0.5)
    tensor([[1., 0., 0.]])
    """
    return query * (probability >= threshold)


@dataclass(frozen=True)
class Refinement(ABC):
    """A rule from query and class probabilities to the refined query.

    A subclass is a frozen dataclass whose fields are the rule's numbers, with a ``word`` of lower-case letters and a
    ``__call__``. Defining it registers it: its name, ``word:NUMBER-NUMBER``, is then valid in every option.

    Attributes:
        word: the part of the name before the numbers.
        needs_classifier: whether the rule reads the probability, so that a network without classifier cannot use it.
        per_class: whether a class's weight depends on its own probability alone. The rule then decides which classes
            are active, so that its decisions are scored.
        recommendable: whether a validation can choose the rule for extraction.
        silent_when_empty: whether the estimate of an empty refined query is exact silence instead of the network's
            response to a zero query, which the paper measures.
    """

    word: ClassVar[str]
    needs_classifier: ClassVar[bool] = True
    per_class: ClassVar[bool] = True
    recommendable: ClassVar[bool] = True
    silent_when_empty: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Register the rule by its word."""
        _RULES[cls.word] = cls

    def __post_init__(self) -> None:
        """Round numbers to the digits of the name, so that a name and its rule are one and the same."""
        for name, value in zip(self._number_names(), self.numbers, strict=True):
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
                raise InputError(f"{name} of the refinement {self.word!r} is {value!r}; a finite number is expected.")
            object.__setattr__(self, name, float(f"{value:g}"))

    @abstractmethod
    def __call__(self, query: Tensor, probability: Tensor | None, activity: Tensor | None = None) -> Tensor:
        """Return the weight of each class in the refined query.

        Args:
            query: multi-hot, ``[batch, classes]``; dimensions between batch and classes are broadcast.
            probability: clip-level class probabilities, ``[batch, classes]``, in [0, 1]; None without a classifier.
            activity: 1 for an active class, ``[batch, classes]``; None outside an evaluation.

        Returns:
            ``[batch, classes]`` in [0, 1], 0 for every class that was not queried.
        """

    @property
    def numbers(self) -> tuple[float, ...]:
        """The rule's numbers, in the order of the name."""
        return tuple(getattr(self, name) for name in self._number_names())

    @property
    def name(self) -> str:
        """The name in options and result files, such as ``soft:0.2-0.6``."""
        return self.word + ":" * bool(self.numbers) + "-".join(f"{number:g}" for number in self.numbers)

    @property
    def key(self) -> str:
        """The name in logged metrics, such as ``soft_0p2_0p6``: letters, digits and ``_`` only."""
        return "_".join((self.word, *(f"{number:g}".replace(".", "p").replace("-", "m") for number in self.numbers)))

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        return self.name

    @property
    def option(self) -> float | str:
        """The value in YAML and checkpoints: a number for a hard threshold, the name otherwise."""
        return self.name

    @property
    def gate_threshold(self) -> float:
        """The probability that opens a :class:`Gate` beside this rule, where this is the operating refinement."""
        return DEFAULT_THRESHOLD

    @classmethod
    def form(cls) -> str:
        """Return how names of this rule are written, such as ``soft:LOW-HIGH``."""
        return cls.word + ":" * bool(cls._number_names()) + "-".join(cls._number_names()).upper()

    @classmethod
    def _number_names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))


_RULES: dict[str, type[Any]] = {}  # by word; of rules whose numbers differ in their count


@dataclass(frozen=True)
class NoRefinement(Refinement):
    """The query as it is.

    >>> NoRefinement()(torch.ones(1, 2), None)
    tensor([[1., 1.]])
    """

    word: ClassVar[str] = "none"
    needs_classifier: ClassVar[bool] = False
    per_class: ClassVar[bool] = False
    recommendable: ClassVar[bool] = False

    def __call__(self, query: Tensor, probability: Tensor | None, activity: Tensor | None = None) -> Tensor:
        """Return the query."""
        return query

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        return "raw query"


@dataclass(frozen=True)
class Threshold(Refinement):
    """The paper's rule: a class stays where its probability reaches a threshold (:func:`refine`).

    Args:
        delta: decision threshold in [0, 1].

    >>> Threshold(0.5)(torch.ones(1, 3), torch.tensor([[0.9, 0.1, 0.5]]))
    tensor([[1., 0., 1.]])
    >>> Threshold(0.30).name, Threshold(0.3).key, Threshold(1e-5).key
    ('0.3', 'delta_0p3', 'delta_1em05')
    """

    word: ClassVar[str] = "delta"
    delta: float

    def __post_init__(self) -> None:
        """Check the threshold."""
        super().__post_init__()
        if not 0.0 <= self.delta <= 1.0:
            raise InputError(f"the threshold is {self.delta:g}; a number from 0 to 1 is expected.")

    def __call__(self, query: Tensor, probability: Tensor | None, activity: Tensor | None = None) -> Tensor:
        """Remove the classes under the threshold."""
        return refine(query, _required(probability, self), self.delta)

    @property
    def name(self) -> str:
        """The number itself."""
        return f"{self.delta:g}"

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        return f"δ = {self.delta:g}"

    @property
    def option(self) -> float:
        """The number itself."""
        return self.delta

    @property
    def gate_threshold(self) -> float:
        """The threshold itself."""
        return self.delta

    @classmethod
    def form(cls) -> str:
        """Return how names of this rule are written."""
        return "a number from 0 to 1"


@dataclass(frozen=True)
class SoftThreshold(Refinement):
    """A ramp instead of a step: a class keeps the weight clip((p - low) / (high - low), 0, 1) (ours).

    A class about which the classifier is unsure is neither lost nor let in at full weight.

    Args:
        low: probability up to which a class is removed, in [0, 1].
        high: probability from which on a class is kept whole, in [0, 1], above ``low``.

    >>> SoftThreshold(0.2, 0.6)(torch.ones(1, 3), torch.tensor([[0.1, 0.4, 0.9]]))
    tensor([[0.0000, 0.5000, 1.0000]])
    >>> SoftThreshold(0.2, 0.6).name, SoftThreshold(0.2, 0.6).key
    ('soft:0.2-0.6', 'soft_0p2_0p6')
    """

    word: ClassVar[str] = "soft"
    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the ends of the ramp."""
        super().__post_init__()
        if not 0.0 <= self.low < self.high <= 1.0:
            raise InputError(
                f"the soft threshold runs from {self.low:g} to {self.high:g}; two numbers from 0 to 1, the lower one "
                "first, are expected, such as soft:0.2-0.6."
            )

    def __call__(self, query: Tensor, probability: Tensor | None, activity: Tensor | None = None) -> Tensor:
        """Weigh each queried class by its place on the ramp."""
        return query * ((_required(probability, self) - self.low) / (self.high - self.low)).clamp(0.0, 1.0)

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        return f"δ = {self.low:g} to {self.high:g}"

    @property
    def gate_threshold(self) -> float:
        """The lower end: below it nothing of a class is kept."""
        return self.low


@dataclass(frozen=True)
class CountThreshold(Refinement):
    """A threshold that rises with the number of queried classes (ours).

    Who names one class has probably heard it; of four names some are guesses. The threshold is ``one`` for a single
    class, ``many`` for four or more, and in equal steps between them.

    Args:
        one: threshold of a query of one class, in [0, 1].
        many: threshold of a query of four or more, in [0, 1], at least ``one``.

    >>> rule, probability = CountThreshold(0.1, 0.4), torch.full((2, 4), 0.3)
    >>> rule(torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]), probability)
    tensor([[1., 1., 0., 0.],
            [0., 0., 0., 0.]])
    """

    word: ClassVar[str] = "count"
    per_class: ClassVar[bool] = False
    one: float
    many: float

    def __post_init__(self) -> None:
        """Check the thresholds."""
        super().__post_init__()
        if not 0.0 <= self.one <= self.many <= 1.0:
            raise InputError(
                f"the thresholds of one class and of many are {self.one:g} and {self.many:g}; two numbers from 0 to 1, "
                "the lower one first, are expected, such as count:0.05-0.3."
            )

    def __call__(self, query: Tensor, probability: Tensor | None, activity: Tensor | None = None) -> Tensor:
        """Remove the classes under the threshold of their query."""
        share = (((query > 0).sum(-1, keepdim=True) - 1) / (_MANY - 1)).clamp(0.0, 1.0)
        return query * (_required(probability, self) >= self.one + share * (self.many - self.one))

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        return f"δ = {self.one:g} (one class) to {self.many:g}"

    @property
    def gate_threshold(self) -> float:
        """The threshold of one class."""
        return self.one


@dataclass(frozen=True)
class Gate(Refinement):
    """What earlier work does: the whole query where any queried class is probably active, exact silence otherwise.

    It silences the output of a query that matches nothing, and cannot help one that matches in part. Result files name
    it ``gate``; its threshold is that of the operating refinement.

    Args:
        threshold: decision threshold in [0, 1].

    >>> Gate(0.5)(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.9, 0.1]]))
    tensor([[1., 1.],
            [0., 0.]])
    """

    word: ClassVar[str] = "gate"
    per_class: ClassVar[bool] = False
    recommendable: ClassVar[bool] = False
    silent_when_empty: ClassVar[bool] = True
    threshold: float = DEFAULT_THRESHOLD

    def __call__(self, query: Tensor, probability: Tensor | None, activity: Tensor | None = None) -> Tensor:
        """Keep all of a query or nothing of it."""
        opens = torch.any(refine(query, _required(probability, self), self.threshold) > 0, dim=-1, keepdim=True)
        return query * opens

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        return f"gate at {self.threshold:g}"

    @classmethod
    def _number_names(cls) -> tuple[str, ...]:
        return ()  # the name is the word alone


@dataclass(frozen=True)
class Oracle(Refinement):
    """The upper bound: exactly the active classes stay.

    >>> Oracle()(torch.ones(1, 2), None, torch.tensor([[0.0, 1.0]]))
    tensor([[0., 1.]])
    """

    word: ClassVar[str] = "oracle"
    needs_classifier: ClassVar[bool] = False
    per_class: ClassVar[bool] = False
    recommendable: ClassVar[bool] = False

    def __call__(self, query: Tensor, probability: Tensor | None, activity: Tensor | None = None) -> Tensor:
        """Remove the inactive classes."""
        if activity is None:
            raise InputError("the refinement 'oracle' needs the true activity, which only an evaluation has.")
        return query * activity


def parse_refinement(given: Any, option: str, gate_threshold: float = DEFAULT_THRESHOLD) -> Refinement:
    """Return the refinement that a value from YAML, a command line or a result file names.

    Args:
        given: a number, a name, or a refinement.
        option: name of the option, for messages.
        gate_threshold: decision threshold of ``gate``, in [0, 1].

    Raises:
        InputError: it is not a refinement, or its numbers are out of range.

    >>> parse_refinement(0.3, "threshold"), parse_refinement("soft:0.2-0.6", "threshold")
    (Threshold(delta=0.3), SoftThreshold(low=0.2, high=0.6))
    """
    if isinstance(given, Refinement):
        return given
    try:
        if isinstance(given, Real) and not isinstance(given, bool):
            return Threshold(float(given))
        if isinstance(given, str) and (refinement := _named(given, gate_threshold)) is not None:
            return refinement
    except InputError as error:
        raise InputError(f"{option}: {given!r} is not a valid refinement: {error}") from error
    forms = ", ".join(rule.form() for rule in _RULES.values())
    raise InputError(f"{option}: {given!r} is not a valid refinement; expected are {forms}.")


def parse_refinements(
    given: Sequence[Any], option: str, gate_threshold: float = DEFAULT_THRESHOLD
) -> tuple[Refinement, ...]:
    """Return the refinements that values name, each once, in their order (:func:`parse_refinement`)."""
    refinements = [parse_refinement(value, option, gate_threshold) for value in given]
    return tuple({refinement.name: refinement for refinement in refinements}.values())


def parse_key(key: str) -> Refinement:
    """Return the refinement that a logged metric names (:attr:`Refinement.key`).

    Args:
        key: key of a refinement, such as ``delta_0p3``.

    Raises:
        InputError: no refinement has this key.

    >>> parse_key("delta_0p3"), parse_key("soft_0p2_0p6")
    (Threshold(delta=0.3), SoftThreshold(low=0.2, high=0.6))
    """
    word, *numbers = key.split("_")
    text = "-".join(number.replace("p", ".").replace("m", "-") for number in numbers)
    return parse_refinement(text if word == Threshold.word else word + ":" * bool(text) + text, "metric")


def _named(name: str, gate_threshold: float) -> Refinement | None:
    """Return the refinement of a name; None where no rule has the word."""
    try:
        number = float(name)
    except ValueError:
        pass
    else:
        return Threshold(number)
    word, _, text = name.partition(":")
    rule = _RULES.get(word)
    if rule is None or rule is Threshold:
        return None
    if name == Gate.word:
        return Gate(gate_threshold)
    try:
        numbers = [float(number) for number in _NUMBER_SEPARATOR.split(text) if text]
        return rule(*numbers)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"it is written {rule.form()}.") from error


def _required(probability: Tensor | None, refinement: Refinement) -> Tensor:
    if probability is None:
        raise InputError(f"the refinement {refinement.name!r} needs a classifier, which this network does not have.")
    return probability
