import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from tse_refine.data.corpora import ESC50, LabelFolders, SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.corpora.base import Clip, check_splits
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.queries import QueryConfig
from tse_refine.data.recipes import MixtureConfig
from tse_refine.errors import InputError

RATE = 4000


@pytest.fixture
def make(cache_dir):
    def run(foregrounds=None, backgrounds=None, **options):
        return MixtureDataModule(
            foregrounds or SyntheticSounds(1, 1, 1),
            backgrounds or SyntheticBackgrounds(1, 1, 1),
            **{"sample_rate": RATE, "num_workers": 0, "cache_dir": str(cache_dir)} | options,
        )

    return run


@pytest.fixture
def recorded(tmp_path):
    """An ESC-50 folder with one second each of two foreground categories and a background in five folds."""
    root = tmp_path / "esc"
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in (1, 2, 3, 4, 5):
        for number, category in enumerate(("dog", "rain", "wind")):
            sound = 0.1 * np.random.default_rng(10 * fold + number).standard_normal(RATE)
            name = f"{fold}-{fold}{number}-A-{number}.wav"
            soundfile.write(root / "audio" / name, sound, RATE)
            rows.append(f"{name},{fold},{number},{category},True,{fold}{number},A")
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def make_recorded(make, recorded):
    """A data module over recordings on disk, mixtures of 1 s with one or two events."""

    def run(root=recorded, folds=((1, 2, 3), (4,), (5,)), **options):
        folds = [list(numbers) for numbers in folds]
        return make(
            ESC50(str(root), ["dog", "rain"], *folds),
            ESC50(str(root), ["wind"], *folds),
            queries=QueryConfig((1,)),
            **{"mixture": MixtureConfig(1.0, (1, 2), (0.5, 0.8)), "num_test": 10} | options,
        )

    return run


def test_the_digest_depends_on_the_data_and_not_on_batches_or_workers(make):
    digest = make().digest
    assert make(batch_size=3, num_train=5, num_val=5, num_test=50, num_workers=1).digest == digest
    others = [
        make(seed=1),
        make(redraw=False),
        make(mixture=MixtureConfig(snr_db=(0.0, 10.0))),
        make(mixture=MixtureConfig(level="rms")),
        make(queries=QueryConfig((1,))),
        make(SyntheticSounds(2, 1, 1)),
        make(backgrounds=SyntheticBackgrounds(2, 1, 1)),
        make(sample_rate=8000),
    ]
    assert len({digest, *(other.digest for other in others)}) == 9


def test_options_of_interferers_are_part_of_the_digest_where_there_are_any(make):
    options = MixtureConfig(num_interferers=(1, 1)), MixtureConfig(interferer_snr_db=(0.0, 5.0))
    assert {make(mixture=mixture).digest for mixture in options} == {make().digest}
    outside = SyntheticBackgrounds(2, 2, 2)
    others = [make(interferers=outside, mixture=mixture).digest for mixture in (*options, MixtureConfig())]
    assert len({make().digest, *others, make(interferers=SyntheticBackgrounds(3, 2, 2)).digest}) == 5


def test_impulse_responses_and_their_rate_are_part_of_the_digest(make):
    rooms, half = SyntheticBackgrounds(2, 2, 2), MixtureConfig(reverberation_rate=0.5)
    dry, reverberant = make(mixture=half), make(impulse_responses=rooms)
    assert dry.digest == make().digest
    assert len({dry.digest, reverberant.digest, make(impulse_responses=rooms, mixture=half).digest}) == 3


def test_the_digest_depends_on_the_recordings_and_not_on_their_folder(make_recorded, recorded, tmp_path):
    digest = make_recorded().digest
    shutil.copytree(recorded, tmp_path / "moved")
    assert make_recorded(tmp_path / "moved", cache_dir=str(tmp_path / "cache")).digest == digest
    swapped = make_recorded(folds=((1, 2, 3), (5,), (4,)))
    assert swapped.digest != digest
    sound = 0.1 * np.random.default_rng(99).standard_normal(RATE)
    soundfile.write(recorded / "audio" / "1-10-A-0.wav", sound, RATE)
    assert make_recorded().digest not in (digest, swapped.digest)


def test_data_with_another_digest_than_the_config_are_reported(make):
    with pytest.warns(UserWarning, match=r"The data differ .* data\.digest is 0123"):
        make(digest="0123").setup("fit")


