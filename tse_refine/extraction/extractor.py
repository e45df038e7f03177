"""Extract sounds from one's own recordings with a trained network: the Python interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from tse_refine.errors import InputError
from tse_refine.extraction.query import parse_query
from tse_refine.extraction.stream import ExtractionStream
from tse_refine.extraction.windowed_network import WindowedNetwork
from tse_refine.model.checkpoint import TrainedNetwork, load_network

Refinement = Literal["window", "file"]
Waveform = TypeVar("Waveform", np.ndarray, Tensor)

SAMPLE_RATES = range(4_000, 384_001)  # Hz
MOST_CHANNELS = 64
DEFAULT_THRESHOLD = 0.1  # where no validation has recommended one; the paper wants few active classes to be lost
_LARGEST_SAMPLE = 1e9
_BLOCK_SECONDS = 2


@dataclass(frozen=True, eq=False)
class Extraction(Generic[Waveform]):
    """What was extracted from a recording.

    Attributes:
        waveform: of the same kind, shape and type as the recording.
        sample_rate: the recording's, Hz.
        probability: of every class, its largest over windows and channels, in [0, 1]; empty without a classifier.
        query: the classes asked for.
        refined_query: those that were extracted, in one window at least.
        threshold: a class stays in the query where its probability reaches this; None without a classifier.
        window_share: of every class, the share of windows in which it does, in [0, 1]; empty without a classifier.
    """

    waveform: Waveform
    sample_rate: int
    probability: Mapping[str, float]
    query: tuple[str, ...]
    refined_query: tuple[str, ...]
    threshold: float | None
    window_share: Mapping[str, float]


class Extractor:
    """Extracts what is asked for from recordings of any length, sample rate and number of channels.

    Recordings go through the network in overlapping windows as long as the mixtures it was trained on, at its own
    sample rate; what comes out is aligned with the recording to the sample. Levels are as they are in the recording.

    Args:
        trained: the network; :meth:`load` reads one from a checkpoint.

    >>> from tse_refine.model.classifier import ClassifierConfig
    >>> from tse_refine.model.network import Network, NetworkConfig
    >>> network = Network(2, 8000, NetworkConfig(8, 5.0, 8, 8, 8, 3, 2, 1, 1, 8, ClassifierConfig()))
    >>> extractor = Extractor(TrainedNetwork(network.eval(), ("dog", "siren"), 8000, recommended_threshold=0.3))
    >>> stereo = 0.1 * torch.randn(2, 44_100)
    >>> extraction = extractor.extract(stereo, 44_100, ["dog"], threshold=0.0)
    >>> extraction.waveform.shape, extraction.refined_query
    (torch.Size([2, 44100]), ('dog',))
    >>> everything_else = stereo - extraction.waveform
    """

    def __init__(self, trained: TrainedNetwork) -> None:
        self._trained = trained
        self._network = WindowedNetwork(trained)

    @classmethod
    def load(cls, checkpoint: str | Path, device: str | torch.device | None = None) -> Extractor:
        """Read a checkpoint. Nothing of the training is needed, and no code in the file is executed.

        Args:
            checkpoint: ``checkpoints/best.ckpt`` of a run.
            device: where the network works, such as ``cpu`` or ``cuda:1``; by default ``cuda`` where there is one.

        Raises:
            InputError: the checkpoint is missing, damaged or another program's, or there is no such device.
        """
        return cls(load_network(checkpoint, _usable(device)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """What can be asked for."""
        return self._trained.class_names

    @property
    def sample_rate(self) -> int:
        """The network's own sample rate, Hz: what is extracted has nothing above half of it."""
        return self._trained.sample_rate

    @property
    def has_classifier(self) -> bool:
        """Whether the network estimates which classes sound; without that a query cannot be refined."""
        return self._trained.network.classifier is not None

    @property
    def recommended_threshold(self) -> float | None:
        """The best threshold on the training's validation mixtures, else 0.1; None without a classifier."""
        if not self.has_classifier:
            return None
        recommended = self._trained.recommended_threshold
        return DEFAULT_THRESHOLD if recommended is None else recommended

    def decision_threshold(self, given: float | None = None) -> float | None:
        """Return the threshold that is used: the one given, else the recommended one; None without a classifier.

        Raises:
            InputError: it is no number from 0 to 1.
        """
        if given is not None and not (isinstance(given, Real) and 0.0 <= given <= 1.0):  # also refuses NaN
            raise InputError(f"threshold is {given!r}; a number from 0 to 1 is expected.")
        if not self.has_classifier:
            return None
        return self.recommended_threshold if given is None else float(given)

    def extract(
        self,
        waveform: Waveform,
        sample_rate: int,
        query: str | Sequence[str],
        threshold: float | None = None,
        refinement: Refinement = "window",
    ) -> Extraction[Waveform]:
        """Extract the classes asked for, leaving out those that are probably not there.

        Args:
            waveform: floating-point tensor or array, ``[samples]`` or ``[channels, samples]``; 1 to 64 channels.
            sample_rate: of the waveform, 4,000 to 384,000 Hz.
            query: names of classes as :func:`~tse_refine.extraction.query.parse_query` takes them.
            threshold: a class stays in the query where its probability reaches this, in [0, 1]; 0 keeps all. By
                default the recommended one. Without a classifier the query is used as it is.
            refinement: whether a class stays is decided for each ``window``, or once for the whole ``file`` by its
                largest probability in any window.

        Raises:
            InputError: one of these is not as described, or the waveform is empty or has samples that are not finite.
        """
        return self.extract_each(waveform, sample_rate, [query], threshold, refinement)[0]

    def extract_each(
        self,
        waveform: Waveform,
        sample_rate: int,
        queries: Sequence[str | Sequence[str]],
        threshold: float | None = None,
        refinement: Refinement = "window",
    ) -> list[Extraction[Waveform]]:
        """Extract several queries from one recording, which spares most of the time of doing so one by one.

        Args:
            waveform: as for :meth:`extract`, and so are all others.
            sample_rate: Hz.
            queries: one or more.
            threshold: in [0, 1].
            refinement: ``window`` or ``file``.
        """
        channels = _channels(waveform)
        asked = self._asked(queries)
        sample_rate = check_sample_rate(sample_rate)
        size = _BLOCK_SECONDS * sample_rate
        stream = self.stream(lambda: channels.split(size, dim=-1), sample_rate, asked, threshold, refinement)
        estimates = torch.cat([block for _, block in stream], dim=-1)  # [queries, channels, samples]
        return [
            Extraction(
                _like(estimate, waveform),
                sample_rate,
                stream.probability,
                query,
                stream.refined(query),
                stream.threshold,
                stream.window_share,
            )
            for query, estimate in zip(asked, estimates, strict=True)
        ]

    def probabilities(self, waveform: np.ndarray | Tensor, sample_rate: int) -> dict[str, float]:
        """Return for each class its largest probability over windows and channels, in [0, 1].

        Args:
            waveform: as for :meth:`extract`.
            sample_rate: Hz.

        Raises:
            InputError: the network has no classifier, or as for :meth:`extract`.
        """
        if not self.has_classifier:
            raise InputError("this network has no classifier (a baseline), so that it knows no probabilities.")
        channels = _channels(waveform)
        size = _BLOCK_SECONDS * check_sample_rate(sample_rate)
        stream = self.stream(lambda: channels.split(size, dim=-1), sample_rate, [self.class_names])
        stream.listen()
        return dict(stream.probability)

    def stream(
        self,
        blocks: Callable[[], Iterable[Tensor]],
        sample_rate: int,
        queries: Sequence[str | Sequence[str]],
        threshold: float | None = None,
        refinement: Refinement = "window",
    ) -> ExtractionStream:
        """Extract from a recording that need not be in memory at once.

        Args:
            blocks: begins the recording anew, and gives its consecutive parts ``[channels, samples]``, floating-point.
            sample_rate: Hz.
            queries: one or more, each as for :meth:`extract`.
            threshold: as for :meth:`extract`.
            refinement: as for :meth:`extract`.

        Raises:
            InputError: one of these is not as described; of the blocks, when the stream comes to them.
        """
        if not callable(blocks):
            raise InputError(
                f"blocks is a {type(blocks).__name__}; a function is expected that begins the recording anew and gives "
                "its parts, such as lambda: parts."
            )
        if refinement not in ("window", "file"):
            raise InputError(f"refinement is {refinement!r}; 'window' or 'file' is expected.")
        return ExtractionStream(
            self._network,
            self._trained,
            lambda: _checked(blocks()),
            check_sample_rate(sample_rate),
            self._asked(queries),
            self.decision_threshold(threshold),
            per_window=refinement == "window",
        )

    def _asked(self, queries: Sequence[str | Sequence[str]]) -> list[tuple[str, ...]]:
        if isinstance(queries, str) or not isinstance(queries, Iterable):
            raise InputError(
                f"queries is {queries!r}; a list of queries is expected, such as ['{self.class_names[0]}']."
            )
        asked = [parse_query(query, self.class_names) for query in queries]
        if not asked:
            raise InputError(f"queries is empty; ask for something, such as ['{self.class_names[0]}'].")
        return asked


