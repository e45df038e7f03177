"""The name and the version of the package."""

__version__ = "0.1.0"
PACKAGE = "tse-refine"  # name for pip, and in the header of saved configurations
