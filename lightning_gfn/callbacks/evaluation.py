"""Turn evaluation records into metrics, per-problem results and files."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from lightning_gfn.callbacks.common.console import write_line
from lightning_gfn.callbacks.common.evaluated_step import EvaluatedStep
from lightning_gfn.callbacks.common.problem_rows import (
    Measured,
    console_table,
    is_headline,
    measure,
    measure_pooled,
    merge_rows,
    num_parameters,
    problem_row,
    run_identity,
    temperature_suffix,
)
from lightning_gfn.callbacks.common.run_files import (
    ResultRow,
    gather_rows,
    records_of,
    run_folder,
    send_artifact,
    where_it_lies,
    write_json,
    write_jsonl,
)
from lightning_gfn.callbacks.health.zero_notes import zero_notes
from lightning_gfn.metrics.accuracy import MajorityAtK, PassAtK, SolveRate
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.branches import BranchAccuracy
from lightning_gfn.metrics.completions import CompletionStatistics
from lightning_gfn.metrics.diversity import Coverage, DistinctCorrect, Rule
from lightning_gfn.metrics.labels import LabelPrediction
from lightning_gfn.metrics.proofs import (
    DistinctProofs,
    EnvironmentSeconds,
    ProofLength,
    StatesCovered,
    TacticErrors,
    TacticVariety,
)
from lightning_gfn.metrics.references import ReferenceNll
from lightning_gfn.metrics.target import LogLikelihood, SampledTarget, TargetDistance
from lightning_gfn.module_interfaces import as_evaluated
from lightning_gfn.similarity.rouge import Tokenizer, require_tokenizer

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


USUAL_K = 8
"""Samples of pass@k and majority unless asked otherwise."""


class Evaluation(EvaluatedStep):
    """Measures every evaluation record that the module returns, for each temperature of its grid.

    Logged as ``val/<metric>`` and ``test/<metric>``, with ``_t<temperature>`` behind the metric for all temperatures
    but the first, and ``_ci95_low`` and ``_ci95_high`` (percentile bootstrap over problems) for the headline metrics.
    Rank 0 writes ``results/<stage>_problems.jsonl`` (a row for each problem and temperature) and, when that is
    complete, ``results/<stage>_metrics.json`` into the run folder, and hands both to the loggers. Ranks are merged
    exactly: each problem counts once, however they shared the work. Attempts at theorems are measured as proofs, too.

    Args:
        ks: pass@k is reported for these k; None for 1 and 8, or all samples of a problem where they are fewer than 8;
            an empty list leaves it out.
        majority_ks: maj@k is reported for these k; None for 8, or all samples where they are fewer; an empty list
            leaves it out.
        thresholds: two correct solutions count as different if their ROUGE-L F1 is below the threshold.
        distinct_rules: how distinct-correct is counted: greedily in generation order, in expectation over all orders,
            or as connected components.
        tokenizer: the words that distinct-correct compares: ``rouge``, those of rouge-score (ASCII letters and digits),
            or ``unicode``, those of any script.
        extra_metrics: further metrics, each measured at every temperature.
        num_resamples: bootstrap resamples of the intervals.
        bootstrap_seed: seed of the resamples.
        keep_completions: write the completions into the per-problem results.
    """

    def __init__(
        self,
        *,
        ks: tuple[int, ...] | None = None,
        majority_ks: tuple[int, ...] | None = None,
        thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9),
        distinct_rules: tuple[Rule, ...] = ("greedy", "expected", "components"),
        tokenizer: Tokenizer = "rouge",
        extra_metrics: list[PerProblemMetric] | None = None,
        num_resamples: int = 1000,
        bootstrap_seed: int = 0,
        keep_completions: bool = True,
    ) -> None:
        self.ks, self.majority_ks = ks, majority_ks
        self._num_samples = USUAL_K
        self.thresholds = thresholds
        self.distinct_rules = distinct_rules
        self.tokenizer = require_tokenizer(tokenizer)
        self.extra_metrics = extra_metrics if extra_metrics is not None else []
        self.num_resamples = num_resamples
        self.bootstrap_seed = bootstrap_seed
        self.keep_completions = keep_completions
        self.summary = ""
        self._had_notes = False
        self._metrics: dict[float, list[PerProblemMetric]] = {}
        self._rows: list[ResultRow] = []

    @property
    def _ks(self) -> tuple[int, ...]:
        return self.ks if self.ks is not None else tuple(sorted({1, min(USUAL_K, self._num_samples)}))

    @property
    def _majority_ks(self) -> tuple[int, ...]:
        return self.majority_ks if self.majority_ks is not None else (min(USUAL_K, self._num_samples),)

    @property
    def metric_settings(self) -> dict[str, Any]:
        """The metric settings decide what figures mean; runs that are compared must agree in them."""
        return {
            "ks": list(self._ks),
            "majority_ks": list(self._majority_ks),
            "thresholds": list(self.thresholds),
            "distinct_rules": list(self.distinct_rules),
            **({"tokenizer": self.tokenizer} if self.tokenizer != "rouge" else {}),
            "extra": [part for metric in self.extra_metrics for part in metric.meaning],
        }

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a k that the module's samples cannot give.

        Raises:
            TypeError: the module does not evaluate a policy.
            ValueError: more samples are asked for than the module draws.
        """
        if stage == "predict":
            return
        num_samples = self._num_samples = as_evaluated(pl_module, self).decoding()["num_samples"]
        largest = max((*self._ks, *self._majority_ks), default=0)
        if largest > num_samples:
            raise ValueError(
                f"Evaluation reports metrics at k={largest} but the module draws {num_samples} samples a problem: "
                "raise model.evaluation.num_samples or take that k out of the callback's ks and majority_ks"
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the headline numbers."""
        self._print(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the headline numbers, where validation is all that was asked for."""
        if trainer.state.fn == "validate":
            self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.summary:
            write_line(self.summary)

    def restart(self) -> None:
        """Start with no metrics and no rows."""
        self._metrics = {}
        self._rows = []

    def _bank(self, temperature: float, pl_module: LightningModule) -> list[PerProblemMetric]:
        if temperature not in self._metrics:
            bank: list[PerProblemMetric] = [SolveRate()]
            bank += [kind(ks) for kind, ks in ((PassAtK, self._ks), (MajorityAtK, self._majority_ks)) if ks]
            bank += [DistinctCorrect(self.thresholds, rule, self.tokenizer) for rule in self.distinct_rules]
            bank += [Coverage(), CompletionStatistics(), ReferenceNll(), BranchAccuracy()]
            bank += [DistinctProofs(), ProofLength(), TacticErrors(), StatesCovered(), TacticVariety()]
            bank += [EnvironmentSeconds(), TargetDistance(), SampledTarget(), LogLikelihood(), LabelPrediction()]
            bank += deepcopy(self.extra_metrics)
            self._metrics[temperature] = [metric.to(pl_module.device) for metric in bank]
        return self._metrics[temperature]

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, step_name: str) -> None:
        """Measure the records of one batch."""
        for record in records_of(outputs, step_name):
            labels: dict[str, list[str | None]] = {}
            for metric in self._bank(record.temperature, pl_module):
                metric.update(record)
                labels |= metric.sample_labels(record)
            self._rows.append(problem_row(record, keep_completions=self.keep_completions, labels=labels))

    def finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Merge the ranks, log the figures and write the results."""
        gathered = gather_rows(trainer, self._rows)
        temperatures = list(dict.fromkeys(row["temperature"] for row in gathered))
        rows = merge_rows(gathered, temperatures)
        measured = {t: self._measure(t, rows, pl_module) for t in temperatures}
        if not measured:
            return
        for temperature, column in measured.items():
            self._log(pl_module, stage, temperature_suffix(temperature, temperatures), column)
        module = as_evaluated(pl_module, self)
        identity = {
            **run_identity(module, rows, temperatures, self.weights_step(trainer)),
            "parameters": num_parameters(pl_module),
        }
        if trainer.is_global_zero:
            self._write(trainer, stage, rows, identity, measured)
        title = f"{identity['method']}, {stage}: {identity['problems']['count']} problems, 95% intervals over problems"
        notes = zero_notes(rows, identity["decoding"].get("max_new_tokens"))
        self.summary = "\n".join([console_table(measured, title), *notes, where_it_lies(run_folder(trainer), stage)])
        if trainer.is_global_zero and trainer.state.fn == "fit" and notes and not self._had_notes:
            write_line("\n".join(f"[lightning-gfn] validation at step {trainer.global_step}: {note}" for note in notes))
        self._had_notes = bool(notes)
        self.restart()

    def _measure(self, temperature: float, rows: list[ResultRow], pl_module: LightningModule) -> dict[str, Measured]:
        """Means of one temperature; the rows are given their problem's values."""
        own = [row for row in rows if row["temperature"] == temperature]
        how = {"num_resamples": self.num_resamples, "seed": self.bootstrap_seed}
        pooled: dict[str, Measured] = {}
        for metric in self._bank(temperature, pl_module):
            values = metric.per_problem()
            pooled |= measure_pooled(metric, values, **how)
            for row in own:
                row["metrics"] |= values[row["problem_id"]]
        return {**measure(own, **how), **pooled}

    @staticmethod
    def _log(pl_module: LightningModule, stage: str, suffix: str, column: dict[str, Measured]) -> None:
        values = {f"{stage}/{name}{suffix}": x.value for name, x in column.items()}
        for name, x in column.items():
            if is_headline(name):
                values[f"{stage}/{name}{suffix}_ci95_low"] = x.low
                values[f"{stage}/{name}{suffix}_ci95_high"] = x.high
        # All ranks hold the same values; the reduction keeps monitors of every rank supplied and Lightning quiet.
        pl_module.log_dict(values, sync_dist=True)

    def _write(
        self,
        trainer: Trainer,
        stage: str,
        rows: list[ResultRow],
        identity: dict[str, Any],
        measured: dict[float, dict[str, Measured]],
    ) -> None:
        folder = run_folder(trainer) / "results"
        own = {name: identity[name] for name in ("method", "seed", "step", "decoding")}
        send_artifact(
            trainer, write_jsonl(folder / f"{stage}_problems.jsonl", [{**row, **own} for row in rows]), "results"
        )
        temperatures = list(measured)
        metrics = {
            f"{name}{temperature_suffix(temperature, temperatures)}": x.to_json()
            for temperature, column in measured.items()
            for name, x in column.items()
        }
        content = {"stage": stage, **identity, "metric_settings": self.metric_settings, "metrics": metrics}
        send_artifact(trainer, write_json(folder / f"{stage}_metrics.json", content), "results")
