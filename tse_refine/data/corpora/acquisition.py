"""Downloads what a corpus lacks, and nothing that it has."""

from __future__ import annotations

from filelock import FileLock

from tse_refine.data.bank.clip_bank import listed
from tse_refine.data.corpora.base import Corpus, FileCorpus
from tse_refine.data.download.archives import Archive
from tse_refine.data.download.transfer import install
from tse_refine.errors import InputError


def complete(corpus: Corpus, show_progress: bool = True) -> None:
    """Download and unpack the published archives that fill what is missing of a corpus.

    Tables come first, since they say which recordings belong to it. Other processes that want the same wait.

    Args:
        corpus: one whose recordings are files; others lack nothing.
        show_progress: draw progress bars.

    Raises:
        InputError: something is missing that no archive fills, or a download failed.
    """
    if not isinstance(corpus, FileCorpus) or not corpus.archives():
        return
    corpus.root.mkdir(parents=True, exist_ok=True)
    tried: list[Archive] = []
    with FileLock(corpus.root / ".install.lock"):
        while missing := corpus.missing():
            wanted = [
                archive
                for archive in corpus.archives()
                if archive not in tried and any(path.startswith(archive.fills) for path in missing)
            ]
            if not wanted:
                corpus.clips()  # a table that no archive brings is refused by its own text
                stamps = [
                    str(corpus.root / ".installed" / archive.name)
                    for archive in tried
                    if any(path.startswith(archive.fills) for path in missing)
                ]
                again = f" Remove {' '.join(stamps)} to have it downloaded again." if stamps else ""
                raise InputError(
                    f"{corpus.root}: {listed(missing, ', ', most=3)} still missing after everything published has "
                    f"been unpacked.{again}"
                )
            install(wanted, corpus.root, show_progress)
            tried += wanted
