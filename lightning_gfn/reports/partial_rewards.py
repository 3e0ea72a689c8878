"""The plot of partial rewards: what attempts that became proofs score beside those that did not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_gfn.metrics.functional.partial_rewards import separation_of_rows
from lightning_gfn.reports.rendering.canvas import new_figure, save_figure
from lightning_gfn.reports.runs import load_run

COLOURS = {"proved": "#4c72b0", "unfinished": "#dd8452", "error": "#c44e52"}
NEEDED = ("log_probs", "lengths", "num_tactics", "outcomes")


def load_separation(folders: Sequence[Path], stage: str, temperature: float | None = None) -> dict[str, Any]:
    """How well the log-probability of an action tells proofs from failures, over the attempts of several runs.

    Args:
        folders: runs of one supervised model each; attempts at a theorem are compared within a run.
        stage: ``test`` or ``val``.
        temperature: of each run's grid; its first one if None.

    Returns:
        As ``metrics.functional.partial_rewards.reward_separation``.

    Raises:
        FileNotFoundError: a run has not been evaluated.
        ValueError: a file is malformed, or a run was not evaluated at that temperature.
    """
    rows = []
    for folder in folders:
        for problem, row in load_run(folder, stage=stage, temperature=temperature).samples.items():
            if missing := [name for name in NEEDED if name not in row]:
                raise ValueError(
                    f"{folder / 'results' / f'{stage}_problems.jsonl'}, problem {problem}: field {missing[0]!r} is "
                    "missing; give runs on theorems, and evaluate older ones again"
                )
            rows.append({**row, "problem_id": f"{folder}/{problem}"})
    return separation_of_rows(rows)


def draw_separation(found: dict[str, Any], path: Path, label: str) -> None:
    """Draw the distribution of each outcome and save them as PNG.

    Args:
        found: of ``metrics.functional.partial_rewards.reward_separation``.
        path: file to write.
        label: what the scores are, in nats.

    Raises:
        ValueError: no attempt became a proof, or all did.
    """
    if math.isnan(found["auroc"]):
        raise ValueError("proofs and failures are both needed to compare them: give runs that have both")
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    scores = sorted(score for kind in COLOURS for score in found[kind]["scores"])
    # A few very unlikely attempts would squeeze all others into one bar: the first bar also holds what lies below it.
    low, high = scores[len(scores) // 100], scores[-1]
    step = (high - low) / 40 or 1.0
    edges = [low + step * i for i in range(41)]
    for kind, colour in COLOURS.items():
        if not found[kind]["count"]:
            continue
        name = f"{kind} (n = {found[kind]['count']})"
        shown = [max(low, score) for score in found[kind]["scores"]]
        axes.hist(shown, bins=edges, density=True, color=colour, histtype="step", linewidth=1.6, label=name)
        axes.axvline(found[kind]["median"], color=colour, linestyle="--", linewidth=1)
    axes.set_xlabel(f"{label} (nats; dashed: medians)")
    axes.set_ylabel("density")
    axes.set_title(report(found)[-1].replace("; within", "\nwithin"), fontsize="medium")
    axes.legend(frameon=False, loc="upper left")
    save_figure(figure, path)


def report(found: dict[str, Any]) -> list[str]:
    """A line for each outcome, and one with the AUROCs."""
    lines = [
        f"{kind}: n = {part['count']}, mean {part['mean']:.3f}, median {part['median']:.3f} nats"
        for kind, part in ((kind, found[kind]) for kind in COLOURS)
        if part["count"]
    ]
    return [
        *lines,
        f"AUROC {found['auroc']:.3f}; against unfinished attempts {found['auroc_unfinished']:.3f}; "
        f"within theorems {found['auroc_within']:.3f} ({found['theorems_with_both']} with both kinds)",
    ]
