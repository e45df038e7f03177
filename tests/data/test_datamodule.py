import pytest

from tse_refine.data.corpora import EmbeddedBackgrounds, EmbeddedSounds
from tse_refine.data.corpus import Clip, check_splits
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.queries import QueryConfig
from tse_refine.data.recipes import MixtureConfig
from tse_refine.errors import InputError


@pytest.fixture
def make(cache_dir):
    def run(foregrounds=None, backgrounds=None, **options):
        return MixtureDataModule(
            foregrounds or EmbeddedSounds(1, 1, 1),
            backgrounds or EmbeddedBackgrounds(1, 1, 1),
            cache_dir=str(cache_dir),
            **{"sample_rate": 4000, "num_workers": 0} | options,
        )

    return run


def test_digest_names_the_data_and_not_how_they_are_served(make):
    digest = make().digest
    assert make(batch_size=3, num_train=5, num_test=50, num_workers=1).digest == digest
    others = [
        make(seed=1),
        make(redraw=False),
        make(mixture=MixtureConfig(snr_db=(0.0, 10.0))),
        make(queries=QueryConfig((1,))),
        make(EmbeddedSounds(2, 1, 1)),
        make(sample_rate=8000),
    ]
    assert len({digest, *(other.digest for other in others)}) == 7


def test_other_data_than_a_config_was_saved_with_are_reported(make):
    with pytest.warns(UserWarning, match="The data differ"):
        make(digest="0123").setup("fit")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backgrounds": EmbeddedBackgrounds(1, 0, 1)}, "data.backgrounds: the val split has no background"),
        ({"foregrounds": EmbeddedSounds(1, 1, 0)}, "data.foregrounds: the test split has no clip of alarm"),
        ({"mixture": MixtureConfig(num_events=(13,))}, "data.mixture.num_events asks for up to 13 distinct classes"),
        ({"queries": QueryConfig((4,))}, "data.queries.target_counts"),
        ({"sample_rate": 11_025}, "data.sample_rate is 11025"),
        ({"num_val": 0}, "data.num_val is 0"),
        ({"num_test": 3, "predict_indices": [3]}, "data.predict_indices"),
    ],
)
def test_impossible_data_are_refused_before_any_audio_is_read(make, options, said):
    with pytest.raises(InputError, match=said):
        make(**options)


def test_a_recording_in_two_splits_is_refused_by_name():
    clips = [Clip("a.wav", "dog", "train", "17"), Clip("b.wav", "dog", "test", "17"), Clip("c.wav", "dog", "val", "18")]
    with pytest.raises(InputError, match=r"data\.foregrounds: 1 source recordings .*17 \(test and train\)"):
        check_splits(clips, "foregrounds")
