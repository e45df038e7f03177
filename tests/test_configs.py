"""Every file in configs/ parses, alone or with others, and the last of a kind that is stacked decides."""

import re
from functools import cache
from itertools import cycle, pairwise, permutations
from pathlib import Path

import pytest
import yaml

from tse_refine.analysis.sweeps import flat_options
from tse_refine.cli.main import main
from tse_refine.cli.options import CONFIGS, config_names
from tse_refine.cli.trainer import TrainerCLI
from tse_refine.cli.trainer_options import command_parser
from tse_refine.data.corpora import SyntheticBackgrounds

EXPERIMENTS, MODELS, BUDGETS = (config_names(kind) for kind in ("experiment", "model", "budget"))
ONE_OF_EACH = {
    "experiment": "experiment/proposed",
    "model": "model/small",
    "data": "data/synthetic",
    "budget": "budget/demo",
    "logger": "logger/csv",
}
PAIRS = [pair for kind in ONE_OF_EACH for pair in permutations(config_names(kind), 2)]


@pytest.fixture(scope="module")
def resolved():
    """Return the options of `fit` that stacked configs resolve to."""
    parser = command_parser("fit")

    @cache
    def parse(*names: str) -> dict:
        """Data are required, and stacked first, where no config is of their kind."""
        data = [] if any(name.startswith("data/") for name in names) else ["data/synthetic"]
        options = parser.parse_args([word for name in (*data, *names) for word in ("-c", name)])
        del options.config
        return yaml.safe_load(parser.dump(options, skip_none=False))

    return parse


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """Run `fit` up to the trainer's start; return trainer, module and data module."""
    built = {}
    monkeypatch.setattr(
        TrainerCLI, "run", lambda cli: built.update(trainer=cli.trainer, module=cli.model, data=cli.datamodule)
    )

    def parse(*names: str, words: tuple[str, ...] = ()):
        configs = [word for name in names for word in ("-c", name)]
        main(["fit", *configs, "--trainer.default_root_dir", str(tmp_path), *words])
        return built

    return parse


@pytest.fixture
def esc50_words(tmp_path):
    """Options that give the ESC-50 configs a folder with a table."""
    names = [
        "airplane",
        "engine",
        "train",
        "vacuum_cleaner",
        "washing_machine",
        "wind",
        "chainsaw",
        "clock_tick",
        "crackling_fire",
    ]
    names += ["crying_baby", "dog", "helicopter", "rain", "rooster", "sea_waves", "sneezing"]
    rows = [
        f"{fold}-{fold}{label:02d}-A-{label}.wav,{fold},{label},{name},False,{fold}{label:02d},A"
        for label, name in enumerate(names)
        for fold in range(1, 6)
    ]
    (tmp_path / "meta").mkdir()
    table = tmp_path / "meta" / "esc50.csv"
    table.write_text("\n".join(["filename,fold,target,category,esc10,src_file,take", *rows]))
    return ("--data.root", str(tmp_path))


@pytest.mark.parametrize(("first", "last"), PAIRS)
def test_the_last_config_of_a_kind_decides_alone(resolved, first, last):
    options, later = (flat_options(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())) for name in (first, last))
    classes = any("class_path" in name for name in options)  # whose options do not stay where the class is another
    if classes or not options.keys() <= later.keys():  # otherwise the last one states all that the first one does
        assert resolved(first, last) == resolved(last)


@pytest.mark.parametrize("order", [list(ONE_OF_EACH), list(ONE_OF_EACH)[::-1]])
def test_the_order_of_kinds_does_not_matter(resolved, order):
    assert resolved(*(ONE_OF_EACH[kind] for kind in order)) == resolved(*ONE_OF_EACH.values())


def test_every_experiment_has_a_name_of_its_own(resolved):
    names = [resolved(experiment)["name"] for experiment in EXPERIMENTS]
    assert len(set(names)) == len(names)
    assert {"Baseline 1", "Baseline 2", "Baseline 3", "Proposed"} <= set(names)


def test_every_budget_gives_its_name(resolved):
    assert [resolved(budget)["budget"] for budget in BUDGETS] == [name.split("/")[1] for name in BUDGETS]


def test_the_papers_budget_is_the_default_one(resolved):
    """Also what is not stated in it: a training without a budget is the published one."""
    with_budget = resolved("experiment/proposed", "model/paper", "data/fsdkaggle2018", "budget/paper")
    assert with_budget | {"budget": None} == resolved("experiment/proposed", "data/fsdkaggle2018", "model/paper")
    assert with_budget["model"] == resolved("experiment/proposed")["model"]


def test_the_form_for_the_published_values_holds_ours(resolved, tmp_path):
    """The form and the table of its symbols change nothing as long as nobody has filled them in."""
    page = Path("docs/reproduction.md").read_text(encoding="utf-8")
    form = re.search(r"```yaml\n(# published\.yaml\n.*?)```", page, re.DOTALL)[1]
    path = tmp_path / "published.yaml"
    path.write_text(form)
    stack = ("experiment/proposed", "model/paper", "data/fsdkaggle2018", "budget/paper")
    assert resolved(*stack, str(path)) == resolved(*stack)
    values = flat_options(yaml.safe_load(form))
    rows = re.findall(r"^\| [^|]+ \| (`.*?`) \| (.*?) \| not known", page[page.index(form) :], re.MULTILINE)
    table = [pair for names, numbers in rows for pair in zip(names.split(", "), numbers.split(", "), strict=False)]
    assert {name.strip("`"): float(number.split()[0]) for name, number in table} == values


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_headers_name_shipped_configs(path):
    words = [word for word in path.read_text().replace("`", " ").split() if word not in ("#", "-")]
    names = [name for option, name in pairwise(words) if option == "-c"]
    assert {name for name in names if not name.startswith("runs/")} <= set(config_names())


