import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.corpora import Manifest
from tse_refine.data.queries import QueryConfig
from tse_refine.data.rendering import Renderer
from tse_refine.data.scaper.importing import ImportedRecipes
from tse_refine.data.scaper.jams import Scene, SceneEvent, scene_document
from tse_refine.errors import InputError

RATE = 16_000
LABELS = ("bell", "dog", "glass", "siren", "tram")


@pytest.fixture
def corpora(tmp_path):
    """Noises of 8 s at 16 kHz; ``twice.wav`` is in two folders; ``short.wav`` is a background of 2 s."""
    rng = np.random.default_rng(0)
    lines = ["path,label,role,split,source"]
    for label in LABELS:
        for split in ("train", "val", "test"):
            for name in (f"{label}-{split}.wav", *(["twice.wav"] if split == "test" and label in LABELS[:2] else [])):
                path = tmp_path / "sounds" / split / label / name
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.1 * rng.standard_normal(8 * RATE), RATE, subtype="FLOAT")
                lines.append(f"{split}/{label}/{name},{label},foreground,{split},")
    for name, seconds in (("street.wav", 8), ("short.wav", 2)):
        soundfile.write(tmp_path / "sounds" / name, 0.1 * rng.standard_normal(seconds * RATE), RATE, subtype="FLOAT")
        lines.append(f"{name},street,background,test,")
    soundfile.write(tmp_path / "sounds" / "tick.wav", 0.1 * rng.standard_normal(8 * RATE), RATE, subtype="FLOAT")
    lines.append("tick.wav,clock,interferer,test,")
    table = tmp_path / "sounds" / "manifest.csv"
    table.write_text("\n".join(lines) + "\n")
    return Manifest(str(table), "foreground"), Manifest(str(table), "background")


def event(label, split="test", file=None, **changes):
    base = SceneEvent(label, f"/there/{split}/{label}/{file or f'{label}-{split}.wav'}", 1.0, 0.5, 3.0, 20.0)
    return replace(base, **changes)


def scene(*events, **changes):
    base = Scene(
        6.0,
        RATE,
        -50.0,
        SceneEvent("audio", "/there/audio/street.wav", 0.5, 0.0, 6.0, 0.0),
        events,
        (0.01, 0.01),
        "limit",
    )
    return replace(base, **changes)


@pytest.fixture
def imported(corpora, tmp_path):
    """Write scenes of a split and read them as recipes; returns them with a renderer."""

    def run(*scenes, split="test", seed=0, more=()):
        for index, described in enumerate(scenes):
            folder = tmp_path / "jams" / split / f"{index:08d}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "mixture.jams").write_text(json.dumps(scene_document(described, ([], []), ("", ""))))
        given = (*corpora, *more)
        banks = tuple(open_clip_bank(corpus, RATE, tmp_path / "cache", False, "data.x") for corpus in given)
        recipes = ImportedRecipes(tmp_path, split, given, banks, 6.0, QueryConfig(), seed, tmp_path / "cache")
        return recipes, Renderer(*banks)

    return run


def rendered(recipes, renderer, index=0):
    recipe = recipes.draw(0, index)
    mixture, target = np.empty((2, recipes.num_samples), np.float32)
    sources = np.empty((len(recipe.events), recipes.num_samples), np.float32)
    renderer.render(recipe, mixture, target, sources)
    return recipe, mixture, target, sources


def test_an_event_is_the_same_excerpt_at_the_same_position(imported, corpora):
    dog = event("dog", source_time=1.25, time=2.0, duration=3.5, snr_db=15.0)
    bell = event("bell")
    recipe, _, _, sources = rendered(*imported(scene(dog, bell)))
    assert [(e.start, e.length, e.onset) for e in recipe.events] == [(20_000, 56_000, 32_000), (16_000, 48_000, 8_000)]
    raw, _ = soundfile.read(corpora[0].root / "test" / "dog" / "dog-test.wav")
    ramp = np.sin(np.linspace(0, np.pi / 2, 160))
    expected = raw[20_000:76_000].copy()
    expected[:160] *= ramp
    expected[-160:] *= ramp[::-1]
    sound = sources[0, 32_000:88_000]
    gain = sound @ expected / (expected @ expected)
    np.testing.assert_allclose(sound, gain * expected, atol=1e-6)
    assert gain == pytest.approx(recipe.events[0].gain, rel=1e-5)
    assert not sources[0, :32_000].any()


def test_levels_differ_as_in_the_file(imported):
    _, mixture, _, sources = rendered(*imported(scene(event("dog", snr_db=15.0), event("bell", snr_db=22.0))))
    # all clips are white noise of one power, so that loudness and power differ alike
    power = [np.mean(source[source != 0] ** 2) for source in sources]
    background = mixture - sources.sum(axis=0)
    assert 10 * np.log10(power[1] / power[0]) == pytest.approx(7.0, abs=0.2)
    assert 10 * np.log10(power[0] / np.mean(background**2)) == pytest.approx(15.0, abs=0.2)


def test_fades_and_peaks_follow_the_file(imported):
    loud = scene(event("dog"), ref_db=-20.0)
    recipe, mixture, _, _ = rendered(
        *imported(replace(loud, fade_seconds=(0.5, 0.0)), loud, replace(loud, peak_rule="none"))
    )
    assert recipe.fade_seconds == (0.5, 0.0)
    assert np.abs(mixture).max() == pytest.approx(1.0, abs=1e-5)
    _, mixture, _, _ = rendered(*imported(), index=2)
    assert np.abs(mixture).max() > 1.5


