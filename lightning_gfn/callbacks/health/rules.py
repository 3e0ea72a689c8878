"""What must not hold for long in training: each rule watches logged metrics and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from lightning_gfn.types import Source

PATIENCE = 10


@dataclass(frozen=True)
class Rule:
    """A condition on logged metrics that a run must not stay in.

    Args:
        name: of the fault.
        metrics: keys of the values that ``holds`` reads; without them the rule is silent.
        holds: from these values, 0-dim tensors, to a 0-dim bool tensor; it moves nothing off the device.
        patience: observations in a row after which it is said.
        sentence: what is wrong; ``{count}`` is the number of observations in a row.
        remedy: what to do.
        causes: rules that explain this one; while one of them holds, it alone is said.
        without: keys whose presence makes the rule needless.
    """

    name: str
    metrics: tuple[str, ...]
    holds: Callable[[Sequence[Tensor]], Tensor]
    sentence: str
    remedy: str
    patience: int = PATIENCE
    causes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


def not_finite(values: Sequence[Tensor]) -> Tensor:
    """True if one of the values is NaN or infinite."""
    return ~torch.stack([torch.isfinite(value).all() for value in values]).all()


def equals(number: float, values: Sequence[Tensor]) -> Tensor:
    """True if the first value is exactly this number."""
    return values[0] == number


zero, one = partial(equals, 0.0), partial(equals, 1.0)


def mostly(values: Sequence[Tensor]) -> Tensor:
    """True if the first value, a share, is above one half."""
    return values[0] > 0.5


TRAINING_RULES: tuple[Rule, ...] = (
    Rule(
        "not_finite",
        ("train/loss",),
        not_finite,
        "the loss is no finite number ({count} training batches in a row), such steps are left out",
        "look at skipped_steps/ in the run folder, lower model.optimizer.lr or set trainer.gradient_clip_val; "
        "--trainer.detect_anomaly true names the operation",
        patience=1,
    ),
    Rule(
        "gradient_not_finite",
        ("train/grad_norm",),
        not_finite,
        "the gradient was no finite number in the last {count} optimiser steps, nothing is learned",
        "use trainer.precision bf16-mixed or 32-true, and lower model.optimizer.lr",
        causes=("not_finite",),
    ),
    Rule(
        "truncated",
        ("train/truncated_share",),
        one,
        "every completion of the last {count} training batches was cut at the maximum length",
        "raise model.policy.max_new_tokens; if these are the model's own samples, first teach it to end them by SFT",
    ),
    Rule(
        "never_solved",
        ("train/solve_rate_on_policy",),
        zero,
        "not one on-policy sample of the last {count} training batches was right: nothing right can be learned from",
        "start from a model that solves some problems (SFT), take easier problems or more model.num_samples, and look "
        "at the printed samples: they must end as data.answer_style asks",
        causes=("truncated",),
    ),
    Rule(
        "equal_groups",
        ("train/zero_advantage_fraction",),
        one,
        "in all groups of the last {count} training batches the rewards were equal: no advantage, nothing is learned",
        "raise model.num_samples or the sampling's variety, take problems that are sometimes solved "
        "(model.resample draws equal groups again), or a reward with more than two values",
        causes=("never_solved", "truncated"),
    ),
    Rule(
        "no_feedback",
        ("train/with_feedback",),
        zero,
        "no trajectory of the last {count} training batches got feedback that the teacher could read",
        "look at train/feedback_too_long (raise model.teacher.max_prompt_tokens) and at model.feedback",
    ),
    Rule(
        "no_gradient",
        ("train/grad_norm",),
        zero,
        "the gradient was exactly 0 in the last {count} optimiser steps: the weights do not change",
        "look at what the loss is made of: weights and coefficients of model.objective and model.reward that are 0, "
        "clipping that removes every action (train/clip_fraction)",
        causes=("equal_groups", "no_feedback"),
    ),
    Rule(
        "no_loss",
        ("train/loss",),
        zero,
        "the loss was exactly 0 in the last {count} training batches",
        "look at weights and coefficients of the loss that are 0, and at whether every row is left out of it",
        without=("train/grad_norm",),
    ),
    Rule(
        "waiting",
        ("train/idle_share", "train/staleness"),
        mostly,
        "in each of the last {count} training batches the trainer waited more than half of the time for its samplers",
        "raise model.asynchronous.max_staleness if it is 0, and num_samplers (with processors or GPUs for them)",
    ),
)

ASKED: dict[Source, tuple[str, str]] = {
    "replay": (
        "model.behaviour.replay asks for replayed trajectories",
        "a buffer per problem gives none before the problem comes round again: train for more than one epoch, or set "
        "per_problem of model.buffer to false",
    ),
    "reference": (
        "model.behaviour asks for reference solutions",
        "the problems have none, or the policy cannot produce them: longer than model.policy.max_new_tokens, or with "
        "tokens outside allowed_tokens",
    ),
    "search": (
        "model.behaviour.search asks for searched proofs",
        "the search found none: raise its budget in model.proving.search, or take easier theorems",
    ),
}
SOURCE_PATIENCE = 50


def source_rules(asked: Collection[Source]) -> tuple[Rule, ...]:
    """A rule for each source of trajectories that is asked for and may have none to give."""
    return tuple(
        Rule(
            f"no_{source}",
            (f"train/share_{source}",),
            zero,
            f"{ASKED[source][0]}, but there was none among the last {{count}} training batches",
            ASKED[source][1],
            patience=SOURCE_PATIENCE,
        )
        for source in get_args(Source)
        if source in ASKED and source in asked
    )
