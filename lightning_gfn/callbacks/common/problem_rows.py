"""Rows, identity and summaries of evaluation results."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_gfn.answers.given import answers_of
from lightning_gfn.callbacks.common.run_files import ResultRow
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional.estimates import bootstrap_ci
from lightning_gfn.prompts.chat import prompt_identity
from lightning_gfn.types import CLASSIFIED, EvalRecord, Problem

if TYPE_CHECKING:
    from torch import nn

    from lightning_gfn.module_interfaces import EvaluatedModule

HEADLINE = re.compile(
    r"solve_rate(?:_greedy|_cot)?|pass_at_\d+|maj_at_\d+|distinct_correct_rouge_[\d.]+|coverage"
    r"|target_mass|total_variation|kl_to_target|log_likelihood|log_likelihood_max|sample_embedding_distance"
    r"|sample_spread|label_accuracy|label_log_prob|label_calibration_error"
    r"|bleu_4|gleu_4|bert_score_f1|(?:distinct|effective)_classes_[\w.-]+(?<!_solved)"
)
NOT_DECODING = ("max_rows", "score_references", "labels_by", "swap_rationales")
PLAIN = (str, int, float, bool, type(None))
LEVEL = 0.95
EXPLAINING = ("answered_share", "truncated_share")
"""Metrics that are printed with the headline ones: a row of zeros is understood from them."""


@dataclass(frozen=True)
class Measured:
    """A metric over problems with its bootstrap interval.

    Args:
        value: mean over problems.
        low: lower bound of the 95% interval.
        high: upper bound of the 95% interval.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """The form of the results file."""
        return {"value": self.value, "ci95": [self.low, self.high]}


def is_headline(name: str) -> bool:
    """True for the metrics whose intervals are logged and printed, too."""
    return HEADLINE.fullmatch(name) is not None


def problem_row(
    record: EvalRecord, *, keep_completions: bool, labels: Mapping[str, Sequence[str | None]] | None = None
) -> ResultRow:
    """Make the row that is kept of one problem at one temperature; ``metrics`` is filled by the metrics.

    ``metadata`` holds the problem's columns that are a text, a number, a truth value or nothing: strata of reports.
    Attempts at a theorem also have their outcome and their number of tactics. Where the target distribution is known,
    ``target`` maps each of its completions to its log weight and its log-probability under the policy. Samples that a
    reward weighs have their ``log_rewards``; ``is_judged`` is false where that is all that is known of them. Beside
    completions ``classes`` holds the ``labels`` of the samples, by class map, and ``references``, where they were
    scored, the path (null where the data name none) and the log-probability under the policy of each reference
    solution.
    """
    problem = record.problem
    row: ResultRow = {
        "problem_id": problem.id,
        "temperature": record.temperature,
        "num_samples": len(record.completions),
        "num_correct": sum(record.correct),
        "metrics": {},
        "correct": list(record.correct),
        "answers": answers_of(record),
        "lengths": list(record.lengths),
        "log_probs": list(record.log_probs),
        "entropies": list(record.entropies),
        "truncated": list(record.truncated),
        "content": problem_digest(problem),
        "metadata": {name: value for name, value in problem.metadata.items() if isinstance(value, PLAIN)},
    }
    if record.episodes:
        row["outcomes"] = [episode.outcome for episode in record.episodes]
        row["num_tactics"] = [len(episode.tactics) for episode in record.episodes]
    if record.branches:
        row["branches"] = [asdict(branch) for branch in record.branches]
    if record.log_rewards:
        row["log_rewards"] = list(record.log_rewards)
    if not record.is_judged:
        row["is_judged"] = False
    if record.target_log_probs and problem.target is not None:
        pairs = zip(problem.target.items(), record.target_log_probs, strict=True)
        row["target"] = {text: [log_weight, log_prob] for (text, log_weight), log_prob in pairs}
    if keep_completions:
        row |= {"prompt": problem.prompt, "answer": problem.answer, "completions": list(record.completions)}
        row |= {"marked": list(record.marked)} if record.marked else {}
        row |= {"classes": {name: list(found) for name, found in labels.items()}} if labels else {}
        row |= {"references": scored_references(record)} if record.reference_log_probs else {}
    return row


def scored_references(record: EvalRecord) -> dict[str, list[Any]]:
    """Path, or None, and log q(solution, stop | prompt), nats, of each reference solution that was scored."""
    paths = record.problem.solution_set or {}
    pairs = zip(record.problem.solutions, record.reference_log_probs, strict=True)
    return {text: [paths.get(text), log_prob] for text, log_prob in pairs}


