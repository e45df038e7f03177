import itertools

import numpy as np
import pytest
import torch

from tse_refine.model.classifier import pooled_log_probability
from tse_refine.training.losses import clip_bce_loss, frame_activity, frame_bce_loss, thresholded_snr_loss

SAMPLES = 4000


def noise(seed, batch=3):
    return 0.1 * torch.randn(batch, SAMPLES, generator=torch.Generator().manual_seed(seed))


def at_snr(target, snr_db, seed=9):
    """The target with as much noise as makes this SNR, item by item."""
    error = noise(seed, len(target))
    gain = target.norm(dim=-1) / error.norm(dim=-1) * 10.0 ** (-snr_db / 20.0)
    return target + gain[:, None] * error


def reference(estimate, target, mixture, snr_max_db):
    e, s, x = (signal.double().numpy() for signal in (estimate, target, mixture))
    values = []
    for item in range(len(e)):
        silent = np.sqrt(np.mean(s[item] ** 2)) < 1e-8
        r = np.sum((x if silent else s)[item] ** 2)
        tau = 10.0 ** (-snr_max_db / 10.0)
        values.append(10.0 * np.log10((np.sum((s[item] - e[item]) ** 2) + tau * r + 1e-8) / (r + 1e-8)))
    return np.array(values)


@pytest.mark.parametrize("snr_max_db", [10.0, 30.0])
def test_loss_equals_its_formula_for_active_and_silent_targets_in_one_batch(snr_max_db):
    estimate, target, mixture = noise(0), noise(1), noise(2)
    target[1] = 0.0
    loss = thresholded_snr_loss(estimate, target, mixture, snr_max_db)
    assert loss.shape == (3,)
    np.testing.assert_allclose(loss.numpy(), reference(estimate, target, mixture, snr_max_db), atol=1e-4)


@pytest.mark.parametrize("snr", [-10.0, 0.0, 10.0])
def test_loss_of_an_active_target_is_the_negative_snr_below_the_threshold(snr):
    target = noise(0)
    loss = thresholded_snr_loss(at_snr(target, snr), target, noise(1))
    # tau adds 0.001 to an error of 0.1 and more: 0.05 dB
    torch.testing.assert_close(loss, torch.full((3,), -snr), atol=0.05, rtol=0.0)


def test_loss_of_an_active_target_lies_between_perfect_and_silent_estimates():
    target, mixture = noise(0), noise(1)
    # eps is 2.5e-7 of tau r here
    torch.testing.assert_close(
        thresholded_snr_loss(target, target, mixture), torch.full((3,), -30.0), atol=1e-3, rtol=0
    )
    silent = thresholded_snr_loss(torch.zeros_like(target), target, mixture)
    torch.testing.assert_close(silent, torch.full((3,), 10.0 * np.log10(1.001)), atol=1e-4, rtol=0.0)


def test_loss_of_a_silent_target_is_the_estimates_level_against_the_mixture():
    mixture, silence = noise(0), torch.zeros(3, SAMPLES)
    torch.testing.assert_close(
        thresholded_snr_loss(silence, silence, mixture), torch.full((3,), -30.0), atol=1e-3, rtol=0
    )
    tenth = thresholded_snr_loss(0.1 * mixture, silence, mixture)  # -20 dB, and tau
    torch.testing.assert_close(tenth, torch.full((3,), 10.0 * np.log10(0.011)), atol=1e-3, rtol=0.0)


def test_the_loss_of_an_active_target_does_not_depend_on_the_mixture():
    estimate, target = noise(0), noise(1)
    one, other = (thresholded_snr_loss(estimate, target, mixture) for mixture in (noise(2), torch.zeros(3, SAMPLES)))
    assert torch.equal(one, other)


def test_a_target_is_silent_below_an_rms_of_1e_8():
    estimate, mixture = noise(0, 1), noise(1, 1)
    for factor, silent in ((0.9, True), (1.1, False)):
        target = torch.full((1, SAMPLES), factor * 1e-8)
        against_mixture = 10.0 * torch.log10(estimate.square().sum(-1) / mixture.square().sum(-1) + 1e-3)
        loss = thresholded_snr_loss(estimate, target, mixture)
        assert torch.allclose(loss, against_mixture, atol=1e-3) is silent


@pytest.mark.parametrize("silent", list(itertools.product([False, True], repeat=3)), ids=str)
def test_value_and_gradient_are_finite_for_every_combination_of_silences(silent):
    estimate, target, mixture = (noise(seed) * (not one) for seed, one in enumerate(silent))
    estimate.requires_grad_()
    loss = thresholded_snr_loss(estimate, target, mixture)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(estimate.grad).all()


