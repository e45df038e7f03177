import pytest
import torch

from tse_refine.model.classifier import Classifier, ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig


def classifier(pooling=1, config=None, channels=6, num_classes=5):
    torch.manual_seed(0)
    return Classifier(channels, num_classes, pooling, 3, config or ClassifierConfig()).eval()


@pytest.mark.parametrize(("frames", "pooling", "expected"), [(10, 1, 10), (16, 8, 2), (17, 8, 3), (5, 8, 1), (1, 8, 1)])
def test_frame_logits_are_one_a_pool_with_a_started_one_counted(frames, pooling, expected):
    assert classifier(pooling)(torch.randn(2, 6, frames)).shape == (2, expected, 5)


def test_pooling_averages_frames_the_last_pool_over_what_is_there():
    shared = torch.randn(2, 6, 10)
    pools = torch.stack([shared[..., 0:4].mean(-1), shared[..., 4:8].mean(-1), shared[..., 8:10].mean(-1)], dim=-1)
    torch.testing.assert_close(classifier(4)(shared), classifier(1)(pools))


def test_the_gru_is_half_as_wide_as_the_features_in_each_direction_unless_told_otherwise():
    def widths(hidden_size):
        config = NetworkConfig(
            8, bottleneck_channels=10, classifier=ClassifierConfig(), classifier_hidden_size=hidden_size
        )
        built = Network(3, 8000, config).classifier
        return built.recurrence.hidden_size, built.linear.in_features

    assert widths(None) == (5, 10)
    assert widths(7) == (7, 14)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_the_recurrence_has_the_layers_asked_for_in_both_directions(num_layers):
    names = dict(classifier(config=ClassifierConfig(num_layers)).recurrence.named_parameters())
    assert len([name for name in names if name.startswith("weight_hh")]) == 2 * num_layers


def test_every_frame_hears_the_first_and_the_last_one():
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
