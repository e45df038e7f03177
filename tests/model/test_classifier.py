import numpy as np
import pytest
import torch

from tse_refine.model.classifier import Classifier, ClassifierConfig, pooled_log_probability, pooled_probability
from tse_refine.model.network import Network, NetworkConfig


def classifier(pooling=1, config=None, channels=6, num_classes=5):
    torch.manual_seed(0)
    return Classifier(channels, num_classes, pooling, 3, config or ClassifierConfig()).eval()


@pytest.mark.parametrize(("frames", "pooling", "expected"), [(10, 1, 10), (16, 8, 2), (17, 8, 3), (5, 8, 1), (1, 8, 1)])
def test_there_is_one_frame_logit_per_pool_even_if_the_last_is_not_full(frames, pooling, expected):
    assert classifier(pooling)(torch.randn(2, 6, frames)).shape == (2, expected, 5)


def test_pooling_averages_frames_the_last_pool_over_what_is_there():
    shared = torch.randn(2, 6, 10)
    pools = torch.stack([shared[..., 0:4].mean(-1), shared[..., 4:8].mean(-1), shared[..., 8:10].mean(-1)], dim=-1)
    torch.testing.assert_close(classifier(4)(shared), classifier(1)(pools))


def test_the_gru_is_half_as_wide_as_the_features_in_each_direction_by_default():
    def widths(hidden_size):
        config = NetworkConfig(
            8, bottleneck_channels=10, classifier=ClassifierConfig(), classifier_hidden_size=hidden_size
        )
        built = Network(3, 8000, config).classifier
        return built.recurrence.hidden_size, built.linear.in_features

    assert widths(None) == (5, 10)
    assert widths(7) == (7, 14)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_the_recurrence_has_as_many_layers_as_configured_in_both_directions(num_layers):
    names = dict(classifier(config=ClassifierConfig(num_layers)).recurrence.named_parameters())
    assert len([name for name in names if name.startswith("weight_hh")]) == 2 * num_layers


def test_every_frame_depends_on_the_first_and_the_last_one():
    model, shared = classifier(), torch.randn(1, 6, 12)
    for frame in (0, 11):
        changed = shared.clone()
        changed[..., frame] += 1.0
        difference = (model(changed) - model(shared)).abs().sum(-1)[0]
        assert (difference > 0).all()


def test_items_of_a_batch_do_not_mix():
    # batch_first: with frames and batch confused, an item would hear its neighbours
    model, shared = classifier(4), torch.randn(3, 6, 12)
    torch.testing.assert_close(model(shared)[1:2], model(shared[1:2]), atol=1e-6, rtol=1e-5)


@pytest.fixture
def logits():
    return 3.0 * torch.randn(4, 25, 6, generator=torch.Generator().manual_seed(0))


def test_pooling_equals_the_plain_formula(logits):
    p = 1.0 / (1.0 + np.exp(-logits.double().numpy()))
    y = (p**2).sum(1) / p.sum(1)
    log_y, log_not_y = pooled_log_probability(logits)
    np.testing.assert_allclose(pooled_probability(logits).numpy(), y, atol=1e-6)
    np.testing.assert_allclose(log_y.numpy(), np.log(y), atol=1e-5)
    np.testing.assert_allclose(log_not_y.numpy(), np.log(1.0 - y), atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 100.0])
def test_probability_and_complement_sum_to_one(logits, scale):
    log_y, log_not_y = pooled_log_probability(scale * logits)
    torch.testing.assert_close(log_y.exp() + log_not_y.exp(), torch.ones_like(log_y))


def test_equal_frames_give_the_frames_probability():
    frame = torch.tensor([-4.0, 0.0, 2.5])
    pooled = pooled_probability(frame.expand(1, 9, 3))
    torch.testing.assert_close(pooled, torch.sigmoid(frame)[None])


def test_certain_frames_outweigh_many_silent_ones():
    # linear softmax: 2 certain frames in 1000 say "active"; the mean would say 0.002
    logits = torch.full((1, 1000, 1), -20.0)
    logits[:, :2] = 10.0
    assert pooled_probability(logits).item() > 0.99


@pytest.mark.parametrize("which", [0, 1], ids=["log y", "log(1 - y)"])
@pytest.mark.parametrize("logit", [-100.0, 100.0])
def test_values_and_gradients_are_finite_at_extreme_logits(which, logit):
    logits = torch.full((2, 7, 3), logit, requires_grad=True)
    value = pooled_log_probability(logits)[which]
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logits.grad).all()


def test_gradients_survive_where_a_plain_ratio_would_lose_them():
    # log y at -100 is about z, log(1 - y) at 100 about -z: each frame's share of the slope is 1/7
    low = torch.full((1, 7, 1), -100.0, requires_grad=True)
    pooled_log_probability(low)[0].sum().backward()
    torch.testing.assert_close(low.grad, torch.full((1, 7, 1), 1.0 / 7.0))
    high = torch.full((1, 7, 1), 100.0, requires_grad=True)
    pooled_log_probability(high)[1].sum().backward()
    torch.testing.assert_close(high.grad, torch.full((1, 7, 1), -1.0 / 7.0))


def test_probability_stays_in_the_unit_interval_at_extreme_logits():
    logits = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4]).expand(1, 3, 5)
    probability = pooled_probability(logits)
    assert probability.min() >= 0.0
    assert probability.max() <= 1.0
    torch.testing.assert_close(probability, torch.tensor([[0.0, 0.0, 0.5, 1.0, 1.0]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_results_are_float32_whatever_comes_in(logits, dtype):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_y, log_not_y = pooled_log_probability(logits.to(dtype))
        probability = pooled_probability(logits.to(dtype))
    assert {log_y.dtype, log_not_y.dtype, probability.dtype} == {torch.float32}


def test_autocast_does_not_touch_the_computation(logits):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = pooled_log_probability(logits)
    for one, other in zip(inside, pooled_log_probability(logits), strict=True):
        assert torch.equal(one, other)
