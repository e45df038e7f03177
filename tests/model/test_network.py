from dataclasses import replace

import pytest
import torch

from tse_refine.errors import InputError
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig

NUM_CLASSES = 5
FULL = NetworkConfig(16, 5.0, 8, 12, 10, 3, 2, 1, 2, 4, ClassifierConfig())
CONFIGS = {
    "full": FULL,
    "no skip": replace(FULL, skip_channels=None),
    "no classifier": replace(FULL, classifier=None),
    "neither": replace(FULL, skip_channels=None, classifier=None),
}
# (sample rate, window): 80 samples as in the paper, and windows whose half is no whole number of samples
RATES = [(16000, 5.0), (11025, 5.0), (8000, 3.3), (44100, 2.5), (100, 5.0)]
LENGTHS = [1, 7, 39, 40, 41, 79, 80, 81, 120, 4001]


def build(config=FULL, sample_rate=16000, seed=0):
    torch.manual_seed(seed)
    return Network(NUM_CLASSES, sample_rate, config).eval()


def mixtures(batch=3, samples=1001, seed=1):
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def queries(batch=3):
    return torch.eye(NUM_CLASSES)[:batch]


@pytest.mark.parametrize("samples", LENGTHS)
def test_an_estimate_has_the_mixtures_length_whatever_it_is(samples):
    network = build()
    estimate, features = network(mixtures(2, samples), queries(2))
    assert estimate.shape == (2, samples)
    assert features.probability().shape == (2, NUM_CLASSES)
    assert features.encoded.shape[-1] == features.shared.shape[-1] == network.num_frames(samples)


@pytest.mark.parametrize(("sample_rate", "window_ms"), RATES)
@pytest.mark.parametrize("samples", [1, 7, 4001])
def test_an_estimate_has_the_mixtures_length_at_odd_rates_and_windows(sample_rate, window_ms, samples):
    network = build(replace(FULL, window_ms=window_ms), sample_rate)
    assert network(mixtures(1, samples), queries(1))[0].shape == (1, samples)


@pytest.mark.parametrize(("sample_rate", "window", "stride"), [(16000, 80, 40), (8000, 40, 20), (11025, 56, 28)])
def test_frames_are_half_a_window_apart(sample_rate, window, stride):
    network = build(sample_rate=sample_rate)
    assert network.encoder.kernel_size == network.decoder.kernel_size == (window,)
    assert network.encoder.stride == network.decoder.stride == (stride,)
    assert network.frame_rate == sample_rate / stride


@pytest.mark.parametrize(("samples", "frames"), [(1, 2), (40, 2), (41, 3), (80, 3), (81, 4), (16000, 401)])
def test_a_mixture_has_no_more_frames_than_two_for_each_sample_need(samples, frames):
    assert build().num_frames(samples) == frames


def copying(sample_rate, window_ms, mask_logit):
    """A network whose encoder copies a window as x+ and x-, whose decoder puts half of x+ - x- back, and whose mask is
    the same everywhere: each frame adds half a mixture.
    """
    window = build(replace(FULL, window_ms=window_ms), sample_rate).window
    network = build(replace(FULL, window_ms=window_ms, num_filters=2 * window), sample_rate)
    copies = torch.cat([torch.eye(window), -torch.eye(window)])
    with torch.no_grad():
        network.encoder.weight.copy_(copies[:, None])
        network.decoder.weight.copy_(0.5 * copies[:, None])
        network.mask_estimator.output[-1].weight.zero_()
        network.mask_estimator.output[-1].bias.fill_(mask_logit)
    return network


