"""Settings that every module shares: the optimiser and how evaluation samples are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lightning_gfn.rollouts.evaluating.beams import BeamSettings

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import AdamW


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with warm-up and decay.

    Args:
        lr: peak learning rate of the policy.
        head_lr: peak learning rate of log Z and flow heads; they start far from their target and need a larger one.
        weight_decay: decoupled weight decay, on matrices only.
        betas: decay rates of the two moment estimates.
        eps: added to the root of the second moment.
        warmup_steps: optimiser steps of linear warm-up from zero.
        schedule: shape of the decay after warm-up, over all steps of the run.
        final_lr_ratio: learning rate at the end of the decay, as a share of the peak.
        max_skipped_steps: optimiser steps in a row whose loss or gradient is not finite (they are left out, counted
            as train/skipped_steps and written to skipped_steps/) after which training ends with an error.
    """

    lr: float = 1e-4
    head_lr: float = 1e-2
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup_steps: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final_lr_ratio: float = 0.0
    max_skipped_steps: int = 10

    def __post_init__(self) -> None:
        for name in ("lr", "head_lr", "weight_decay", "warmup_steps", "final_lr_ratio"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ValueError(f"optimizer.{name} is {value}, expected a number of at least 0")
        if self.max_skipped_steps < 1:
            raise ValueError(f"optimizer.max_skipped_steps is {self.max_skipped_steps}, expected at least 1")

    def lr_factor(self, total_steps: float) -> Callable[[int], float]:
        """Multiplier of the peak learning rate at each optimiser step of a run of ``total_steps``.

        Raises:
            ValueError: the schedule needs a known number of steps.
        """
        if self.schedule != "constant" and not math.isfinite(total_steps):
            raise ValueError(
                f"optimizer.schedule={self.schedule!r} needs a known number of steps: "
                "set trainer.max_steps or trainer.max_epochs"
            )

        def factor(step: int) -> float:
            if step < self.warmup_steps:
                return (step + 1) / self.warmup_steps
            if self.schedule == "constant":
                return 1.0
            progress = min(1.0, (step - self.warmup_steps) / max(1.0, total_steps - self.warmup_steps))
            remaining = 1.0 - progress if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
            return self.final_lr_ratio + (1.0 - self.final_lr_ratio) * remaining

        return factor

    def build(self, module: nn.Module) -> AdamW:
        """AdamW over every trainable parameter of a module, each in exactly one group; those under ``head`` apart.

        Raises:
            ValueError: there is none.
        """
        from torch.optim import AdamW

        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        trainable = [p for name, p in named if not name.startswith("head.")]
        head = [p for name, p in named if name.startswith("head.")]
        groups = [
            {"params": [p for p in trainable if p.ndim >= 2], "lr": self.lr, "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim < 2], "lr": self.lr, "weight_decay": 0.0},
            {"params": head, "lr": self.head_lr, "weight_decay": 0.0},
        ]
        if not named:
            raise ValueError(
                f"{type(module).__name__} has no trainable parameter, so that training could change nothing: set "
                "model.policy.init_args.lora, or load the model without freezing all of it"
            )
        optimizer = AdamW([g for g in groups if g["params"]], betas=self.betas, eps=self.eps, fused=True)
        # Fused steps can unscale float16 gradients themselves, which keeps Lightning from clipping them before.
        optimizer._step_supports_amp_scaling = False
        return optimizer


@dataclass(frozen=True)
class UpdateSettings:
    """How often a rollout batch is used before it is thrown away.

    Args:
        num_epochs: passes over the trajectories of a rollout batch.
        num_minibatches: parts that each pass is cut into; every part is one training batch. With gradient
            accumulation over so many parts, an optimiser step sees several of them.
    """

    num_epochs: int = 1
    num_minibatches: int = 1

    def __post_init__(self) -> None:
        for name, value in (("num_epochs", self.num_epochs), ("num_minibatches", self.num_minibatches)):
            if value < 1:
                raise ValueError(f"updates.{name} must be at least 1, got {value}")

    @property
    def num_updates(self) -> int:
        """Training batches for each rollout batch."""
        return self.num_epochs * self.num_minibatches


@dataclass(frozen=True)
class KLControl:
    """Weight β of the KL penalty towards the reference: fixed, or steered so that the KL stays near a target.

        e = clip(KL / target - 1, -max_error, max_error);        β ← β (1 + gain · e)        after each rollout batch

    Args:
        coefficient: β at the start.
        target: KL(q_old ‖ q_ref) of whole trajectories to aim at, nats; None keeps β fixed.
        gain: how strongly β reacts.
        max_error: bound of the relative error.

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2.
    """

    coefficient: float = 0.05
    target: float | None = None
    gain: float = 0.1
    max_error: float = 0.2

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise ValueError(f"kl.coefficient must be at least 0, got {self.coefficient}")
        if self.target is not None and self.coefficient == 0:
            raise ValueError(
                f"kl.coefficient is 0 and kl.target {self.target}: the coefficient is multiplied to reach the target, "
                "so that it would stay 0; set kl.coefficient above 0, or leave kl.target out"
            )
        if self.target is not None and self.target <= 0:
            raise ValueError(f"kl.target must be positive, got {self.target}; leave it out for a fixed coefficient")

    def applied(self, coefficient: float, kl: float) -> float:
        """The weight for a rollout batch: β itself."""
        return coefficient

    def adapted(self, coefficient: float, kl: float) -> float:
        """β for the next rollout batch, after ``kl`` nats were measured at ``coefficient``."""
        if self.target is None:
            return coefficient
        error = min(max(kl / self.target - 1.0, -self.max_error), self.max_error)
        return coefficient * (1.0 + self.gain * error)


@dataclass(frozen=True)
class EntropyControl:
    """Weight c of the entropy bonus: fixed, or steered so that the entropy does not fall below a target.

        applied = c if H <= target, else 0
        c ← clip(c + step if H < target, c - step if H > target, minimum, maximum)        after each rollout batch

    H is the entropy of the policy that begins the updates on a rollout batch, mean over its actions.

    Args:
        coefficient: c at the start; with a target it may be 0.
        target: mean entropy of an action's distribution to keep at least, nats; None keeps c fixed and always applied.
        step: how far c moves after a rollout batch.
        minimum: least c.
        maximum: largest c.

    Source: fixed Mnih et al. 2016, arXiv:1602.01783; steered He et al. 2025 (Skywork-OR1), arXiv:2505.22312 (c from 0,
    step 0.005, target 0.2, no bounds); bounds as in TRL, which steers after each optimiser step.
    """

    coefficient: float = 0.01
    target: float | None = None
    step: float = 0.005
    minimum: float = 0.0
    maximum: float = 1.0

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise ValueError(f"entropy.coefficient must be at least 0, got {self.coefficient}")
        if self.target is not None and not self.target > 0:
            raise ValueError(f"entropy.target must be positive, got {self.target}; leave it out for a fixed bonus")
        if not self.step > 0:
            raise ValueError(f"entropy.step must be positive, got {self.step}; leave entropy.target out for a fixed c")
        if self.target is not None and not 0 <= self.minimum <= self.coefficient <= self.maximum:
            raise ValueError(
                f"entropy.coefficient is {self.coefficient}, expected between entropy.minimum {self.minimum} (at least "
                f"0) and entropy.maximum {self.maximum}"
            )

    def applied(self, coefficient: float, entropy: float) -> float:
        """The weight for a rollout batch of ``entropy`` nats an action."""
        return coefficient if self.target is None or entropy <= self.target else 0.0

    def adapted(self, coefficient: float, entropy: float) -> float:
        """c for the next rollout batch, after ``entropy`` nats an action were measured."""
        if self.target is None or entropy == self.target:
            return coefficient
        moved = coefficient + (self.step if entropy < self.target else -self.step)
        return min(max(moved, self.minimum), self.maximum)


@dataclass(frozen=True)
class EvaluationSettings:
    """How completions are drawn in validation, test and prediction; the same for every method that is compared.

    Args:
        num_samples: completions per problem.
        temperatures: sampling temperatures; each problem is sampled at each of them.
        fit_temperatures: those of the validations within ``fit``, which follow a run's progress; None for all.
        top_k: keep only the k most likely actions; None keeps all.
        top_p: keep the smallest set of actions with at least this probability; None keeps all.
        seed: key of the sampling uniforms; equal seeds give equal uniforms to every method.
        max_rows: completions decoded at once (bounds memory).
        score_references: report the likelihood of the problems' reference solutions as well (``reference_nll``), which
            shows what a fine-tuned policy has kept of its supervised task.
        branches: also decode greedily behind this many of the most probable first tokens and let the answers vote by
            confidence (chain-of-thought decoding; ``solve_rate_cot``, and ``solve_rate_greedy`` of the first branch),
            in ``validate`` and ``test``; None for no such decoding.
        beams: search for the most probable completions instead of sampling, with ``num_samples`` beams; needs the
            temperature 1.0 alone.
        labels_by: which model says what label follows a rationale: the ``policy`` itself, or the ``reference``, the
            policy as this stage began, where the policy was trained to write rationales alone.
        swap_rationales: also score the labels behind the rationales of another problem (``rationale_effect``), which
            shows whether predictions follow them; about half as much work again.
    """

    num_samples: int = 8
    temperatures: tuple[float, ...] = (1.0,)
    fit_temperatures: tuple[float, ...] | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    max_rows: int = 512
    score_references: bool = False
    branches: int | None = None
    beams: BeamSettings | None = None
    labels_by: Literal["policy", "reference"] = "policy"
    swap_rationales: bool = False

    def __post_init__(self) -> None:
        if self.branches is not None and self.branches < 1:
            raise ValueError(f"evaluation.branches must be at least 1, or null for none, got {self.branches}")
        if self.num_samples < 1:
            raise ValueError(f"evaluation.num_samples must be at least 1, got {self.num_samples}")
        if not self.temperatures or min(self.temperatures) <= 0:
            raise ValueError(f"evaluation.temperatures must be positive numbers, got {self.temperatures}")
        if self.fit_temperatures is not None and not set(self.fit_temperatures) <= set(self.temperatures):
            raise ValueError(
                f"evaluation.fit_temperatures must be among evaluation.temperatures {self.temperatures}, "
                f"got {self.fit_temperatures}"
            )
        if self.beams is not None:
            self.check_beams(self.beams)

    def check_beams(self, beams: BeamSettings) -> None:
        """Refuse settings of sampling where beams search.

        Raises:
            ValueError: names the setting.
        """
        if tuple(self.temperatures) != (1.0,) or self.top_k is not None or self.top_p is not None:
            raise ValueError(
                "evaluation.beams searches and does not sample: set evaluation.temperatures to [1.0], and top_k and "
                "top_p to null"
            )
        if self.num_samples % beams.num_groups:
            raise ValueError(
                f"evaluation.num_samples={self.num_samples} beams cannot be divided into "
                f"evaluation.beams.num_groups={beams.num_groups} groups: change one of them"
            )


def refuse(settings: Collection[str], names: Collection[str], module: str, *, instead: str) -> None:
    """Refuse arguments that a module does not take although the class it is built on does.

    Args:
        settings: names of the arguments that were given.
        names: those that are refused.
        module: class that refuses them.
        instead: class that takes them.

    Raises:
        TypeError: says which, and both classes.
    """
    given = [name for name in names if name in settings]
    if given:
        raise TypeError(f"{module} takes no {' and no '.join(given)}: remove model.{given[0]}, or use {instead}")
