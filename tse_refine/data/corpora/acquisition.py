"""Downloads the files that a corpus lacks."""

from __future__ import annotations

from filelock import FileLock

from tse_refine.data.corpora.base import Corpus, FileCorpus
from tse_refine.data.download.archives import Archive
from tse_refine.errors import InputError, listed


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
    from tse_refine.data.download.transfer import install  # its HTTP client is slow to import, and seldom used

    corpus.root.mkdir(parents=True, exist_ok=True)
    installed: list[Archive] = []
    with FileLock(corpus.root / ".install.lock"):
        while missing := corpus.missing():
            filling = [
                archive for archive in corpus.archives() if any(path.startswith(archive.fills) for path in missing)
            ]
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
