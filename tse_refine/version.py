"""The name and the version of the package, said once."""

__version__ = "0.1.0"
PACKAGE = "tse-refine"  # as pip knows it, and as saved configurations name what saved them