def test_value_and_gradient_are_finite_for_a_perfect_estimate():
    target = noise(0)
    estimate = target.clone().requires_grad_()
    loss = thresholded_snr_loss(estimate, target, noise(1))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.equal(estimate.grad, torch.zeros_like(estimate))


def test_a_silent_target_pulls_the_estimate_towards_silence():
    estimate = noise(0).requires_grad_()
    thresholded_snr_loss(estimate, torch.zeros(3, SAMPLES), noise(1)).sum().backward()
    cosine = torch.nn.functional.cosine_similarity(estimate.grad, estimate.detach(), dim=-1)
    torch.testing.assert_close(cosine, torch.ones(3))


@pytest.mark.parametrize("snr", [0.0, 10.0, 25.0])
def test_loss_of_an_active_target_does_not_depend_on_the_level(snr):
    target, mixture = noise(0), noise(1)
    estimate = at_snr(target, snr)
    loud = thresholded_snr_loss(estimate, target, mixture)
    quiet = thresholded_snr_loss(0.01 * estimate, 0.01 * target, 0.01 * mixture)
    torch.testing.assert_close(quiet, loud, atol=0.01, rtol=0.0)


def test_loss_is_float32_and_unchanged_under_autocast():
    signals = [signal.bfloat16() for signal in (noise(0), noise(1), noise(2))]
    expected = thresholded_snr_loss(*(signal.float() for signal in signals))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = thresholded_snr_loss(*signals)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_items_of_a_batch_do_not_mix():
    estimate, target, mixture = noise(0), noise(1), noise(2)
    target[2] = 0.0
    together = thresholded_snr_loss(estimate, target, mixture)
    alone = [thresholded_snr_loss(*(signal[i : i + 1] for signal in (estimate, target, mixture))) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), together)


def test_clip_bce_equals_binary_cross_entropy_on_moderate_probabilities():
    generator = torch.Generator().manual_seed(0)
    probability = 0.02 + 0.96 * torch.rand(6, 9, generator=generator)
    activity = (torch.rand(6, 9, generator=generator) < 0.3).float()
    loss = clip_bce_loss(probability.log(), (1.0 - probability).log(), activity)
    torch.testing.assert_close(loss, torch.nn.functional.binary_cross_entropy(probability, activity))


def test_clip_bce_is_the_mean_over_batch_and_classes():
    loss = clip_bce_loss(torch.tensor([[-1.0, -9.0]]), torch.tensor([[-9.0, -2.0]]), torch.tensor([[1.0, 0.0]]))
    assert loss.item() == 1.5


@pytest.mark.parametrize("logit", [-100.0, 100.0])
@pytest.mark.parametrize("active", [0.0, 1.0])
def test_clip_bce_of_a_certain_classifier_is_finite_and_its_gradient_is_not_zero_where_it_is_wrong(logit, active):
    logits = torch.full((2, 5, 3), logit, requires_grad=True)
    loss = clip_bce_loss(*pooled_log_probability(logits), torch.full((2, 3), active))
    loss.backward()
    wrong = (logit > 0) != (active > 0)
    assert loss.item() == pytest.approx(100.0 if wrong else 0.0, abs=1e-4)
    assert torch.isfinite(logits.grad).all()
    assert bool((logits.grad.abs() > 0.01).all()) is wrong


def test_a_class_sounds_in_the_frames_whose_middle_an_event_of_it_covers():
    classes = torch.tensor([[2, 0, 2], [1, -1, -1]])
    spans = torch.tensor([[[0, 25], [50, 100], [90, 100]], [[15, 55], [0, 0], [0, 0]]])
    activity = frame_activity(classes, spans, 4, 100, 10)  # middles at 5, 15, ... 95
    assert activity.shape == (2, 10, 4)
    assert activity[0, :, 2].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert activity[0, :, 0].tolist() == [0] * 5 + [1] * 5
    assert activity[1, :, 1].tolist() == [0, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert activity[0, :, [1, 3]].sum() == activity[1, :, [0, 2, 3]].sum() == 0


def test_the_loss_of_frames_is_their_mean_cross_entropy():
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 0.5]]])
    activity = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    probability = torch.sigmoid(logits)
    expected = -torch.log(torch.where(activity > 0, probability, 1 - probability)).mean()
    torch.testing.assert_close(frame_bce_loss(logits, activity), expected)
