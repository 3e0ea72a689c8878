"""The plot of partial rewards: what attempts that became proofs score beside those that did not."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_gfn.metrics.partial_rewards import separation_of_rows

KINDS = {"proved": "#4c72b0", "unproved": "#c44e52"}
NEEDED = ("problem_id", "log_probs", "lengths", "correct")


def load_separation(folders: Sequence[Path], stage: str) -> dict[str, Any]:
    """How well the log-probability per token tells proofs from failures, over the attempts of several runs.

    Args:
        folders: runs of one supervised model each; attempts at a theorem are compared within a run.
        stage: ``test`` or ``val``.

    Returns:
        As ``metrics.partial_rewards.reward_separation``.

    Raises:
        FileNotFoundError: a run has not been evaluated.
        ValueError: a row is malformed, or no attempt became a proof, or all did.
    """
    rows = []
    for folder in folders:
        path = folder / "results" / f"{stage}_problems.jsonl"
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist: evaluate this run first (lightning-gfn test)")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            missing = [name for name in NEEDED if name not in row]
            if missing:
                raise ValueError(f"{path}:{number + 1}: field {missing[0]!r} is missing; evaluate the run again")
            rows.append({**row, "problem_id": f"{folder}/{row['problem_id']}"})
    found = separation_of_rows(rows)
    if math.isnan(found["auroc"]):
        raise ValueError(f"{', '.join(map(str, folders))}: proofs and failures are both needed to compare them")
    return found


def draw_separation(found: dict[str, Any], path: Path) -> None:
    """Draw both distributions and save them as PNG.

    Args:
        found: of ``load_separation``.
        path: file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    scores = sorted(score for kind in KINDS for score in found[kind]["scores"])
    # A few very unlikely attempts would squeeze all others into one bar: the first bar also holds what lies below it.
    low, high = scores[len(scores) // 100], scores[-1]
    step = (high - low) / 40 or 1.0
    edges = [low + step * i for i in range(41)]
    for kind, colour in KINDS.items():
        label = f"{kind} ({found[kind]['count']} attempts)"
        shown = [max(low, score) for score in found[kind]["scores"]]
        axes.hist(shown, bins=edges, density=True, color=colour, alpha=0.45, label=label)
        axes.axvline(found[kind]["median"], color=colour, linestyle="--", linewidth=1)
    axes.set_xlabel("log-probability per token (nats; dashed: medians)")
    axes.set_ylabel("density")
    axes.set_title(summary(found))
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def summary(found: dict[str, Any]) -> str:
    """One line: AUROC over all attempts, and within theorems that have both kinds."""
    return (
        f"AUROC {found['auroc']:.3f}; within theorems {found['auroc_within']:.3f} "
        f"({found['theorems_with_both']} with both kinds)"
    )
