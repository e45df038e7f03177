"""From the result files of runs to tables, figures and one page that gathers them."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tse_refine.analysis import figures
from tse_refine.analysis.comparison_tables import (
    DIFFERENCE_COLUMNS,
    condition_table,
    decision_table,
    difference_rows,
    difference_table,
    measure_table,
    result_rows,
    result_table,
)
from tse_refine.analysis.comparisons import (
    CLASS_COLUMNS,
    DECISION_COLUMNS,
    QUERY_COLUMNS,
    Row,
    class_rows,
    compare_systems,
    condition_differences,
    decision_rows,
    method_differences,
    query_rows,
)
from tse_refine.analysis.example import WorkedExample, extract_example
from tse_refine.analysis.plotting import require_matplotlib
from tse_refine.analysis.systems import System, group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, UNMATCHED
from tse_refine.evaluation.metrics import HEADLINES
from tse_refine.evaluation.results import REMEDY, summary_columns, summary_table
from tse_refine.files.atomic import replacing, write_text
from tse_refine.files.tables import Table, read_csv, write_csv
from tse_refine.refinement import NoRefinement, Refinement, parse_refinement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTIONS = {
    "snri_by_inactive": "SNRi against the number of inactive classes in the query (as the paper's Fig. 3).",
    "trade_off": "What refinement costs fully matched queries and gains on partially matched ones, one point per "
    "refinement.",
    "attenuation": "Attenuation of the output where no queried class is in the mixture.",
    "thresholds": "SNRi against inactive classes with every refinement, one panel per system.",
    "per_class": "Each class: SNRi at (1:3) without and with refinement, and the recall of the classifier (1 minus its "
    "false-negative rate).",
    "example": "The example on one scale of colours (as the paper's Fig. 2).",
}
_PEAK = 10 ** (-1 / 20)  # -1 dB of full scale: room for what a player's filters add


@dataclass
class _Report:
    """Contents of the report.

    Attributes:
        texts: text files by name.
        tables: columns and rows of CSV files by name.
        pictures: files of the figures by name.
        sections: tables of the page by its headings.
    """

    texts: dict[str, str] = field(default_factory=dict)
    tables: dict[str, tuple[Sequence[str], Sequence[Row]]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    sections: dict[str, list[Table]] = field(default_factory=dict)
