"""A classifier that is trained alone, and then used by another training as it is."""

import shutil

import pytest
import torch

from tests.fixtures.tables import rows_of
from tse_refine.cli.main import main
from tse_refine.training.module import ExtractionModule

MEL = ("--model.network.classifier.input", "mel", "--model.network.classifier.channels", "[4, 6]")
ALONE = (*MEL, "--model.extraction", "false", "--checkpoint.monitor", "val/map", "--model.frame_loss_weight", "1")


@pytest.fixture
def command(tiny_config_file):
    def call(subcommand, *words):
        main([subcommand, "-c", str(tiny_config_file), *map(str, words)])

    return call


@pytest.fixture
def alone(command, tmp_path):
    """A run of the classifier alone."""
    command("fit", *ALONE, "--trainer.default_root_dir", tmp_path / "alone")
    return tmp_path / "alone"


def weights(run, name="last"):
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def test_only_the_classifier_is_trained_and_only_it_is_tested(command, alone, capsys):
    assert not ExtractionModule.load_from_checkpoint(alone / "checkpoints" / "last.ckpt").extraction
    capsys.readouterr()
    command("test", "--trainer.default_root_dir", alone)
    assert "mean average precision" in capsys.readouterr().out
    assert rows_of(alone / "test" / "summary.csv") == []
    assert len(rows_of(alone / "test" / "probabilities.csv")) == 6 * 12
    assert "train/loss_tse" not in rows_of(alone / "metrics.csv")[0]


def test_extraction_with_it_is_refused(command, alone, tmp_path, refusal):
    checkpoint = alone / "checkpoints" / "best.ckpt"
    words = ["extract", "--checkpoint", str(checkpoint), "--query", "Bell", "--input", "x.wav", "--output", "y.wav"]
    for call in (
        lambda: main(words),
        lambda: main(["export", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "x.onnx")]),
        lambda: command("predict", "--trainer.default_root_dir", alone),
    ):
        assert "classifier alone" in refusal(call)


def test_another_training_uses_it_as_it_is_and_can_be_resumed_without_its_file(command, alone, tmp_path):
    run, checkpoint = tmp_path / "run", alone / "checkpoints" / "best.ckpt"
    words = (*MEL, "--trainer.default_root_dir", run, "--model.classifier_from", checkpoint)
    command("fit", *words)
    expected = {name: value for name, value in weights(alone, "best").items() if ".classifier." in name}
    assert expected
    checkpoint.unlink()
    command("fit", *words, "--ckpt_path", "last", "--trainer.max_epochs", "2")
    command("test", "--trainer.default_root_dir", run)
    for name, value in expected.items():
        assert torch.equal(weights(run)[name], value), name
    encoder = "network.encoder.weight"
    assert not torch.equal(weights(run)[encoder], weights(alone)[encoder])


def test_a_resumed_training_augments_spectra_as_one_without_a_break(command, tmp_path):
    states, parts = tmp_path / "states", tmp_path / "parts" / "checkpoints"
    every_epoch = {"dirpath": str(states), "filename": "{epoch}", "save_top_k": -1}
    callback = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": every_epoch}
    words = (*ALONE, "--trainer.max_epochs", 2, "--model.spectrum_augmentation")
    command("fit", *words, "true", "--trainer.default_root_dir", tmp_path / "whole", "--trainer.callbacks", callback)
    command("fit", *words, "false", "--trainer.default_root_dir", tmp_path / "plain")
    parts.mkdir(parents=True)
    shutil.copy(states / "epoch=0.ckpt", parts)
    resume = ("--ckpt_path", parts / "epoch=0.ckpt")
    command("fit", *words, "true", "--trainer.default_root_dir", tmp_path / "parts", *resume)
    losses = [rows_of(tmp_path / run / "metrics.csv")[-1]["val/loss"] for run in ("whole", "parts", "plain")]
    assert losses[0] == losses[1] != losses[2]


def test_spectra_that_no_classifier_reads_cannot_be_augmented(command, refusal):
    message = refusal(lambda: command("fit", "--model.spectrum_augmentation", "true"))
    assert "model.spectrum_augmentation is true, but there is no classifier on a spectrogram" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "classifier.input mel"),
        (("--model.network.classifier", "null"), "model.network.classifier is null"),
        ((*MEL, "--model.extraction", "false"), "model.extraction must be true"),
        ((*MEL, "--model.network.classifier.num_layers", "2"), "another classifier than this network"),
    ],
)
def test_a_classifier_that_cannot_be_used_is_refused(command, alone, tmp_path, refusal, words, message):
    checkpoint = alone / "checkpoints" / "best.ckpt"
    given = ("--trainer.default_root_dir", tmp_path / "run", "--model.classifier_from", checkpoint, *words)
    assert message in refusal(command, "fit", *given)


def test_the_monitor_of_extraction_is_refused_with_what_there_is(command, refusal):
    assert "val/map" in refusal(command, "fit", *ALONE, "--checkpoint.monitor", "val/snri_db/1a0i/none")
