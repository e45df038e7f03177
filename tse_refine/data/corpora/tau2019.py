"""TAU Urban Acoustic Scenes 2019: 10 s of city backgrounds in stereo (T. Heittola et al., 2019), as published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from tse_refine.data.corpora.base import Clip, FileCorpus
from tse_refine.data.corpora.splitting import assign_splits
from tse_refine.data.download.archives import Archive, RemoteFile
from tse_refine.files.tables import read_csv

DEVELOPMENT = "TAU-urban-acoustic-scenes-2019-development"
EVALUATION = "TAU-urban-acoustic-scenes-2019-evaluation"
_REMEDY = (
    f"TAU2019 root: give the folder with {DEVELOPMENT} and, with test_set evaluation, {EVALUATION} "
    "(https://zenodo.org/records/2589280 and 3063822); `tse-refine prepare` downloads and unpacks them."
)

# checksums of the archives in record 2589280
DEVELOPMENT_MD5 = {
    "meta": "09782f2097e4735687af73c44919329c",
    "audio.1": "aca4ebfd9ed03d5f747d6ba8c24bc728",
    "audio.2": "c4f170408ce77c8c70c532bf268d7be0",
    "audio.3": "c7214a07211f10f3250290d05e72c37e",
    "audio.4": "a6a62110f6699cf4432072acb1dffda6",
    "audio.5": "091a0b6d3c84b8e60e46940aa7d4a8a0",
    "audio.6": "114f4ca13e074391b98a1cfd8140de65",
    "audio.7": "5951dd2968f7a514e2afbe279c4f060d",
    "audio.8": "b0b63dc95b327e1509857c8d8a663cc3",
    "audio.9": "3c32a693a6b111ffb957be3c1dd22e9b",
    "audio.10": "0ffbf60006da520cc761fb74c878b98b",
    "audio.11": "599055d93b4c11057c29be2df54538d4",
    "audio.12": "98b8d162ff3665695c4c910e6c372cc8",
    "audio.13": "a356c08b1a5a21d433eba37ef87587f4",
    "audio.14": "f8969771e7faf7dd471d1cf78b0cf011",
    "audio.15": "4758c4b0fb7484faa632266e78850820",
    "audio.16": "a18acad9ede8ea76574216feb887f0bc",
    "audio.17": "1af7703484632f340da5c33662dc9632",
    "audio.18": "b67402bf3e08f4da394a7c18756c0fd2",
    "audio.19": "035db315f19106eb848b6f9b32bcc47c",
    "audio.20": "9cb28c74911bf8a3eadcf53f50a5b5d6",
    "audio.21": "0e44ed85c88ec036a9725b4dd1dfaea0",
}
# checksums of the archives in record 3063822
EVALUATION_MD5 = {
    "meta": "0b42d3c337b29d2efe50edd1e9496d7e",
    "audio.1": "3dfc50f8dc46f4a83a2e9cf2083d1c2a",
    "audio.2": "cc3d2a4b8e98ce0122317e401d0c6b7d",
    "audio.3": "a4815bdfd889a59f71c586cc834fc5e8",
    "audio.4": "d85f72ef7ae8a60b297da9e5bf478356",
    "audio.5": "73c84daf879db5cc4811808794e373de",
    "audio.6": "39d3cda72353ee9da88b78164350ff9f",
    "audio.7": "bd6fbf0d9324d1faa72968c162b574d7",
    "audio.8": "d7b4b62156f458865e2bd063b3da39e8",
    "audio.9": "7dbc037eca8d1234de8cd677853f72e4",
    "audio.10": "9a0b1e0d2647f6241d7b7c0649855cc7",
    "audio.11": "c2ae0b8d9270d964f8c1d8b5298fea72",
}


class TAU2019(FileCorpus):
    """Backgrounds of ten scenes; each recording place of the development set is in one split.

    Layout: ``root/TAU-urban-acoustic-scenes-2019-development/`` with ``meta.csv`` and ``audio/``, and beside it
    ``root/TAU-urban-acoustic-scenes-2019-evaluation/`` with ``evaluation_setup/test.csv`` and ``audio/``. Development
    segments are split within each scene and by place (``identifier``, a city and a location; see ``assign_splits``).
    Places and scenes of the evaluation set are unknown: their label is ``unknown``.

    Args:
        root: folder with one or both of them, or one of them.
        test_set: ``evaluation`` tests on the evaluation set (the published way), ``development`` on held-out places
            of the development set, which saves a third of the download; the validation split is the same in both.
        val_fraction: share of each scene's development segments that becomes the validation split, in (0, 1).
        test_fraction: the same for the test split; without effect where the evaluation set is the test split.
        split_seed: seed of the splits; another one draws other places.
        mirror: address that the archives are downloaded from.
    """

    landmarks = (DEVELOPMENT, EVALUATION)

    def __init__(
        self,
        root: str,
        test_set: Literal["evaluation", "development"] = "evaluation",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        mirror: str = "https://zenodo.org/records",
    ) -> None:
        super().__init__(root)
        self.test_set = test_set
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.mirror = mirror

    def archives(self) -> list[Archive]:
        """Return the archives of tables and audio, of the evaluation set only where it is used."""
        records = [("2589280", DEVELOPMENT, DEVELOPMENT_MD5)]
        if self.test_set == "evaluation":
            records.append(("3063822", EVALUATION, EVALUATION_MD5))
        return [
            Archive(
                (RemoteFile(f"{self.mirror}/{number}/files/{name}.{part}.zip?download=1", md5),),
                (f"{name}/meta.csv", f"{name}/evaluation_setup/") if part == "meta" else (f"{name}/audio/",),
            )
            for number, name, md5_of in records
            for part, md5 in md5_of.items()
        ]

    def clips(self) -> list[Clip]:
        """Return the segments in the order of the published tables.

        Raises:
            InputError: a table is missing or incomplete, or a scene has too few places for the splits.
        """
        rows = _read(self.root / DEVELOPMENT / "meta.csv", ("filename", "scene_label", "identifier"))
        fractions = {"val": self.val_fraction}
        if self.test_set == "development":
            fractions["test"] = self.test_fraction
        split_of = assign_splits(
            [row["identifier"] for row in rows], [row["scene_label"] for row in rows], fractions, self.split_seed
        )
        clips = [
            Clip(
                f"{DEVELOPMENT}/{row['filename']}",
                row["scene_label"],
                split_of[row["identifier"]],
                f"TAU2019:{row['identifier']}",
            )
            for row in rows
        ]
        if self.test_set == "evaluation":
            for row in _read(self.root / EVALUATION / "evaluation_setup" / "test.csv", ("filename",)):
                recording = f"TAU2019-evaluation:{PurePosixPath(row['filename']).stem}"
                clips.append(Clip(f"{EVALUATION}/{row['filename']}", "unknown", "test", recording))
        return clips


def _read(table: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    return read_csv(table, columns, _REMEDY, delimiter="\t", filled=columns, key="filename", final_newline=False)
