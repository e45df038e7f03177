"""Target sound extraction with context-aware query refinement (arXiv 2509.08292)."""

from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError
from tse_refine.evaluation import QueryRefinementEvaluation
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.module import ExtractionModule
from tse_refine.refinement import refine
from tse_refine.version import __version__

__all__ = [
    "ExtractionModule",
    "InputError",
    "MixtureDataModule",
    "Network",
    "NetworkConfig",
    "QueryRefinementEvaluation",
    "__version__",
    "refine",
]