@pytest.mark.parametrize(("experiment", "model"), list(zip(EXPERIMENTS, cycle(MODELS), strict=False)))
def test_experiments_stack_on_models(parsed, experiment, model):
    built = parsed(experiment, model, "data/synthetic")
    is_baseline = "baseline" in experiment
    assert (built["module"].network.classifier is None) == is_baseline
    assert built["data"].queries.inactive_sample_rate == (0.1 if experiment == "experiment/baseline2" else 0.0)
    assert built["module"].loss_weight == 10.0


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_budget_leaves_the_experiment_as_it_is(parsed, experiment):
    built = parsed(experiment, "budget/demo", "model/small", "data/synthetic")
    assert (built["module"].network.classifier is None) == ("baseline" in experiment)
    assert built["module"].loss_weight == 100.0
    assert built["data"].sample_rate == 8000


@pytest.mark.parametrize("logger", config_names("logger"))
def test_loggers(parsed, logger, tmp_path):
    if logger == "logger/tensorboard":
        pytest.importorskip("tensorboard")
    built = parsed("experiment/proposed", "model/small", "data/synthetic", logger)
    kinds = [type(logger).__name__ for logger in built["trainer"].loggers]
    further = {"logger/wandb": ["RunWandbLogger"], "logger/tensorboard": ["RunTensorBoardLogger"]}
    assert kinds == ["RunCSVLogger", *further.get(logger, [])]
    assert Path(built["trainer"].loggers[0].log_dir) == tmp_path


def test_demo(parsed):
    built = parsed("experiment/proposed", "model/small", "data/synthetic", "budget/demo")
    assert built["data"].sizes["test"] >= 200
    assert len(built["data"].class_names) >= 12


def test_esc50(parsed, esc50_words):
    built = parsed("experiment/proposed", "model/small", "data/esc50", words=esc50_words)
    assert len(built["data"].class_names) == 10


def corpus_words(option, foregrounds, backgrounds):
    """Options that give the corpora of a data config their folders or tables."""
    paths = {"foregrounds": foregrounds, "backgrounds": backgrounds}
    return tuple(f"--data.{role}.init_args.{option}={path}" for role, path in paths.items())


def test_fsdkaggle2018_is_a_fixed_set_of_the_published_size(parsed, fsdkaggle2018_root, tau2019_root):
    words = corpus_words("root", fsdkaggle2018_root, tau2019_root)
    built = parsed("experiment/proposed", "model/paper", "data/fsdkaggle2018", words=words)
    assert built["data"].sizes == {"train": 50_000, "val": 5_000, "test": 10_000}
    assert built["data"].sample_rate == 16_000
    assert not built["data"].redraw
    assert built["data"].backgrounds.test_set == "evaluation"


def test_fsd50k(parsed, fsd50k_root, tau2019_root):
    words = corpus_words("root", fsd50k_root, tau2019_root)
    built = parsed("experiment/proposed", "model/small", "data/fsd50k", words=words)
    assert len(built["data"].class_names) == 12


def test_urbansound8k(parsed, urbansound8k_root, tau2019_root):
    words = corpus_words("root", urbansound8k_root, tau2019_root)
    built = parsed("experiment/proposed", "model/small", "data/urbansound8k", words=words)
    assert len(built["data"].class_names) == 10


def test_gise51(parsed, gise51_root, tau2019_root):
    words = corpus_words("root", gise51_root, tau2019_root)
    built = parsed("experiment/proposed", "model/small", "data/gise51", words=words)
    assert "Coin_(dropping)" in built["data"].class_names


def test_dcase2026_task4(parsed, dcase2026_task4_root):
    words = ("--data.root", str(dcase2026_task4_root))
    built = parsed("experiment/proposed", "model/small", "data/dcase2026_task4", words=words)
    assert len(built["data"].class_names) == 6
    assert {clip.label for clip in built["data"].backgrounds.clips()} == {"noise"}


def test_folders(parsed, label_folders_root):
    words = corpus_words("root", label_folders_root, label_folders_root)
    built = parsed("experiment/proposed", "model/small", "data/folders", words=words)
    assert len(built["data"].class_names) == 6


def test_few_classes_of_folders_without_backgrounds(parsed, label_folders_root):
    labels = "[bell, glass, siren]"
    words = ("--data.backgrounds=null", f"--data.root={label_folders_root}")
    words += (f"--data.foregrounds.init_args.labels={labels}",)
    with pytest.warns(UserWarning, match=r"data\.backgrounds is not given"):
        built = parsed("experiment/baseline2", "model/small", "data/folders", "budget/few_classes", words=words)
    assert built["data"].class_names == ["bell", "glass", "siren"]
    assert isinstance(built["data"].backgrounds, SyntheticBackgrounds)


def test_manifest(parsed, manifest_table):
    words = corpus_words("table", manifest_table, manifest_table)
    built = parsed("experiment/proposed", "model/small", "data/manifest", words=words)
    assert "Türklingel" in built["data"].class_names
    assert {clip.label for clip in built["data"].backgrounds.clips()} == {"street"}


def test_esc10_cpu(parsed, esc50_words):
    built = parsed("experiment/proposed", "model/small", "data/esc10", "budget/esc10_cpu", words=esc50_words)
    assert built["data"].foregrounds.folds.split_of == {1: "train", 2: "train", 3: "val", 4: "test"}
