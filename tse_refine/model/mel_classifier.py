"""A classifier with features of its own: log-mel bands, convolutions and a recurrence (ours, not the paper's).

The published classifier shares its features with the extractor, whose window of a few milliseconds cannot tell tones
apart and which is trained to separate. A log-mel spectrogram shows a class in a few frames, for under a fifth of the
operations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from tse_refine.model.precision import without_autocast
from tse_refine.model.recurrence import run_gru

WINDOW_SECONDS = 0.048
HOP_SECONDS = 0.02
LOWEST_HZ = 50.0
_FLOOR = 1e-6  # of the mean power, 60 dB below it: quieter bands say more about a recording's format than about sounds
_HALVING_BLOCKS = 2  # events last half a second at least, and a recurrence over fewer frames is cheaper
_MOST_SHIFT, _MOST_MASKED = 0.04, 0.15  # of the bands, and of bands and frames
_TINY = 1e-20  # power of a silent recording


class LogMel(nn.Module):
    """Log-mel spectrogram with zero mean and unit variance per recording, so that levels do not matter.

    Args:
        sample_rate: Hz.
        num_bands: number of bands.

    >>> LogMel(16000, 64)(torch.randn(2, 16000)).shape
    torch.Size([2, 64, 52])
    """

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int, num_bands: int) -> None:
        super().__init__()
        self.hop = round(HOP_SECONDS * sample_rate)
        size = 2 * round(WINDOW_SECONDS * sample_rate / 2)
        with torch.device("cpu"):  # torchaudio reads what it computes, which no other device may allow
            bands = melscale_fbanks(size // 2 + 1, LOWEST_HZ, sample_rate / 2, num_bands, sample_rate, norm="slaney")
            self.register_buffer("window", torch.hann_window(size), persistent=False)
            self.register_buffer("bands", bands, persistent=False)

    def forward(self, mixture: Tensor) -> Tensor:
        """Map ``[batch, samples]`` to ``[batch, bands, frames]``, float32 also under autocast."""
        with without_autocast(mixture.device):
            half = len(self.window) // 2
            # one hop more, so that there are two frames at least: an export knows no branch for a single one
            padded = nn.functional.pad(mixture.float(), (half, half + self.hop))
            spectrum = torch.fft.rfft(padded.unfold(-1, len(self.window), self.hop) * self.window)
            power = torch.view_as_real(spectrum).square().sum(-1) @ self.bands  # [batch, frames, bands]
            level = torch.log1p((power + _FLOOR * power.mean((1, 2), keepdim=True)) / _TINY)  # of silence exactly 0
            level = level - level.mean((1, 2), keepdim=True)
            return (level / (level.square().mean((1, 2), keepdim=True).sqrt() + 1e-2)).transpose(1, 2)


def augmented(bands: Tensor, generator: torch.Generator) -> Tensor:
    """Shift the bands of each recording up or down and mask a span of bands and one of frames.

    The masks are those of SpecAugment (Park et al. 2019, arXiv 1904.08779), at the mean level; the shift makes of a
    recording a smaller or larger source of the same kind.

    Args:
        bands: ``[batch, bands, frames]``.
        generator: decides on all of it; on the CPU.
    """
    batch, num_bands, num_frames = bands.shape

    def spans(size: int) -> Tensor:
        """Return which of ``size`` places lie in a span for each recording, ``[batch, size]``."""
        length, start = torch.rand(2, batch, 1, generator=generator)
        place, length = torch.arange(size), length * _MOST_MASKED * size
        start = start * (size - length)
        return (place >= start) & (place < start + length)

    most = round(_MOST_SHIFT * num_bands)
    shift = torch.randint(-most, most + 1, (batch, 1), generator=generator)
    source = (torch.arange(num_bands) + shift).clamp(0, num_bands - 1)[:, :, None].expand(-1, -1, num_frames)
    masked = spans(num_bands)[:, :, None] | spans(num_frames)[:, None]
    return bands.gather(1, source.to(bands.device)).masked_fill(masked.to(bands.device), 0.0)


class MelClassifier(nn.Module):
    """Convolution blocks, bidirectional GRU layers and a linear layer on log-mel bands.

    Each block is a 3 by 3 convolution that halves the bands, a batch norm and a ReLU; the first two also halve the
    frames, to 12.5 per second.

    In training, ``augmentation`` may hold a random generator for the next forward: it then shifts and masks bands
    (:func:`augmented`).

    Args:
        sample_rate: Hz.
        num_classes: number of classes.
        num_bands: number of mel bands.
        channels: widths of the blocks.
        hidden_size: width of the GRU in each direction.
        num_layers: number of GRU layers.
    """

    def __init__(
        self,
        sample_rate: int,
        num_classes: int,
        num_bands: int,
        channels: tuple[int, ...],
        hidden_size: int,
        num_layers: int,
    ) -> None:
        super().__init__()
        self.log_mel = LogMel(sample_rate, num_bands)
        self.augmentation: torch.Generator | None = None
        widths = (1, *channels)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(
                        inputs, outputs, 3, stride=(2, 2 if number < _HALVING_BLOCKS else 1), padding=1, bias=False
                    ),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(),
                )
                for number, (inputs, outputs) in enumerate(zip(widths, channels, strict=False))
            )
        )
        inputs = channels[-1] * (num_bands >> len(channels))
        self.recurrence = nn.GRU(inputs, hidden_size, num_layers, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, mixture: Tensor) -> Tensor:
        """Map mixtures ``[batch, samples]`` to frame logits ``[batch, frames, classes]``, 12.5 frames per second."""
        bands = self.log_mel(mixture)
        if self.training and self.augmentation is not None:
            bands = augmented(bands, self.augmentation)
        maps = self.blocks(bands[:, None])  # [batch, channels, bands, frames]
        return self.linear(run_gru(self.recurrence, maps.flatten(1, 2).transpose(1, 2)))
