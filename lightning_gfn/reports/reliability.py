"""The reliability plot of a reward model: how often it is right at each probability that it gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.reports.rendering.canvas import new_figure, save_figure
from lightning_gfn.reports.rows import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMES = {"equal_width": "bins of equal width", "equal_mass": "bins of equal mass"}
SHOWN = {"accuracy": "accuracy", "auroc": "AUROC", "ece": "ECE", "brier": "Brier"}


def load_reliability(folder: Path, stage: str) -> dict[str, Any]:
    """The measured bins of a run of a reward model.

    Raises:
        FileNotFoundError: the run has not been evaluated, or is none of a reward model.
        ValueError: the file is malformed.
    """
    command = "validate" if stage == "val" else stage
    path = folder / "results" / f"{stage}_reward_model.json"
    remedy = (
        f"evaluate this run of a reward model first (lightning-gfn {command} --config {folder / 'config.yaml'}), with "
        "the callback lightning_gfn.callbacks.reward_evaluation.RewardEvaluation"
    )
    content = read_json(path, remedy)
    for field in ("metrics", "bins"):
        if not isinstance(content.get(field), dict):
            raise ValueError(f"{path}: field {field!r} is missing; {remedy}")
    for scheme in SCHEMES:
        if not isinstance(content["bins"].get(scheme), list) or not content["bins"][scheme]:
            raise ValueError(f"{path}: field 'bins.{scheme}' is missing or empty; {remedy}")
    return content


def draw_curve(axes: Axes, bins: list[dict[str, float]], title: str) -> None:
    """Frequency against confidence with binomial 95% bands, and how many predictions each bin holds."""
    confidence = [found["confidence"] for found in bins]
    frequency = [found["frequency"] for found in bins]
    half = [1.96 * (f * (1 - f) / found["count"]) ** 0.5 for f, found in zip(frequency, bins, strict=True)]
    total = sum(found["count"] for found in bins)
    axes.plot([0, 1], [0, 1], color="#8c8c8c", linewidth=1, linestyle="--", label="perfect calibration")
    for found in bins:
        width = max(found["high"] - found["low"], 0.005)
        axes.bar(found["low"], found["count"] / total, width=width, align="edge", color="#4c72b0", alpha=0.2)
    axes.errorbar(confidence, frequency, yerr=half, fmt="o-", ms=4, capsize=2, color="#c44e52", label="this model")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("predicted probability (bars: share of predictions)")
    axes.set_ylabel("how often the label is 1")
    axes.set_title(title)
    axes.legend(frameon=False, loc="upper left")
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def draw_reliability(content: dict[str, Any], path: Path) -> None:
    """Draw both kinds of bins side by side and save them as PNG.

    Args:
        content: of ``load_reliability``.
        path: file to write.
    """
    figure = new_figure(10, 4.8)
    for axes, (scheme, title) in zip(figure.subplots(1, 2), SCHEMES.items(), strict=True):
        draw_curve(axes, content["bins"][scheme], title)
    figure.suptitle(summary(content))
    save_figure(figure, path)


def summary(content: dict[str, Any]) -> str:
    """One line: who, how many labels, and the figures."""
    metrics = content["metrics"]
    figures = ", ".join(f"{title} {metrics[name]:.3f}" for name, title in SHOWN.items() if name in metrics)
    return f"{content['method']}, {content['stage']}: {metrics['num_labels']:.0f} labels, {figures}"
