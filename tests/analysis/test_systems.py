import pytest
import yaml

from tse_refine.analysis.systems import group_systems, methods
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, UNMATCHED
from tse_refine.evaluation.metrics import SI_SDRI, SNRI
from tse_refine.refinement import Gate, NoRefinement, SoftThreshold, Threshold

RAW = NoRefinement()


@pytest.fixture
def systems(make_run):
    runs = [
        make_run("b1", refines=False),
        make_run("b2", refines=False, inactive_sample_rate=0.1, offset=-1.0),
        make_run("p0"),
        make_run("p1", seed=1, offset=2.0),
    ]
    return group_systems([TestedRun(run) for run in runs])


def test_runs_that_differ_in_their_seed_only_are_one_system(systems):
    assert [(system.name, len(system.runs)) for system in systems] == [
        ("Baseline 1", 1),
        ("Baseline 2", 1),
        ("Proposed", 2),
    ]
    assert [system.has_classifier for system in systems] == [False, False, True]


def test_systems_that_differ_in_the_loss_weight_say_it(make_run):
    runs = [make_run("a", loss_weight=1.0), make_run("b", loss_weight=100.0), make_run("c", loss_weight=1.0, seed=1)]
    systems = group_systems([TestedRun(run) for run in runs])
    assert [(system.name, len(system.runs)) for system in systems] == [
        ("Proposed (λ = 1)", 2),
        ("Proposed (λ = 100)", 1),
    ]


def test_differences_are_paired(systems):
    baseline1, baseline2, proposed = systems
    for interval, expected in (
        (baseline1.difference(baseline2, MATCHED, RAW, RAW), 1.0),
        (proposed.difference(proposed, PARTIAL, Threshold(0.3), RAW), 4.25),
    ):
        # the difficulty of 3 dB per mixture is in both and leaves no trace
        assert interval.mean[0] == pytest.approx(expected, abs=1e-4)
        assert interval.low[0] == pytest.approx(expected, abs=1e-3)
        assert interval.high[0] == pytest.approx(expected, abs=1e-3)
    assert proposed.difference(baseline1, MATCHED, RAW, RAW).mean[0] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("changes", [{"mixtures": 30}, {"data_seed": 1}])
def test_runs_on_other_mixtures_are_not_compared(make_run, changes):
    runs = [TestedRun(make_run("a")), TestedRun(make_run("b", **changes))]
    with pytest.raises(InputError, match=r"/a and .*/b were tested on different mixtures, classes or queries"):
        group_systems(runs)


def test_runs_in_other_conditions_are_not_compared(make_run):
    runs = [make_run("a"), make_run("b")]
    for name, cell in (("results.csv", ",1,3,"), ("summary.csv", "\n1,3,")):
        path = runs[1] / "test" / name
        path.write_text("".join(line for line in path.read_text().splitlines(True) if cell not in f"\n{line}"))
    with pytest.raises(InputError, match=r"in different conditions.*\(1:1\), \(1:3\), \(0:1\) and .*\(1:1\), \(0:1\)"):
        group_systems([TestedRun(run) for run in runs])


def test_systems_that_nothing_else_tells_apart_are_named_after_their_folders(make_run):
    paths = [make_run(f"{folder}/p") for folder in ("x", "y")]
    for path, steps in zip(paths, (10, 20), strict=True):
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["trainer"]["max_steps"] = steps
        (path / "config.yaml").write_text(yaml.safe_dump(config))
    systems = group_systems([TestedRun(path) for path in paths])
    assert [system.name for system in systems] == ["Proposed (x/p)", "Proposed (y/p)"]


@pytest.mark.parametrize(
    ("part", "option", "value", "systems"),
    [
        ("trainer", "limit_train_batches", 0.5, 2),
        ("trainer", "accumulate_grad_batches", 8, 2),
        ("trainer", "precision", "16-mixed", 2),
        ("trainer", "enable_progress_bar", False, 1),
        ("data", "download", True, 1),
        ("data", "batch_size", 16, 2),
    ],
)
def test_only_what_differs_in_its_seed_is_pooled(make_run, part, option, value, systems):
    paths = [make_run("p0"), make_run("p1", seed=1)]
    config = yaml.safe_load((paths[1] / "config.yaml").read_text())
    config[part][option] = value
    (paths[1] / "config.yaml").write_text(yaml.safe_dump(config))
    assert len(group_systems([TestedRun(path) for path in paths])) == systems


def test_an_experiments_own_name_is_its_systems(make_run):
    paths = [make_run("a", name="Wide"), make_run("b", name="Wide", seed=1), make_run("c", name="Deep", seed=2)]
    systems = group_systems([TestedRun(path) for path in paths])
    assert [(system.name, len(system.runs)) for system in systems] == [("Wide", 2), ("Deep", 1)]


def test_runs_without_a_name_are_named_as_in_the_paper(make_run):
    paths = [
        make_run(f"{refines}-{rate}", refines=refines, inactive_sample_rate=rate, **({"name": None} if rate else {}))
        for refines in (False, True)
        for rate in (0.0, 0.1)
    ]
    names = [system.name for system in group_systems([TestedRun(path) for path in paths])]
    assert names == ["Baseline 1", "Baseline 2", "Proposed", "Proposed, with inactive samples"]


def test_a_measure_is_looked_up_by_its_condition(systems):
    proposed = systems[2]
    assert proposed.mean(MATCHED, RAW).mean[0] == pytest.approx(proposed.cell(SNRI, MATCHED, RAW).mean())
    assert proposed.mean(UNMATCHED, RAW).mean[0] > 15.0  # attenuation
    assert proposed.mean(MATCHED, RAW, SI_SDRI) is not None
    assert proposed.mean(MATCHED, Threshold(0.4)) is None


def test_refinements_are_sorted_and_those_to_choose_are_told_apart(make_run):
    falls = {"gate": 2.0, "soft:0.2-0.6": 0.5, 0.5: 0.5, "oracle": 0.0, 0.1: 1.0, "none": 2.0}
    (system,) = group_systems([TestedRun(make_run("p", falls=falls))])
    assert [rule.name for rule in system.refinements] == ["none", "0.1", "0.5", "soft:0.2-0.6", "oracle", "gate"]
    assert system.candidates == (Threshold(0.1), Threshold(0.5), SoftThreshold(0.2, 0.6))


def test_methods_are_labelled_by_system_and_refinement(systems):
    shown = methods(systems, Threshold(0.3))
    assert [method.label for method in shown] == [
        "Baseline 1",
        "Baseline 2",
        "Proposed, raw query",
        "Proposed, δ = 0.3",
        "Proposed, oracle",
        "Proposed, gate at 0.3",
    ]
    assert shown[-1].refinement == Gate(0.3)  # the operating threshold of the run, not the default
    assert [method.label for method in methods(systems[:1], None)] == ["Baseline 1"]
