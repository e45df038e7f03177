"""How `tse-refine report` rejects files that are missing, cut off, changed, foreign or of another test."""

import re
from pathlib import Path

import pytest
import yaml

from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.cli.main import main
from tse_refine.errors import InputError

FILES = ("results.csv", "summary.csv", "classification.csv", "per_class.csv", "cost.csv", "probabilities.csv")
FILES += ("class_aware.csv",)


@pytest.fixture
def rejection(tmp_path, capsys):
    """Return the message of a report that rejects its runs; check that it is one paragraph and the only trace."""

    def report(*runs: Path) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["report", *map(str, runs), "--output", str(tmp_path / "report")])
        assert stop.value.code == 2
        text = capsys.readouterr().err
        assert text.startswith("tse-refine: ")
        assert text.count("\n") == 1
        assert "Traceback" not in text
        assert not (tmp_path / "report").exists()
        return text

    return report


def lines(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


DAMAGES = {
    "empty": lambda content: b"",
    "only a head": lambda content: lines(content)[0],
    "cut in the last number": lambda content: content[:-3],
    "cut in the middle of a row": lambda content: content[: content.rindex(b",")],
    "the last row is missing": lambda content: b"".join(lines(content)[:-1]),
    "the last row is there twice": lambda content: content + lines(content)[-1],
    "half the columns": lambda content: b"".join(b",".join(line.split(b",")[1::2]) + b"\n" for line in lines(content)),
    "another table": lambda content: b"name,age\nAnn,7\n",
    "garbage": lambda content: bytes(range(256)) * 8,
    "Latin-1": lambda content: content.replace(lines(content)[1], "Hörnchen".encode("latin-1") + lines(content)[1]),
    "NUL": lambda content: content[:-1] + b"\0\n",
    "a word for a number": lambda content: re.sub(rb"\d[\d.]*(\r\n)$", rb"much\1", content),
}


CASES = {(name, damage) for name in (*FILES, "events.csv") for damage in DAMAGES}


@pytest.mark.parametrize(("name", "damage"), sorted(CASES))
def test_a_damaged_file_is_rejected_by_its_name(make_run, rejection, name, damage):
    run = make_run("run")
    path = run / "test" / name
    before = path.read_bytes()
    path.write_bytes(DAMAGES[damage](before))
    assert path.read_bytes() != before
    assert re.search(rf"test/{re.escape(name)}\b.*(run .*again|`tse-refine test`)", rejection(run))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_rejected_by_its_name(make_run, rejection, name):
    run = make_run("run")
    (run / "test" / name).unlink()
    assert re.search(rf"test/{name} does not exist\. `tse-refine test` writes it", rejection(run))


# in results.csv the row of mixture 7, (1:1), 0.3 is "7,1,1,0.3,3,dog,bell,-5.8,9.2,9.1,,1,0": up to the threshold,
# active classes, query, the mixture's own SNR, SNRi, SI-SDRi, no attenuation, classes kept
HEAD, QUERY, NUMBER, KEPT = r"^(7,1,1,0\.3,)(3,)", r"(\w+,\w+,)", r"([-\d.]+,)", r",(1,0)$"
ROW = HEAD + QUERY + 3 * NUMBER + KEPT


@pytest.mark.parametrize(
    ("name", "pattern", "by", "message"),
    [
        ("results.csv", ROW + r"\n", "", r"mixture 7, \(1:1\), 0\.3 has no row"),
        ("results.csv", ROW, r"\g<0>\n\g<0>", r"mixture 7, \(1:1\), 0\.3 has two rows"),
        ("results.csv", r"^(39,.*\n)+", "", r"\(1:0\), none is of 40 mixtures there, of 39 in results\.csv"),
        ("results.csv", r"^7,1,1,0\.3,", "7,1,1,0.30,", r"'0\.30' is not a valid refinement: it is written 0\.3\."),
        ("results.csv", r"^7,1,1,0\.3,", "7,1,1,most,", "'most' is not a valid refinement; expected are none,"),
        ("results.csv", r"^7,1,1,0\.3,", "7,1,x,0.3,", "invalid literal .*'x'"),
        ("results.csv", HEAD, r"\g<1>4,", "mixture 7 disagree on its active classes"),
        ("results.csv", HEAD + QUERY, r"\1\2cat,bell,", "mixture 7 disagree on .* its queries"),
        ("results.csv", ROW, r"\1\2\3,\5\6,\7", "mixture 7, .* has no number as input_snr_db"),
        ("results.csv", ROW, r"\1\2\3-1.0,\5\6,\7", "mixture 7, .* has another input_snr_db than with other"),
        ("results.csv", ROW, r"\1\2\3\4,\6,\7", "mixture 7, .* has no number as snri_db"),
        ("results.csv", ROW, r"\1\2\3\4inf,\6,\7", "mixture 7, .* has no number as snri_db"),
        ("results.csv", ROW, r"\1\2\3\4\5inf,,\7", "mixture 7, .* has no number as si_sdri_db"),
        ("results.csv", ROW, r"\1\2\3\4\5\g<6>2.0,\7", "mixture 7, .* has a attenuation_db, which does not exist"),
        ("results.csv", ROW, r"\1\2\3\4\5\6,2,0", "mixture 7, .* has an impossible n_kept_active"),
        ("results.csv", ROW, r"\1\2\3\4\5\6,1,-1", "mixture 7, .* has an impossible n_kept_inactive"),
        ("results.csv", ROW, r"\1\2\3\4\5\6,1,0.5", "mixture 7, .* has an impossible n_kept_inactive"),
        # a number that looks right and is not
        ("results.csv", ROW, r"\1\2\3\g<4>9.9,\6,\7", r"\(1:1\), 0\.3 has .* dB there, but the rows of results\.csv"),
        ("results.csv", ROW, r"\1\2\3\4\g<5>9.9,,\7", r"\(1:1\), 0\.3 has .* dB there, but the rows of results\.csv"),
        ("summary.csv", r"^1,3,0\.3,40,[^,]+", "1,3,0.3,40,9.9", r"\(1:3\), 0\.3 has 9\.9 dB there, but the rows"),
        ("summary.csv", r"^1,3,0\.3,40,[^,]+", "1,3,0.3,40,", r"\(1:3\), 0\.3 has no dB there"),
        ("summary.csv", r"^1,3,0\.3,40", "1,3,0.3,41", r"\(1:3\), 0\.3 is of 41 mixtures there, of 40 in results\.csv"),
        ("summary.csv", r"^1,3,0\.3,40", "1,3,0.4,40", r"\(1:3\), 0\.4 is of 40 mixtures there, of 0 in results\.csv"),
        ("summary.csv", r"^1,3,0\.3,.*\n", "", r"\(1:3\), 0\.3 is in results\.csv, but not there"),
        ("classification.csv", r"^0\.3,", "0.5,", r"its thresholds are 0\.5, those of results\.csv 0\.3"),
        ("classification.csv", r"^0\.3,1\.0", "0.3,7.0", "a score is not from 0 to 1"),
        ("classification.csv", r",1\.0+$", ",7.0", "an accuracy is not from 0 to 1"),
        ("class_aware.csv", r"^7,0\.3,", "7,0.5,", r"does not hold every threshold of classification\.csv once"),
        ("class_aware.csv", r"^(7,0\.3,.*),3,0,0$", r"\1,2,0,0", r"mixture 7, 0\.3 has impossible numbers"),
        ("class_aware.csv", r"^(7,0\.3,.*),3,0,0$", r"\1,3,0,4", r"mixture 7, 0\.3 has impossible numbers"),
        ("class_aware.csv", r"^(7,0\.3,.*),3,0,0$", r"\1,4,-1,0", r"mixture 7, 0\.3 has impossible numbers"),
        ("class_aware.csv", r"^7,0\.3,[^,]+", "7,0.3,", r"mixture 7, 0\.3 has impossible numbers"),
        # a number that looks right and is not
        ("class_aware.csv", r"^7,0\.3,[^,]+", "7,0.3,9.9", r"0\.3 has a ca_sdri_db of 6\.\d+ there, of 6\.00000 in"),
        ("class_aware.csv", r"^(7,0\.3,.*),3,0,0$", r"\1,3,0,1", r"0\.3 has a mixture_accuracy of 0\.97500 there"),
        ("cost.csv", "500000", "-500000", "negative or not finite: -500000"),
        ("cost.csv", "500000", "nan", "negative or not finite: nan"),
    ],
)  # fmt: skip
def test_what_a_test_cannot_have_measured_is_rejected(make_run, rejection, name, pattern, by, message):
    run = make_run("run")
    path = run / "test" / name
    text, places = re.subn(pattern, by, path.read_text(), flags=re.MULTILINE)
    assert places == 1
    path.write_text(text)
    assert re.search(rf"test/({name}|summary\.csv): .*{message}.*`tse-refine test`.* again", rejection(run))


def test_a_row_that_queries_more_than_the_mixture_has_is_rejected(make_run, rejection):
    run = make_run("run")
    path = run / "test" / "results.csv"
    path.write_text(re.sub(r"(?m)^(7,\d,\d,[\w.]+),3,", r"\1,0,", path.read_text()))  # mixture 7 has no active class
    assert re.search(r"mixture 7, \(1:0\), none has a row, but queries more active classes", rejection(run))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b""),
        ("config.yaml", b"\xff\xfe"),
        ("config.yaml", b"model: {"),
        ("config.yaml", b"data: {}\nevaluation: {}\n"),
        ("config.yaml", b"- model\n- data\n"),
        ("test/config.yaml", b"what: ever\n"),
        ("test/config.yaml", b"\0"),
    ],
)
def test_a_damaged_configuration_is_rejected_by_its_name(make_run, rejection, name, content):
    runs = [make_run("one"), make_run("two", seed=1)]
    (runs[1] / name).write_bytes(content)
    assert re.search(rf"two/{name}: is not the configuration of a run .*train and test again", rejection(*runs))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("model", "network", "classifier"), "yes"),
        (("model", "loss_weight"), "high"),
        (("data", "queries", "inactive_sample_rate"), None),
        (("evaluation", "threshold"), [0.3]),
        (("trainer",), None),
    ],
)
def test_a_configuration_with_a_value_of_another_kind_is_rejected(make_run, rejection, keys, value):
    run = make_run("run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert "run/config.yaml: is not the configuration of a run" in rejection(run)


@pytest.fixture
def make_tested(make_run):
    """Make a run with the configuration of its test."""

    def make(
        name: str, version: str | None = None, digest: str | None = None, threshold: float = 0.3, **options
    ) -> Path:
        run = make_run(name, **options)
        data = yaml.safe_load((run / "config.yaml").read_text())["data"]
        config = {"data": data | {"digest": digest, "batch_size": len(name)}, "evaluation": {"threshold": threshold}}
        header = "" if version is None else f"# tse-refine=={version}\n# lightning.pytorch==2.6.6\n"
        (run / "test" / "config.yaml").write_text(header + yaml.safe_dump(config))
        return run

    return make


def test_runs_tested_by_other_versions_are_rejected(make_tested, rejection):
    runs = [make_tested("new", "0.2.0"), make_tested("unknown", seed=1), make_tested("old", "0.1.7", seed=2)]
    text = rejection(*runs)
    assert re.search(r"/new and .*/old were tested by tse-refine 0\.2\.0 and 0\.1\.7, .*one version", text)


@pytest.mark.parametrize("versions", [("0.1.0", "0.1.7"), ("0.1.0", None), (None, None)])
def test_runs_tested_by_one_series_of_versions_are_one_system(make_tested, versions):
    runs = [make_tested(f"run{seed}", version, seed=seed) for seed, version in enumerate(versions)]
    (system,) = group_systems([TestedRun(run) for run in runs])
    assert [run.version for run in system.runs] == list(versions)


def test_runs_on_other_recordings_are_rejected(make_tested, rejection):
    text = rejection(make_tested("one", digest="aaaa"), make_tested("another", digest="bbbb", seed=1))
    assert re.search(r"/one and .*/another were tested .* on different recordings: .*aaaa and bbbb", text)


def test_a_training_with_other_queries_has_another_digest_and_is_compared(make_tested):
    # baseline 2 differs from the others in its training queries, which is in the digest too
    runs = [make_tested("one", digest="aaaa"), make_tested("two", digest="bbbb", inactive_sample_rate=0.1)]
    assert len(group_systems([TestedRun(run) for run in runs])) == 2
    runs[0] = make_tested("three")  # whose digest was not recorded
    assert len(group_systems([TestedRun(run) for run in runs])) == 2


def test_trainings_on_other_recordings_are_rejected(make_run, rejection):
    runs = [make_run("one"), make_run("two", seed=1)]
    for run, digest in zip(runs, ("aaaa", "bbbb"), strict=True):
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["data"]["digest"] = digest
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert re.search(r"were trained .* on different recordings: .*aaaa and bbbb", rejection(*runs))


def test_runs_of_one_system_at_other_thresholds_are_rejected(make_run, rejection):
    runs = [make_run("one"), make_run("two", seed=1)]
    for path in (runs[1] / "test").glob("*.csv"):
        path.write_text(path.read_text().replace("0.3,", "0.4,"))
    text = rejection(*runs)
    assert re.search(
        r"/one and .*/two are of one system, .*: none, 0\.3, .* and none, 0\.4, .*evaluation\.thresholds", text
    )


def test_gates_of_one_system_that_close_at_other_thresholds_are_rejected(make_tested, rejection):
    runs = [make_tested("one"), make_tested("two", threshold=0.1, seed=1)]
    assert re.search(
        r"their gates close at different thresholds: 0\.3 and 0\.1.*evaluation\.threshold", rejection(*runs)
    )


def test_one_run_given_twice_is_rejected(make_run, rejection, tmp_path):
    run = make_run("run")
    (tmp_path / "link").symlink_to(run)
    assert "are the same run, which would count as two seeds" in rejection(run, tmp_path / "link")


def test_runs_of_other_classes_are_rejected(make_run, rejection):
    runs = [make_run("dogs"), make_run("cats", refines=False)]
    for path in (runs[1] / "test").glob("*.csv"):
        path.write_text(path.read_text().replace("dog", "cat"))
    text = rejection(*runs)
    assert re.search(
        r"/dogs and .*/cats were tested on different .*: mixture \d+ is the first of \d+ that differ", text
    )


def test_runs_of_other_numbers_of_mixtures_are_rejected(make_run, rejection):
    text = rejection(make_run("many"), make_run("few", mixtures=30))
    assert "there are 40 and 30 mixtures" in text


def test_runs_on_louder_mixtures_are_rejected(make_run, rejection):
    runs = [make_run("one"), make_run("two", refines=False)]
    path = runs[1] / "test" / "results.csv"
    path.write_text(re.sub(r"(?m)^(\d+,1,\d,\w+,3,\w+,[^,]*,)-", r"\g<1>-9", path.read_text()))
    assert re.search(r"their own SNRs differ by up to 90\.00 dB", rejection(*runs))


def test_a_classifier_that_the_configuration_does_not_name_is_rejected(make_run, rejection):
    runs = [make_run("one", refines=False), make_run("two")]
    (runs[1] / "config.yaml").write_bytes((runs[0] / "config.yaml").read_bytes())
    with pytest.raises(InputError, match=r"two/test/results\.csv has refined queries \(0\.3, gate\), but .*two/config"):
        _ = TestedRun(runs[1]).classifier
