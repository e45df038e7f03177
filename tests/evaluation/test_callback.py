from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from tests.fixtures.tables import rows_of
from tse_refine.errors import InputError
from tse_refine.evaluation import callback
from tse_refine.evaluation.callback import QueryRefinementEvaluation
from tse_refine.evaluation.logged import metric_names
from tse_refine.model.checkpoint import CHECKPOINT_KEY, weights_digest
from tse_refine.refinement import SoftThreshold
from tse_refine.training.module import ExtractionModule


@pytest.fixture
def module(tiny_data, tiny_network_config):
    torch.manual_seed(0)
    return ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, tiny_network_config)


@pytest.fixture
def trainer(tmp_path):
    def make(*callbacks, **options):
        return Trainer(
            default_root_dir=tmp_path,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
            callbacks=list(callbacks),
            **{"max_epochs": 1, **options},
        )

    return make


def test_logged_metrics_are_the_named_ones_and_agree_with_the_files(trainer, module, tiny_data, tmp_path):
    evaluation = QueryRefinementEvaluation(threshold=0.3)
    run = trainer(evaluation)
    run.test(module, tiny_data, verbose=False)
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert set(logged) == set(metric_names(evaluation.grids["test"], "test", evaluation.operating))
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_/") for name in logged)
    summary = {(r["active"], r["inactive"], r["threshold"]): r for r in rows_of(tmp_path / "test" / "summary.csv")}
    assert logged["test/snri_db/1a3i/none"] == pytest.approx(float(summary["1", "3", "none"]["snri_db"]), abs=1e-4)
    assert logged["test/snri_db/1a3i/refined"] == logged["test/snri_db/1a3i/delta_0p3"]
    assert logged["test/attenuation_db/0a1i/gate"] == pytest.approx(
        float(summary["0", "1", "gate"]["attenuation_db"]), abs=1e-4
    )
    scores = {r["threshold"]: r for r in rows_of(tmp_path / "test" / "classification.csv")}
    assert logged["test/macro_f1/delta_0p5"] == pytest.approx(float(scores["0.5"]["macro_f1"]), abs=1e-4)
    events = rows_of(tmp_path / "test" / "events.csv")
    assert [row["class"] for row in events] == tiny_data.class_names
    true = sum(int(row["events_true"]) for row in events)
    rows = rows_of(tmp_path / "test" / "results.csv")
    assert true == sum({row["mixture"]: int(row["num_active"]) for row in rows}.values())
    for name in ("event_f1", "segment_f1"):
        values = [float(row[name]) for row in events if int(row["events_true"])]
        assert logged[f"test/{name}"] == pytest.approx(sum(values) / len(values), abs=1e-4)
    for name in ("ca_sdri_db", "mixture_accuracy", "source_accuracy"):
        assert logged[f"test/{name}/soft_0p05_0p3"] == pytest.approx(float(scores["soft:0.05-0.3"][name]), abs=1e-4)
    assert set(scores) == {
        "0.05",
        "0.1",
        "0.2",
        "0.3",
        "0.5",
        "0.7",
        "soft:0.05-0.3",
    }  # refinements that decide class by class


def test_false_alarms_are_measured_where_mixtures_may_be_background_alone(trainer, module, tiny_data, tmp_path, capsys):
    tiny_data.mixture = replace(tiny_data.mixture, num_events=(0, 3))
    evaluation = QueryRefinementEvaluation(threshold=0.3)
    stopping = EarlyStopping("val/false_alarm_rate/delta_0p3")
    run = trainer(evaluation, stopping, num_sanity_val_steps=0)
    run.fit(module, tiny_data)
    names = metric_names(evaluation.grids["val"], "val", evaluation.operating, may_be_empty=True)
    assert {name for name in run.callback_metrics if name.startswith("val/")} == {*names, "val/loss"}
    assert all(torch.isfinite(run.callback_metrics[name]) for name in ("train/loss", "val/loss"))
    # the classifier of a tiny network that has hardly been trained estimates about 0.5 for every class
    assert run.callback_metrics["val/false_alarm_rate/delta_0p3"] == 1.0
    assert "mixtures without an active class: 0.1 100.0 %, 0.3 100.0 %" in capsys.readouterr().out
    rows = rows_of(tmp_path / "validation.csv")
    assert {row["n"] for row in rows if row["active"] == "0"} == {"6"}
    assert {row["n"] for row in rows if row["active"] == "1"} < set("12345")


