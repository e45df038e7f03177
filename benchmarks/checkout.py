"""Lets a benchmark run from a checkout whose package is not installed: ``import checkout`` before the package."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))  # at the end: an installed package goes first
