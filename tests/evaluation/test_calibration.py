import numpy as np
import pytest
import torch

from tse_refine.evaluation.calibration import fit_calibration, reliability
from tse_refine.model.classifier import pooled_probability


@pytest.fixture
def logits():
    return torch.randn(2000, 5, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def drawn(probability):
    return torch.bernoulli(probability, generator=torch.Generator().manual_seed(1))


def error(logits, activity):
    return reliability(pooled_probability(logits).numpy(), activity.numpy()).error


def test_a_change_of_the_logits_is_found_again(logits):
    shift = torch.tensor([1.5, -1.0, 0.0, 0.5])
    activity = drawn(pooled_probability(logits))
    found = fit_calibration((logits - shift) / 0.5, activity)
    assert found.scale == pytest.approx(0.5, rel=0.1)
    torch.testing.assert_close(found.shift, shift, atol=0.25, rtol=0.0)


def test_probabilities_are_right_as_often_as_they_say(logits):
    activity = drawn(pooled_probability(logits))
    wrong = 3.0 * logits + torch.tensor([2.0, -2.0, 0.0, 1.0])
    found = fit_calibration(wrong, activity)
    assert error(wrong, activity) > 0.15
    assert error(found.scale * wrong + found.shift, activity) < 0.02


def test_without_evidence_nothing_changes():
    found = fit_calibration(torch.zeros(0, 5, 3), torch.zeros(0, 3))
    assert found.scale == 1.0
    assert found.shift.tolist() == [0.0, 0.0, 0.0]


def test_a_class_that_never_occurs_keeps_a_finite_shift(logits):
    activity = drawn(pooled_probability(logits))
    activity[:, 2] = 0.0
    assert -20.0 < fit_calibration(logits, activity).shift[2] < -2.0


def test_reliability_equals_a_plain_count():
    rng = np.random.default_rng(0)
    probability, activity = rng.random((50, 6)), rng.random((50, 6)) < 0.3
    found, total = reliability(probability, activity), 0.0
    for bin_ in range(10):
        inside = (probability >= bin_ / 10) & (probability < (bin_ + 1) / 10)
        assert found.decisions[bin_] == inside.sum()
        assert found.frequency[bin_] == pytest.approx(activity[inside].mean())
        total += inside.sum() * abs(probability[inside].mean() - activity[inside].mean())
    assert found.error == pytest.approx(total / 300)


def test_certainty_is_in_the_last_bin():
    found = reliability(np.array([[1.0]]), np.array([[1]]))
    assert found.decisions.tolist() == [0] * 9 + [1]
    assert np.isnan(found.probability[0])