def test_there_is_one_row_per_mixture_condition_and_refinement_that_exists(trainer, module, tiny_data, tmp_path):
    evaluation = QueryRefinementEvaluation(conditions=[[1, 0], [5, 0]], thresholds=["none", 0.5])
    trainer(evaluation).test(module, tiny_data, verbose=False)
    rows = rows_of(tmp_path / "test" / "results.csv")
    five_active = sum(r["active"] == "5" for r in rows) / 3  # three refinements: the operating one is always measured
    assert sum(r["active"] == "1" for r in rows) == 6 * 3
    assert five_active == len({r["mixture"] for r in rows if r["num_active"] == "5"})
    assert {r["threshold"] for r in rows} == {"none", "0.5", "0.1"}


def test_oracle_rows_equal_none_rows_without_inactive_classes(trainer, module, tiny_data, tmp_path):
    trainer(QueryRefinementEvaluation()).test(module, tiny_data, verbose=False)
    rows = rows_of(tmp_path / "test" / "results.csv")
    value = {(r["mixture"], r["active"], r["inactive"], r["threshold"]): r["snri_db"] for r in rows}
    compared = [key for key in value if key[1] != "0" and key[3] == "oracle" and (*key[:2], "0", "none") in value]
    assert len(compared) > 50
    for mixture, active, inactive, _ in compared:
        assert value[mixture, active, inactive, "oracle"] == value[mixture, active, "0", "none"]


def test_without_classifier_only_none_and_oracle_are_measured(trainer, tiny_data, tiny_network_config, tmp_path):
    tiny_network_config.classifier = None
    module = ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, tiny_network_config)
    trainer(QueryRefinementEvaluation()).test(module, tiny_data, verbose=False)
    assert {r["threshold"] for r in rows_of(tmp_path / "test" / "summary.csv")} == {"none", "oracle"}
    assert sorted(path.name for path in (tmp_path / "test").iterdir()) == ["cost.csv", "results.csv", "summary.csv"]
    with pytest.raises(InputError, match="without a classifier"):
        trainer(QueryRefinementEvaluation(thresholds=[0.5])).test(module, tiny_data, verbose=False)


def test_a_test_records_which_weights_it_tested(trainer, module, tiny_data, tmp_path):
    digests = []
    for change in (0.0, 1e-3):
        with torch.no_grad():
            module.network.encoder.weight.add_(change)
        trainer(QueryRefinementEvaluation(class_aware=False)).test(module, tiny_data, verbose=False)
        digests.append(rows_of(tmp_path / "test" / "cost.csv")[0]["weights"])
        assert digests[-1] == weights_digest(module.network) == weights_digest(deepcopy(module.network).double())
    assert digests[0] != digests[1]


def test_sanity_check_computes_everything_and_writes_nothing(trainer, module, tiny_data, tmp_path, monkeypatch):
    summary_rows, rows_computed = callback.summary_rows, []

    def counted(results):
        rows_computed.append(len(summary_rows(results)) // 25)
        return summary_rows(results)

    monkeypatch.setattr(callback, "summary_rows", counted)

    class Stop(Callback):
        def on_sanity_check_end(self, trainer, pl_module):
            assert rows_computed == [1]
            assert not list(tmp_path.rglob("*.csv"))
            assert evaluation.recommended is None
            trainer.should_stop = True

    evaluation = QueryRefinementEvaluation()
    trainer(evaluation, Stop(), num_sanity_val_steps=1).fit(module, tiny_data)


def test_validation_file_has_each_epoch_once_and_the_checkpoint_the_recommendation(
    trainer, module, tiny_data, tmp_path
):
    evaluation = QueryRefinementEvaluation()
    checkpoint = ModelCheckpoint(tmp_path, "best", monitor="val/snri_db/1a0i/none", mode="max")
    run = trainer(evaluation, checkpoint, max_epochs=2)
    run.fit(module, tiny_data)
    rows = rows_of(tmp_path / "validation.csv")
    cells = [(r["active"], r["inactive"], r["threshold"]) for r in rows if r["epoch"] == "0"]
    assert len(cells) == len(set(cells)) == 5 * 5
    assert [r["epoch"] for r in rows] == ["0"] * 25 + ["1"] * 25

    def mean_snri(threshold):
        last = [r for r in rows if r["epoch"] == "1" and r["threshold"] == threshold and r["active"] != "0"]
        return sum(float(r["snri_db"]) for r in last) / len(last)

    best = max(("0.1", "0.3", "0.5"), key=mean_snri)
    assert mean_snri(evaluation.recommended.name) == pytest.approx(mean_snri(best), abs=1e-4)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)[CHECKPOINT_KEY]
    assert saved["class_names"] == tiny_data.class_names
    assert saved["data_digest"] == tiny_data.digest
    assert saved["recommended_threshold"] in (0.1, 0.3, 0.5)


