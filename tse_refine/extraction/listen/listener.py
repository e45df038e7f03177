"""What the page does: each action of a visitor, and what is then to be shown."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen import panels
from tse_refine.extraction.listen.mixtures import TestMixtures
from tse_refine.extraction.listen.sound import Sound
from tse_refine.extraction.listen.uploads import Limits, read_upload
from tse_refine.extraction.listen.visit import CARDS, Visit

_MOST_VISITS = 16  # whose sounds are held in memory and on disk; who came first is forgotten first
NOTHING_YET = "Drop or record a sound, or take a test mixture, to see which classes are in it."


@dataclass(frozen=True)
class View:
    """What is to be shown, as HTML; None leaves what is there.

    Attributes:
        message: remarks, or why something cannot be done.
        table: probabilities.
        cards: mixture, target, raw query and refined query; empty where there is none.
        scale: of the colours.
    """

    message: str
    table: str | None = None
    cards: Sequence[str | None] = (None,) * len(CARDS)
    scale: str | None = None


class Listener:
    """Answers the visitors of the page, of which each has a sound of its own.

    Args:
        extractor: does the work.
        mixtures: where test mixtures come from; None where there are none.
        limits: of what is taken.
        folder: for the files that are heard.
    """

    def __init__(self, extractor: Extractor, mixtures: TestMixtures | None, limits: Limits, folder: Path) -> None:
        self.extractor = extractor
        self.mixtures = mixtures
        self.limits = limits
        self._folder = folder
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._lock = Lock()  # of the visits

    def take(self, visitor: str, path: Path, query: Sequence[str], threshold: float) -> View:
        """Listen to a file; it is removed once it has been read.

        Args:
            visitor: who asks.
            path: of the file.
            query: names of the classes that are ticked.
            threshold: that is set.
        """

        def read() -> Sound:
            try:
                return read_upload(path, self.limits)
            finally:
                path.unlink(missing_ok=True)

        return self._begin(visitor, read, query, threshold)

    def draw(self, visitor: str, query: Sequence[str], threshold: float) -> View:
        """Listen to a test mixture."""
        assert self.mixtures is not None, "without test mixtures there is no button for them"
        return self._begin(visitor, self.mixtures.draw, query, threshold)

    def look(self, visitor: str, query: Sequence[str], threshold: float) -> str:
        """Return the table for another query or threshold; the network does not run."""
        visit = self._visits.get(visitor)
        return self.nothing_yet() if visit is None else visit.table(query, threshold)

    def extract(self, visitor: str, query: Sequence[str], threshold: float) -> View:
        """Extract with the raw and the refined query."""
        visit = self._visits.get(visitor)
        if visit is None:
            return View(panels.refusal("There is no sound yet: drop or record one, or take a test mixture."))
        try:
            visit.extract(query, threshold)
        except InputError as error:
            return View(panels.refusal(str(error)))
        return _shown(visit, query, threshold)

    def extract_again(self, visitor: str, query: Sequence[str], threshold: float) -> View | None:
        """Extract at another threshold, if this query was extracted before; otherwise return None."""
        visit = self._visits.get(visitor)
        if visit is None or visit.answer is None or visit.answer.query != tuple(query):
            return None
        return self.extract(visitor, query, threshold)

    def leave(self, visitor: str) -> None:
        """Forget the sound of a visitor and remove its files."""
        with self._lock:
            visit = self._visits.pop(visitor, None)
        if visit is not None:
            visit.close()

    def nothing_yet(self) -> str:
        """Return what stands in the place of the table before there is a sound."""
        return panels.note(NOTHING_YET if self.extractor.has_classifier else panels.NO_CLASSIFIER)

    def _begin(self, visitor: str, read: Callable[[], Sound], query: Sequence[str], threshold: float) -> View:
        try:
            visit = Visit(self.extractor, read(), self._folder)
        except InputError as error:
            return View(panels.refusal(str(error)))  # what was there before stays
        self.leave(visitor)
        with self._lock:
            self._visits[visitor] = visit
            oldest = [name for name, _ in zip(self._visits, range(len(self._visits) - _MOST_VISITS), strict=False)]
        for name in oldest:
            self.leave(name)
        return _shown(visit, query, threshold)


def _shown(visit: Visit, query: Sequence[str], threshold: float) -> View:
    cards = visit.cards()  # first: it decides the gain, of which the remarks tell
    return View(panels.note(visit.remarks()), visit.table(query, threshold), cards, visit.scale())
