from collections import Counter

import numpy as np
import pytest
import torch

from tse_refine.data.queries import QueryConfig, condition_queries, draw_query, draw_query_order
from tse_refine.errors import InputError

NUM_CLASSES = 9
GRID = [(a, i) for a in range(4) for i in range(5)]


@pytest.fixture
def orders():
    """Query orders of mixtures with 3, 4 and 5 active classes, and those numbers."""
    rng = np.random.default_rng(0)
    num_active = np.array([3, 4, 5, 3, 4, 5])
    orders = [draw_query_order(rng, rng.permutation(NUM_CLASSES)[:number], NUM_CLASSES) for number in num_active]
    return torch.from_numpy(np.stack(orders)), torch.from_numpy(num_active)


def drawn(config: QueryConfig, allow_inactive: bool = True, number: int = 1000) -> list[list[int]]:
    """Queries to mixtures of the classes 1, 4, 5 and 7."""
    rng = np.random.default_rng(0)
    active = np.array([5, 1, 7, 4])
    return [draw_query(rng, active, NUM_CLASSES, config, allow_inactive).tolist() for _ in range(number)]


def test_the_order_has_every_class_once_the_active_ones_first():
    rng = np.random.default_rng(0)
    orders = np.stack([draw_query_order(rng, np.array([6, 2, 3]), NUM_CLASSES) for _ in range(400)])
    assert np.all(np.sort(orders, axis=1) == np.arange(NUM_CLASSES))
    assert np.all(np.sort(orders[:, :3], axis=1) == [2, 3, 6])
    # the class that is queried first is uniform: 133 of 400 with a standard deviation of 9.4, and 67 with 7.5
    first_active, first_inactive = (Counter(orders[:, place].tolist()) for place in (0, 3))
    assert min(first_active[name] for name in (2, 3, 6)) > 95
    assert min(first_inactive[name] for name in (0, 1, 4, 5, 7, 8)) > 37


def test_a_condition_queries_the_first_active_and_the_first_inactive_classes(orders):
    order, num_active = orders
    queries = condition_queries(order, num_active, GRID)
    assert queries.shape == (6, len(GRID), NUM_CLASSES)
    assert queries.dtype == torch.float32
    for row in range(6):
        number = int(num_active[row])
        for column, (a, i) in enumerate(GRID):
            queried = {*order[row, :a].tolist(), *order[row, number : number + i].tolist()}
            assert set(queries[row, column].nonzero().flatten().tolist()) == queried
            assert set(queries[row, column].unique().tolist()) <= {0.0, 1.0}


def test_conditions_are_nested(orders):
    queries = dict(zip(GRID, condition_queries(*orders, GRID).unbind(1), strict=True))
    for a, i in GRID:
        for wider in ((a + 1, i), (a, i + 1)):
            if wider in queries:
                assert torch.all(queries[a, i] <= queries[wider])
                assert torch.all(queries[wider].sum(1) == sum(wider))


def test_the_oracle_turns_every_condition_into_the_one_without_inactive_classes(orders):
    order, num_active = orders
    activity = torch.zeros(6, NUM_CLASSES)
    for row in range(6):
        activity[row, order[row, : num_active[row]]] = 1.0
    for a in range(4):
        plain, *partial = condition_queries(order, num_active, [(a, i) for i in range(5)]).unbind(1)
        for queries in partial:
            assert torch.equal(queries * activity, plain)


def test_a_condition_with_more_classes_than_the_mixture_queries_all():
    order, num_active = torch.tensor([[2, 0, 3, 1]]), torch.tensor([3])
    queries = condition_queries(order, num_active, [(5, 0), (0, 3), (9, 9)])
    assert queries[0].tolist() == [[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1]]


def test_training_queries_a_uniform_number_of_distinct_active_classes():
    queries = drawn(QueryConfig((1, 2, 3)))
    assert all(set(query) <= {1, 4, 5, 7} and len(set(query)) == len(query) for query in queries)
    counts = Counter(len(query) for query in queries)
    assert set(counts) == {1, 2, 3}
    assert sum((count - 1000 / 3) ** 2 / (1000 / 3) for count in counts.values()) < 13.8  # chi square, 99.9 %
    classes = Counter(name for query in queries for name in query)
    assert min(classes[name] for name in (1, 4, 5, 7)) > 435  # 500 each, standard deviation about 16


