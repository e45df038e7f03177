from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.dataset import RecipeSampler
from tse_refine.data.queries import QueryConfig
from tse_refine.data.recipes import MixtureConfig


@pytest.fixture
def make_data(cache_dir):
    """Return a set-up data module with the tiny fixture's mixtures and other options."""

    def make(stage: str = "fit", **options) -> MixtureDataModule:
        defaults = {"batch_size": 4, "num_workers": 0, "num_train": 12, "num_val": 6, "num_test": 6}
        defaults["mixture"] = MixtureConfig(duration_seconds=1.0, event_seconds=(0.5, 0.8))
        data = MixtureDataModule(
            SyntheticSounds(2, 2, 2),
            SyntheticBackgrounds(1, 1, 1),
            sample_rate=4000,
            cache_dir=str(cache_dir),
            **defaults | options,
        )
        data.setup(stage)
        return data

    return make


def served(loader) -> dict[str, torch.Tensor]:
    """Everything an epoch serves, row by row."""
    batches = list(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert set(first) == set(second)
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_workers_do_not_change_a_bit(make_data):
    assert_same(
        served(make_data(num_workers=0).train_dataloader()), served(make_data(num_workers=3).train_dataloader())
    )


def test_interferers_change_the_mixtures_alone_whatever_the_workers(make_data):
    quiet = {"mixture": MixtureConfig(duration_seconds=1.0, event_seconds=(0.5, 0.8), background_db=-70.0)}
    plain = served(make_data(**quiet).val_dataloader())
    sets = [
        served(make_data(**quiet, interferers=SyntheticBackgrounds(2, 2, 2), num_workers=workers).val_dataloader())
        for workers in (0, 2)
    ]
    assert_same(*sets)
    changed = (sets[0].pop("mixture") != plain.pop("mixture")).any(1)
    assert 0 < changed.sum() < len(changed)  # a third of the mixtures has no interferer
    assert_same(sets[0], plain)


def test_rooms_change_what_is_heard_alone_whatever_the_workers(make_data):
    plain = served(make_data().val_dataloader())
    rooms = SyntheticBackgrounds(2, 2, 2)
    sets = [served(make_data(impulse_responses=rooms, num_workers=w).val_dataloader()) for w in (0, 2)]
    assert_same(*sets)
    for name, value in plain.items():
        changed = (sets[0][name] != value).flatten(1).any(1) if value.dim() > 1 else sets[0][name] != value
        assert changed.all() if name in ("mixture", "sources", "target") else not changed.any()


def test_batch_size_does_not_change_a_bit(make_data):
    for loader in ("train_dataloader", "val_dataloader"):
        assert_same(
            served(getattr(make_data(batch_size=4), loader)()), served(getattr(make_data(batch_size=3), loader)())
        )


@pytest.mark.parametrize("num_workers", [0, 3])
def test_skipped_samples_leave_the_rest_of_the_epoch(make_data, num_workers):
    data = make_data(num_workers=num_workers)
    whole = served(data.train_dataloader())
    loader = data.train_dataloader()
    loader.sampler.samples_done = lambda: 8
    rest = served(loader)
    assert_same(rest, {name: value[8:] for name, value in whole.items()})


def test_epochs_are_new_mixtures_where_redrawn_and_a_new_order_otherwise(make_data):
    for redraw in (True, False):
        loader = make_data(redraw=redraw).train_dataloader()
        first = served(loader)
        loader.sampler.set_epoch(1)
        second = served(loader)
        assert not torch.equal(first["mixture"], second["mixture"])
        in_order = [epoch["mixture"][epoch["index"].argsort()] for epoch in (first, second)]
        assert torch.equal(*in_order) == (not redraw)


def test_workers_receive_the_epoch(make_data):
    epochs = []
    for num_workers in (0, 2):
        loader = make_data(num_workers=num_workers).train_dataloader()
        served(loader)  # persistent workers are there before the epoch changes
        loader.sampler.set_epoch(3)
        epochs.append(served(loader))
    assert_same(*epochs)


def test_a_new_epoch_changes_every_redrawn_mixture(make_data):
    loader = make_data().train_dataloader()
    first = served(loader)
    loader.sampler.set_epoch(1)
    second = served(loader)
    assert torch.equal(first["index"], second["index"])
    for before, after in zip(first["mixture"], second["mixture"], strict=True):
        # another background and other sounds: nothing of one mixture is left in the other
        assert abs(torch.nn.functional.cosine_similarity(before, after, dim=0)) < 0.5


@pytest.mark.parametrize(("stage", "loader"), [("fit", "val_dataloader"), ("test", "test_dataloader")])
def test_validation_and_test_never_change(make_data, stage, loader):
    for redraw in (True, False):
        serving = getattr(make_data(stage, redraw=redraw), loader)()
        first = served(serving)
        assert first["index"].tolist() == list(range(6))
        serving.sampler.set_epoch(5)
        assert_same(first, served(serving))


def test_splits_have_nothing_in_common(make_data):
    fit, test = make_data("fit"), make_data("test")
    sets = {**fit.datasets, **test.datasets}
    recipes = {split: sets[split].recipes for split in ("train", "val", "test")}
    used = {
        split: {event.clip for index in range(60) for event in drawn.draw(0, index).events}
        for split, drawn in recipes.items()
    }
    assert all(len(clips) == 24 for clips in used.values())  # two clips of each of twelve classes
    assert not used["train"] & used["val"]
    assert not used["train"] & used["test"]
    assert not used["val"] & used["test"]


def test_a_single_mixture_equals_that_in_a_batch(make_data):
    dataset = make_data().datasets["val"]
    assert len(dataset) == 6
    batch = dataset.__getitems__([(0, 4), (0, 2)])
    assert_same(dataset[0, 2], {name: value[1] for name, value in batch.items()})
    # with a sampler of Lightning's own (overfit_batches) the key is only an index
    assert_same(dataset[2], dataset[0, 2])


@pytest.mark.parametrize("shuffle", [False, True])
def test_two_ranks_share_an_epoch(shuffle):
    ranks = [list(RecipeSampler(10, shuffle=shuffle, num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert [len(keys) for keys in ranks] == [5, 5]
    assert sorted(index for keys in ranks for _, index in keys) == list(range(10))


def trainer(rank: int, num_ranks: int, batches_done: int = 0) -> SimpleNamespace:
    """Return the part of a trainer that a data module uses."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=batches_done))
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    return SimpleNamespace(world_size=num_ranks, global_rank=rank, fit_loop=fit_loop)


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_two_ranks_together_render_the_mixtures_of_one(make_data, loader):
    whole = served(getattr(make_data(), loader)())
    parts = []
    for rank in (0, 1):
        data = make_data()
        data.trainer = trainer(rank, 2)
        parts.append(served(getattr(data, loader)()))
    both = {name: torch.cat([part[name] for part in parts]) for name in whole}
    order = both["index"].argsort()
    assert_same({name: value[order] for name, value in both.items()}, whole)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_repeat_the_first_test_mixtures_up_to_equal_numbers(make_data, num_ranks):
    whole = make_data("test", num_test=13)
    expected = served(whole.test_dataloader())
    seen = []
    for rank in range(num_ranks):
        data = make_data("test", num_test=13)
        data.trainer = trainer(rank, num_ranks)
        part = served(data.test_dataloader())
        assert_same(part, {name: value[part["index"]] for name, value in expected.items()})
        for index in part["index"].tolist():
            assert data.datasets["test"].recipe((0, index)) == whole.datasets["test"].recipe((0, index))
        seen += part["index"].tolist()
    too_many = -13 % num_ranks
    assert sorted(seen) == sorted([*range(13), *range(too_many)])


def test_a_resumed_training_continues_where_it_stopped_and_validates_on_all(make_data):
    whole = make_data(num_train=24)
    whole.trainer = trainer(1, 2)
    resumed = make_data(num_train=24)
    resumed.trainer = trainer(1, 2, batches_done=2)  # of 4 mixtures each, on each of two ranks
    rest = {name: value[8:] for name, value in served(whole.train_dataloader()).items()}
    assert len(rest["index"]) == 4
    assert_same(served(resumed.train_dataloader()), rest)
    assert_same(served(resumed.val_dataloader()), served(whole.val_dataloader()))


def test_batches_have_the_documented_tensors(make_data):
    train = next(iter(make_data().train_dataloader()))
    assert {name: tuple(value.shape) for name, value in train.items()} == {
        "mixture": (4, 4000),
        "target": (4, 4000),
        "query": (4, 12),
        "activity": (4, 12),
        "index": (4,),
        "source_classes": (4, 5),
        "source_spans": (4, 5, 2),
    }
    assert [train[name].dtype for name in ("mixture", "target", "query", "activity")] == [torch.float32] * 4
    assert train["index"].dtype == torch.int64


@pytest.mark.parametrize(("stage", "loader"), [("fit", "val_dataloader"), ("test", "test_dataloader")])
def test_batches_for_evaluation_also_have_sources_and_their_classes(make_data, stage, loader):
    data = make_data(stage, batch_size=6)
    val = next(iter(getattr(data, loader)()))
    assert {name: tuple(value.shape) for name, value in val.items()} == {
        "mixture": (6, 4000),
        "target": (6, 4000),
        "query": (6, 12),
        "activity": (6, 12),
        "index": (6,),
        "sources": (6, 5, 4000),
        "source_classes": (6, 5),
        "source_spans": (6, 5, 2),
        "query_order": (6, 12),
    }
    assert len(set(val["activity"].sum(1).tolist())) > 1  # so that padding is seen
    for row in range(6):
        num_active = int(val["activity"][row].sum())
        active = val["query_order"][row, :num_active]
        assert torch.equal(val["source_classes"][row, :num_active], active)
        assert torch.all(val["source_classes"][row, num_active:] == -1)
        assert torch.all(val["sources"][row, num_active:] == 0.0)
        for source, (first, end) in zip(val["sources"][row], val["source_spans"][row].tolist(), strict=True):
            sounding = torch.nonzero(source)[:, 0]
            assert len(sounding) == 0 or first <= sounding[0] <= sounding[-1] < end <= 4000
        assert torch.all(val["activity"][row, active] == 1.0)
        assert sorted(val["query_order"][row].tolist()) == list(range(12))


def test_target_is_the_sum_of_the_queried_sources(make_data):
    batch = served(make_data().val_dataloader())
    for row in range(len(batch["index"])):
        classes = batch["source_classes"][row]
        queried = torch.tensor([bool(k >= 0 and batch["query"][row, k]) for k in classes.tolist()])
        torch.testing.assert_close(batch["target"][row], batch["sources"][row, queried].sum(0), atol=1e-7, rtol=0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_mixtures_of_background_alone_have_no_activity_and_a_silent_target(make_data, num_workers):
    mixture = MixtureConfig(duration_seconds=1.0, event_seconds=(0.5, 0.8), num_events=(0, 3))
    data = make_data(num_train=40, num_val=40, mixture=mixture, num_workers=num_workers)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batch = served(loader)
        alone = batch["activity"].sum(1) == 0
        assert 0 < alone.sum() < 40
        assert torch.all(batch["mixture"][alone].std(1) > 0.0)
        assert torch.all(batch["query"][alone].sum(1) > 0)
        assert torch.all(batch["source_classes"][alone] == -1)
        assert not any(batch[name][alone].any() for name in {"target", "source_spans", "sources"} & batch.keys())


def test_inactive_samples_have_a_silent_target_and_the_configured_rate(make_data):
    queries = QueryConfig(inactive_sample_rate=0.25)
    data = make_data(num_train=400, num_val=40, queries=queries)
    batch = served(data.train_dataloader())
    queries_active = (batch["query"] * batch["activity"]).sum(1) > 0
    queries_inactive = (batch["query"] * (1 - batch["activity"])).sum(1) > 0
    assert not (queries_active & queries_inactive).any()
    assert torch.all(batch["target"][queries_inactive] == 0.0)
    # binomial: 4 standard deviations are 0.087
    assert queries_inactive.float().mean().item() == pytest.approx(0.25, abs=0.09)
    plain = served(make_data(num_train=400).train_dataloader())
    assert torch.equal(plain["mixture"], batch["mixture"])  # queries leave the mixtures alone
    val = served(data.val_dataloader())
    assert torch.all((val["query"] * (1 - val["activity"])).sum(1) == 0)


def test_number_of_queried_classes_is_uniform(make_data):
    batch = served(make_data(num_train=600).train_dataloader())
    counts = np.bincount(batch["query"].sum(1).int().numpy(), minlength=4)[1:]
    assert counts.sum() == 600
    assert counts.min() > 150  # 200 expected each, standard deviation 11.5
