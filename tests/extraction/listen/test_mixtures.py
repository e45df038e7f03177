import numpy as np
import pytest
import torch
import yaml

from tse_refine.errors import InputError
from tse_refine.extraction.listen.mixtures import find_mixtures
from tse_refine.model.checkpoint import CHECKPOINT_KEY


def change(checkpoint, **values):
    content = torch.load(checkpoint, weights_only=True)
    content[CHECKPOINT_KEY] |= values
    torch.save(content, checkpoint)


def test_mixtures_are_those_that_the_run_is_tested_on(checkpoint, tiny_data, tmp_path):
    mixtures = find_mixtures(checkpoint, tmp_path / "bank")
    mixtures.draw()
    sound = mixtures.render(3)
    batch = tiny_data.datasets["test"][(0, 3)]
    assert (sound.name, sound.sample_rate) == ("test mixture 3", 4000)
    np.testing.assert_array_equal(sound.waveform[0], batch["mixture"].numpy())
    active = {tiny_data.class_names[label] for label in batch["activity"].nonzero()[:, 0]}
    assert set(sound.sources) == active
    rest = sound.waveform - sum(sound.sources.values())  # the background, far softer
    assert 0.0 < (rest**2).mean() < 0.2 * (sound.waveform**2).mean()
    assert not (tmp_path / "bank").exists()


def test_any_mixture_of_the_split_may_come(checkpoint, tmp_path):
    mixtures = find_mixtures(checkpoint, tmp_path)
    drawn = {mixtures.draw().name for _ in range(40)}
    assert 2 <= len(drawn) <= 6  # of six, 40 draws: one alone has a chance of 6 ** -39


def test_the_target_of_a_query_is_the_sum_of_its_sources(mixture):
    np.testing.assert_array_equal(mixture.target(("alarm", "bell", "dog")), sum(mixture.sources.values()))
    assert not mixture.target(("bell",)).any()


def test_a_checkpoint_without_its_run_gets_synthesised_sounds_where_these_are_its_classes(checkpoint, tmp_path):
    alone = tmp_path / "elsewhere" / "best.ckpt"
    alone.parent.mkdir()
    checkpoint.rename(alone)
    sound = find_mixtures(alone, tmp_path / "bank").draw()
    assert sound.name.startswith("synthesised mixture")
    assert (sound.seconds, sound.sample_rate) == (1.0, 4000)
    assert len(sound.sources) >= 3
    assert (tmp_path / "bank").exists()


def test_where_there_is_nothing_to_mix_the_reason_is_said(checkpoint, run_folder, tmp_path):
    change(checkpoint, class_names=[f"class {number}" for number in range(12)])
    with pytest.raises(InputError, match=r"No test mixtures: the data in its config\.yaml have other classes"):
        find_mixtures(checkpoint, tmp_path)
    (run_folder / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"No test mixtures: .*config\.yaml does not exist"):
        find_mixtures(checkpoint, tmp_path)


def test_a_corpus_that_is_gone_is_no_obstacle_to_the_page(checkpoint, run_folder, tmp_path):
    change(checkpoint, class_names=["a"])
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    gone = {"class_path": "tse_refine.data.corpora.LabelFolders", "init_args": {"root": str(tmp_path / "gone")}}
    config["data"]["foregrounds"] = gone
    (run_folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=r"No test mixtures: .*gone"):
        find_mixtures(checkpoint, tmp_path)
