"""Downloads the files that a corpus lacks, and tells beforehand what that takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from tse_refine.data.corpora.base import Corpus, FileCorpus
from tse_refine.data.download.archives import Archive
from tse_refine.errors import InputError, MissingFileError, listed, printable


@dataclass(frozen=True)
class Download:
    """What is to be downloaded into one folder.

    Attributes:
        root: folder of a corpus.
        sizes: bytes still to transfer by archive; None where neither server nor publisher gives the size.
    """

    root: Path
    sizes: dict[Archive, int | None]

    @property
    def num_bytes(self) -> int | None:
        """Bytes to transfer; None where the size of an archive is unknown."""
        known = [size for size in self.sizes.values() if size is not None]
        return sum(known) if len(known) == len(self.sizes) else None

    def __str__(self) -> str:
        """Return what is downloaded, from where and how much it is, and the space that it takes and that is free."""
        hosts = sorted({urlsplit(file.url).netloc for archive in self.sizes for file in archive.files})
        what = f"{listed([archive.name for archive in self.sizes], most=3)} from {listed(hosts)}"
        if self.num_bytes is None:
            needed = "unknown size"
        else:  # audio hardly compresses, and an archive is deleted when it is unpacked
            space = self.num_bytes + max(size or 0 for size in self.sizes.values())
            needed = f"{gigabytes(self.num_bytes)}, at least {gigabytes(space)} of disk while they are unpacked"
        return f"{what} into {printable(self.root)}: {needed} ({gigabytes(_free(self.root))} free)"


def gigabytes(num_bytes: int) -> str:
    """Return a size as servers and disks give it.

    >>> gigabytes(53_500_000_000)
    '53.5 GB'
    """
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"


def planned_downloads(corpora: Iterable[Corpus]) -> list[Download]:
    """Return what ``download_missing`` would download for several corpora, one entry per folder; nothing is written.

    Tables list the recordings: where one is missing, every archive counts that is not unpacked.

    Args:
        corpora: some of which may share a folder, and archives.

    Raises:
        InputError: tables cannot be read, a corpus that is not to be downloaded is missing, or a server cannot be
            reached.
    """
    wanted: dict[Path, dict[Archive, None]] = {}
    for corpus in corpora:
        if isinstance(corpus, FileCorpus) and corpus.archives():
            wanted.setdefault(corpus.root, {}).update(dict.fromkeys(_needed(corpus)))
        else:
            corpus.clips()  # what cannot be downloaded must be there before gigabytes of another corpus are
    if not any(wanted.values()):
        return []
    from tse_refine.data.download.transfer import missing_sizes  # its HTTP client is slow to import, and seldom used

    downloads = [Download(root, missing_sizes(list(archives), root)) for root, archives in wanted.items()]
    return [download for download in downloads if download.sizes]


def download_missing(corpus: Corpus) -> None:
    """Download and unpack the published archives that contain what is missing of a corpus.

    Tables come first, since they list the recordings. Other processes that download the same corpus wait.

    Args:
        corpus: one whose recordings are files; others lack nothing.

    Raises:
        InputError: a missing file is in no archive, or a download failed.
    """
    if not isinstance(corpus, FileCorpus) or not corpus.archives():
        return
    from tse_refine.data.download.transfer import install  # see above

    corpus.root.mkdir(parents=True, exist_ok=True)
    installed: list[Archive] = []
    with FileLock(corpus.root / ".install.lock"):
        while missing := corpus.missing():
            filling = _filling(corpus, missing)
            new = [archive for archive in filling if archive not in installed]
            if not new:
                corpus.clips()  # a table that is in no archive is rejected with its own message
                stamps = [str(corpus.root / ".installed" / archive.name) for archive in filling]
                again = f" Remove {' '.join(stamps)} to download it again." if stamps else ""
                raise InputError(
                    f"{corpus.root}: {listed(missing, most=3)} still missing after all published archives have been "
                    f"unpacked.{again}"
                )
            install(new, corpus.root)
            installed += new


def _needed(corpus: FileCorpus) -> list[Archive]:
    """Return the archives with what is missing; all where a table is missing."""
    try:
        corpus.clips()
    except MissingFileError:
        return corpus.archives()
    return _filling(corpus, corpus.missing())


def _filling(corpus: FileCorpus, missing: list[str]) -> list[Archive]:
    return [archive for archive in corpus.archives() if any(path.startswith(archive.fills) for path in missing)]


def _free(folder: Path) -> int:
    """Return the free bytes where a folder is or will be."""
    place = os.path.abspath(folder)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    return shutil.disk_usage(place).free
