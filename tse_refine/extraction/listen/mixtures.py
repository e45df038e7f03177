"""Test mixtures to listen to, whose sources are known: of the checkpoint's own run, or of synthesised sounds."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.recipes import MixtureConfig
from tse_refine.errors import InputError
from tse_refine.evaluation.run_config import data_of_run
from tse_refine.extraction.listen.sound import Sound
from tse_refine.model.checkpoint import CHECKPOINT_KEY, TrainedNetwork, read_checkpoint

_SYNTHESISED = 4  # recordings of each class, which take a few seconds


class TestMixtures:
    """Draws mixtures of a test split.

    Args:
        data: where they come from; its recordings are decoded when the first mixture is drawn.
        origin: what they are called.
    """

    __test__ = False  # its name makes pytest think that it is a test

    def __init__(self, data: MixtureDataModule, origin: str) -> None:
        self.data = data
        self.origin = origin
        self._ready = False

    def draw(self) -> Sound:
        """Return a mixture, any of the split.

        Raises:
            InputError: the recordings are missing or cannot be used.
        """
        if not self._ready:
            self.data.prepare_data()
            self.data.setup("test")
            self._ready = True
        return self.render(secrets.randbelow(self.data.sizes["test"]))

    def render(self, index: int) -> Sound:
        """Return the mixture of a number, once one has been drawn."""
        batch = self.data.datasets["test"].__getitems__([(0, index)])
        labels = [label for label in batch["source_classes"][0].tolist() if label >= 0]
        sources = {
            self.data.class_names[label]: source[None].numpy()
            for label, source in zip(labels, batch["sources"][0], strict=False)  # rows of silence follow
        }
        return Sound(f"{self.origin} {index}", batch["mixture"].numpy(), self.data.sample_rate, sources)


def find_mixtures(checkpoint: Path, folder: Path) -> TestMixtures:
    """Find what test mixtures can be made of: the data of the run that the checkpoint lies in.

    Where these are not there, synthesised sounds take their place if they are what the network was trained on.

    Args:
        checkpoint: such as ``RUN/checkpoints/best.ckpt``.
        folder: where synthesised recordings are kept.

    Raises:
        InputError: there is neither; the text says why.
    """
    about = read_checkpoint(checkpoint)[CHECKPOINT_KEY]
    class_names, rate = list(about["class_names"]), int(about["sample_rate"])
    try:
        data = data_of_run(MeasuredRun(checkpoint.resolve().parent.parent).config)
        if (data.class_names, data.sample_rate) != (class_names, rate):
            raise InputError("the data in its config.yaml have other classes, or another sample rate.")
        return TestMixtures(data, "test mixture")
    except InputError as error:
        if class_names != SyntheticSounds().classes():
            raise InputError(f"No test mixtures: {error}") from error
    seconds = float(about.get("duration_seconds", TrainedNetwork.duration_seconds))
    return TestMixtures(_synthesised(class_names, rate, seconds, folder), "synthesised mixture")


def _synthesised(class_names: Sequence[str], rate: int, seconds: float, folder: Path) -> MixtureDataModule:
    shortest, longest = MixtureConfig.event_seconds
    share = seconds / MixtureConfig.duration_seconds
    return MixtureDataModule(
        SyntheticSounds(1, 1, _SYNTHESISED),  # a split without recordings is refused
        SyntheticBackgrounds(1, 1, _SYNTHESISED),
        sample_rate=rate,
        mixture=MixtureConfig(duration_seconds=seconds, event_seconds=(share * shortest, share * longest)),
        num_test=1000,
        cache_dir=str(folder),
    )