def test_data_with_the_digest_of_the_config_are_not_reported(make, recwarn):
    make(digest=make().digest).setup("fit")
    assert not [warning for warning in recwarn if "data differ" in str(warning.message)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backgrounds": SyntheticBackgrounds(1, 0, 1)}, "data.backgrounds: the val split has no background"),
        ({"foregrounds": SyntheticSounds(1, 1, 0)}, "data.foregrounds: the test split has no clip of alarm"),
        ({"mixture": MixtureConfig(num_events=(13,))}, "data.mixture.num_events is up to 13 distinct classes"),
        ({"queries": QueryConfig((4,))}, "data.queries.target_counts"),
        ({"queries": QueryConfig(inactive_sample_rate=2.0)}, "data.queries.inactive_sample_rate"),
        ({"sample_rate": 11_025}, "data.sample_rate is 11025"),
        ({"sample_rate": 0}, "data.sample_rate is 0"),
        ({"num_val": 0}, "data.num_val is 0"),
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"num_test": 3, "predict_indices": [3]}, r"data.predict_indices names the test mixtures \[3\]"),
        ({"num_test": 3, "predict_indices": [-1]}, "data.predict_indices"),
        ({"seed": -1}, "data.seed is -1"),
        (
            {"interferers": SyntheticBackgrounds(2, 0, 2)},
            "data.interferers: the val split has 0 recordings, but a mixture has up to 2",
        ),
        (
            {"impulse_responses": SyntheticBackgrounds(2, 0, 2)},
            "data.impulse_responses: the val split has no recording",
        ),
        (
            {"impulse_responses": SyntheticBackgrounds(2, 2, 2), "recipes": "scenes"},
            "data.impulse_responses: the mixtures of data.recipes are read as they are",
        ),
        ({"interferers": SyntheticSounds(2, 2, 2)}, "data.interferers: alarm, .* are classes of data.foregrounds too"),
        (
            {"interferers": SyntheticBackgrounds(2, 2, 2), "aliases": {"alarm": ["Wind"]}},
            "data.interferers: wind is a class of data.foregrounds too, or a word for one",
        ),
    ],
)
def test_impossible_data_are_rejected_before_any_audio_is_read(make, options, message, monkeypatch):
    def read(corpus, clip, start=0, stop=None):
        raise AssertionError(f"{clip.name} was read")

    monkeypatch.setattr(SyntheticSounds, "read", read)
    monkeypatch.setattr(SyntheticBackgrounds, "read", read)
    with pytest.raises(InputError, match=message):
        make(**options)


@pytest.fixture
def make_with_class(make, monkeypatch):
    """Make data in which a class has another name."""

    def call(name):
        clips = SyntheticSounds(1, 1, 1).clips()
        clips = [replace(clip, label=name if clip.label == clips[0].label else clip.label) for clip in clips]
        monkeypatch.setattr(SyntheticSounds, "clips", lambda corpus: clips)
        return make()

    return call


@pytest.mark.parametrize("name", ["all", "All", "A_l-l "])
def test_a_class_whose_name_means_every_class_is_rejected(make_with_class, name):
    with pytest.raises(InputError, match=f"data.foregrounds: the class '{name}' has the name that means every class"):
        make_with_class(name)


@pytest.mark.parametrize("name", ["", "two\nlines", "\rback", "\x1b[31mred", "\udcff", "x" * 5000])
def test_a_class_name_that_no_reader_would_accept_is_rejected_before_the_training(make_with_class, name):
    with pytest.raises(InputError, match=r"data\.foregrounds: .*: its label is .*that can be printed are expected"):
        make_with_class(name)


def test_aliases_are_those_of_the_corpus_and_of_the_option(make, monkeypatch):
    monkeypatch.setattr(SyntheticSounds, "aliases", lambda _: {"bell": ["gong"], "bird": ["tweet"], "no class": ["x"]})
    data = make(aliases={"bird": ["Vogel"], "rain": ["Regen", "re\u0301gen"]})
    assert data.aliases == {"bell": ("gong",), "bird": ("Vogel",), "rain": ("Regen", "r\u00e9gen")}
    assert data.digest == make().digest


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ({"brid": ["tweet"]}, "'brid' is not a class, but has aliases; did you mean 'bird'"),
        ({"bird": ["chime"], "bell": ["Chi-me"]}, "'Chi-me' names two classes, 'bird' and 'bell'"),
        ({"bell": ["Bird"]}, "'Bird' names two classes, 'bird' and 'bell'"),
        ({"bell": ["All"]}, "'All', an alias of 'bell', means every class"),
        ({"bell": [""]}, "'bell': an alias is ''; 1 to 200 characters"),
    ],
)
def test_an_alias_that_is_not_clearly_one_class_is_rejected(make, aliases, message):
    with pytest.raises(InputError, match=rf"data\.aliases, or those of data\.foregrounds: {message}"):
        make(aliases=aliases)


