"""The tables of the corpora, in the places of all layouts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from tests.fuzz.mutating import damaged_csv
from tests.fuzz.targets import read_all, scratch
from tse_refine.data.corpora import ESC50, FSD50K, TAU2019, FSDKaggle2018, Manifest, UrbanSound8K
from tse_refine.data.corpora.base import Corpus, check_clips
from tse_refine.data.corpora.tau2019 import DEVELOPMENT

_ESC50 = "filename,fold,target,category,esc10,src_file,take\n" + "".join(
    f"{fold}-{number}-A-{label}.wav,{fold},{label},{name},True,{fold}{number},A\n"
    for fold in range(1, 6)
    for number in range(2)
    for label, name in enumerate(("dog", "rain"))
)
_URBAN = "slice_file_name,fsID,start,end,salience,fold,classID,class\n" + "".join(
    f"{fold}-{label}-0-0.wav,{fold},0.5,4.5,{1 + label},{fold},{label},{name}\n"
    for fold in range(1, 11)
    for label, name in enumerate(("dog_bark", "siren"))
)
_FSD50K = "fname,labels,mids,split\n" + "".join(
    f'{number},"{labels}",/m/0,{split}\n'
    for number, (labels, split) in enumerate([("Dog,Animal", "train"), ("Cat,Animal", "val"), ("Bell", "train")] * 2)
)
_KAGGLE = "fname,label,manually_verified,freesound_id,license\n" + "".join(
    f"{label}{number}.wav,{label},{number % 2},{label}{number},CC0\n"
    for label in ("Bark", "Meow")
    for number in range(4)
)
_TAU = "filename\tscene_label\tidentifier\tsource_label\n" + "".join(
    f"audio/{scene}-{number}.wav\t{scene}\t{scene}-{number}\ta\n" for scene in ("park", "metro") for number in range(4)
)
_MANIFEST = "path,label,role,split,source\n" + "".join(
    f"{role}/{split}{number}.wav,{label},{role},{split},freesound:{number}\n"
    for number, (role, label) in enumerate((("foreground", "dog"), ("foreground", "bell"), ("background", "street")))
    for split in ("train", "val", "test")
)


_TABLES = {
    "meta/esc50.csv": _ESC50,
    "metadata/UrbanSound8K.csv": _URBAN,
    "FSD50K.ground_truth/dev.csv": _FSD50K,
    "FSD50K.ground_truth/eval.csv": _FSD50K,
    "FSDKaggle2018.meta/train_post_competition.csv": _KAGGLE,
    "FSDKaggle2018.meta/test_post_competition_scoring_clips.csv": _KAGGLE.replace(".wav", "t.wav"),
    f"{DEVELOPMENT}/meta.csv": _TAU,
    "manifest.csv": _MANIFEST,
}


def seeds() -> list[bytes]:
    """Return each table below a line with its place."""
    return [f"{name}\n{table}".encode() for name, table in _TABLES.items()]


def mutate(data: bytes, rng: Random) -> bytes:
    """Damage the table below the line with its place."""
    name, _, table = data.partition(b"\n")
    return name + b"\n" + damaged_csv(table, rng, "\t" if b"\t" in table else ",")


def check(data: bytes) -> None:
    name, _, table = data.partition(b"\n")
    if name.decode("latin-1") not in _TABLES:
        return
    root = scratch("metadata")
    for place, valid in _TABLES.items():
        if place.split("/")[0].encode() == name.partition(b"/")[0]:
            (root / place).parent.mkdir(exist_ok=True)
            (root / place).write_bytes(table if place.encode() == name else valid.encode())
    readers: dict[bytes, list[Callable[[], Corpus]]] = {
        b"meta": [lambda: ESC50(str(root), ["dog", "rain"])],
        b"metadata": [lambda: UrbanSound8K(str(root))],
        b"FSD50K.ground_truth": [lambda: FSD50K(str(root), ["Dog", "Bell"])],
        b"FSDKaggle2018.meta": [lambda: FSDKaggle2018(str(root), 0.25)],
        DEVELOPMENT.encode(): [lambda: TAU2019(str(root), "development", 0.25, 0.25)],
        b"manifest.csv": [partial(Manifest, str(root / "manifest.csv"), role) for role in ("foreground", "background")],
    }
    read_all(*(partial(_read, corpus()) for corpus in readers[name.partition(b"/")[0]]))


def _read(corpus: Corpus) -> None:
    clips = corpus.clips()
    check_clips(clips)
    assert {clip.split for clip in clips} <= {"train", "val", "test"}
    assert all(clip.label.strip() and clip.label.isprintable() for clip in clips)
    corpus.missing()
