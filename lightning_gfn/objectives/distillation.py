"""Distillation: the student's next-action distribution is moved to a teacher's, at the student's own prefixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.checks import check_choice, check_mask, check_shapes
from lightning_gfn.types import LossOutput

Rest = Literal["drop", "renormalise", "bucket"]
Divergence = Literal["forward", "reverse", "js"]
Aggregation = Literal["trajectory", "token"]


def check_settings(rest: str, divergence: str, js_weight: float, clip: float | None, aggregation: str) -> None:
    """Refuse settings that define no loss.

    Args:
        rest: what becomes of the actions beside the teacher's K.
        divergence: between teacher and student.
        js_weight: weight of the Jensen-Shannon divergence.
        clip: bound of what one action may add, nats; None for none.
        aggregation: what the mean is over.

    Raises:
        ValueError: names the argument.
    """
    check_choice("rest", rest, ("drop", "renormalise", "bucket"))
    check_choice("divergence", divergence, ("forward", "reverse", "js"))
    check_choice("aggregation", aggregation, ("trajectory", "token"))
    if rest == "drop" and divergence != "forward":
        raise ValueError(
            f"rest is 'drop' with divergence {divergence!r}, which is then no divergence: use 'bucket' or 'renormalise'"
        )
    if not 0.0 < js_weight < 1.0:
        raise ValueError(f"js_weight is {js_weight}, expected 0 < js_weight < 1 (the ends are 'reverse' and 'forward')")
    if clip is not None and clip <= 0.0:
        raise ValueError(f"clip is {clip}, expected a positive number of nats, or null for no clipping")


def support(log_p_PK: Tensor, log_rest_P: Tensor, rest: Rest) -> Tensor:
    """Log-probabilities on the support that ``rest`` names: K actions, or K actions and one bucket.

    Args:
        log_p_PK: log-probabilities of K actions at P positions, nats; -inf where there is no action.
        log_rest_P: log-probability of all other actions together, nats; -inf where there is none.
        rest: what becomes of the other actions.

    Returns:
        (P, K) or (P, K + 1), nats.
    """
    if rest == "renormalise":
        return log_p_PK - log_p_PK.logsumexp(1, keepdim=True)
    return torch.cat([log_p_PK, log_rest_P.unsqueeze(1)], dim=1) if rest == "bucket" else log_p_PK


def divergence_terms(log_p_PK: Tensor, log_q_PK: Tensor, divergence: Divergence, js_weight: float) -> Tensor:
    """Divergence terms: what each action adds to the divergence of q from p, nats; 0 where p has no mass.

        forward  p (log p - log q)        reverse  q (log q - log p)
        js       w p (log p - log m) + (1 - w) q (log q - log m),    m = w p + (1 - w) q

    Args:
        log_p_PK: teacher; constant.
        log_q_PK: student; gradient flows.
        divergence: which of them.
        js_weight: w.

    Returns:
        (P, K) with gradient.
    """
    there_PK = log_p_PK > -torch.inf
    log_p = torch.where(there_PK, log_p_PK, 0.0)
    log_q = torch.where(there_PK, log_q_PK, 0.0)
    if divergence == "forward":
        terms = log_p.exp() * (log_p - log_q)
    elif divergence == "reverse":
        terms = log_q.exp() * (log_q - log_p)
    else:
        weight = log_p.new_tensor([js_weight, 1.0 - js_weight]).log()
        log_m = torch.logaddexp(log_p + weight[0], log_q + weight[1])
        terms = js_weight * log_p.exp() * (log_p - log_m) + (1.0 - js_weight) * log_q.exp() * (log_q - log_m)
    return torch.where(there_PK, terms, 0.0)


def distillation_loss(
    teacher_log_p_BT1K: Tensor,
    teacher_log_rest_BT1: Tensor,
    student_log_p_BT1K: Tensor,
    student_log_rest_BT1: Tensor,
    mask_BT1: Tensor,
    *,
    rest: Rest = "drop",
    divergence: Divergence = "forward",
    js_weight: float = 0.5,
    clip: float | None = None,
    aggregation: Aggregation = "trajectory",
) -> LossOutput:
    """Divergence between teacher p and student q over the teacher's K most probable actions S, at given prefixes.

        D_bt = Σ_{a∈S} min(d(p(a), q(a)), clip)        d: see ``divergence_terms``
        rest "drop":         p and q as they are; Σ_{a∈S} p log p is constant, so the gradient is that of the
                             cross-entropy -Σ_{a∈S} p(a) log q(a), whose minimum is q = p / Σ_S p on S; the value is
                             below 0 where q has more mass on S than p
        rest "renormalise":  p / Σ_S p and q / Σ_S q; what q does outside S is free
        rest "bucket":       S and one action more, which stands for all the others; a lower bound of the full KL
        trajectory = Σ_b Σ_t D_bt / number of trajectories          token = Σ_bt D_bt / number of prefixes

    With K equal to the number of actions, all three are the exact divergence. Actions are the allowed tokens and, where
    the prefix may stop, the stop.

    Args:
        teacher_log_p_BT1K: (B, T + 1, K) log p of the teacher's K most probable actions at each prefix, descending,
            nats; -inf where a prefix has fewer actions; constant.
        teacher_log_rest_BT1: (B, T + 1) log p of all other actions together, nats; constant.
        student_log_p_BT1K: (B, T + 1, K) log q of the same actions, nats; gradient flows.
        student_log_rest_BT1: (B, T + 1) log q of all others together, nats; gradient flows.
        mask_BT1: (B, T + 1) bool, True on the prefixes to distil.
        rest: what becomes of the actions outside S.
        divergence: ``forward`` KL(p ‖ q), ``reverse`` KL(q ‖ p), or the generalised Jensen-Shannon divergence ``js``.
        js_weight: weight w of the teacher in the mixture of ``js``.
        clip: bound of what one action may add, nats; None for none.
        aggregation: sum over prefixes and mean over trajectories that have any, or mean over all prefixes.

    Returns:
        The loss; diagnostics over prefixes: ``kl`` (mean KL(p ‖ q) on S and the bucket, nats), ``teacher_mass`` (mean
        Σ_S p), ``agreement`` (1 - total variation on S and the bucket), ``top1_agreement`` (share where the student
        also gives the teacher's first action the most among S), ``clip_fraction`` (terms that the clip cuts).

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Feedback Distillation, arXiv:2605.30861 (``drop``, forward, top 25); SDPO, arXiv:2601.20802 (``bucket``,
    ``js``, there over the student's top 100); OPSD, arXiv:2601.18734 (clip per vocabulary entry).
    """
    check_settings(rest, divergence, js_weight, clip, aggregation)
    if mask_BT1.ndim != 2 or teacher_log_p_BT1K.ndim != 3:
        raise ValueError(
            f"mask_BT1 has shape {tuple(mask_BT1.shape)} and teacher_log_p_BT1K {tuple(teacher_log_p_BT1K.shape)}, "
            "expected (trajectories, prefixes) and (trajectories, prefixes, K)"
        )
    shape, K = tuple(mask_BT1.shape), teacher_log_p_BT1K.shape[2]
    check_shapes(
        teacher_log_p_BT1K=(teacher_log_p_BT1K, (*shape, K)),
        teacher_log_rest_BT1=(teacher_log_rest_BT1, shape),
        student_log_p_BT1K=(student_log_p_BT1K, (*shape, K)),
        student_log_rest_BT1=(student_log_rest_BT1, shape),
    )
    check_mask("mask_BT1", mask_BT1)
    teacher = (teacher_log_p_BT1K.detach()[mask_BT1], teacher_log_rest_BT1.detach()[mask_BT1])
    student = (student_log_p_BT1K[mask_BT1], student_log_rest_BT1[mask_BT1])
    terms_PK = divergence_terms(support(*teacher, rest), support(*student, rest), divergence, js_weight)
    kept_PK = terms_PK if clip is None else terms_PK.clamp_max(clip)
    total = kept_PK.sum()
    rows_B = mask_BT1.any(1) if aggregation == "trajectory" else mask_BT1
    diagnostics = agreement(teacher, (student[0].detach(), student[1].detach()))
    diagnostics["clip_fraction"] = (kept_PK < terms_PK).detach().sum() / max(1, terms_PK.numel())
    return LossOutput(total, rows_B.sum().to(total.dtype), diagnostics)


def agreement(teacher: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Diagnostics of two distributions on S and the bucket; see ``distillation_loss``."""
    log_p, log_q = (support(*values, rest="bucket") for values in (teacher, student))
    p, q = log_p.exp(), log_q.exp()
    count = max(1, p.shape[0])
    return {
        "kl": divergence_terms(log_p, log_q, "forward", 0.5).sum() / count,
        "teacher_mass": p[:, :-1].sum() / count,
        "agreement": torch.minimum(p, q).sum() / count,
        "top1_agreement": (q[:, 0] >= functional.pad(q[:, :-1], (0, 1)).amax(1)).sum() / count,
    }


@dataclass(frozen=True)
class TopKDistillation(Objective):
    """Divergence from a teacher on its most probable actions; how many is ``top_k`` of the module.

    Args:
        rest: what becomes of the other actions: ``drop`` (Feedback Distillation), ``renormalise`` or ``bucket``.
        divergence: ``forward``, ``reverse`` or ``js``.
        js_weight: weight of the teacher in the mixture of ``js``.
        clip: bound of what one action may add, nats; None for none.
        aggregation: ``trajectory`` sums over prefixes first, ``token`` is the mean over all prefixes.
    """

    rest: Rest = field(default="drop", kw_only=True)
    divergence: Divergence = field(default="forward", kw_only=True)
    js_weight: float = field(default=0.5, kw_only=True)
    clip: float | None = field(default=None, kw_only=True)
    aggregation: Aggregation = field(default="trajectory", kw_only=True)

    def __post_init__(self) -> None:
        check_settings(self.rest, self.divergence, self.js_weight, self.clip, self.aggregation)

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return frozenset(
            {
                "teacher_log_p_BT1K",
                "teacher_log_rest_BT1",
                "student_log_p_BT1K",
                "student_log_rest_BT1",
                "distil_mask_BT1",
            }
        )

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return distillation_loss(
            columns["teacher_log_p_BT1K"],
            columns["teacher_log_rest_BT1"],
            columns["student_log_p_BT1K"],
            columns["student_log_rest_BT1"],
            columns["distil_mask_BT1"],
            rest=self.rest,
            divergence=self.divergence,
            js_weight=self.js_weight,
            clip=self.clip,
            aggregation=self.aggregation,
        )
