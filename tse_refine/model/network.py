"""The network: one encoder and shared feature extractor, two heads (arXiv 2509.08292, section 3)."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from tse_refine.errors import InputError
from tse_refine.files.documents import shown
from tse_refine.model.blocks import ConvStacks, GlobalLayerNorm
from tse_refine.model.classifier import Classifier, ClassifierConfig, pooled_probability
from tse_refine.model.filterbank import sinusoidal_filters
from tse_refine.model.mel_classifier import MelClassifier

_FLAGS = ("sinusoidal_filters", "query_in_time", "context")
_NOT_COUNTS = ("window_ms", "classifier", *_FLAGS)
_OPTIONAL_COUNTS = ("skip_channels", "classifier_hidden_size")
_LARGEST_COUNT = 1_000_000  # of channels, stacks, layers and frames
_MOST_BLOCKS = 24  # of a stack: their dilation doubles from block to block
_LONGEST_WINDOW_MS = 1000
# of a query that follows the classifier in time: a class has no weight in a frame up to the first probability and full
# weight from the second on, and also so many frames before and after
_RAMP, _MARGIN = (0.05, 0.3), 2


@dataclass
class NetworkConfig:
    """Sizes of the network. The published numbers are lost: these defaults are our reconstruction (13.0 M parameters).

    Attributes:
        num_filters: number of encoder filters (N).
        window_ms: length of an encoder filter, milliseconds; frames are half a window apart.
        bottleneck_channels: width of the shared features (B).
        hidden_channels: width inside a block (H).
        skip_channels: width of the skip path (Sc); null for blocks without one.
        kernel_size: length of the depthwise convolutions (P), odd.
        blocks_per_stack: number of blocks in a stack (X).
        shared_stacks: number of stacks of the shared feature extractor.
        mask_stacks: number of stacks of the mask estimator.
        classifier_pooling: number of frames averaged into one in front of the recurrence of a classifier on the shared
            features, which at the full frame rate would dominate the cost of a small network.
        classifier: kind and sizes of the classifier; null for a network that only extracts (the baselines).
        sinusoidal_filters: start encoder and decoder from windowed sinusoids instead of noise (ours; a short training
            gets much further, :mod:`tse_refine.model.filterbank`).
        classifier_hidden_size: width of the classifier's GRU in each direction; null for half the width of the shared
            features, so that both directions together are as wide as they are. Like the pooling it is a size of the
            network, and without effect where there is no classifier.
        query_in_time: weigh each queried class, frame by frame, by whether the classifier hears it there (ours, the
            paper's future work), in training and afterwards; needs a classifier.
        context: also give the extractor the probabilities of the classes that are not queried, as factors and terms of
            the shared features (after CATSE); needs a classifier.
    """

    num_filters: int = 256
    window_ms: float = 5.0
    bottleneck_channels: int = 256
    hidden_channels: int = 512
    skip_channels: int | None = 256
    kernel_size: int = 3
    blocks_per_stack: int = 8
    shared_stacks: int = 1
    mask_stacks: int = 3
    classifier_pooling: int = 1
    classifier: ClassifierConfig | None = None
    sinusoidal_filters: bool = False
    classifier_hidden_size: int | None = None
    query_in_time: bool = False
    context: bool = False

    def check(self) -> None:
        """Reject sizes that no network can have.

        Raises:
            InputError: names the option, what was found and what would be right.
        """
        counts = {name: value for name, value in vars(self).items() if name not in _NOT_COUNTS}
        counts = {name: value for name, value in counts.items() if value is not None or name not in _OPTIONAL_COUNTS}
        if self.classifier is not None:
            self.classifier.check()
        for name, value in counts.items():
            most = _MOST_BLOCKS if name == "blocks_per_stack" else _LARGEST_COUNT
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(
                    f"model.network.{name} is {shown(value)}; at least 1 is expected, a whole number up to {most}."
                )
        if self.kernel_size % 2 == 0:
            raise InputError(f"model.network.kernel_size is {self.kernel_size}; an odd number is expected.")
        if type(self.window_ms) not in (int, float) or not 0 < self.window_ms <= _LONGEST_WINDOW_MS:
            raise InputError(
                f"model.network.window_ms is {shown(self.window_ms)}; a positive number of at most "
                f"{_LONGEST_WINDOW_MS} is expected."
            )
        for name in _FLAGS:
            if type(getattr(self, name)) is not bool:
                raise InputError(f"model.network.{name} is {shown(getattr(self, name))}; true or false is expected.")
        for name in ("query_in_time", "context"):
            if getattr(self, name) and self.classifier is None:
                raise InputError(f"model.network.{name} is true, but it needs a classifier, and there is none.")


class Features(NamedTuple):
    """Query-independent features of a mixture.

    Attributes:
        encoded: output of the encoder, ``[batch, filters, frames]``.
        shared: shared features, ``[batch, bottleneck, frames]``.
        frame_logits: output of the classifier, ``[batch, its frames, classes]``; None without one.
        length: number of samples of the mixture.
    """

    encoded: Tensor
    shared: Tensor
    frame_logits: Tensor | None
    length: int

    def probability(self) -> Tensor | None:
        """Return the clip-level class probabilities, ``[batch, classes]`` in [0, 1]; None without a classifier."""
        return None if self.frame_logits is None else pooled_probability(self.frame_logits)

    def select(self, rows: Tensor) -> Features:
        """Return the features of some mixtures: numbers ``[rows]`` or a mask ``[batch]``."""
        logits = None if self.frame_logits is None else self.frame_logits[rows]
        return Features(self.encoded[rows], self.shared[rows], logits, self.length)


class QueriedNetwork(Protocol):
    """What evaluation, extraction and export use of a network: one set of features serves any number of queries."""

    classifier: nn.Module | None

    def features(self, mixture: Tensor) -> Features:
        """Compute what does not depend on the query from mixtures ``[batch, samples]``."""
        ...

    def extract(self, features: Features, query: Tensor) -> Tensor:
        """Extract what queries ``[batch, classes]`` name, ``[batch, samples]``."""
        ...


class Network(nn.Module):
    """Estimates which classes are active, and the waveform of the queried classes.

    The probability comes from the mixture alone, never from the query, so one set of features serves any number of
    queries: :meth:`features` once, :meth:`extract` once per query.

    Args:
        num_classes: number of classes.
        sample_rate: Hz.
        config: sizes.

    >>> config = NetworkConfig(num_filters=8, bottleneck_channels=8, hidden_channels=8, classifier=ClassifierConfig())
    >>> network = Network(num_classes=5, sample_rate=8000, config=config)
    >>> estimate, features = network(torch.randn(2, 4001), torch.eye(5)[:2])
    >>> estimate.shape, features.probability().shape
    (torch.Size([2, 4001]), torch.Size([2, 5]))
    """

    def __init__(self, num_classes: int, sample_rate: int, config: NetworkConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.stride = max(1, round(config.window_ms * sample_rate / 2000))
        self.window = 2 * self.stride
        self.frame_rate = sample_rate / self.stride  # frames per second
        self.num_classes = num_classes
        channels, filters = config.bottleneck_channels, config.num_filters
        self.encoder = nn.Conv1d(1, filters, self.window, stride=self.stride, bias=False)
        self.bottleneck = nn.Sequential(GlobalLayerNorm(filters), nn.Conv1d(filters, channels, 1))
        self.shared_extractor = self._stacks(config, config.shared_stacks, channels)
        self.query_embedding = nn.Linear(num_classes, channels, bias=False)
        nn.init.normal_(self.query_embedding.weight, mean=1.0, std=0.5)  # starts near "all channels pass"
        self.mask_estimator = self._stacks(config, config.mask_stacks, filters)
        self.decoder = nn.ConvTranspose1d(filters, 1, self.window, stride=self.stride, bias=False)
        if config.sinusoidal_filters and not self.encoder.weight.is_meta:  # meta tensors have shapes alone
            with torch.no_grad():
                self.encoder.weight.copy_(sinusoidal_filters(filters, self.window, sample_rate))
                self.decoder.weight.copy_(self.encoder.weight)
        # last, so that a network with and one without them start from the same weights
        self.classifier = None if config.classifier is None else self._classifier(config.classifier, sample_rate)
        self.context_embedding = nn.Linear(num_classes, 2 * channels, bias=False) if config.context else None
        if self.context_embedding is not None:
            nn.init.zeros_(self.context_embedding.weight)  # starts as a network without context

    def features(self, mixture: Tensor) -> Features:
        """Encode mixtures and estimate their classes.

        Args:
            mixture: ``[batch, samples]``, at least one sample.
        """
        if mixture.ndim != 2:
            raise ValueError(f"a mixture of shape [batch, samples] is expected, found {list(mixture.shape)}")
        encoded = torch.relu(self.encoder(self._pad(mixture)[:, None]))  # [batch, filters, frames]
        shared = self.shared_extractor(self.bottleneck(encoded))  # [batch, bottleneck, frames]
        frame_logits = None
        if self.classifier is not None:
            frame_logits = self.classifier(mixture if self._has_own_features() else shared)
        return Features(encoded, shared, frame_logits, mixture.shape[-1])

    def classify(self, mixture: Tensor) -> Tensor:
        """Return the classifier's frame logits ``[batch, frames, classes]`` of mixtures, without extracting anything.

        Args:
            mixture: ``[batch, samples]``, at least one sample.
        """
        assert self.classifier is not None, "this network has no classifier"
        if self._has_own_features():
            logits: Tensor = self.classifier(mixture)
            return logits
        frame_logits = self.features(mixture).frame_logits
        assert frame_logits is not None
        return frame_logits

    def extract(self, features: Features, query: Tensor, activity: Tensor | None = None) -> Tensor:
        """Extract the queried classes.

        Args:
            features: features of as many mixtures as there are queries.
            query: multi-hot, ``[batch, classes]``.
            activity: what the context is made of, ``[batch, classes]`` in [0, 1]; None for the classifier's
                probabilities. Without ``context`` it is not used.

        Returns:
            ``[batch, samples]``.
        """
        query = query.to(features.shared)
        if self.config.query_in_time and features.frame_logits is not None:
            embedding = self._in_time(query, features)  # [batch, bottleneck, frames]
        else:
            embedding = self.query_embedding(query)[:, :, None]  # [batch, bottleneck, 1]
        conditioned = features.shared * embedding  # [batch, bottleneck, frames]
        if self.context_embedding is not None and features.frame_logits is not None:
            activity = features.probability() if activity is None else activity
            assert activity is not None
            # no gradient passes to the classifier, as in a query in time
            others = activity.detach().to(query) * (1.0 - query)
            factor, term = self.context_embedding(others)[:, :, None].chunk(2, dim=1)  # [batch, bottleneck, 1] each
            conditioned = conditioned * (1.0 + factor) + term
        mask = torch.sigmoid(self.mask_estimator(conditioned))  # [batch, filters, frames]
        padded = self.decoder(features.encoded * mask)[:, 0]  # [batch, stride + samples + padding]
        return padded[:, self.stride : self.stride + features.length]

    def forward(self, mixture: Tensor, query: Tensor) -> tuple[Tensor, Features]:
        """Extract and classify.

        Args:
            mixture: ``[batch, samples]``.
            query: multi-hot, ``[batch, classes]``.

        Returns:
            The estimate, ``[batch, samples]``, and the features with the classifier's frame logits.
        """
        features = self.features(mixture)
        return self.extract(features, query), features

    def classifier_parts(self) -> nn.ModuleList:
        """Return what only classification uses; nothing without a classifier."""
        return nn.ModuleList([] if self.classifier is None else [self.classifier])

    def extractor_parts(self) -> nn.ModuleList:
        """Return what classification does not use."""
        parts: list[nn.Module] = [self.query_embedding, self.mask_estimator, self.decoder]
        if self.context_embedding is not None:
            parts.append(self.context_embedding)
        if self.classifier is None or self._has_own_features():
            parts += [self.encoder, self.bottleneck, self.shared_extractor]
        return nn.ModuleList(parts)

    def compile_stacks(self) -> None:
        """Compile the convolutional stacks for any batch size and length (``torch.compile``).

        The first call takes a minute or two, that of training as long again. Weights keep their names, so that a
        checkpoint does not tell whether its network was compiled.

        Raises:
            InputError: no C++ compiler is found.
        """
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise InputError(
                f"Compilation needs a C++ compiler, and there is no {compiler} here. Install one, name it in the "
                "environment variable CXX, or leave compilation out."
            )
        for stacks in (self.shared_extractor, self.mask_estimator):
            stacks.compile(dynamic=True)

    def checkpoint_activations(self) -> None:
        """Keep only what enters each block in training, and compute the rest anew in the backward pass."""
        for stacks in (self.shared_extractor, self.mask_estimator):
            stacks.checkpoint_activations = True

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of a mixture.

        >>> Network(num_classes=2, sample_rate=16000, config=NetworkConfig(window_ms=5.0)).num_frames(16000)
        401
        """
        return math.ceil(num_samples / self.stride) + 1

    def _in_time(self, query: Tensor, features: Features) -> Tensor:
        """Return the embedding of a query that follows the classifier's frames, ``[batch, bottleneck, frames]``.

        No gradient passes to the classifier: the extractor must live with its decisions, not bend them.
        """
        assert features.frame_logits is not None
        low, high = _RAMP
        sounding = ((features.frame_logits.detach().float().sigmoid() - low) / (high - low)).clamp(0.0, 1.0)
        # the largest of neighbouring frames; an export cannot follow a pooling of any length
        sounding = nn.functional.pad(sounding, (0, 0, _MARGIN, _MARGIN)).unfold(1, 2 * _MARGIN + 1, 1).amax(-1)
        embedding = self.query_embedding(query[:, None] * sounding.to(query))
        return nn.functional.interpolate(embedding.transpose(1, 2), features.shared.shape[-1], mode="nearest")

    def _pad(self, mixture: Tensor) -> Tensor:
        """Pad by a stride in front and enough behind, so that every sample lies in two frames.

        The encoder drops what does not fill a frame at the end, so that the same padding serves every length. (An
        export can follow a constant; it cannot follow the division that computes the exact padding of a length.)
        """
        return nn.functional.pad(mixture, (self.stride, 2 * self.stride - 1))

    def _has_own_features(self) -> bool:
        """Whether the classifier reads the mixture; an export has another module in its place."""
        return self.config.classifier is not None and self.config.classifier.input == "mel"

    def _classifier(self, config: ClassifierConfig, sample_rate: int) -> Classifier | MelClassifier:
        sizes = self.config
        hidden_size = sizes.classifier_hidden_size or max(1, sizes.bottleneck_channels // 2)
        if config.input == "mel":
            return MelClassifier(
                sample_rate, self.num_classes, config.mel_bands, config.channels, hidden_size, config.num_layers
            )
        return Classifier(sizes.bottleneck_channels, self.num_classes, sizes.classifier_pooling, hidden_size, config)

    @staticmethod
    def _stacks(config: NetworkConfig, num_stacks: int, out_channels: int) -> ConvStacks:
        return ConvStacks(
            config.bottleneck_channels,
            config.hidden_channels,
            config.skip_channels,
            config.kernel_size,
            config.blocks_per_stack,
            num_stacks,
            out_channels,
        )