def test_without_backgrounds_they_are_synthesised_which_is_reported(cache_dir):
    with pytest.warns(UserWarning, match=r"data\.backgrounds is not given: .* synthesised wind"):
        data = MixtureDataModule(SyntheticSounds(1, 1, 1), sample_rate=RATE, num_workers=0, cache_dir=str(cache_dir))
    assert {clip.label for clip in data.clips["data.backgrounds"]} == {"traffic", "ventilation", "wind"}


def test_recipes_need_the_backgrounds_that_they_name(tmp_path):
    with pytest.raises(InputError, match=r"data\.backgrounds is null, but the mixtures of data\.recipes"):
        MixtureDataModule(SyntheticSounds(1, 1, 1), recipes=str(tmp_path))


def test_a_class_without_a_clip_in_a_split_is_rejected_by_name(make_recorded, recorded):
    table = recorded / "meta" / "esc50.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if not line.startswith("4-41-")))  # the rain of fold 4
    with pytest.raises(InputError, match=r"data\.foregrounds: the val split has no clip of rain\."):
        make_recorded()


def test_a_class_whose_every_clip_was_skipped_is_rejected_by_name(make_recorded, recorded):
    (recorded / "audio" / "4-41-A-1.wav").write_text("not audio")
    data = make_recorded(skip_unusable=True)
    with pytest.raises(InputError, match=r"data\.foregrounds: the val split has no clip of rain\."):
        data.setup("fit")
    data.setup("test")  # this split has all it needs


def test_a_source_recording_in_two_splits_is_rejected_by_name(make_recorded, recorded):
    table = recorded / "meta" / "esc50.csv"
    table.write_text(table.read_text().replace(",50,A", ",40,A"))  # the dog of fold 5 is cut from that of fold 4
    with pytest.raises(InputError, match=r"data\.foregrounds: 1 source recordings .*40 \(test and val\)"):
        make_recorded()


@pytest.fixture
def make_with_interferers(make_recorded, recorded):
    """A data module with clocks as interferers; which source recording that of fold 5 is cut from can be told."""

    def run(recording_of_the_last: str) -> MixtureDataModule:
        rows = []
        for fold in (1, 2, 3, 4, 5):
            sound = 0.1 * np.random.default_rng(fold).standard_normal(RATE)
            soundfile.write(recorded / "audio" / f"{fold}-{fold}3-A-3.wav", sound, RATE)
            recording = recording_of_the_last if fold == 5 else f"{fold}3"
            rows.append(f"{fold}-{fold}3-A-3.wav,{fold},3,clock,True,{recording},A\n")
        table = recorded / "meta" / "esc50.csv"
        table.write_text(table.read_text() + "".join(rows))
        mixture = MixtureConfig(1.0, (1,), (0.5, 0.8), num_interferers=(1, 1))
        return make_recorded(interferers=ESC50(str(recorded), ["clock"], [1, 2, 3], [4], [5]), mixture=mixture)

    return run


def test_interferers_are_of_their_split(make_with_interferers):
    data = make_with_interferers("53")
    assert data.class_names == ["dog", "rain"]
    drawn = data.open_split("test").recipes
    used = {drawn.interferer_bank.entry(event.clip).name for i in range(9) for event in drawn.draw(0, i).interferers}
    assert used == {"audio/5-53-A-3.wav"}


def test_an_interferer_cut_from_the_recording_of_a_foreground_is_rejected_by_name(make_with_interferers):
    with pytest.raises(InputError, match=r"data\.interferers: .* too: audio/5-53-A-3\.wav \(audio/5-50-A-0\.wav\)"):
        make_with_interferers("50")  # the dog of fold 5


def test_an_interferer_with_the_contents_of_a_foreground_is_rejected_before_it_is_decoded(
    make_with_interferers, recorded
):
    data = make_with_interferers("53")
    shutil.copy(recorded / "audio" / "1-11-A-1.wav", recorded / "audio" / "2-23-A-3.wav")
    with pytest.raises(InputError, match=r"data\.interferers: .* too: audio/2-23-A-3\.wav \(audio/1-11-A-1\.wav\)"):
        _ = data.banks


