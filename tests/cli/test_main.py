"""The command line from end to end on a tiny configuration."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tests.fixtures.tables import rows_of
from tse_refine import __version__
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.cli.main import COMMANDS, main
from tse_refine.errors import StoppedError
from tse_refine.evaluation.callback import QueryRefinementEvaluation
from tse_refine.training.module import ExtractionModule


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def command(tiny_config_file: Path):
    def call(subcommand: str, *words: object) -> None:
        main([subcommand, "-c", str(tiny_config_file), *(str(word) for word in words)])

    return call


def test_fit_validate_test_predict_report(command, run, tmp_path, capsys):
    command("fit")
    assert sorted(path.name for path in run.iterdir()) == [
        ".training.lock",
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "trained.json",
        "validation.csv",
    ]
    assert json.loads((run / "trained.json").read_text()) == {"steps": 2}
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["digest"]
    assert config["model"]["network"]["num_filters"] == 16
    logged = (run / "metrics.csv").read_text()
    measured = {"train/loss_tse", "train/loss_sed", "val/loss", "val/snri_db/1a3i/refined"}
    assert measured <= set(rows_of(run / "metrics.csv")[0])

    command("validate")
    assert "(1:3)" in capsys.readouterr().out
    command("test")
    assert sorted(path.name for path in (run / "test").iterdir()) == [
        "class_aware.csv",
        "classification.csv",
        "config.yaml",
        "cost.csv",
        "events.csv",
        "per_class.csv",
        "probabilities.csv",
        "results.csv",
        "summary.csv",
    ]
    assert (run / "metrics.csv").read_text() == logged  # a test leaves the training's files alone
    assert TestedRun(run).version == __version__
    assert TestedRun(run).test_config["data"]["digest"] == config["data"]["digest"]

    command("predict", "--prediction.condition", "[2, 1]")
    folder = run / "predict" / "00003"
    said = json.loads((folder / "query.json").read_text())
    assert len(said["query"]) == 3
    assert len(set(said["query"]) & set(said["active"])) == 2
    assert said["refined_query"] == [name for name in said["query"] if said["probability"][name] >= said["threshold"]]
    for name in ("mixture", "target", "estimate_none", "estimate_refined"):
        audio, rate = soundfile.read(folder / f"{name}.wav")
        assert (len(audio), rate) == (4000, 4000)

    main(["report", str(run), "--output", str(tmp_path / "report")])
    assert (tmp_path / "report" / "snri_by_inactive.png").stat().st_size > 10_000
    table = (tmp_path / "report" / "summary.txt").read_text()
    assert "(1:3)" in table
    assert "oracle" in table


def test_a_runs_own_config_repeats_its_test(command, run, capsys):
    command("fit")
    command("test")
    before = (run / "test" / "results.csv").read_text()
    main(["test", "-c", str(run / "config.yaml")])
    assert (run / "test" / "results.csv").read_text() == before
    main(["test", "-c", str(run / "test" / "config.yaml")])
    assert (run / "test" / "results.csv").read_text() == before


def test_a_failed_test_leaves_the_results_before_it_with_their_configuration(command, run, capsys, monkeypatch):
    command("fit")
    command("test")
    assert "replacing" not in capsys.readouterr().err
    before = {path: path.read_bytes() for path in (run / "test").iterdir()}

    def fail(*_):
        raise RuntimeError("interrupted")

    with monkeypatch.context() as context:
        context.setattr(QueryRefinementEvaluation, "on_test_batch_end", fail)
        with pytest.raises(RuntimeError, match="interrupted"):
            command("test", "--evaluation.threshold", "0.25")
    assert {path: path.read_bytes() for path in (run / "test").iterdir()} == before
    said = capsys.readouterr().err.splitlines()
    (line,) = [line for line in said if "replacing" in line]  # said before the work begins
    assert line.startswith(f"{run / 'test'}: replacing the results of 6 mixtures measured on 20")

    command("test", "--evaluation.threshold", "0.25")
    assert yaml.safe_load((run / "test" / "config.yaml").read_text())["evaluation"]["threshold"] == 0.25
    assert "0.25" in {row["threshold"] for row in rows_of(run / "test" / "summary.csv")}


def test_a_runs_config_used_for_another_run_leaves_the_first_alone(command, run, tmp_path):
    command("fit")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = tmp_path / "other"
    main(["fit", "-c", str(run / "config.yaml"), "--trainer.default_root_dir", str(other), "--seed_everything", "7"])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert (other / "checkpoints" / "best.ckpt").exists()
    assert (other / "metrics.csv").exists()


def test_the_networks_sizes_come_from_the_checkpoint_and_the_evaluation_from_the_command(command, run):
    command("fit", "--model.network.num_filters", "12")
    # the tiny config has 16 filters; those of the checkpoint are used
    command("test", "--evaluation.thresholds", "[none, 0.25]", "--evaluation.conditions", "[[1, 0]]")
    rows = rows_of(run / "test" / "summary.csv")
    assert [row["threshold"] for row in rows] == ["none", "0.25", "0.1"]


def test_a_used_folder_is_rejected_and_kept_without_overwrite(command, run, refusal):
    command("fit")
    before = (run / "checkpoints" / "best.ckpt").read_bytes()
    text = refusal(command, "fit")
    assert str(run) in text
    assert "--overwrite" in text
    refusal(command, "fit", "--overwrite", "--evaluation.conditions", "[[9, 0]]")
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == before  # a rejected command removes nothing
    (run / "notes.txt").write_text("mine")
    refusal(command, "fit", "--overwrite", "--model.learning_rate", "1e30")
    assert (run / "replaced" / "checkpoints" / "best.ckpt").read_bytes() == before  # nothing has replaced it yet
    command("fit", "--overwrite", "--seed_everything", "1")
    assert not (run / "replaced").exists()
    assert (run / "checkpoints" / "best.ckpt").read_bytes() != before
    assert (run / "notes.txt").read_text() == "mine"


def test_a_training_resumed_in_the_middle_of_an_epoch_ends_as_if_never_interrupted(command, tmp_path):
    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    options = ("--trainer.max_epochs", "3", "--data.num_train", "16", "--data.num_workers", "2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command("fit", *options, "--trainer.default_root_dir", whole)
    every = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}
    every["init_args"] = {"dirpath": str(cut), "filename": "{step}", "every_n_train_steps": 6, "save_top_k": -1}
    command("fit", *options, "--trainer.default_root_dir", cut, "--trainer.callbacks", json.dumps([every]))
    middle = cut / "checkpoints" / "middle.ckpt"  # after step 6 of 12: in the middle of the second epoch
    (cut / "step=6.ckpt").rename(middle)
    command("fit", *options, "--trainer.default_root_dir", cut, "--ckpt_path", middle)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(cut)[name], value, rtol=0, atol=0, msg=name)
    for name, column in (("validation.csv", "epoch"), ("metrics.csv", "step")):
        values = [[row[column] for row in rows_of(folder / name)] for folder in (whole, cut)]
        assert values[0] == values[1]


@pytest.mark.parametrize("name", ["validation.csv", "metrics.csv"])
def test_a_damaged_table_of_a_resumed_training_is_rejected_before_its_first_step(
    command, run, refusal, monkeypatch, name
):
    command("fit")
    (run / name).write_text("damaged\n1\n")
    monkeypatch.setattr(ExtractionModule, "training_step", lambda *_: pytest.fail("a step was trained"))
    text = refusal(command, "fit", "--ckpt_path", "last", "--trainer.max_epochs", "9")
    assert str(run / name) in text
    assert "Rename or remove the file" in text
    assert (run / name).read_text() == "damaged\n1\n"


def test_a_diverged_training_is_rejected_with_the_way_out(command, run, refusal):
    text = refusal(command, "fit", "--model.learning_rate", "1e30")
    assert re.search(r"tse-refine: training step 1 in epoch 0: the loss is nan.*a lower model\.learning_rate", text)
    assert not (run / "validation.csv").exists()


def test_a_checkpoint_cannot_name_code_to_import(command, run, refusal, tmp_path, monkeypatch):
    command("fit")
    (tmp_path / "harm.py").write_text(f"open({str(tmp_path / 'harmed')!r}, 'w')\nclass Config: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = run / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    harm = {"class_path": "harm.Config"}
    for key, value in (("hyper_parameters", {"network": harm}), ("tse_refine", {"network": harm})):
        torch.save({**content, key: {**content[key], **value}}, path)
        if key == "tse_refine":
            assert "best.ckpt" in refusal(command, "test")
        else:
            command("test")  # the description decides, and is intact
        assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.num_trian", "5"], "did you mean 'data.num_train'"),
        (["--evaluation.conditions", "[63]"], "evaluation.conditions"),
        (["--evaluation.conditions", "[1:3]"], "evaluation.conditions"),
        (["--evaluation.validation_conditions", "[[1, 12]]"], "evaluation.validation_conditions"),
        (["--evaluation.thresholds", "[2.0]"], "evaluation.thresholds"),
        (["--checkpoint.monitor", "val/nothing"], "val/nothing"),
        (["--data.mixture.num_events", "[13]"], "data.mixture.num_events"),
        (["--data.backgrounds.init_args.val_instances", "0"], "data.backgrounds"),
        (["--data.foregrounds.init_args.val_instances", "0"], "data.foregrounds"),
        (["--model.network.kernel_size", "4"], "model.network.kernel_size"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_bad_input_is_rejected_before_training(command, run, refusal, words, message):
    assert message in refusal(command, "fit", *words)
    assert not (run / "checkpoints").exists()
    assert not (run / "config.yaml").exists()


def test_an_unknown_category_is_rejected_with_the_nearest_name(command, tmp_path, refusal):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n1-1-A-0.wav,1,0,dog,True,1,A\n"
    )
    corpus = {"class_path": "tse_refine.data.corpora.ESC50"}
    corpus["init_args"] = {
        "root": str(tmp_path),
        "categories": ["dgo"],
        "train_folds": [1],
        "val_folds": [],
        "test_folds": [],
    }
    text = refusal(command, "fit", "--data.foregrounds", json.dumps(corpus))
    assert "did you mean 'dog'?" in text


def test_a_checkpoint_with_other_classes_is_rejected(command, run, tmp_path, refusal):
    command("fit")
    rng = np.random.default_rng(0)
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    (tmp_path / "esc" / "audio").mkdir(parents=True)
    (tmp_path / "esc" / "meta").mkdir()
    for label in range(12):  # as many classes as the checkpoint has
        for fold in (1, 2, 3):
            name = f"{fold}-{label}-A-{label}.wav"
            soundfile.write(tmp_path / "esc" / "audio" / name, 0.1 * rng.standard_normal(4000), 4000)
            rows.append(f"{name},{fold},{label},class{label:02d},False,{fold}-{label},A")
    (tmp_path / "esc" / "meta" / "esc50.csv").write_text("\n".join(rows))
    corpus = {"class_path": "tse_refine.data.corpora.ESC50"}
    corpus["init_args"] = {
        "root": str(tmp_path / "esc"),
        "categories": [f"class{label:02d}" for label in range(12)],
        "train_folds": [1],
        "val_folds": [2],
        "test_folds": [3],
    }
    text = refusal(command, "test", "--data.foregrounds", json.dumps(corpus))
    assert "other classes" in text
    assert "alarm" in text
    assert "class00" in text


def test_damaged_and_foreign_checkpoints_are_rejected(command, run, tmp_path, refusal):
    command("fit")
    whole = (run / "checkpoints" / "best.ckpt").read_bytes()
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(whole[: len(whole) // 2])
    assert str(damaged) in refusal(command, "test", "--ckpt_path", damaged)
    damaged.write_text("not a checkpoint")
    assert str(damaged) in refusal(command, "test", "--ckpt_path", damaged)
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.6"}, foreign)
    assert "not written by tse-refine" in refusal(command, "test", "--ckpt_path", foreign)


def test_testing_a_run_without_a_checkpoint_is_rejected(command, refusal):
    assert "best.ckpt does not exist" in refusal(command, "test")


def test_unknown_commands_and_missing_data_are_rejected_with_the_way_out(refusal):
    assert "did you mean 'fit'?" in refusal(main, ["fitt"])
    assert "-c data/synthetic" in refusal(main, ["fit", "-c", "experiment/proposed"])


def test_a_typo_in_a_config_is_rejected(command, tmp_path, refusal):
    (tmp_path / "typo.yaml").write_text("model: {los_weight: 3.0}\n")
    assert "did you mean 'model.loss_weight'" in refusal(command, "fit", "-c", tmp_path / "typo.yaml")


def test_help_names_every_command(capsys):
    main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in ("fit", "validate", "test", "predict", *COMMANDS))


def test_help_imports_nothing_slow():
    """All but Lightning's commands explain themselves in a tenth of a second."""
    script = f"""
import contextlib, io, sys
from tse_refine.cli.main import COMMANDS, main
main([])
for command in {list(COMMANDS)}:
    text = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(text):
        main([command, "--help"])
    assert text.getvalue().startswith(f"usage: tse-refine {{command}} "), command
    assert command not in ("prepare", "preview", "recipes") or " -c CONFIG " in text.getvalue().splitlines()[0]
print(sorted({{"numpy", "torch", "lightning", "yaml", "matplotlib"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"tse-refine {__version__}\n"


def test_a_closed_pipe_ends_a_command_silently():
    script = "from tse_refine.cli import checkpoints, main; "
    script += "checkpoints.classes = lambda words: print('dog' * 100_000); "
    words = [sys.executable, "-c", script + "main.main(['classes'])"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch has another OpenMP elsewhere")
def test_threads_that_wait_soon_yield_their_cores():
    command = [sys.executable, "-m", "tse_refine", "classes", "--checkpoint", "missing.ckpt"]
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    printed = subprocess.run(
        command, env=environment | {"OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True, check=False
    ).stderr
    assert re.search(r"GOMP_SPINCOUNT *= *'5000'", printed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_cleans_up_and_exits_with_the_signals_status(monkeypatch, capsys, number):
    cleaned = []

    def stop(_):
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)

    # what Python does by itself, also where a shell has started it in the background, which ignores SIGINT
    handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, handler)
    monkeypatch.setattr("tse_refine.cli.checkpoints.models", stop)
    try:
        with pytest.raises(StoppedError) as stopped:
            main(["models"])
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert stopped.value.code == 128 + number
    assert cleaned
    assert f"stopped by {number.name}" in capsys.readouterr().err
