import numpy as np
import pytest
import torch
from torchmetrics.functional.audio import signal_noise_ratio

from tse_refine.data.queries import condition_queries
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.grid import Grid, GridResults, evaluate_batch
from tse_refine.evaluation.metrics import FMQ, FUQ, MEASURES, PMQ, Measure
from tse_refine.model.network import Features, Network
from tse_refine.refinement import parse_refinements

CONDITIONS = [(1, 0), (1, 1), (1, 3), (2, 0), (2, 2), (3, 0), (3, 1), (5, 0), (0, 1), (0, 3)]
REFINEMENTS = ["none", 0.1, 0.3, 0.5, 0.99, "soft:0.2-0.7", "oracle", "gate"]
GATE_THRESHOLD = 0.3


def make_grid(conditions=CONDITIONS, refinements=REFINEMENTS, measures=(), class_aware=False):
    rules = parse_refinements(refinements, "refinements", GATE_THRESHOLD)
    return Grid(tuple(Condition(*pair) for pair in conditions), rules, measures, class_aware)


class CountingNetwork(Network):
    """A network that counts the queries its mask estimator answers."""

    answered = 0

    def extract(self, features: Features, query: torch.Tensor) -> torch.Tensor:
        self.answered += len(query)
        return super().extract(features, query)


@pytest.fixture
def network(tiny_network_config, tiny_data):
    torch.manual_seed(0)
    return CountingNetwork(len(tiny_data.class_names), tiny_data.sample_rate, tiny_network_config).eval()


@pytest.fixture
def batch(tiny_data):
    return tiny_data.datasets["test"].__getitems__([(0, index) for index in range(6)])