def test_an_interferer_of_one_split_may_not_be_the_background_of_another(make_with_interferers):
    with pytest.raises(InputError, match=r"data\.interferers and data\.backgrounds: 1 source .*:42 \(test and val\)"):
        make_with_interferers("42")  # the wind of fold 4


@pytest.fixture
def make_with_rooms(make_recorded, tmp_path):
    """A data module whose mixtures are in rooms: 8 kHz, two channels, soft; one response may have another content."""

    def run(odd: np.ndarray | None = None) -> MixtureDataModule:
        rng = np.random.default_rng(0)
        for split in ("train", "val", "test"):
            for room in ("hall", "kitchen"):
                path = tmp_path / "rooms" / split / room / "0.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                response = 1e-3 * rng.standard_normal((2 * RATE, 2)) * np.exp(-np.arange(2 * RATE) / 800)[:, None]
                soundfile.write(path, odd if split == "test" and odd is not None else response, 2 * RATE, "FLOAT")
        return make_recorded(impulse_responses=LabelFolders(str(tmp_path / "rooms")))

    return run


def test_rooms_are_of_their_split_and_their_responses_resampled(make_with_rooms):
    data = make_with_rooms()
    dataset = data.open_split("test")
    bank = dataset.renderer.response_bank
    used = {bank.entry(event.response).name for i in range(9) for event in dataset.recipe((0, i)).events}
    assert used == {"test/hall/0.wav", "test/kitchen/0.wav"}
    assert bank.entry(0).length == pytest.approx(RATE, abs=RATE // 10)
    batch = dataset.__getitems__([(0, index) for index in range(9)])
    assert torch.isfinite(batch["mixture"]).all()
    assert torch.equal(dataset[0, 4]["mixture"], batch["mixture"][4])


def test_mixtures_in_rooms_are_not_written_as_scenes(make_with_rooms, tmp_path):
    with pytest.raises(InputError, match=r"data\.impulse_responses: Scaper's recipes have no impulse responses"):
        make_with_rooms().export_scenes("test", tmp_path / "scenes")
    assert not (tmp_path / "scenes").exists()


@pytest.mark.parametrize(("odd", "message"), [(np.zeros(4000), "is silent"), (np.full(4000, np.nan), "not finite")])
def test_a_silent_or_damaged_response_is_rejected_by_name(make_with_rooms, odd, message):
    with pytest.raises(InputError, match=rf"data\.impulse_responses: 2 of 6 .*\n.*test/hall/0\.wav: .*{message}"):
        _ = make_with_rooms(odd).banks


def test_takes_of_one_recording_may_be_in_one_split():
    check_splits({"data.foregrounds": [Clip(name, "dog", "train", "17") for name in ("a.wav", "b.wav")]})


def test_a_recording_may_not_be_a_foreground_in_one_split_and_a_background_in_another():
    clips = {
        "data.foregrounds": [Clip("dog/1.wav", "dog", "train", "freesound:17")],
        "data.backgrounds": [Clip("audio/5-17-A-0.wav", "street", "test", "freesound:17")],
    }
    with pytest.raises(InputError, match=r"data\.foregrounds and data\.backgrounds: 1 .*freesound:17 \(test and train"):
        check_splits(clips)


def test_class_names_need_no_audio(make_recorded, recorded):
    shutil.rmtree(recorded / "audio")
    assert make_recorded().class_names == ["dog", "rain"]


def test_a_split_uses_only_its_own_clips(make_recorded, recorded):
    data = make_recorded()
    data.setup("test")
    drawn = data.datasets["test"].recipes
    used = {drawn.foreground_bank.entry(event.clip).name for i in range(40) for event in drawn.draw(0, i).events}
    assert used == {"audio/5-50-A-0.wav", "audio/5-51-A-1.wav"}
    assert drawn.background_bank.entry(drawn.draw(0, 0).background.clip).name == "audio/5-52-A-2.wav"


def test_predict_renders_the_chosen_test_mixtures(make_recorded):
    data = make_recorded(predict_indices=[7, 2], batch_size=8)
    data.setup("test")
    whole = torch.cat([batch["mixture"] for batch in data.test_dataloader()])
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert batch["index"].tolist() == [7, 2]
    assert torch.equal(batch["mixture"], whole[[7, 2]])
    assert make_recorded(num_test=3).predict_indices == [0, 1, 2]
    assert make_recorded(num_test=30).predict_indices == list(range(8))
