"""Clips on disk that the package and Scaper mix alike: the synthetic sounds in the formats of the published corpora."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional as audio_functional

from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.corpora.base import SPLITS, Corpus


def write_clips(folder: Path, instances: int = 8) -> tuple[Path, Path]:
    """Write foregrounds as FSDKaggle2018 has them and backgrounds as TAU 2019, and return the two folders.

    Foregrounds are 44.1 kHz, 16 bit, mono; backgrounds 48 kHz, 24 bit, stereo and 10 s long. Both lie in
    ``{train,val,test}/<label>/*.wav``.

    Args:
        folder: what is there already is kept.
        instances: clips a label and split.
    """
    foregrounds, backgrounds = folder / "foregrounds", folder / "backgrounds"
    _write(SyntheticSounds(instances, instances, instances), foregrounds, 44_100, "PCM_16", channels=1)
    _write(SyntheticBackgrounds(instances, instances, instances), backgrounds, 48_000, "PCM_24", channels=2)
    return foregrounds, backgrounds


def _write(corpus: Corpus, folder: Path, rate: int, subtype: str, channels: int) -> None:
    assert SPLITS == ("train", "val", "test")
    for clip in corpus.clips():
        path = folder / clip.split / clip.label / f"{clip.label}{clip.name.rsplit('/', 1)[1]}.wav"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        sound, own_rate = corpus.read(clip)
        sound = audio_functional.resample(torch.from_numpy(sound[:, 0]), own_rate, rate).numpy()
        if channels == 2:
            sound = np.resize(sound, 10 * rate)
            sound = np.stack([sound, np.roll(sound, rate // 1000)], axis=1)  # one ear a millisecond later
        soundfile.write(path, sound, rate, subtype=subtype)
