import math

import numpy as np
import pytest

from tse_refine.evaluation.classification import (
    LabelCounts,
    classification_scores,
    kept_classes,
    label_counts,
    mean_average_precision,
)
from tse_refine.refinement import SoftThreshold, Threshold


@pytest.fixture
def probability():
    # of two decimals, so that ties occur
    return np.random.default_rng(0).random((80, 7)).round(2).astype(np.float32)


@pytest.fixture
def activity(probability):
    activity = (np.random.default_rng(1).random(probability.shape) < 0.2 + 0.5 * (probability > 0.6)).astype(np.float32)
    activity[:, 2] = 0.0  # a class that never occurs
    return activity


def counted(probability, activity, threshold):
    """True positives, false positives and false negatives of each class, one decision at a time."""
    counts = np.zeros((3, probability.shape[1]))
    for row in range(len(probability)):
        for label in range(probability.shape[1]):
            said, is_there = probability[row, label] >= threshold, activity[row, label] == 1
            counts[0, label] += said and is_there
            counts[1, label] += said and not is_there
            counts[2, label] += not said and is_there
    return counts


def average_precision(probability, activity):
    """Sum over distinct probabilities of (recall gained there) times precision."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(probability.tolist()), reverse=True):
        said = [bool(active) for p, active in zip(probability.tolist(), activity, strict=True) if p >= threshold]
        reached = sum(said) / activity.sum()
        total += (reached - recall) * sum(said) / len(said)
        recall = reached
    return total


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.97, 1.0])
def test_scores_equal_a_plain_count(probability, activity, threshold):
    scores = classification_scores(probability, activity, Threshold(threshold))
    tp, fp, fn = counted(probability, activity, threshold)
    for label in range(probability.shape[1]):
        said, there = tp[label] + fp[label], tp[label] + fn[label]
        assert scores.support[label] == there == activity[:, label].sum()
        assert scores.precision[label] == pytest.approx(tp[label] / said if said else 0.0)
        assert scores.recall[label] == pytest.approx(tp[label] / there if there else 0.0)
        either = 2 * tp[label] + fp[label] + fn[label]
        assert scores.f1[label] == pytest.approx(2 * tp[label] / either if either else 0.0)
    assert scores.micro_f1 == pytest.approx(2 * tp.sum() / (2 * tp.sum() + fp.sum() + fn.sum()))


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_macro_averages_leave_absent_classes_out(probability, activity, name):
    scores = classification_scores(probability, activity, Threshold(0.5))
    occurring = [label for label in range(7) if label != 2]
    assert scores.macro(name) == pytest.approx(np.mean([getattr(scores, name)[label] for label in occurring]))


def test_micro_f1_counts_false_alarms_for_absent_classes(probability, activity):
    quiet = probability.copy()
    quiet[:, 2] = 0.0
    loud = classification_scores(probability, activity, Threshold(0.5)).micro_f1
    assert classification_scores(quiet, activity, Threshold(0.5)).micro_f1 > loud


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7])
def test_a_probability_at_the_threshold_counts_as_active(threshold):
    # float32, in which 0.7 is a little less than 0.7
    probability = np.full((3, 2), threshold, dtype=np.float32)
    assert classification_scores(probability, np.ones((3, 2)), Threshold(threshold)).recall.tolist() == [1.0, 1.0]


def test_mean_average_precision_equals_a_plain_loop_over_the_classes_that_occur(probability, activity):
    occurring = [label for label in range(7) if label != 2]
    expected = np.mean([average_precision(probability[:, label], activity[:, label]) for label in occurring])
    # torchmetrics works in float32
    assert mean_average_precision(probability, activity) == pytest.approx(expected, abs=1e-6)


def test_mean_average_precision_of_a_perfect_ranking_is_one(activity):
    assert mean_average_precision((0.1 + 0.1 * activity).astype(np.float32), activity) == 1.0


def test_mean_average_precision_of_a_constant_is_the_share_of_active_mixtures(activity):
    expected = np.mean([activity[:, label].mean() for label in range(7) if label != 2])
    constant = np.full(activity.shape, 0.4, dtype=np.float32)
    assert mean_average_precision(constant, activity) == pytest.approx(expected, abs=1e-6)


def test_nothing_active_gives_nan_where_there_is_nothing_to_average(probability):
    nothing = np.zeros_like(probability)
    scores = classification_scores(probability, nothing, Threshold(0.5))
    assert math.isnan(mean_average_precision(probability, nothing))
    assert all(math.isnan(scores.macro(name)) for name in ("precision", "recall", "f1"))
    assert scores.micro_f1 == 0.0
    assert scores.support.tolist() == [0] * 7


def test_no_decision_and_no_activity_give_zeros_not_divisions_by_zero():
    with np.errstate(all="raise"):
        scores = classification_scores(np.zeros((4, 3)), np.zeros((4, 3)), Threshold(0.5))
    for values in (scores.precision, scores.recall, scores.f1):
        assert values.tolist() == [0.0, 0.0, 0.0]
    assert scores.micro_f1 == 0.0


def test_a_single_class_that_occurs_is_enough():
    # as in the sanity check on one mixture with one event
    probability, activity = np.array([[0.9, 0.2, 0.8], [0.3, 0.2, 0.8]]), np.array([[0, 0, 0], [1, 0, 0]])
    assert classification_scores(probability, activity, Threshold(0.5)).macro("f1") == 0.0
    assert mean_average_precision(probability, activity) == pytest.approx(0.5)


def test_a_single_mixture_is_enough():
    probability, activity = np.array([[0.9, 0.2, 0.8]]), np.array([[1, 1, 0]])
    scores = classification_scores(probability, activity, Threshold(0.5))
    assert scores.macro("recall") == 0.5
    assert mean_average_precision(probability, activity) == pytest.approx(1.0)


def test_a_soft_threshold_decides_in_the_middle_of_its_ramp(probability):
    np.testing.assert_array_equal(kept_classes(probability, SoftThreshold(0.2, 0.6)), probability >= np.float32(0.4))


@pytest.mark.parametrize("rule", [Threshold(0.5), SoftThreshold(0.2, 0.8)])
def test_labels_are_counted_in_each_mixture(probability, activity, rule):
    labels = label_counts(probability, activity, rule)
    for row in range(len(probability)):
        true = {label for label in range(7) if activity[row, label]}
        kept = {label for label in range(7) if probability[row, label] >= 0.5}
        counts = (labels.correct[row], labels.missed[row], labels.false[row])
        assert counts == (len(true & kept), len(true - kept), len(kept - true))


@pytest.mark.parametrize(
    ("correct", "missed", "false", "mixture_accuracy", "source_accuracy"),
    [
        ([3, 2], [0, 0], [0, 0], 1.0, 1.0),  # perfect
        ([0, 0], [3, 2], [0, 0], 0.0, 0.0),  # all missed
        ([0, 0], [1, 1], [2, 1], 0.0, 0.0),  # all wrong
        ([2, 1, 0], [0, 1, 0], [0, 0, 0], 2 / 3, 3 / 4),  # a correct silence is a label set that is right
        ([1, 3], [0, 0], [4, 0], 1 / 2, 4 / 8),  # not a mean over mixtures
        ([0], [0], [0], 1.0, math.nan),
    ],
)
def test_accuracies_of_labels(correct, missed, false, mixture_accuracy, source_accuracy):
    labels = LabelCounts(*map(np.array, (correct, missed, false)))
    assert labels.mixture_accuracy == pytest.approx(mixture_accuracy)
    assert labels.source_accuracy == pytest.approx(source_accuracy, nan_ok=True)
