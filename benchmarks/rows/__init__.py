"""The rows of the table, by subject."""

from __future__ import annotations

from benchmarks.frame.row import Row
from benchmarks.rows import (
    answer_checks,
    asynchronous,
    families,
    fit_start,
    gpu,
    grpo,
    lean,
    methods,
    sampling,
    seq2seq_sampling,
    smollm2_steps,
    subtb,
    text_metrics,
    training_pass,
    vocabulary,
    worlds,
)

ROWS: list[Row] = [
    *grpo.ROWS,
    *smollm2_steps.ROWS,
    *training_pass.ROWS,
    *families.ROWS,
    *subtb.ROWS,
    *methods.ROWS,
    *sampling.ROWS,
    *seq2seq_sampling.ROWS,
    *text_metrics.ROWS,
    *answer_checks.ROWS,
    *grpo.DOUBLING_ROWS,
    *lean.ROWS,
    *asynchronous.ROWS,
    *fit_start.ROWS,
    *vocabulary.ROWS,
    *gpu.ROWS,
    *worlds.ROWS,
]
