"""Learning from preferences against a frozen reference: DPO, IPO and KTO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.checks import check_mask, check_positive, check_shapes, check_smoothing
from lightning_gfn.types import LossOutput

PAIRED = frozenset({"log_pf_B", "ref_log_pf_B", "pair_B", "chosen_B"})


def log_ratios(log_pf_B: Tensor, ref_log_pf_B: Tensor, chosen_B: Tensor) -> Tensor:
    """Δ = log q - log q_ref of each completion, (B,), nats.

    Raises:
        ValueError: names the argument whose shape or dtype is wrong.
    """
    if log_pf_B.ndim != 1:
        raise ValueError(f"log_pf_B has shape {tuple(log_pf_B.shape)}, expected one dimension (completions)")
    shape = tuple(log_pf_B.shape)
    check_shapes(ref_log_pf_B=(ref_log_pf_B, shape), chosen_B=(chosen_B, shape))
    check_mask("chosen_B", chosen_B)
    return log_pf_B - ref_log_pf_B.detach()


def split_pairs(values_B: Tensor, pair_B: Tensor, chosen_B: Tensor) -> tuple[Tensor, Tensor]:
    """Values of the chosen and of the rejected completion of each pair, both (P,), in one order.

    Raises:
        ValueError: a pair does not hold exactly one chosen and one rejected completion.
    """
    check_shapes(pair_B=(pair_B, tuple(values_B.shape)))
    pair_of_chosen, chosen_order = pair_B[chosen_B].sort()
    pair_of_rejected, rejected_order = pair_B[~chosen_B].sort()
    unique = bool((pair_of_chosen[1:] != pair_of_chosen[:-1]).all())
    if not unique or not torch.equal(pair_of_chosen, pair_of_rejected):
        raise ValueError("pair_B must name each pair twice: once where chosen_B is True and once where it is False")
    return values_B[chosen_B][chosen_order], values_B[~chosen_B][rejected_order]


def pair_output(loss_P: Tensor, chosen_P: Tensor, rejected_P: Tensor) -> LossOutput:
    """Mean over pairs, with what is logged of the two log-ratios."""
    chosen_P, rejected_P = chosen_P.detach(), rejected_P.detach()
    count = max(1, len(loss_P))
    return LossOutput(
        sum=loss_P.sum(),
        weight=loss_P.new_tensor(float(len(loss_P))),
        diagnostics={
            "preference_accuracy": (chosen_P > rejected_P).to(torch.float32).sum() / count,
            "margin": (chosen_P - rejected_P).sum() / count,
            "log_ratio_chosen": chosen_P.sum() / count,
            "log_ratio_rejected": rejected_P.sum() / count,
        },
    )


def dpo_loss(
    log_pf_B: Tensor,
    ref_log_pf_B: Tensor,
    pair_B: Tensor,
    chosen_B: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> LossOutput:
    """Negative log-likelihood of the preferences under the reward that the policy implies.

        h    = (log q - log q_ref)(chosen) - (log q - log q_ref)(rejected)
        loss = mean over pairs of -(1 - ε) log σ(β h) - ε log σ(-β h)

    Args:
        log_pf_B: (B,) log q of each whole completion, stop included, nats; gradient flows.
        ref_log_pf_B: (B,) the same under the frozen reference, nats; constant.
        pair_B: (B,) int64, the pair of each completion.
        chosen_B: (B,) bool, True on the preferred one.
        beta: strength of the KL penalty towards the reference.
        label_smoothing: ε, the supposed share of wrong preferences (conservative DPO).

    Returns:
        Sum over pairs, weighted by their number; diagnostics ``preference_accuracy``, ``margin`` (h, nats) and the mean
        log-ratios of chosen and rejected completions (nats).

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7; ε as in Mitchell 2023, "A note on DPO with noisy
    preferences".
    """
    check_positive(beta=beta)
    check_smoothing(label_smoothing)
    chosen_P, rejected_P = split_pairs(log_ratios(log_pf_B, ref_log_pf_B, chosen_B), pair_B, chosen_B)
    reward_P = beta * (chosen_P - rejected_P)
    right_P, wrong_P = functional.logsigmoid(reward_P), functional.logsigmoid(-reward_P)
    return pair_output(-(1.0 - label_smoothing) * right_P - label_smoothing * wrong_P, chosen_P, rejected_P)


def ipo_loss(
    log_pf_B: Tensor,
    ref_log_pf_B: Tensor,
    pair_B: Tensor,
    chosen_B: Tensor,
    *,
    beta: float = 0.1,
    length_B: Tensor | None = None,
) -> LossOutput:
    """Squared distance of the log-ratio gap from 1 / (2β): a preference is not pushed beyond it.

        h    = (log q - log q_ref)(chosen) - (log q - log q_ref)(rejected)
        loss = mean over pairs of (h - 1 / (2β))²

    As the paper's equation has it, log-ratios are those of whole completions; with ``length_B`` each is divided by its
    number of actions first.

    Args:
        log_pf_B: (B,) log q of each whole completion, stop included, nats; gradient flows.
        ref_log_pf_B: (B,) the same under the frozen reference, nats; constant.
        pair_B: (B,) int64, the pair of each completion.
        chosen_B: (B,) bool, True on the preferred one.
        beta: the paper's τ, strength of the KL penalty towards the reference.
        length_B: (B,) actions of each completion; None for sums.

    Returns:
        Sum over pairs, weighted by their number; diagnostics as those of ``dpo_loss``.

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Azar et al. 2023, arXiv:2310.12036, equation 17.
    """
    check_positive(beta=beta)
    ratio_B = log_ratios(log_pf_B, ref_log_pf_B, chosen_B)
    if length_B is not None:
        check_shapes(length_B=(length_B, tuple(ratio_B.shape)))
        ratio_B = ratio_B / length_B.clamp_min(1)
    chosen_P, rejected_P = split_pairs(ratio_B, pair_B, chosen_B)
    return pair_output((chosen_P - rejected_P - 1.0 / (2.0 * beta)).square(), chosen_P, rejected_P)


def kto_loss(
    log_pf_B: Tensor,
    ref_log_pf_B: Tensor,
    chosen_B: Tensor,
    unrelated_log_ratio_B: Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossOutput:
    """Prospect-theoretic value of desirable and undesirable completions, which need not come in pairs.

        Δ    = log q - log q_ref,    z0 = max(0, mean of Δ over completions of other prompts), constant
        loss = mean over completions of λ_D (1 - σ(β (Δ - z0))) or λ_U (1 - σ(β (z0 - Δ)))

    z0 is taken over the completions of one call: a micro-batch of one process.

    Args:
        log_pf_B: (B,) log q of each whole completion, stop included, nats; gradient flows.
        ref_log_pf_B: (B,) the same under the frozen reference, nats; constant.
        chosen_B: (B,) bool, True on desirable completions.
        unrelated_log_ratio_B: (B,) log q - log q_ref of a completion of another prompt after each prompt, nats;
            constant.
        beta: strength of the KL penalty towards the reference.
        desirable_weight: λ_D.
        undesirable_weight: λ_U.

    Returns:
        Sum over completions, weighted by their number; diagnostics ``reference_point`` (z0, nats) and the mean
        log-ratios of desirable and undesirable completions (nats; 0 where there is none).

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, equations 7 and 8.
    """
    check_positive(beta=beta, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight)
    ratio_B = log_ratios(log_pf_B, ref_log_pf_B, chosen_B)
    check_shapes(unrelated_log_ratio_B=(unrelated_log_ratio_B, tuple(ratio_B.shape)))
    point = unrelated_log_ratio_B.detach().mean().clamp_min(0.0) if len(ratio_B) else ratio_B.new_zeros(())
    gain_B = torch.where(chosen_B, ratio_B - point, point - ratio_B)
    desirable, undesirable = ratio_B.new_tensor([desirable_weight, undesirable_weight]).unbind()
    weight_B = torch.where(chosen_B, desirable, undesirable)
    found_B = ratio_B.detach()
    return LossOutput(
        sum=(weight_B * functional.sigmoid(-beta * gain_B)).sum(),
        weight=ratio_B.new_tensor(float(len(ratio_B))),
        diagnostics={
            "reference_point": point,
            "log_ratio_chosen": torch.where(chosen_B, found_B, 0.0).sum() / chosen_B.sum().clamp_min(1),
            "log_ratio_rejected": torch.where(chosen_B, 0.0, found_B).sum() / (~chosen_B).sum().clamp_min(1),
        },
    )


@dataclass(frozen=True)
class DPO(Objective):
    """Direct preference optimisation of pairs.

    Args:
        beta: strength of the KL penalty towards the reference.
        label_smoothing: supposed share of wrong preferences, below one half.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7.
    """

    beta: float = field(default=0.1, kw_only=True)
    label_smoothing: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        check_smoothing(self.label_smoothing)

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return PAIRED

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        pairs = (columns["log_pf_B"], columns["ref_log_pf_B"], columns["pair_B"], columns["chosen_B"])
        return dpo_loss(*pairs, beta=self.beta, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class IPO(Objective):
    """Identity preference optimisation of pairs.

    Args:
        beta: strength of the KL penalty towards the reference (the paper's τ).
        per_action: divide each log-ratio by the number of actions of its completion, its free stop included; off, as in
            the paper's equation. With it β means a gap per action, so the same β asks for a far larger change.

    Source: Azar et al. 2023, arXiv:2310.12036, equation 17.
    """

    beta: float = field(default=0.1, kw_only=True)
    per_action: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return PAIRED | ({"mask_BT", "forced_stop_B"} if self.per_action else frozenset())

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        pairs = (columns["log_pf_B"], columns["ref_log_pf_B"], columns["pair_B"], columns["chosen_B"])
        length_B = columns["mask_BT"].sum(1) + (~columns["forced_stop_B"]).long() if self.per_action else None
        return ipo_loss(*pairs, beta=self.beta, length_B=length_B)


@dataclass(frozen=True)
class KTO(Objective):
    """Kahneman-Tversky optimisation of desirable and undesirable completions.

    Args:
        beta: strength of the KL penalty towards the reference.
        desirable_weight: λ_D; λ_D · (number of desirable) / (λ_U · number of undesirable) between 1 and 4/3 is advised.
        undesirable_weight: λ_U.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, equations 7 and 8; weights: section 4.2.
    """

    beta: float = field(default=0.1, kw_only=True)
    desirable_weight: float = field(default=1.0, kw_only=True)
    undesirable_weight: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        weights = {"desirable_weight": self.desirable_weight, "undesirable_weight": self.undesirable_weight}
        check_positive(beta=self.beta, **weights)

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return frozenset({"log_pf_B", "ref_log_pf_B", "chosen_B", "unrelated_log_ratio_B"})

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return kto_loss(
            columns["log_pf_B"],
            columns["ref_log_pf_B"],
            columns["chosen_B"],
            columns["unrelated_log_ratio_B"],
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )
