"""Extract sounds from recordings with a trained network: the Python interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from tse_refine.errors import InputError
from tse_refine.extraction.events import Event
from tse_refine.extraction.query import parse_queries
from tse_refine.extraction.signal import (
    BLOCK_SECONDS,
    Waveform,
    as_blocks,
    as_channels,
    check_sample_rate,
    restore_type,
)
from tse_refine.extraction.stream import Decision, DecisionScope, ExtractionStream
from tse_refine.extraction.windows import Precision, WindowedNetwork
from tse_refine.model.checkpoint import TrainedNetwork, check_extracts, load_network
from tse_refine.refinement import DEFAULT_THRESHOLD, NoRefinement, Refinement, parse_refinement


@dataclass(frozen=True, eq=False)
class Extraction(Decision, Generic[Waveform]):
    """An estimate of the queried classes, and what the refinement left of the query.

    Attributes:
        waveform: estimate, with the type and shape of the recording.
        sample_rate: sample rate of the recording, Hz.
    """

    waveform: Waveform
    sample_rate: int


class Detection(NamedTuple):
    """What is in a recording, without a query.

    Attributes:
        probability: largest probability of each class over windows and channels, in [0, 1].
        events: when classes sound, of every class, in the order in which they begin.
    """

    probability: Mapping[str, float]
    events: tuple[Event, ...]


class Extractor:
    """Extracts queried classes from recordings of any length, sample rate and number of channels.

    Recordings go through the network in overlapping windows as long as its training mixtures, at its own sample rate;
    the estimate is aligned with the recording to the sample. Levels are as they are in the recording.

    A threshold is a number in [0, 1] or the name of another refinement, as options write it, or a
    :class:`~tse_refine.refinement.Refinement`; None is the recommended refinement. Without a classifier the query is
    used as it is.

    Args:
        trained: trained network; :meth:`load` reads one from a checkpoint.
        precision: precision of the network, ``32-true`` or ``bf16-mixed``, faster where the processor has units for it.

    Raises:
        InputError: the classifier alone was trained.

    >>> from tse_refine.model.classifier import ClassifierConfig
    >>> from tse_refine.model.network import Network, NetworkConfig
    >>> config = NetworkConfig(num_filters=8, bottleneck_channels=8, hidden_channels=8, skip_channels=8,
    ...                        blocks_per_stack=2, mask_stacks=1, classifier_pooling=8, classifier=ClassifierConfig())
    >>> network = Network(num_classes=2, sample_rate=8000, config=config).eval()
    >>> extractor = Extractor(TrainedNetwork(network, ("dog", "siren"), 8000, recommended_threshold=0.3))
    >>> stereo = 0.1 * torch.randn(2, 44_100)
    >>> extraction = extractor.extract(stereo, 44_100, ["dog"], threshold="soft:0-0.1")
    >>> extraction.waveform.shape, extraction.refined_query
    (torch.Size([2, 44100]), ('dog',))
    >>> everything_else = stereo - extraction.waveform
    """

    def __init__(self, trained: TrainedNetwork, precision: Precision = "32-true") -> None:
        check_extracts(trained.extracts)
        self._trained = trained
        self._network = WindowedNetwork(trained, precision=precision)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        device: str | torch.device | None = None,
        precision: Precision = "32-true",
        compile_stacks: bool = False,
    ) -> Extractor:
        """Read a checkpoint. The training data are not needed, and no code in the file is executed.

        Args:
            checkpoint: checkpoint of a run, such as ``checkpoints/best.ckpt``, a file in safetensors, the name of a
                shipped model, or a model on the Hugging Face Hub, ``hf://OWNER/NAME[@REVISION]``.
            device: device of the network, such as ``cpu`` or ``cuda:1``; by default ``cuda`` where it is available.
            precision: ``32-true`` or ``bf16-mixed``.
            compile_stacks: compile the network, which takes a minute and pays for hours of sound.

        Raises:
            InputError: the checkpoint is missing, damaged or another program's, the device is not available, the
                precision is not as described, or there is no compiler.
        """
        trained = load_network(checkpoint, _available(device))
        if compile_stacks:
            trained.network.compile_stacks()
        return cls(trained, precision)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that can be queried."""
        return self._trained.class_names

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """Other words for classes that queries may use, by class; none in older checkpoints."""
        return self._trained.aliases

    @property
    def sample_rate(self) -> int:
        """The network's own sample rate, Hz: estimates have nothing above half of it."""
        return self._trained.sample_rate

    @property
    def has_classifier(self) -> bool:
        """Whether the network estimates which classes are active; without a classifier a query cannot be refined."""
        return self._trained.network.classifier is not None

    @property
    def recommended_refinement(self) -> Refinement:
        """The best refinement on the validation mixtures, else a threshold of 0.1; none without a classifier."""
        if not self.has_classifier:
            return NoRefinement()
        stored = self._trained.recommended_threshold
        return parse_refinement(DEFAULT_THRESHOLD if stored is None else stored, "the checkpoint's recommendation")

    @property
    def recommended_threshold(self) -> float | str | None:
        """The recommended refinement as options write it, such as 0.3; None without a classifier."""
        return self.recommended_refinement.option if self.has_classifier else None

    def refinement(self, threshold: float | str | Refinement | None = None) -> Refinement:
        """Return the refinement of a threshold; ``gate`` uses the recommended threshold.

        Args:
            threshold: threshold or another refinement; None for the recommended one.

        Raises:
            InputError: the threshold is not a valid refinement, or the refinement needs the true activity.
        """
        recommended = self.recommended_refinement
        if threshold is None:
            return recommended
        refinement = parse_refinement(threshold, "threshold", recommended.gate_threshold)
        nothing = torch.zeros(1, len(self.class_names))
        refinement(nothing, nothing)  # a refinement that needs the true activity rejects this
        return refinement if self.has_classifier else NoRefinement()

    def extract(
        self,
        waveform: Waveform,
        sample_rate: int,
        query: str | Sequence[str],
        threshold: float | str | Refinement | None = None,
        scope: DecisionScope = "window",
    ) -> Extraction[Waveform]:
        """Extract the queried classes, without those that are probably inactive.

        Args:
            waveform: floating-point tensor or array, ``[samples]`` or ``[channels, samples]``; 1 to 64 channels.
            sample_rate: sample rate of the waveform, 4,000 to 384,000 Hz.
            query: names or aliases of classes as in :func:`~tse_refine.extraction.query.parse_query`.
            threshold: a class stays in the query where its probability is at least this, 0 keeps all; or another
                refinement, such as ``soft:0.2-0.6``.
            scope: refine the query per ``window``, or once for the whole ``file`` by the largest probability in any
                window.

        Raises:
            InputError: an argument is not as described, or the waveform is empty or has samples that are not finite.
        """
        return self.extract_each(waveform, sample_rate, [query], threshold, scope)[0]

    def extract_each(
        self,
        waveform: Waveform,
        sample_rate: int,
        queries: Sequence[str | Sequence[str]],
        threshold: float | str | Refinement | None = None,
        scope: DecisionScope = "window",
    ) -> list[Extraction[Waveform]]:
        """Extract one query or more from a recording, much faster than one by one; arguments as in :meth:`extract`."""
        stream = self.stream(_in_blocks(waveform, sample_rate), sample_rate, queries, threshold, scope)
        estimates = torch.cat([block for _, block in stream], dim=-1)  # [queries, channels, samples]
        return [
            Extraction(**vars(decision), waveform=restore_type(estimate, waveform), sample_rate=int(sample_rate))
            for decision, estimate in zip(stream.decisions(), estimates, strict=True)
        ]

    def detect(self, waveform: np.ndarray | Tensor, sample_rate: int) -> Detection:
        """Return which classes are in a recording and when they sound, without extracting anything.

        Args:
            waveform: waveform as in :meth:`extract`.
            sample_rate: sample rate of the waveform, Hz.

        Raises:
            InputError: the network has no classifier, or as for :meth:`extract`.
        """
        if not self.has_classifier:
            raise InputError("this network has no classifier (a baseline), so that it estimates no probabilities.")
        stream = self.stream(_in_blocks(waveform, sample_rate), sample_rate, [self.class_names])
        stream.estimate_probabilities()
        return Detection(stream.probability, stream.events())

    def probabilities(self, waveform: np.ndarray | Tensor, sample_rate: int) -> dict[str, float]:
        """Return the largest probability of each class; arguments as in :meth:`detect`."""
        return dict(self.detect(waveform, sample_rate).probability)

    def stream(
        self,
        blocks: Callable[[], Iterable[Tensor]],
        sample_rate: int,
        queries: Sequence[str | Sequence[str]],
        threshold: float | str | Refinement | None = None,
        scope: DecisionScope = "window",
    ) -> ExtractionStream:
        """Extract one query or more from a recording that need not be in memory at once.

        ``blocks`` is a function that restarts the recording and returns its consecutive parts ``[channels, samples]``,
        floating-point; the other arguments are as in :meth:`extract`.

        Raises:
            InputError: an argument is not as described; for a block, when it is processed.
        """
        if not callable(blocks):
            raise InputError(
                f"blocks is a {type(blocks).__name__}; a function is expected that restarts the recording and returns "
                "its parts, such as lambda: parts."
            )
        if scope not in get_args(DecisionScope):
            raise InputError(f"scope is {scope!r}; 'window' or 'file' is expected.")
        return ExtractionStream(
            self._network,
            lambda: as_blocks(blocks()),
            check_sample_rate(sample_rate),
            parse_queries(queries, self.class_names, self.aliases),
            self.refinement(threshold),
            scope,
        )


def _in_blocks(waveform: np.ndarray | Tensor, sample_rate: int) -> Callable[[], Iterable[Tensor]]:
    channels, size = as_channels(waveform), BLOCK_SECONDS * check_sample_rate(sample_rate)
    return lambda: channels.split(size, dim=-1)


def _available(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).cpu()  # there and back
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")
        raise InputError(
            f"device {str(device)!r} cannot be used ({reason}); expected is a device such as cpu or cuda."
        ) from error
