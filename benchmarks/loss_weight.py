"""The figure of the loss-weight sweep: scores of the test against lambda, a dot a run.

After ``tse-refine sweep configs/sweeps/loss_weight.yaml``::

    python benchmarks/loss_weight.py --output docs/loss_weight.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tse_refine.analysis.figures import plot_swept
from tse_refine.analysis.sweeps import read_sweep_folder

PANELS = {
    "SNRi at (1:0) (dB)": {"raw": "snri_db/1a0i/none", "refined at 0.3": "snri_db/1a0i/delta_0p3"},
    "SNRi at (1:3) (dB)": {
        "raw": "snri_db/1a3i/none",
        "refined at 0.3": "snri_db/1a3i/delta_0p3",
        "oracle": "snri_db/1a3i/oracle",
    },
    "attenuation at (0:1) (dB)": {"raw": "attenuation_db/0a1i/none", "refined at 0.3": "attenuation_db/0a1i/delta_0p3"},
    "score of the classifier (0 to 1)": {"mAP": "map", "macro F1 at 0.3": "macro_f1/delta_0p3"},
}


def main() -> None:
    """Plot the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/sweeps/loss_weight"), help="folder of the sweep")
    parser.add_argument("--output", type=Path, required=True, help="the PNG file to write")
    options = parser.parse_args()
    panels = {axis: {label: f"test/{name}" for label, name in metrics.items()} for axis, metrics in PANELS.items()}
    plot_swept(read_sweep_folder(options.runs), "model.loss_weight", panels).savefig(options.output, dpi=90)


if __name__ == "__main__":
    main()