def test_a_tenth_of_the_training_queries_has_as_many_inactive_classes():
    queries = drawn(QueryConfig((1, 2, 3), inactive_sample_rate=0.1))
    inactive = [query for query in queries if not set(query) & {1, 4, 5, 7}]
    mixed = [query for query in queries if 0 < len(set(query) & {1, 4, 5, 7}) < len(query)]
    assert not mixed
    assert len(inactive) == pytest.approx(100, abs=38)  # 4 standard deviations
    assert {len(query) for query in inactive} == {1, 2, 3}
    assert {name for query in inactive for name in query} == {0, 2, 3, 6, 8}


def test_half_of_the_training_queries_also_have_inactive_classes():
    queries = drawn(QueryConfig((1, 2, 3), partial_sample_rate=0.5, inactive_counts=(1, 3)))
    matched = drawn(QueryConfig((1, 2, 3)), number=1)
    assert queries[0][: len(matched[0])] == matched[0]
    added = [len(set(query) - {1, 4, 5, 7}) for query in queries]
    assert all(len(set(query)) == len(query) and set(query) & {1, 4, 5, 7} for query in queries)
    assert sum(count > 0 for count in added) == pytest.approx(500, abs=64)  # 4 standard deviations
    assert added.count(1) == pytest.approx(250, abs=55)
    assert set(added) == {0, 1, 3}


def test_in_a_mixture_of_background_alone_inactive_classes_are_queried_in_every_split():
    config = QueryConfig((1, 2), partial_sample_rate=1.0)
    for allow_inactive in (True, False):
        rng = np.random.default_rng(0)
        queries = [draw_query(rng, np.array([], int), 3, config, allow_inactive).tolist() for _ in range(100)]
        assert {tuple(sorted(query)) for query in queries} == {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)}
    assert sorted(draw_query_order(rng, np.array([], int), 3)) == [0, 1, 2]


def test_mixtures_without_events_do_not_restrict_the_queries_of_others():
    QueryConfig((1, 2, 3)).check(num_events=(0, 3), num_classes=6)
    with pytest.raises(InputError, match="each must be from 1 to 3, the fewest active classes of a mixture with any"):
        QueryConfig((4,)).check(num_events=(0, 3), num_classes=6)


def test_options_without_effect_leave_the_settings_of_earlier_versions():
    config = QueryConfig((1,), 0.1)
    assert config.settings() == {"target_counts": (1,), "inactive_sample_rate": 0.1}
    assert QueryConfig((1,), 0.1, 0.5).settings() == config.settings() | {
        "partial_sample_rate": 0.5,
        "inactive_counts": (1, 2, 3),
    }


def test_validation_never_queries_inactive_classes_alone():
    queries = drawn(QueryConfig((1, 2, 3), 1.0, 1.0), allow_inactive=False)
    queries += drawn(QueryConfig((1, 2, 3), 0.0, 1.0), allow_inactive=False)
    assert all(set(query) <= {1, 4, 5, 7} for query in queries)


@pytest.mark.parametrize(
    ("config", "option"),
    [
        (QueryConfig((4,)), "target_counts"),
        (QueryConfig((0, 1)), "target_counts"),
        (QueryConfig(()), "target_counts"),
        (QueryConfig((1,), 1.5), "inactive_sample_rate"),
        (QueryConfig((1,), -0.1), "inactive_sample_rate"),
        (QueryConfig((1,), float("nan")), "inactive_sample_rate"),
        (QueryConfig((3,), 0.5), "inactive_sample_rate"),  # 4 active and 3 inactive of 6 classes
        (QueryConfig((1,), partial_sample_rate=2.0), "partial_sample_rate"),
        (QueryConfig((1,), partial_sample_rate=0.5), "partial_sample_rate"),  # 4 active and 3 inactive of 6 classes
        (QueryConfig((1,), inactive_counts=()), "inactive_counts"),
        (QueryConfig((1,), inactive_counts=(0, 1)), "inactive_counts"),
    ],
)
def test_impossible_queries_are_rejected_by_option(config, option):
    with pytest.raises(InputError, match=f"data.queries.{option}"):
        config.check(num_events=(3, 4), num_classes=6)
