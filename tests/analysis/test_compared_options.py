from pathlib import Path

import pytest
import yaml

from tse_refine.analysis.compared_options import MODULE_DEFAULTS, complete_data, option_defaults
from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.cli.trainer_options import command_parser, share_root
from tse_refine.errors import InputError
from tse_refine.training.module import ExtractionModule

OLD_CONFIG = Path(__file__).parents[1] / "fixtures" / "run_of_0.1.0" / "config.yaml"


@pytest.fixture(scope="module")
def new_config():
    """The configuration of version 0.1.0 as this version saves it, for another seed."""
    parser = command_parser("fit")
    config = share_root(parser.parse_args(["-c", str(OLD_CONFIG), "--seed_everything=1"]))
    config.pop("config")
    return parser.dump(config, skip_none=False)


@pytest.fixture
def runs(make_run, new_config):
    """Runs of both configurations."""
    paths = [make_run("old"), make_run("new", seed=1, offset=1.0)]
    for path, text in zip(paths, (OLD_CONFIG.read_text(), new_config), strict=True):
        (path / "config.yaml").write_text(yaml.safe_dump({**yaml.safe_load(text), "evaluation": {"threshold": 0.3}}))
    return paths


def change(run, part, **options):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config[part] |= options
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def test_seeds_from_before_and_after_an_update_are_one_system(runs, new_config):
    assert {"interferers", "impulse_responses", "aliases"} < yaml.safe_load(new_config)["data"].keys()
    (system,) = group_systems([TestedRun(run) for run in runs])
    assert len(system.runs) == 2


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("model", {"frame_loss_weight": 1.0}),
        ("data", {"queries": {"inactive_sample_rate": 0.0, "partial_sample_rate": 0.5}}),
        ("data", {"interferers": {"class_path": "tse_refine.data.corpora.SyntheticSounds"}}),
    ],
)
def test_newer_options_that_are_used_make_another_system(runs, part, options):
    change(runs[1], part, **options)
    assert len(group_systems([TestedRun(run) for run in runs])) == 2


def test_recordings_are_compared_across_an_update_too(runs):
    change(runs[1], "data", digest="0123")
    with pytest.raises(InputError, match="trained with the same options on different recordings"):
        group_systems([TestedRun(run) for run in runs])


def test_options_without_effect_are_left_out():
    corpus = {"class_path": "tse_refine.data.corpora.SyntheticSounds"}
    given = {"mixture": {"num_interferers": [1, 1]}, "queries": {"inactive_counts": [3]}}
    assert complete_data(given) == complete_data({})
    assert complete_data({**given, "interferers": corpus}) != complete_data({"interferers": corpus})
    partial = {"partial_sample_rate": 0.5}
    assert complete_data({"queries": partial | given["queries"]}) != complete_data({"queries": partial})


def test_the_defaults_of_the_module_are_its_own():
    defaults = option_defaults(ExtractionModule)
    assert defaults.pop("network")
    assert defaults == MODULE_DEFAULTS
