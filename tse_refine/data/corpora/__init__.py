"""Corpora, one module a layout."""

from tse_refine.data.corpora.embedded import EmbeddedBackgrounds, EmbeddedSounds
from tse_refine.data.corpora.esc50 import ESC50

__all__ = ["ESC50", "EmbeddedBackgrounds", "EmbeddedSounds"]
