"""Metric keys, budget axes and figures in words."""

from __future__ import annotations

import math
import re

from lightning_gfn.reports.faithfulness import METRIC
from lightning_gfn.reports.statistics.bootstrap import Interval
from lightning_gfn.reports.statistics.cube import DISTINCT

SPOKEN = {
    "solve_rate": "solve rate",
    "solve_rate_greedy": "solve rate, greedy",
    "solve_rate_cot": "solve rate, chain-of-thought decoding",
    "solve_rate_cot_single": "solve rate, most confident branch",
    "coverage": "coverage of the known solutions",
    "solution_paths_found": "known solutions found",
    "completion_length_mean": "completion length (tokens)",
    "entropy_mean": "entropy per action (nats)",
    "truncated_share": "share cut off at the maximum length",
    "answered_share": "share with an answer",
    "self_bleu": "self-BLEU of correct samples (lower: more different)",
    "distinct_equation_sequences": "distinct equation sequences",
    "distinct_equation_sets": "distinct sets of equations",
    "embedding_distance": "cosine distance of embedded correct samples",
    "bleu_4": "BLEU-4 against the references",
    "gleu_4": "GLEU-4 against the references",
    "bert_score_precision": "BERTScore precision against the references",
    "bert_score_recall": "BERTScore recall against the references",
    "bert_score_f1": "BERTScore F1 against the references",
    "social_welfare": "social welfare of the recommended incentives",
    "social_welfare_rounds": "social welfare, mean over all rounds",
    "social_welfare_last_rounds": "social welfare, mean over the last quarter of the rounds",
    "incentives_paid": "incentives paid in an episode",
    "usable_answers": "share of answers that could be read",
    "reference_nll": "NLL of the known solutions (nats per action)",
    "target_mass": "share of valid completions (exact)",
    "total_variation": "total variation from the target (exact)",
    "total_variation_valid": "total variation from the target, valid completions (exact)",
    "kl_to_target": "KL of valid completions to the target (exact, nats)",
    "kl_from_target": "KL from the target (exact, nats)",
    "elbo_gap": "log Z − ELBO (exact, nats)",
    "eubo_gap": "EUBO − log Z (exact, nats)",
    "log_z": "log Z of the target (exact)",
    "log_z_estimate": "log Z estimated from samples",
    "log_q_slope": "slope of log q against log R (1 is exact)",
    "log_q_spread": "spread of log q − log R (nats, 0 is exact)",
    "sample_slope": "slope of log q against log R over samples (1 is exact)",
    "sample_spread": "spread of log q − log R (samples, nats, 0 is exact)",
    "sample_elbo": "ELBO from samples (nats)",
    "sample_log_z": "log Z from samples (importance-weighted, nats)",
    "sample_effective": "effective share of the samples",
    "log_likelihood": "log-likelihood of samples (nats)",
    "log_likelihood_max": "log-likelihood of the best sample (nats)",
    "sample_self_bleu": "self-BLEU of samples (lower: more different)",
    "sample_embedding_distance": "cosine distance of embedded samples",
    "label_accuracy": "accuracy, averaged over rationales",
    "label_log_prob": "log-likelihood of the right label (nats)",
    "label_confidence": "confidence in the predicted label",
    "label_brier": "Brier score (lower is better)",
    "distinct_rationales": "different rationales",
    "rationale_effect": "predictions that change with another problem's rationale",
    "rationale_shift": "|Δ log p| of the right label with another problem's rationale (nats)",
    "reference_nll_worst": "NLL of the least likely known solution (nats per action)",
}
AXES = {
    "generated_tokens": "generated tokens",
    "reward_calls": "reward calls",
    "labels": "labelled problems",
    "gradient_tokens": "gradient tokens",
    "environment_steps": "environment steps",
    "optimizer_steps": "optimiser steps",
    "wall_seconds": "wall time (s)",
    "processor_seconds": "processor time (s)",
    "peak_memory_mib": "peak memory (MiB)",
}
EFFICIENCY = ("generated_tokens", "labels", "processor_seconds")
"""Costs that stand beside the headline metrics."""
SEARCH = re.compile(r"search_solve_rate_b(\d+)_n(\d+)")
LOWER_IS_MORE_DIVERSE = re.compile(r".*(self_bleu|similarity|class_total_variation).*")
DIVERSITY = re.compile(
    r"(sample_)?(distinct_|coverage|solution_paths_found|self_bleu|.*embedding|.*cosine|effective_classes_|cover_"
    r"|class_total_variation_).*"
)
CLASSES = {
    "distinct_classes": "distinct classes",
    "effective_classes": "effective classes",
    "cover_area": "share of the area under cover@k",
    "class_total_variation": "total variation from equal shares of the known classes",
}
"""Metrics of classes of solutions; the name of the class map stands behind them."""


def metric_title(metric: str) -> str:
    """A metric key in words."""
    solved = metric.endswith("_solved")
    name = metric.removesuffix("_solved")
    ending = ", over solved problems" if solved else ""
    if name in SPOKEN:
        return SPOKEN[name] + ending
    match = re.fullmatch(r"(pass|maj)_at_(\d+)", name)
    if match:
        return f"{match[1]}@{match[2]}{ending}"
    match = DISTINCT.fullmatch(name)
    if match:
        rule = f", {match[2]}" if match[2] else ""
        return f"distinct correct (ROUGE-L < {match[1]}{rule}){ending}"
    if name.startswith("answer_follows_"):
        return f"answer follows, {name.removeprefix('answer_follows_')} rationale{ending}"
    if METRIC.fullmatch(name):
        return f"accuracy, {name.removeprefix('accuracy_')} rationale{ending}"
    match = re.fullmatch(r"sample_distinct_(\d+)", name)
    if match:
        return f"different {match[1]}-grams of samples (share)"
    match = re.fullmatch(rf"(?:({'|'.join(CLASSES)})|cover_at_(\d+))_(.+)", name)
    if match:
        kind = CLASSES[match[1]] if match[1] else f"classes among {match[2]} samples"
        return f"{kind} ({match[3].replace('_', ' ')}){ending}"
    match = SEARCH.fullmatch(name)
    if match:
        return f"solve rate of search, branching {match[1]}, {match[2]} nodes"
    return name.replace("_", " ") + ending


def axis_title(axis: str) -> str:
    """A budget axis in words."""
    return AXES.get(axis, axis.replace("_", " "))


def with_interval(x: Interval, *, signed: bool = False) -> str:
    """``0.812 [0.790, 0.834]``; ``–`` where there is no value."""
    if math.isnan(x.value):
        return "–"
    sign = "+" if signed else ""
    return f"{x.value:{sign}.3f} [{x.low:{sign}.3f}, {x.high:{sign}.3f}]"


def p_text(p: float) -> str:
    """``p = 0.012`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_cell(p: float | None) -> str:
    """A p-value in a table."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cost_text(value: float) -> str:
    """A cost in a table: whole numbers with separators."""
    return f"{value:,.0f}"