@pytest.fixture
def probability(batch):
    # the untrained classifier estimates about 0.5 everywhere; drawn values reach every threshold
    return torch.rand(batch["query"].shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def evaluate(network, batch, probability):
    def run(
        conditions=CONDITIONS,
        refinements=REFINEMENTS,
        queries_per_pass=5,
        rows=slice(None),
        use=probability,
        measures=(),
        class_aware=False,
    ):
        part = {name: value[rows] for name, value in batch.items()}
        with torch.no_grad():
            features = network.features(part["mixture"])
            network.answered = 0
            return evaluate_batch(
                network,
                features,
                None if use is None else use[rows],
                part,
                make_grid(conditions, refinements, measures, class_aware),
                queries_per_pass,
            )

    return run


def plain_weights(refinement, p, queried, activity):
    """The weight of each queried class, None for a closed gate, written as the definitions read."""
    if refinement == "gate":
        return dict.fromkeys(queried, 1.0) if any(p[k] >= GATE_THRESHOLD for k in queried) else None
    weight = {
        "none": lambda k: 1.0,
        "oracle": lambda k: float(activity[k]),
        "soft:0.2-0.7": lambda k: min(1.0, max(0.0, (float(p[k]) - 0.2) / 0.5)),
    }.get(refinement, lambda k: float(p[k] >= refinement))
    return {k: weight(k) for k in queried}


def plain_loop(network, batch, probability, conditions, refinements):
    """One forward pass per cell and every measure by its definition, in NumPy."""
    shape = (len(batch["index"]), len(conditions), len(refinements))
    values = {name: np.full(shape, np.nan) for name in MEASURES}
    for m, c, r in np.ndindex(shape):
        (a, i), refinement = conditions[c], refinements[r]
        x = batch["mixture"][m].double().numpy()
        order, activity = batch["query_order"][m].tolist(), batch["activity"][m].numpy()
        num_active = int(activity.sum())
        if a > num_active:
            continue
        queried = order[:a] + order[num_active : num_active + i]
        rows = [batch["source_classes"][m].tolist().index(k) for k in order[:a]]
        s = batch["sources"][m, rows].double().sum(0).numpy()
        weights = plain_weights(refinement, probability[m], queried, activity)
        e = np.zeros_like(x)
        if weights is not None:
            query = torch.zeros(1, len(order))
            query[0, list(weights)] = torch.tensor(list(weights.values()))
            with torch.no_grad():
                e = network(batch["mixture"][m : m + 1], query)[0][0].double().numpy()
        eps = 1e-12 * (x @ x)
        if a:
            snr = [10 * np.log10((s @ s + eps) / ((s - y) @ (s - y) + eps)) for y in (e, x)]
            values["snri_db"][m, c, r] = snr[0] - snr[1]
            parts = [(y @ s / (s @ s)) * s for y in (e, x)]
            si_sdr = [
                10 * np.log10((q @ q + 1e-30) / ((y - q) @ (y - q) + 1e-30)) for y, q in zip((e, x), parts, strict=True)
            ]
            values["si_sdri_db"][m, c, r] = si_sdr[0] - si_sdr[1]
        else:
            values["attenuation_db"][m, c, r] = 10 * np.log10((x @ x) / (e @ e)) if (e @ e) else 120.0
    return values


def test_results_equal_those_of_a_plain_loop_over_cells(evaluate, network, batch, probability):
    results = evaluate()
    expected = plain_loop(network, batch, probability, CONDITIONS, REFINEMENTS)
    for name in MEASURES:  # float32 convolutions in batches of other sizes round differently
        np.testing.assert_allclose(results.values[name], expected[name], atol=2e-3, err_msg=name)


def distinct_queries(batch, probability):
    """The (mixture, refined query) pairs that cells of the grid need, and the number of cells."""
    distinct = set()
    queries = condition_queries(batch["query_order"], batch["activity"].sum(1).long(), CONDITIONS)
    rules = make_grid().refinements
    refined = torch.stack([rule(queries, probability[:, None], batch["activity"][:, None]) for rule in rules], dim=2)
    for m in range(len(batch["index"])):
        for c, (active, _) in enumerate(CONDITIONS):
            if active > batch["activity"][m].sum():
                continue
            for t, refinement in enumerate(REFINEMENTS):
                if refinement == "gate" and not refined[m, c, t].any():
                    continue  # exact silence needs no network
                distinct.add((m, tuple(refined[m, c, t].tolist())))
    return distinct, refined.shape[0] * refined.shape[1] * refined.shape[2]


def test_mask_estimator_runs_once_for_each_distinct_query_of_a_mixture(evaluate, network, batch, probability):
    evaluate()
    distinct, num_cells = distinct_queries(batch, probability)
    assert network.answered == len(distinct) < 0.5 * num_cells


def test_oracle_with_inactive_classes_equals_none_without_them_row_by_row(evaluate):
    conditions = [(1, 0), (1, 1), (1, 3), (2, 0), (2, 2)]
    snri = evaluate(conditions).values["snri_db"]
    none, oracle = REFINEMENTS.index("none"), REFINEMENTS.index("oracle")
    for without, with_inactive in ((0, 1), (0, 2), (3, 4)):
        np.testing.assert_array_equal(snri[:, with_inactive, oracle], snri[:, without, none])


def plain_class_aware(network, batch, probability, weight):
    """The metric of the challenge's baseline, mixture by mixture: sets of labels, one forward pass per class."""
    values = []
    for m in range(len(batch["index"])):
        mixture = batch["mixture"][m]
        weights = {k: weight(float(p)) for k, p in enumerate(probability[m])}
        sources = dict(zip(batch["source_classes"][m].tolist(), batch["sources"][m], strict=True))
        true, estimated = sources.keys() - {-1}, {k for k in weights if weights[k] >= 0.5}
        scores = [0.0] * len(true ^ estimated)
        for k in true & estimated:
            query = torch.zeros(1, len(weights))
            query[0, k] = weights[k]
            with torch.no_grad():
                estimate = network(mixture[None], query)[0][0]
            scores.append(float(signal_noise_ratio(estimate, sources[k]) - signal_noise_ratio(mixture, sources[k])))
        values.append(np.mean(scores))
    return values


def test_the_class_aware_measure_equals_that_of_the_challenge(evaluate, network, batch, probability):
    results = evaluate(class_aware=True)
    rules = {"0.1": 0.1, "0.3": 0.3, "0.5": 0.5, "0.99": 0.99}
    weights = {name: lambda p, delta=delta: float(np.float32(p) >= np.float32(delta)) for name, delta in rules.items()}
    weights["soft:0.2-0.7"] = lambda p: min(1.0, max(0.0, (p - 0.2) / 0.5))
    assert [rule.name for rule in results.grid.labelling] == list(weights)
    for number, weight in enumerate(weights.values()):
        expected = plain_class_aware(network, batch, probability, weight)
        np.testing.assert_allclose(results.ca_sdri_db[:, number], expected, atol=2e-3)


def test_the_class_aware_measure_needs_few_queries_and_changes_no_other_value(evaluate, network, batch, probability):
    without, num_queries = evaluate(), network.answered
    results = evaluate(class_aware=True)
    assert without.ca_sdri_db.shape == (6, 0)
    for name, values in without.values.items():
        np.testing.assert_array_equal(results.values[name], values)  # to the bit: no pass of the grid has another size
    # an active class that the lowest threshold keeps is extracted alone, and again where its soft weight is not 1
    single = set()
    for m, k in torch.nonzero(batch["activity"]).tolist():
        soft = float(((probability[m, k] - 0.2) / 0.5).clamp(0.0, 1.0))
        weights = [1.0] * bool(probability[m, k] >= 0.1) + [soft] * (soft >= 0.5)
        one = torch.nn.functional.one_hot(torch.tensor(k), probability.shape[1])
        single |= {(m, tuple((weight * one).tolist())) for weight in weights}
    further = single - distinct_queries(batch, probability)[0]
    assert 0 < len(further) < len(single)  # the grid has some of them, all first classes among them
    assert network.answered - num_queries == len(further)


def test_no_single_query_is_needed_where_nothing_is_kept(evaluate, network, probability):
    evaluate(refinements=["none", 0.5], use=torch.zeros_like(probability))
    num_queries = network.answered
    results = evaluate(refinements=["none", 0.5], use=torch.zeros_like(probability), class_aware=True)
    assert network.answered == num_queries
    np.testing.assert_array_equal(results.ca_sdri_db, 0.0)  # every class is missed


def test_batch_size_and_queries_per_pass_do_not_change_results(evaluate):
    whole = evaluate(queries_per_pass=64, class_aware=True)
    parts = [{"queries_per_pass": 1, "rows": slice(4, 6)}, {"rows": slice(0, 4)}]
    parts = GridResults.join([evaluate(**part, class_aware=True) for part in parts])
    np.testing.assert_allclose(whole.values["snri_db"], parts.values["snri_db"], atol=1e-3)
    np.testing.assert_array_equal(whole.kept_inactive, parts.kept_inactive)
    np.testing.assert_allclose(whole.ca_sdri_db, parts.ca_sdri_db, atol=1e-3)


def test_join_keeps_each_mixture_once_in_order(evaluate):
    joined = GridResults.join([evaluate(rows=slice(3, 6)), evaluate(rows=slice(0, 4))])
    np.testing.assert_array_equal(joined.index, np.arange(6))
    np.testing.assert_allclose(joined.values["snri_db"], evaluate().values["snri_db"], atol=1e-3)


def test_mixture_with_fewer_active_classes_has_no_value(evaluate):
    results = evaluate([(5, 0), (1, 0)])
    few = results.num_active < 5
    assert few.any()
    assert np.isnan(results.values["snri_db"][few, 0]).all()
    assert not np.isnan(results.values["snri_db"][:, 1]).any()


def test_a_measure_from_waveforms_equals_the_same_measure_from_energies(evaluate):
    def power_db(estimate, target, mixture):
        return 10.0 * torch.log10((target - estimate).square().sum(-1) / mixture.square().sum(-1))

    kinds = frozenset({FMQ, PMQ, FUQ})
    measures = (
        Measure("waveforms", "error", "dB", kinds, from_waveforms=power_db),
        Measure("energies", "error", "dB", kinds, lambda e: 10.0 * torch.log10(e.error / e.mixture)),
        Measure("waveforms_improvement", "error", "dB", kinds, from_waveforms=power_db, is_improvement=True),
        *MEASURES.values(),
    )
    results = evaluate(measures=measures, refinements=["none", 0.3, "soft:0.2-0.7", "gate"])
    np.testing.assert_allclose(results.values["waveforms"], results.values["energies"], atol=1e-6)
    exists = ~np.isnan(results.values["waveforms"])
    np.testing.assert_array_equal(exists.all(2), results.num_active[:, None] >= [pair[0] for pair in CONDITIONS])
    # what is subtracted is the mixture's own value, which no refinement changes
    queried = np.array([pair[0] for pair in CONDITIONS]) > 0
    before, improvement = (results.values[name][:, queried] for name in ("waveforms", "waveforms_improvement"))
    np.testing.assert_allclose((before - improvement)[..., 0], (before - improvement)[..., 1], atol=1e-9)
    assert np.isfinite(improvement[exists[:, queried]]).all()


def test_a_query_has_either_snri_or_attenuation(evaluate):
    results = evaluate([(1, 1), (0, 2)])
    assert not np.isnan(results.values["snri_db"][:, 0]).any()
    assert np.isnan(results.values["attenuation_db"][:, 0]).all()
    assert np.isnan(results.values["snri_db"][:, 1]).all()
    assert not np.isnan(results.values["attenuation_db"][:, 1]).any()


def test_closed_gate_is_exact_silence(evaluate, probability):
    results = evaluate([(1, 1), (0, 2)], ["none", "gate"], use=torch.zeros_like(probability))
    np.testing.assert_allclose(results.values["snri_db"][:, 0, 1], -results.input_snr_db[:, 0], atol=1e-9)
    np.testing.assert_array_equal(results.values["attenuation_db"][:, 1, 1], 120.0)


def test_open_gate_is_the_raw_query(evaluate, probability):
    results = evaluate([(1, 3), (0, 2)], ["none", "gate"], use=torch.ones_like(probability))
    np.testing.assert_array_equal(results.values["snri_db"][:, 0, 1], results.values["snri_db"][:, 0, 0])
    np.testing.assert_array_equal(results.kept_inactive[:, 0, 1], 3)


def test_kept_classes_are_counted(evaluate, batch, probability):
    results = evaluate([(2, 3)], [0.5])
    for m in range(6):
        order, num_active = batch["query_order"][m], int(batch["activity"][m].sum())
        assert results.kept_active[m, 0, 0] == (probability[m, order[:2]] >= 0.5).sum()
        assert results.kept_inactive[m, 0, 0] == (probability[m, order[num_active : num_active + 3]] >= 0.5).sum()


def test_input_snr_is_that_of_the_mixture(evaluate, batch):
    results = evaluate([(2, 0)], ["none"])
    for m in range(6):
        s, x = batch["sources"][m, :2].double().sum(0), batch["mixture"][m].double()
        expected = 10 * torch.log10(s.square().sum() / (s - x).square().sum())
        assert results.input_snr_db[m, 0] == pytest.approx(expected.item(), abs=1e-6)


def test_network_without_classifier_needs_no_probability(evaluate):
    results = evaluate([(1, 1)], ["none", "oracle"], use=None)
    assert np.isnan(results.probability).all()
    assert not np.isnan(results.values["snri_db"]).any()


@pytest.fixture
def evaluate_features(network, batch, probability):
    """Evaluate mixtures 2 to 5 on the features that ``change`` makes of theirs."""

    def run(change, use=probability[2:], **options):
        part = {name: value[2:] for name, value in batch.items()}
        with torch.no_grad():
            features = network.features(part["mixture"])
            encoded = change(features.encoded)
            changed = features._replace(encoded=encoded)
            return evaluate_batch(network, changed, use, part, make_grid(), 5, **options)

    return run


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_extraction_that_is_not_finite_is_rejected_by_its_mixture(evaluate_features, value):
    def change(encoded):
        encoded[2, 0, 10] = value
        return encoded

    with pytest.raises(
        InputError, match=r"^mixture 4: the extraction is not finite.*trainer\.precision.*learning_rate"
    ):
        evaluate_features(change)


@pytest.mark.parametrize(("dtype", "fits"), [(torch.float32, True), (torch.bfloat16, True), (torch.float16, False)])
def test_an_overflow_in_half_precision_is_rejected(evaluate_features, dtype, fits):
    def precision():
        return torch.autocast("cpu", dtype, enabled=dtype != torch.float32)

    def change(encoded):
        return encoded / encoded.max() * 1e6  # the largest number in half precision is 65,504

    if fits:
        assert np.isfinite(evaluate_features(change, precision=precision).values["snri_db"][:, 0]).all()
    else:
        with pytest.raises(InputError, match="the extraction is not finite"):
            evaluate_features(change, precision=precision)


def test_a_probability_that_is_not_finite_is_rejected_by_its_mixture(evaluate_features, probability):
    broken = probability[2:].clone()
    broken[1, 0] = torch.nan  # it would drop class 0 from every refined query
    with pytest.raises(InputError, match=r"^mixture 3: the classifier's probability is not finite"):
        evaluate_features(lambda encoded: encoded, use=broken)
