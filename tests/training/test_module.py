from dataclasses import replace

import pytest
import torch
from lightning import Callback, Trainer
from torch.multiprocessing import start_processes

from tse_refine.errors import InputError
from tse_refine.evaluation.metrics import SNRI
from tse_refine.model.checkpoint import CHECKPOINT_KEY
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import NetworkConfig
from tse_refine.training.losses import frame_activity, frame_bce_loss, thresholded_snr_loss
from tse_refine.training.module import ExtractionModule, check_class_names


@pytest.fixture
def batch(tiny_data):
    return tiny_data.datasets["train"].__getitems__([(0, index) for index in range(4)])


def test_tiny_network_overfits_one_batch_to_8_db_snri_and_classifies_it(tiny_data, batch):
    torch.manual_seed(0)
    config = NetworkConfig(64, 5.0, 32, 64, 32, 3, 4, 1, 1, 4, ClassifierConfig(1), True, 16)
    module = ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, config)
    module.log = module.log_dict = lambda *args, **kwargs: None
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        estimate, features = module.network(batch["mixture"], batch["query"])
    assert SNRI.of_signals(estimate, batch["target"], batch["mixture"]).mean() > 8.0
    assert torch.equal(features.probability() > 0.5, batch["activity"] > 0.5)


def test_total_loss_is_extraction_plus_weighted_classification(tiny_data, tiny_network_config, batch):
    module = ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, tiny_network_config, loss_weight=3.0)
    logged = {}
    module.log = lambda *args, **kwargs: None
    module.log_dict = lambda values, **kwargs: logged.update(values)
    total = module.training_step(batch, 0)
    assert total.item() == pytest.approx((logged["train/loss_tse"] + 3.0 * logged["train/loss_sed"]).item(), rel=1e-6)
    estimate = module(batch["mixture"], batch["query"])
    expected = thresholded_snr_loss(estimate, batch["target"], batch["mixture"]).mean()
    assert logged["train/loss_tse"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_truth_of_frames_adds_to_the_classification_loss(tiny_data, tiny_network_config, batch):
    logged = {}
    for weight in (0.0, 2.0):
        torch.manual_seed(0)
        module = ExtractionModule(
            tiny_data.class_names, tiny_data.sample_rate, tiny_network_config, frame_loss_weight=weight
        )
        module.log = lambda *args, **kwargs: None
        module.log_dict = lambda values, weight=weight, **kwargs: logged.update({weight: values["train/loss_sed"]})
        module.training_step(batch, 0)
    logits = module.network.features(batch["mixture"]).frame_logits
    spans = (batch["source_classes"], batch["source_spans"])
    sounding = frame_activity(*spans, len(tiny_data.class_names), batch["mixture"].shape[1], logits.shape[1])
    torch.testing.assert_close(logged[2.0] - logged[0.0], (2.0 * frame_bce_loss(logits, sounding)).detach())


def test_late_in_training_queries_are_refined_by_the_networks_own_classifier(
    tiny_data, tiny_network_config, monkeypatch, tmp_path
):
    module = ExtractionModule(
        tiny_data.class_names,
        tiny_data.sample_rate,
        tiny_network_config,
        query_refinement="soft:0-0.99",
        query_refinement_start=0.5,
    )
    extract, queries = module.network.extract, []

    def recorded(features, query, activity=None):
        if torch.is_grad_enabled():
            queries.append((query.detach(), features.probability().detach()))
        return extract(features, query, activity)

    monkeypatch.setattr(module.network, "extract", recorded)
    options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_epochs=2, limit_val_batches=0, **options)
    trainer.fit(module, tiny_data)
    assert len(queries) == 4
    for step, (query, probability) in enumerate(queries):
        if step < 2:
            assert set(query.unique().tolist()) == {0.0, 1.0}
        else:
            queried = query > 0
            torch.testing.assert_close(query[queried], (probability / 0.99).clamp(max=1.0)[queried])
            assert query.max() < 1.0


def test_a_context_is_of_the_truth_early_in_training_and_of_the_classifier_late(
    tiny_data, tiny_network_config, monkeypatch, tmp_path
):
    module = ExtractionModule(
        tiny_data.class_names, tiny_data.sample_rate, replace(tiny_network_config, context=True), learning_rate=0.0
    )
    given, extract = [], module.network.extract

    def recorded(features, query, activity=None):
        if torch.is_grad_enabled():
            given.append(activity)
        return extract(features, query, activity)

    monkeypatch.setattr(module.network, "extract", recorded)
    options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_epochs=2, limit_val_batches=0, **options)
    trainer.fit(module, tiny_data)
    early, late = given[:2], given[2:]
    assert late == [None, None]
    assert all(set(activity.unique().tolist()) == {0.0, 1.0} for activity in early)


@pytest.mark.parametrize("rule", ["none", "oracle", "gate"])
def test_training_queries_are_refined_by_rules_that_decide_by_the_classifier(tiny_data, tiny_network_config, rule):
    with pytest.raises(InputError, match=f"model.query_refinement is '{rule}'"):
        ExtractionModule(tiny_data.class_names, 4000, tiny_network_config, query_refinement=rule)


def log_of_a_step(module, batch):
    """Run one training step; return what it logs, or the message of the error that ends it."""
    logged = {}
    module.log_dict = lambda values, **kwargs: logged.update(values)
    try:
        module.training_step(batch, 0)
    except InputError as error:
        return str(error)
    return {name: value.item() for name, value in logged.items()}


