"""Target sound extraction with context-aware query refinement (arXiv 2509.08292)."""

import getpass
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tse_refine.version import __version__

if TYPE_CHECKING:
    from tse_refine.analysis.frames import load_results
    from tse_refine.data.datamodule import MixtureDataModule
    from tse_refine.errors import InputError
    from tse_refine.evaluation.callback import QueryRefinementEvaluation
    from tse_refine.extraction.extractor import Extraction, Extractor
    from tse_refine.model.network import Network, NetworkConfig
    from tse_refine.refinement import refine
    from tse_refine.training.csv_logger import RunCSVLogger
    from tse_refine.training.module import ExtractionModule
    from tse_refine.training.tensorboard_logger import RunTensorBoardLogger
    from tse_refine.training.wandb_logger import RunWandbLogger

try:
    getpass.getuser()
except (KeyError, OSError):  # a user id without a name, as in containers; PyTorch names its folder of kernels after it
    os.environ["LOGNAME"] = f"uid{os.getuid()}"

# imported at first use: extraction needs no Lightning, whose import is as long as that of all the rest
_MODULES = {
    "Extraction": "extraction.extractor",
    "ExtractionModule": "training.module",
    "Extractor": "extraction.extractor",
    "InputError": "errors",
    "MixtureDataModule": "data.datamodule",
    "Network": "model.network",
    "NetworkConfig": "model.network",
    "QueryRefinementEvaluation": "evaluation.callback",
    "RunCSVLogger": "training.csv_logger",
    "RunTensorBoardLogger": "training.tensorboard_logger",
    "RunWandbLogger": "training.wandb_logger",
    "load_results": "analysis.frames",
    "refine": "refinement",
}

__all__ = [
    "Extraction",
    "ExtractionModule",
    "Extractor",
    "InputError",
    "MixtureDataModule",
    "Network",
    "NetworkConfig",
    "QueryRefinementEvaluation",
    "RunCSVLogger",
    "RunTensorBoardLogger",
    "RunWandbLogger",
    "__version__",
    "load_results",
    "refine",
]


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