def check_sample_rate(sample_rate: int) -> int:
    """Return a recording's sample rate in Hz, or refuse what no recording has.

    Raises:
        InputError: it is below 4 or above 384 kHz.
    """
    if sample_rate not in SAMPLE_RATES:
        raise InputError(
            f"the sample rate is {sample_rate!r} Hz; 4000 to 384000 Hz are expected. Correct it, or resample the sound."
        )
    return int(sample_rate)


def check_samples(samples: Tensor, owner: str) -> None:
    """Refuse samples that are no sound.

    Args:
        samples: of any shape.
        owner: what has them, for the message.

    Raises:
        InputError: one is not finite, or so large that its square overflows in the network's norms.
    """
    if not samples.isfinite().all():
        raise InputError(f"{owner} has samples that are not finite numbers; replace or cut them.")
    largest = float(samples.abs().max())
    if largest > _LARGEST_SAMPLE:
        raise InputError(f"{owner} has samples as large as {largest:.2g}; scale it, full scale is 1.")


def _checked(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield parts of a recording as float32, ``[channels, samples]``, or say why they are none."""
    if not isinstance(blocks, Iterable):
        raise InputError(f"blocks gives a {type(blocks).__name__}; the parts of a recording are expected.")
    channels = None
    for block in blocks:
        if isinstance(block, np.ndarray | Tensor) and block.ndim != 2:
            raise InputError(f"a block has the shape {list(block.shape)}; [channels, samples] is expected.")
        if isinstance(block, np.ndarray | Tensor) and block.shape[-1] == 0:
            continue
        part = _channels(block, "a block")
        if channels not in (None, len(part)):
            raise InputError(f"a block has {len(part)} channels after others of {channels}; all have as many.")
        channels = len(part)
        yield part
    if channels is None:
        raise InputError(
            "blocks gives no samples; it is called for each pass, and begins the recording anew each time."
        )


def _channels(waveform: np.ndarray | Tensor, owner: str = "waveform") -> Tensor:
    """Return a waveform as float32, ``[channels, samples]``, or say why it is none."""
    if not isinstance(waveform, np.ndarray | Tensor):
        raise InputError(f"{owner} is a {type(waveform).__name__}; a NumPy array or a PyTorch tensor is expected.")
    shape = list(waveform.shape)
    if len(shape) not in (1, 2) or 0 in shape:
        raise InputError(f"{owner} has the shape {shape}; [samples] or [channels, samples] is expected.")
    if len(shape) == 2 and shape[0] > MOST_CHANNELS:
        raise InputError(
            f"{owner} has {shape[0]} channels; up to {MOST_CHANNELS} are expected. If its shape {shape} is [samples, "
            "channels], give its transpose."
        )
    if isinstance(waveform, Tensor):
        is_floating, signal = waveform.is_floating_point(), waveform.detach().to("cpu", torch.float32)
    else:
        is_floating = np.issubdtype(waveform.dtype, np.floating)
        with np.errstate(over="ignore"):  # becomes infinite, and is refused below
            signal = torch.from_numpy(np.array(waveform, np.float32)) if is_floating else torch.zeros(1)
    if not is_floating:
        raise InputError(
            f"{owner} holds {waveform.dtype}; floating-point samples are expected, for 16-bit ones waveform / 32768."
        )
    check_samples(signal, owner)
    return signal.reshape(-1, shape[-1])


def _like(estimate: Tensor, waveform: Waveform) -> Waveform:
    """Return an estimate ``[channels, samples]`` as the kind of array, and of the shape and type, that was given."""
    if isinstance(waveform, Tensor):
        return estimate.reshape(waveform.shape).to(waveform.device, waveform.dtype)
    return estimate.reshape(waveform.shape).numpy().astype(waveform.dtype)


def _usable(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).cpu()  # there and back
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        found = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")
        raise InputError(
            f"device {str(device)!r} cannot be used ({found}); expected is one such as cpu or cuda."
        ) from error