def in_two_processes(function, folder):
    """Return the results of a function of the rank in two processes that torch.distributed connects."""

    def process(rank):
        torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
        torch.save(function(rank), folder / f"{rank}.pt")

    start_processes(process, nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_two_processes_log_their_mean(tiny_data, tiny_network_config, batch, tmp_path):
    """Also where one process has no target with an SNRi."""
    module = ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, tiny_network_config)
    batch["query"][:2] = 1.0 - batch["activity"][:2]
    batch["target"][:2] = 0.0
    together = log_of_a_step(module, batch)
    halves = [{name: value[2 * rank : 2 * rank + 2] for name, value in batch.items()} for rank in (0, 1)]
    alone = [log_of_a_step(module, half) for half in halves]
    assert "train/snri_db" not in alone[0]
    assert alone[0]["train/loss"] != pytest.approx(alone[1]["train/loss"], rel=1e-3)
    for logged in in_two_processes(lambda rank: log_of_a_step(module, halves[rank]), tmp_path):
        assert logged == pytest.approx(together, rel=1e-4)


def test_a_loss_that_is_not_finite_in_one_process_ends_both(tiny_data, tiny_network_config, batch, tmp_path):
    module = ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, tiny_network_config)
    batch["mixture"][3] = float("nan")
    halves = [{name: value[2 * rank : 2 * rank + 2] for name, value in batch.items()} for rank in (0, 1)]
    first, second = in_two_processes(lambda rank: log_of_a_step(module, halves[rank]), tmp_path)
    assert "the loss of another process is not finite" in first
    assert "of the training mixtures 2, 3." in second


@pytest.mark.parametrize(
    "name",
    ["loss_weight", "frame_loss_weight", "learning_rate", "snr_max_db", "warmup_fraction", "query_refinement_start"],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_options_that_are_not_finite_are_rejected(tiny_data, tiny_network_config, name, value):
    with pytest.raises(InputError, match=f"model.{name} is {value}"):
        ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, tiny_network_config, **{name: value})


def test_a_loss_that_is_not_finite_ends_the_step_and_names_its_mixtures(tiny_data, tiny_network_config, batch):
    module = ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, tiny_network_config)
    batch["mixture"][1] = float("nan")
    with pytest.raises(InputError, match=r"step 0 in epoch 0: the loss is nan.*mixtures 0, 1, 2, 3.*preview --split"):
        module.training_step(batch, 0)


def test_without_classifier_the_loss_is_the_extraction_loss(tiny_data, batch):
    config = NetworkConfig(16, 10.0, 8, 8, 8, 3, 2, 1, 1)
    module = ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, config)
    logged = {}
    module.log = lambda *args, **kwargs: None
    module.log_dict = lambda values, **kwargs: logged.update(values)
    assert module.training_step(batch, 0).item() == logged["train/loss_tse"].item()
    assert "train/loss_sed" not in logged


def test_rate_rises_linearly_then_falls_as_a_cosine_to_zero(tiny_data, tiny_network_config):
    module = ExtractionModule(
        tiny_data.class_names, tiny_data.sample_rate, tiny_network_config, learning_rate=1e-2, warmup_fraction=0.25
    )
    rates = []

    class Recorder(Callback):
        def on_train_batch_start(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = Trainer(
        max_epochs=4,  # of 2 steps
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[Recorder()],
    )
    trainer.fit(module, tiny_data)
    assert rates[:2] == pytest.approx([0.5e-2, 1e-2])
    assert rates[2] == pytest.approx(1e-2)  # the cosine starts at the peak
    assert rates[5] == pytest.approx(0.5e-2)  # half-way
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0)


def test_other_class_names_are_rejected_also_when_their_number_is_the_same():
    with pytest.raises(InputError, match="only in the data: dog; only in the checkpoint: cat"):
        check_class_names(["cat", "siren"], ["dog", "siren"], "the checkpoint")
    with pytest.raises(InputError, match="other classes"):
        check_class_names(["cat", "siren"], ["siren", "cat"], "the checkpoint")


def test_foreign_checkpoint_is_rejected(tiny_data, tiny_network_config):
    module = ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, tiny_network_config)
    with pytest.raises(InputError, match="not written by tse-refine"):
        module.on_load_checkpoint({"state_dict": {}})
    checkpoint = {CHECKPOINT_KEY: {"class_names": tiny_data.class_names, "sample_rate": 16000}}
    with pytest.raises(InputError, match="trained at 16000 Hz"):
        module.on_load_checkpoint(checkpoint)


@pytest.mark.parametrize("options", [{"loss_weight": -1.0}, {"learning_rate": -1e-3}, {"warmup_fraction": 1.0}])
def test_options_out_of_range_are_rejected_by_name(tiny_network_config, options):
    with pytest.raises(InputError, match=f"model.{next(iter(options))}"):
        ExtractionModule(["a", "b"], 4000, tiny_network_config, **options)


def test_how_the_network_is_computed_is_no_hyperparameter_of_a_checkpoint(tiny_data, tiny_network_config, monkeypatch):
    module = ExtractionModule(
        tiny_data.class_names, tiny_data.sample_rate, tiny_network_config, checkpoint_activations=True
    )
    assert module.network.mask_estimator.checkpoint_activations
    assert not {"compile_stacks", "checkpoint_activations"} & set(module.hparams)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="no-such-compiler"):
        ExtractionModule(tiny_data.class_names, tiny_data.sample_rate, tiny_network_config, compile_stacks=True)


def test_a_checkpoint_loads_without_its_data(tiny_runs):
    path = next(tiny_runs.glob("*/checkpoints/best.ckpt"))
    module = ExtractionModule.load_from_checkpoint(path, learning_rate=1.0)
    weights = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], value) for name, value in module.state_dict().items())
    assert len(module.class_names) == 12
    assert module.learning_rate == 1.0
    assert not module.training
    assert module(torch.randn(1, 4000), torch.ones(1, 12)).shape == (1, 4000)
