"""Corpora, one module per layout."""

from tse_refine.data.corpora.dcase2026_task4 import DCASE2026Task4
from tse_refine.data.corpora.esc50 import ESC50
from tse_refine.data.corpora.fsd50k import FSD50K
from tse_refine.data.corpora.fsdkaggle2018 import FSDKaggle2018
from tse_refine.data.corpora.gise51 import GISE51
from tse_refine.data.corpora.label_folders import LabelFolders
from tse_refine.data.corpora.manifest import Manifest
from tse_refine.data.corpora.synthetic import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.corpora.tau2019 import TAU2019
from tse_refine.data.corpora.urbansound8k import UrbanSound8K

__all__ = [
    "ESC50",
    "FSD50K",
    "GISE51",
    "TAU2019",
    "DCASE2026Task4",
    "FSDKaggle2018",
    "LabelFolders",
    "Manifest",
    "SyntheticBackgrounds",
    "SyntheticSounds",
    "UrbanSound8K",
]