def problem_digest(problem: Problem) -> str:
    """A digest of what decides how a problem is answered and judged."""
    if problem.labels is not None:
        # A classification is the same problem however it is asked: with examples, with a rationale or at once.
        named = [problem.id, problem.answer, sorted(problem.labels), problem.metadata.get(CLASSIFIED)]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]
    known = sorted(problem.solution_set.items()) if problem.solution_set is not None else None
    content: list[Any] = [problem.id, prompt_identity(problem.prompt), problem.answer, problem.answer_style, known]
    if problem.target is not None:
        content.append(sorted(problem.target.items()))
    if problem.evidence is not None:
        content.append(["evidence", problem.evidence])
    if problem.prior_prompt is not None:
        content.append(["prior_prompt", problem.prior_prompt])
    if problem.theorem is not None:
        content += [problem.theorem.statement, *problem.theorem.context, *problem.theorem.imports]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def merge_rows(rows: Iterable[ResultRow], temperatures: Sequence[float]) -> list[ResultRow]:
    """Rows of all ranks, each (problem, temperature) once, sorted by problem id and then in the grid's order."""
    unique: dict[tuple[str, float], ResultRow] = {}
    for row in rows:
        unique.setdefault((row["problem_id"], row["temperature"]), row)
    return [unique[key] for key in sorted(unique, key=lambda key: (key[0], temperatures.index(key[1])))]


def decoding_settings(
    module: EvaluatedModule, rows: Sequence[ResultRow], temperatures: Sequence[float]
) -> dict[str, Any]:
    """The decoding settings: the module's evaluation settings, the policy's lengths, and what the rows show."""
    decoding = {name: value for name, value in module.decoding().items() if name not in NOT_DECODING}
    counts = sorted({row["num_samples"] for row in rows})
    return {**decoding, "num_samples": counts[0] if len(counts) == 1 else counts, "temperatures": list(temperatures)}


def run_seed() -> int | None:
    """The seed given to ``seed_everything``."""
    value = os.environ.get("PL_GLOBAL_SEED")
    return int(value) if value is not None else None


def num_parameters(module: nn.Module) -> int:
    """Weights of a module, those of a frozen reference left out."""
    return sum(p.numel() for name, p in module.named_parameters() if ".reference." not in f".{name}")


def run_identity(
    module: EvaluatedModule, rows: Sequence[ResultRow], temperatures: Sequence[float], step: int
) -> dict[str, Any]:
    """Who was evaluated, on what, and how samples were drawn.

    Args:
        module: what was evaluated.
        rows: of all problems and temperatures.
        temperatures: the grid, the compared one first.
        step: optimiser steps of the weights.
    """
    environment = module.environment_record()
    digests = sorted({(row["problem_id"], row["content"]) for row in rows})
    return {
        "method": module.method,
        "seed": run_seed(),
        "step": step,
        "decoding": decoding_settings(module, rows, temperatures),
        **({"environment": environment} if environment else {}),
        "problems": {"count": len(digests), "fingerprint": hashlib.sha256(repr(digests).encode()).hexdigest()[:16]},
    }


def measure(rows: Sequence[ResultRow], *, num_resamples: int, seed: int) -> dict[str, Measured]:
    """Mean and interval over problems of each per-problem metric; problems without a value are left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row["metrics"].items():
            values.setdefault(name, []).append(value)
    return {
        name: Measured(fmean(found), *bootstrap_ci(found, LEVEL, num_resamples=num_resamples, seed=seed))
        for name, found in values.items()
    }


def measure_pooled(
    metric: PerProblemMetric, values: Mapping[str, Mapping[str, float]], *, num_resamples: int, seed: int
) -> dict[str, Measured]:
    """What a metric says of all problems together, with a percentile bootstrap interval over problems.

    Args:
        metric: gives ``pooled``.
        values: of each problem, by key.
        num_resamples: resampled data sets.
        seed: of the resampling.
    """
    table = np.array([[found.get(key, np.nan) for key in metric.keys] for found in values.values()])
    point = metric.pooled(table) if len(table) else {}
    if not point:
        return {}
    generator = np.random.default_rng(seed)
    draws = [metric.pooled(table[generator.integers(0, len(table), len(table))]) for _ in range(num_resamples)]
    bounds = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {
        name: Measured(value, *np.quantile([d[name] for d in draws if name in d], bounds).tolist())
        for name, value in point.items()
    }


def temperature_suffix(temperature: float, temperatures: Sequence[float]) -> str:
    """Nothing for the first temperature of the grid, ``_t0.6`` for another one."""
    return "" if temperature == temperatures[0] else f"_t{temperature:g}"


def console_table(measured: Mapping[float, Mapping[str, Measured]], title: str) -> str:
    """The headline numbers as aligned plain text, one column a temperature."""
    first = next(iter(measured.values()))
    names = [name for name in first if is_headline(name)]
    names += [name for name in EXPLAINING if name in first and name not in names]
    lines = [["metric", *(f"temperature {temperature:g}" for temperature in measured)]]
    for name in names:
        cells = [column.get(name) for column in measured.values()]  # exact metrics stand at the first temperature alone
        lines.append([name, *(f"{x.value:.3f} [{x.low:.3f}, {x.high:.3f}]" if x is not None else "–" for x in cells)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([title, table[0], "-" * (sum(widths) + 2 * len(widths) - 2), *table[1:]])
