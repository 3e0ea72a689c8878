"""Measure a reward model: accuracy, AUROC, calibration, and the data of the reliability plot."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from lightning_gfn.callbacks.common.evaluated_step import EvaluatedStep
from lightning_gfn.callbacks.common.problem_rows import run_seed
from lightning_gfn.callbacks.common.run_files import (
    ResultRow,
    gather_rows,
    run_folder,
    send_artifact,
    write_json,
    write_jsonl,
)
from lightning_gfn.metrics.functional.calibration import (
    accuracy,
    auroc,
    brier_score,
    expected_calibration_error,
    reliability_bins,
)
from lightning_gfn.module_interfaces import as_method
from lightning_gfn.preference_types import Judgement

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

PRINTED = ("accuracy", "auroc", "ece", "ece_equal_mass", "brier", "nll")


def sigmoid(log_odds: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    return 1.0 / (1.0 + math.exp(-log_odds)) if log_odds >= 0 else math.exp(log_odds) / (1.0 + math.exp(log_odds))


def cross_entropy(log_odds: float, label: float) -> float:
    """-y log σ(x) - (1 - y) log σ(-x), nats."""
    return max(log_odds, 0.0) - label * log_odds + math.log1p(math.exp(-abs(log_odds)))


def measure_judgements(rows: list[ResultRow], num_bins: int) -> dict[str, Any]:
    """Figures and reliability bins of judgements.

    Args:
        rows: ``log_odds`` and ``label`` of each.
        num_bins: bins of both schemes.

    Returns:
        ``metrics`` by name, and ``bins`` by scheme.
    """
    log_odds, labels = [row["log_odds"] for row in rows], [row["label"] for row in rows]
    probabilities = [sigmoid(value) for value in log_odds]
    bins = {
        "equal_width": reliability_bins(probabilities, labels, num_bins=num_bins, scheme="width"),
        "equal_mass": reliability_bins(probabilities, labels, num_bins=num_bins, scheme="mass"),
    }
    metrics = {
        "accuracy": accuracy(probabilities, labels),
        "auroc": auroc(log_odds, labels),
        "ece": expected_calibration_error(bins["equal_width"]),
        "ece_equal_mass": expected_calibration_error(bins["equal_mass"]),
        "brier": brier_score(probabilities, labels),
        "nll": math.fsum(map(cross_entropy, log_odds, labels)) / len(rows),
        "label_mean": math.fsum(labels) / len(rows),
        "score_mean": math.fsum(probabilities) / len(rows),
        "num_labels": float(len(rows)),
    }
    return {
        "metrics": {name: value for name, value in metrics.items() if not math.isnan(value)},
        "bins": {scheme: [dataclasses.asdict(found) for found in part] for scheme, part in bins.items()},
    }


class RewardEvaluation(EvaluatedStep):
    """Measures every judgement that the module returns.

    Logged as ``val/<metric>`` and ``test/<metric>``: accuracy, AUROC, expected calibration error over bins of equal
    width and of equal mass, Brier score and cross-entropy (nats), over all labelled steps. AUROC is left out where all
    labels agree. Rank 0 writes ``results/<stage>_judgements.jsonl`` and ``results/<stage>_reward_model.json``, from
    which ``lightning-gfn reliability`` draws. Each label counts once, however ranks shared the work.

    Args:
        num_bins: bins of the calibration error and of the reliability plot.
    """

    def __init__(self, *, num_bins: int = 15) -> None:
        if num_bins < 1:
            raise ValueError(f"num_bins must be at least 1, got {num_bins}")
        self.num_bins = num_bins
        self.summary = ""
        self._rows: list[ResultRow] = []

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the figures."""
        self._print(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the figures, where validation is all that was asked for."""
        if trainer.state.fn == "validate":
            self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.summary:
            print(self.summary, flush=True)

    def restart(self) -> None:
        """Start without judgements."""
        self._rows = []

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, step_name: str) -> None:
        """Keep the judgements of one batch.

        Raises:
            TypeError: the module's step returned something else.
        """
        if not isinstance(outputs, list) or not all(isinstance(item, Judgement) for item in outputs):
            raise TypeError(f"{step_name} must return list[Judgement] for RewardEvaluation; use it with a reward model")
        self._rows += [dataclasses.asdict(item) for item in outputs]

    def finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Merge the ranks, log the figures and write the results."""
        unique: dict[tuple[str, int], ResultRow] = {}
        for row in gather_rows(trainer, self._rows):
            unique.setdefault((row["id"], row["step"]), row)
        rows = [unique[key] for key in sorted(unique)]
        self.restart()
        if not rows:
            return
        found = measure_judgements(rows, self.num_bins)
        pl_module.log_dict({f"{stage}/{name}": value for name, value in found["metrics"].items()}, sync_dist=True)
        method = as_method(pl_module, self).method
        if trainer.is_global_zero:
            folder = run_folder(trainer) / "results"
            identity = {"stage": stage, "method": method, "seed": run_seed(), "step": self.weights_step(trainer)}
            send_artifact(trainer, write_jsonl(folder / f"{stage}_judgements.jsonl", rows), "results")
            send_artifact(trainer, write_json(folder / f"{stage}_reward_model.json", {**identity, **found}), "results")
        figures = ", ".join(f"{name} {found['metrics'][name]:.3f}" for name in PRINTED if name in found["metrics"])
        self.summary = f"{method}, {stage}: {len(rows)} labels, {figures}"
