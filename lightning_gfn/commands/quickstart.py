"""Train a small model from scratch, fine-tune it by each method on equal budgets, and compare them."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning_gfn.commands.study import build_parser, run_study
from lightning_gfn.installation.experiments import experiments_folder

STUDY = Path("studies") / "quickstart.yaml"


def main(args: list[str]) -> int:
    """Run the quickstart; returns the exit status."""
    parser = build_parser("lightning-gfn quickstart", __doc__)
    parser.add_argument(
        "--experiments", type=Path, default=experiments_folder(), help="folder that holds studies/quickstart.yaml"
    )
    options = parser.parse_args(args)
    if not (options.experiments / STUDY).exists():
        print(
            f"no {options.experiments / STUDY}: name the folder that holds it: --experiments DIR",
            file=sys.stderr,
        )
        return 2
    output = options.output if options.output is not None else Path("runs/quickstart")
    status = run_study(
        options.experiments / STUDY,
        output=output,
        seeds=options.seeds,
        jobs=options.jobs,
        fresh=options.if_exists == "fresh",
    )
    if status == 0:
        print(f"Look at {output}/comparison.html (or .md, .png and .json there);")
        print("`make mlflow` opens the MLflow dashboard of these runs; notebooks/tour.ipynb plots them.")
    return status
