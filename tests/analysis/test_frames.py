import sys

import numpy as np
import pytest

import tse_refine
from tse_refine.errors import InputError


def test_the_files_of_a_real_run_are_tables_of_numbers_and_names(tiny_runs):
    run = next(tiny_runs.glob("loss_weight=1*"))
    tables = tse_refine.load_results(run)
    assert set(tables) == {
        *("results", "summary", "classification", "class_aware", "per_class", "events", "probabilities", "cost"),
        *("metrics", "validation"),
    }
    results = tables["results"]
    assert set(results.threshold) >= {"none", "0.1", "oracle"}  # text, also where they are numbers
    matched = results[(results.active == 1) & (results.inactive == 0) & (results.threshold == "none")]
    summary = tables["summary"].set_index(["active", "inactive", "threshold"])
    assert matched.snri_db.mean() == pytest.approx(summary.snri_db[1, 0, "none"], abs=1e-4)
    unmatched = results[results.active == 0]
    assert unmatched.snri_db.isna().all()
    assert np.isfinite(unmatched.attenuation_db).all()
    assert tables["probabilities"].probability.between(0.0, 1.0).all()
    ca_sdri = tables["class_aware"].groupby("threshold").ca_sdri_db.mean()
    assert ca_sdri["0.3"] == pytest.approx(tables["classification"].set_index("threshold").ca_sdri_db["0.3"], abs=1e-4)
    assert tables["metrics"].step.dtype.kind in "if"


def test_a_baseline_has_no_tables_of_a_classifier(make_run):
    assert not {"classification", "class_aware", "probabilities"} & set(
        tse_refine.load_results(make_run("b1", refines=False))
    )


def test_a_run_that_was_not_tested_and_a_missing_pandas_are_named(make_run, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"results\.csv.*tse-refine test"):
        tse_refine.load_results(tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"pip install 'tse-refine\[notebook\]'"):
        tse_refine.load_results(make_run("p"))
