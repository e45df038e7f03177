import math

import pytest
import torch

from tse_refine.evaluation.class_aware import SingleQueries, class_aware_sdri_db
from tse_refine.refinement import SoftThreshold, Threshold


@pytest.mark.parametrize(
    ("estimated", "active", "expected"),
    [
        ("ab", "ab", (10.0 + 4.0) / 2),  # every label right
        ("a", "ab", 10.0 / 2),  # b is missed
        ("abd", "ab", (10.0 + 4.0) / 3),  # d is false
        ("acd", "ab", 10.0 / 4),  # b is missed, c and d are false
        ("cd", "ab", 0.0),  # every label wrong
        ("", "ab", 0.0),  # silence where something sounds
        ("c", "", 0.0),  # something where nothing sounds
        ("c", "c", -6.0),  # an extraction that is worse than the mixture
        ("", "", math.nan),  # a correct silence is in no mean
    ],
)
def test_a_missed_and_a_false_class_gain_nothing(estimated, active, expected):
    sdri = torch.tensor([10.0, 4.0, -6.0, math.nan])  # a false class has no target, and no SDR
    sets = [torch.tensor([name in names for name in "abcd"]) for names in (estimated, active)]
    assert float(class_aware_sdri_db(sdri, *sets)) == pytest.approx(expected, nan_ok=True)


def test_the_classes_that_are_active_and_kept_are_queried_alone_with_their_weight():
    probability = torch.tensor([[0.9, 0.4, 0.9, 0.45], [0.1, 0.2, 0.9, 0.3]])
    activity = torch.tensor([[1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
    single = SingleQueries.of((Threshold(0.3), SoftThreshold(0.2, 0.6)), probability, activity)
    mixtures, rules, classes = (part.tolist() for part in single.place)
    # of the second mixture nothing active is kept; the inactive class 2 needs no extraction
    assert list(zip(mixtures, rules, classes, strict=True)) == [
        (0, 0, 0), (0, 0, 1), (0, 0, 3), (0, 1, 0), (0, 1, 1), (0, 1, 3),
    ]  # fmt: skip
    assert single.estimated[0].tolist() == [[True] * 4] * 2
    torch.testing.assert_close(single.query.sum(1), torch.tensor([1.0, 1.0, 1.0, 1.0, 0.5, 0.625]))
    assert (single.query > 0).sum(1).tolist() == [1] * 6
    assert single.query.argmax(1).tolist() == classes


def test_no_refinement_needs_no_query():
    single = SingleQueries.of((), None, torch.ones(2, 3))
    assert single.rows.shape == (0, 4)