def test_a_short_background_is_repeated(imported):
    short = SceneEvent("audio", "/there/audio/short.wav", 0.5, 0.0, 6.0, 0.0)
    _, mixture, _, sources = rendered(*imported(scene(event("dog"), background=short)))
    background = mixture - sources.sum(axis=0)
    period = round(1.5 * RATE)
    np.testing.assert_allclose(background[period:], background[:-period], atol=1e-6)


def test_evaluation_queries_in_the_files_order_with_cyclic_counts(imported):
    three = scene(event("siren"), event("bell"), event("dog"))
    recipes, _ = imported(*[three] * 4)
    for index, count in enumerate((1, 2, 3, 1)):
        recipe = recipes.draw(0, index)
        assert recipe.query_order[:3] == (3, 0, 1)
        assert sorted(recipe.query_order) == [0, 1, 2, 3, 4]
        assert recipe.query == (3, 0, 1)[:count]
    assert recipes.draw(5, 0) == replace(recipes.draw(0, 0), epoch=5)


@pytest.mark.parametrize("others", [(), (event("dog"), event("bell"))])
def test_background_alone_is_queried_for_inactive_classes(imported, others):
    recipes, renderer = imported(scene(), scene(*others))
    recipe, mixture, target, _ = rendered(recipes, renderer)
    assert (recipe.events, recipe.query, sorted(recipe.query_order)) == ((), recipe.query_order[:1], [0, 1, 2, 3, 4])
    assert mixture.std() > 0.0
    assert not target.any()
    assert recipes.max_events == max(1, len(others))


CLOCK = SceneEvent("clock", "/there/clock/tick.wav", 1.0, 2.0, 3.0, 12.0)


def test_interferers_are_sounds_without_a_class(imported, corpora):
    outside = Manifest(str(corpora[0].table), "interferer")
    recipes, renderer = imported(scene(event("dog")), scene(event("dog"), interferers=(CLOCK, CLOCK)), more=[outside])
    assert recipes.max_events == 1
    plain, other = recipes.draw(0, 0), recipes.draw(0, 1)
    assert (plain.events, plain.interferers) == (other.events, ())
    assert [(e.class_index, e.start, e.length, e.onset) for e in other.interferers] == [
        (-1, 16_000, 48_000, 32_000)
    ] * 2
    (_, mixture, target, _), (_, noisier, same, _) = (rendered(recipes, renderer, index) for index in (0, 1))
    clock = (noisier - mixture) / 2
    raw, _ = soundfile.read(outside.root / "tick.wav")
    inside = slice(33_000, 79_000)
    np.testing.assert_allclose(clock[inside], other.interferers[0].gain * raw[17_000:63_000], atol=1e-6)
    assert not clock[:32_000].any()
    np.testing.assert_array_equal(target, same)


def test_scenes_with_interferers_need_their_corpus(imported):
    with pytest.raises(InputError, match=r"mixture\.jams: clock is an interferer\. Give data\.interferers the corpus"):
        imported(scene(event("dog"), interferers=(CLOCK,)))


def test_training_queries_are_drawn_anew_each_epoch(imported):
    three = scene(*(event(label, split="train") for label in ("siren", "bell", "dog")))
    recipes, _ = imported(three, split="train")
    queries = [recipes.draw(epoch, 0).query for epoch in range(20)]
    assert queries == [recipes.draw(epoch, 0).query for epoch in range(20)]
    assert len({frozenset(query) for query in queries}) > 3
    assert all(set(query) <= {0, 1, 3} for query in queries)
    assert {recipes.draw(epoch, 0).events for epoch in range(3)} == {recipes.draw(0, 0).events}


def test_clips_with_the_same_file_name_are_distinguished_by_their_folders(imported, corpora):
    recipe, *_ = rendered(*imported(scene(event("dog", file="twice.wav"), event("bell", file="twice.wav"))))
    assert len({e.clip for e in recipe.events}) == 2


@pytest.mark.parametrize(
    ("unfit", "message"),
    [
        (scene(event("dog", file="none.wav")), "data.foregrounds has no clip dog/none.wav"),
        (scene(event("dog", source_file="/x/twice.wav")), "data.foregrounds has several clips x/twice.wav"),
        (
            scene(event("dog", source_file="/x/bell-test.wav")),
            "labels test/bell/bell-test.wav dog; its label in the corpus is bell",
        ),
        (scene(event("dog", split="val")), "which the corpus has in its val split"),
        (scene(event("dog", source_time=9.0)), "dog-test.wav has no sound at 9 s"),
        (scene(event("dog"), duration=5.0), "lasts 5 s, data.mixture.duration_seconds is 6"),
    ],
)
def test_scenes_that_the_corpora_do_not_fit_are_rejected_by_file(imported, unfit, message):
    with pytest.raises(InputError, match=rf"00000001/mixture\.jams: .*{message}"):
        imported(scene(event("dog")), unfit)


def test_a_folder_without_mixtures_is_rejected(imported):
    with pytest.raises(InputError, match=r"data\.recipes: .*jams/val contains no mixture"):
        imported(split="val")


def test_numbers_are_computed_once_and_follow_the_files(imported, corpora, monkeypatch):
    first, _ = imported(scene(event("dog")))
    with monkeypatch.context() as context:
        context.setattr(Manifest, "read", None)
        again, _ = imported()
    assert again.draw(0, 0) == first.draw(0, 0)
    changed, _ = imported(scene(event("dog", snr_db=10.0)))
    ratio = changed.draw(0, 0).events[0].gain / first.draw(0, 0).events[0].gain
    assert 20 * np.log10(ratio) == pytest.approx(-10.0)