@pytest.mark.parametrize(
    "monitoring",
    [
        ModelCheckpoint(monitor="val/snri_db/1a9i/none"),
        EarlyStopping(monitor="val_loss"),
    ],
)
def test_a_monitor_that_is_never_logged_is_rejected_before_training(trainer, module, tiny_data, monitoring):
    with pytest.raises(InputError, match=f"monitors '{monitoring.monitor}', which is not logged"):
        trainer(QueryRefinementEvaluation(), monitoring).fit(module, tiny_data)


def test_conditions_beyond_the_data_are_rejected_before_training(trainer, module, tiny_data):
    for option, pair in (("conditions", [6, 0]), ("validation_conditions", [1, 9]), ("conditions", 63)):
        with pytest.raises(InputError, match=f"evaluation.{option}"):
            trainer(QueryRefinementEvaluation(**{option: [pair]})).fit(module, tiny_data)


def test_results_are_the_same_in_bfloat16_up_to_its_precision(trainer, module, tiny_data, tmp_path):
    trainer(QueryRefinementEvaluation()).test(module, tiny_data, verbose=False)
    exact = rows_of(tmp_path / "test" / "results.csv")
    trainer(QueryRefinementEvaluation(), precision="bf16-mixed").test(module, tiny_data, verbose=False)
    coarse = rows_of(tmp_path / "test" / "results.csv")
    pairs = [(float(a["snri_db"]), float(b["snri_db"])) for a, b in zip(exact, coarse, strict=True) if a["snri_db"]]
    assert any(a != b for a, b in pairs)  # it did run in bfloat16
    assert all(abs(a - b) < 0.3 for a, b in pairs)


def test_the_class_aware_measure_is_printed_and_can_be_left_out(trainer, module, tiny_data, tmp_path, capsys):
    options = {"conditions": [[1, 0], [1, 1]], "thresholds": ["none", 0.1]}
    tests = {}
    for class_aware in (True, False):
        run = trainer(QueryRefinementEvaluation(**options, class_aware=class_aware))
        run.test(module, tiny_data, verbose=False)
        files = {path.name: path.read_bytes() for path in (tmp_path / "test").iterdir()}
        tests[class_aware] = capsys.readouterr().out, files, set(run.callback_metrics)
    (printed, files, logged), (without, fewer_files, fewer_logged) = tests[True], tests[False]
    assert "CA-SDRi  mixture accuracy  source accuracy" in printed
    assert "CA-SDRi" not in without
    assert set(files) - set(fewer_files) == {"class_aware.csv"}
    assert all(files[name] == fewer_files[name] for name in fewer_files if name != "classification.csv")
    names = {f"test/{name}/delta_0p1" for name in ("ca_sdri_db", "mixture_accuracy", "source_accuracy")}
    assert logged - fewer_logged == names


def test_a_soft_threshold_is_measured_logged_recommended_and_saved(trainer, module, tiny_data, tmp_path):
    evaluation = QueryRefinementEvaluation(
        threshold="soft:0.2-0.6", thresholds=["none", 0.3], validation_thresholds=["none"]
    )
    checkpoint = ModelCheckpoint(tmp_path, "best", monitor="val/snri_db/1a0i/refined", mode="max")
    run = trainer(evaluation, checkpoint)
    run.fit(module, tiny_data)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)[CHECKPOINT_KEY]["recommended_threshold"] == (
        "soft:0.2-0.6"
    )
    run.test(module, tiny_data, ckpt_path=tmp_path / "best.ckpt", verbose=False)
    assert evaluation.recommended == SoftThreshold(0.2, 0.6)
    for name in ("results", "summary", "classification", "per_class"):
        assert {"0.3", "soft:0.2-0.6"} <= {row["threshold"] for row in rows_of(tmp_path / "test" / f"{name}.csv")}
    logged = run.callback_metrics
    assert logged["test/si_sdri_db/1a3i/refined"] == logged["test/si_sdri_db/1a3i/soft_0p2_0p6"]


@pytest.mark.parametrize("conditions", [[[0, 1]], [[2, 0]], [[9, 0]], [3]])
def test_conditions_that_cannot_decide_on_the_recommendation_are_rejected(trainer, module, tiny_data, conditions):
    with pytest.raises(InputError, match=r"^evaluation\.recommend_for"):
        trainer(QueryRefinementEvaluation(recommend_for=conditions)).fit(module, tiny_data)


@pytest.mark.parametrize("threshold", ["none", "oracle", "gate", 1.5, "soft:0.6-0.2"])
def test_an_operating_refinement_that_decides_nothing_is_rejected(threshold):
    with pytest.raises(InputError, match=r"^evaluation\.threshold"):
        QueryRefinementEvaluation(threshold=threshold)