@pytest.mark.parametrize(("sample_rate", "window_ms"), RATES)
@pytest.mark.parametrize("samples", LENGTHS)
def test_every_sample_lies_in_exactly_two_frames(sample_rate, window_ms, samples):
    # the first and the last sample too: only then does the mixture come back as it was
    mixture = mixtures(2, samples)
    estimate, _ = copying(sample_rate, window_ms, mask_logit=100.0)(mixture, queries(2))
    torch.testing.assert_close(estimate, mixture, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("mask_logit", [-100.0, -1.0, 0.0, 1.0])
def test_the_mask_is_a_sigmoid(mask_logit):
    mixture = mixtures(2)
    estimate, _ = copying(16000, 5.0, mask_logit)(mixture, queries(2))
    torch.testing.assert_close(estimate, torch.sigmoid(torch.tensor(mask_logit)) * mixture, atol=1e-6, rtol=0.0)


def test_the_probability_does_not_depend_on_the_query():
    network, mixture = build(), mixtures()
    asked = network(mixture, queries())[1].probability()
    for query in (torch.zeros(3, NUM_CLASSES), torch.ones(3, NUM_CLASSES)):
        assert torch.equal(network(mixture, query)[1].probability(), asked)


def test_the_estimate_depends_on_the_query():
    network, mixture = build(), mixtures(1)
    estimates = [network(mixture, query[None])[0] for query in (*torch.eye(NUM_CLASSES), torch.zeros(NUM_CLASSES))]
    for number, one in enumerate(estimates):
        for other in estimates[:number]:
            assert (one - other).abs().max() > 1e-6


def test_probabilities_lie_in_the_unit_interval():
    network = build()
    for scale in (1e-6, 1.0, 1e4):
        probability = network.features(scale * mixtures()).probability()
        assert probability.min() >= 0.0
        assert probability.max() <= 1.0


def test_the_clip_probability_is_the_pooled_frame_probability():
    features = build().features(mixtures())
    p = torch.sigmoid(features.frame_logits)
    torch.testing.assert_close(features.probability(), p.square().sum(1) / p.sum(1))


def test_a_network_without_classifier_has_no_probability():
    network = build(CONFIGS["no classifier"])
    features = network.features(mixtures())
    assert network.classifier is None
    assert features.frame_logits is None
    assert features.probability() is None


def test_features_once_and_extract_for_each_query_equal_forward():
    network, mixture = build(), mixtures()
    features = network.features(mixture)
    for query in (queries(), torch.ones(3, NUM_CLASSES)):
        assert torch.equal(network.extract(features, query), network(mixture, query)[0])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_an_item_alone_equals_the_item_in_a_batch(config):
    network, mixture, query = build(config), mixtures(), queries()
    together, features = network(mixture, query)
    for item in range(3):
        alone, own = network(mixture[item : item + 1], query[item : item + 1])
        # convolutions of another batch size may add up in another order
        torch.testing.assert_close(alone[0], together[item], atol=1e-5, rtol=0.0)
        if config.classifier is not None:
            torch.testing.assert_close(own.probability()[0], features.probability()[item], atol=1e-5, rtol=0.0)


def test_the_order_of_a_batch_does_not_matter():
    network, mixture, query, order = build(), mixtures(), queries(), [2, 0, 1]
    estimate, features = network(mixture, query)
    moved, moved_features = network(mixture[order], query[order])
    torch.testing.assert_close(moved, estimate[order], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(moved_features.probability(), features.probability()[order], atol=1e-5, rtol=0.0)


def test_silence_in_gives_silence_out_and_finite_probabilities():
    estimate, features = build()(torch.zeros(2, 500), queries(2))
    assert torch.equal(estimate, torch.zeros(2, 500))
    assert torch.isfinite(features.probability()).all()


def test_gradients_are_finite_for_a_silent_mixture():
    network = build()
    estimate, features = network(torch.zeros(2, 500), queries(2))
    (estimate.square().sum() + features.probability().sum()).backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("shape", [(8,), (2, 1, 8)])
def test_a_mixture_of_another_rank_is_rejected_with_its_shape(shape):
    with pytest.raises(ValueError, match=r"\[batch, samples\].*\[" + ", ".join(map(str, shape)) + r"\]"):
        build().features(torch.zeros(shape))


@pytest.mark.parametrize("changes", [{}, {"skip_channels": None}, {"sinusoidal_filters": True}], ids=str)
def test_networks_with_and_without_classifier_start_from_the_same_extractor(changes):
    config = replace(FULL, **changes)
    with_classifier = build(config).state_dict()
    without = build(replace(config, classifier=None)).state_dict()
    assert {name for name in with_classifier if name not in without} == {
        name for name in with_classifier if name.startswith("classifier.")
    }
    for name, value in without.items():
        assert torch.equal(value, with_classifier[name]), name


def test_another_seed_gives_other_weights():
    assert not torch.equal(build(seed=0).encoder.weight, build(seed=1).encoder.weight)


def test_the_query_embedding_starts_near_all_channels_pass():
    torch.manual_seed(0)
    weight = Network(40, 16000, replace(FULL, bottleneck_channels=250)).query_embedding.weight
    # 10,000 draws of N(1, 0.5): the standard errors are 0.005 and 0.0035
    assert weight.mean().item() == pytest.approx(1.0, abs=0.02)
    assert weight.std().item() == pytest.approx(0.5, abs=0.02)


def test_the_query_embedding_of_a_zero_query_is_zero():
    assert torch.equal(build().query_embedding(torch.zeros(1, NUM_CLASSES)), torch.zeros(1, FULL.bottleneck_channels))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_gradients_reach_every_trainable_parameter(config):
    # distributed training refuses a parameter without one
    network = build(config).train()
    estimate, features = network(mixtures(), torch.ones(3, NUM_CLASSES))
    loss = estimate.square().sum()
    if config.classifier is not None:
        loss = loss + features.probability().log().sum()
    loss.backward()
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert [name for name, p in trainable.items() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_only_residuals_that_nothing_reads_are_frozen(config):
    frozen = {name for name, p in build(config).named_parameters() if not p.requires_grad}
    last = {"shared_extractor.blocks.1", "mask_estimator.blocks.3"}
    expected = {f"{block}.residual.{kind}" for block in last for kind in ("weight", "bias")}
    assert frozen == (set() if config.skip_channels is None else expected)


@pytest.mark.parametrize("config", [CONFIGS["full"], CONFIGS["no classifier"]], ids=["full", "no classifier"])
def test_autocast_changes_little_and_the_probability_is_float32(config):
    network, mixture, query = build(config), mixtures(), queries()
    exact, exact_features = network(mixture, query)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate, features = network(mixture, query)
    # bfloat16 keeps 8 bits; rounding of a dozen layers adds up to a few percent of the level
    assert (estimate.float() - exact).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()
    if config.classifier is not None:
        assert features.probability().dtype == torch.float32
        torch.testing.assert_close(features.probability(), exact_features.probability(), atol=0.02, rtol=0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_of_another_precision_accepts_float32_queries(dtype):
    # what the evaluation asks under --trainer.precision 64-true: it makes its queries itself
    network = build().to(dtype)
    features = network.features(mixtures().to(dtype))
    expected = network.extract(features, queries().to(dtype))
    assert torch.equal(network.extract(features, queries()), expected)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("num_filters", 0, "at least 1"),
        ("bottleneck_channels", -4, "at least 1"),
        ("hidden_channels", 0, "at least 1"),
        ("skip_channels", 0, "at least 1"),
        ("blocks_per_stack", 0, "at least 1"),
        ("shared_stacks", 0, "at least 1"),
        ("mask_stacks", 0, "at least 1"),
        ("classifier_pooling", 0, "at least 1"),
        ("kernel_size", 0, "at least 1"),
        ("kernel_size", 4, "odd"),
        ("window_ms", 0.0, "positive"),
        ("window_ms", -5.0, "positive"),
        ("window_ms", float("nan"), "positive"),
    ],
)
def test_impossible_sizes_are_rejected_with_option_finding_and_expectation(option, value, expected):
    with pytest.raises(InputError, match=rf"model\.network\.{option} is {value}; .*{expected}"):
        build(replace(FULL, **{option: value}))


@pytest.mark.parametrize(
    ("option", "config"),
    [
        ("classifier.num_layers", replace(FULL, classifier=ClassifierConfig(0))),
        ("classifier_hidden_size", replace(FULL, classifier_hidden_size=0)),
    ],
)
def test_impossible_sizes_of_the_classifier_are_rejected(option, config):
    with pytest.raises(InputError, match=rf"model\.network\.{option} is 0; at least 1"):
        config.check()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_possible_sizes_pass(config):
    config.check()
    replace(config, classifier_pooling=1, kernel_size=1, blocks_per_stack=1).check()


def embedded(network, logits, query):
    """What the query's embedding gets, ``[batch, steps, classes]``."""
    seen = []
    handle = network.query_embedding.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    features = network.features(mixtures(len(query)))._replace(frame_logits=logits)
    network.extract(features, query)
    handle.remove()
    return seen[0]


def test_a_query_in_time_follows_the_frames_in_which_a_class_sounds():
    network = build(replace(FULL, query_in_time=True))
    logits = torch.full((1, 12, NUM_CLASSES), -9.0)
    logits[:, 6, 1] = 9.0
    logits[:, :, 2] = 9.0  # not queried
    weights = embedded(network, logits, queries(2)[1:])
    expected = torch.zeros(1, 12, NUM_CLASSES)
    expected[:, 4:9, 1] = 1.0
    assert torch.equal(weights, expected)
    assert (embedded(network, torch.full((1, 12, NUM_CLASSES), -1.9), queries(1))[..., 0] - 0.3).abs().max() < 0.05


def test_a_class_that_sounds_all_the_time_is_extracted_as_without_time():
    plain, timed = build(), build(replace(FULL, query_in_time=True))
    features = plain.features(mixtures())._replace(frame_logits=torch.full((3, 7, NUM_CLASSES), 9.0))
    torch.testing.assert_close(timed.extract(features, queries()), plain.extract(features, queries()))


def test_time_gives_the_classifier_no_gradient_of_the_extraction():
    network = build(replace(FULL, query_in_time=True)).train()
    network(mixtures(), queries())[0].square().sum().backward()
    assert all(weight.grad is None for weight in network.classifier.parameters())
    assert network.query_embedding.weight.grad.any()


@pytest.mark.parametrize("option", ["query_in_time", "context"])
def test_time_and_context_need_a_classifier(option):
    with pytest.raises(InputError, match=f"model.network.{option} is true, but it needs a classifier"):
        build(replace(FULL, classifier=None, **{option: True}))


def with_context():
    """A network whose context has learnt something."""
    network = build(replace(FULL, context=True))
    torch.nn.init.normal_(network.context_embedding.weight)
    return network


def test_a_context_starts_without_effect():
    plain, other = build(), build(replace(FULL, context=True))
    assert torch.equal(plain(mixtures(), queries())[0], other(mixtures(), queries())[0])


def test_a_context_is_of_the_classes_that_are_not_queried():
    network = with_context()
    features = network.features(mixtures())
    query = torch.eye(NUM_CLASSES)[:3]
    activity = torch.zeros(3, NUM_CLASSES)
    alone = network.extract(features, query, activity)
    assert torch.equal(network.extract(features, query, query), alone)
    activity[:, 3] = 1.0
    assert not torch.allclose(network.extract(features, query, activity), alone)


def test_a_context_is_by_default_of_the_classifiers_probabilities_and_gives_it_no_gradient():
    network = with_context().train()
    features = network.features(mixtures())
    estimate = network.extract(features, queries())
    torch.testing.assert_close(estimate, network.extract(features, queries(), features.probability()))
    estimate.square().sum().backward()
    assert all(weight.grad is None for weight in network.classifier.parameters())
    assert network.context_embedding.weight.grad.any()
