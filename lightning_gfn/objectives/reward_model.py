"""Losses of reward models: labels of solutions or of their steps, and preferences between two solutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.checks import batch_and_length, check_mask, check_shapes
from lightning_gfn.objectives.functional.potentials import masked
from lightning_gfn.types import LossOutput


def label_loss(score_BS: Tensor, label_BS: Tensor, label_mask_BS: Tensor) -> LossOutput:
    """Binary cross-entropy of every labelled step.

        loss = -Σ [ y log σ(s) + (1 - y) log σ(-s) ] / number of labels

    With one label at the last step of each solution this trains an outcome reward model, with a label at each step a
    process reward model. Labels between 0 and 1 are shares of completions that succeeded.

    Args:
        score_BS: (B, S) score at the end of each step, a logit; gradient flows.
        label_BS: (B, S) label of the step, 0 to 1.
        label_mask_BS: (B, S) bool, True where there is a label; whatever the others hold is ignored.

    Returns:
        Sum over labels, weighted by their number; diagnostics ``accuracy`` (score and label on the same side of one
        half) and ``label_mean``.

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Cobbe et al. 2021, arXiv:2110.14168, section 4 (outcome); Wang et al. 2023, arXiv:2312.08935, equation 2
    (process).
    """
    B, S = batch_and_length("score_BS", score_BS)
    check_shapes(label_BS=(label_BS, (B, S)), label_mask_BS=(label_mask_BS, (B, S)))
    check_mask("label_mask_BS", label_mask_BS)
    score = masked(score_BS, label_mask_BS)
    label = masked(label_BS, label_mask_BS).to(score.dtype)
    if bool(((label < 0) | (label > 1)).any()):
        raise ValueError("label_BS holds values outside [0, 1]: give probabilities, or mask what has no label")
    total = masked(functional.binary_cross_entropy_with_logits(score, label, reduction="none"), label_mask_BS).sum()
    weight = label_mask_BS.sum().to(total.dtype)
    agree = ((score > 0) == (label > 0.5)) & label_mask_BS
    count = weight.clamp_min(1.0)
    return LossOutput(
        sum=total,
        weight=weight,
        diagnostics={"accuracy": agree.sum() / count, "label_mean": label.sum() / count},
    )


def bradley_terry_loss(
    score_B: Tensor, chosen_B: Tensor, pair_B: Tensor, *, margin_B: Tensor | None = None, centre: float = 0.0
) -> LossOutput:
    """Negative log-probability that the preferred solution of each pair wins, by the difference of two scores.

        loss = Σ_pairs [ -log σ(s_w - s_l - m) + c (s_w + s_l)² ] / number of pairs

    The second term keeps scores near 0, which differences alone leave free.

    Args:
        score_B: (B,) score of each solution; gradient flows.
        chosen_B: (B,) bool, True on the preferred one of a pair.
        pair_B: (B,) int64, the pair of each solution; every pair has one preferred and one other solution.
        margin_B: (B,) margin m of each solution's pair (the one at the preferred solution counts); None for 0.
        centre: weight c of the centring term.

    Returns:
        Sum over pairs, weighted by their number; diagnostics ``accuracy`` (share of pairs in the right order; a tie
        is half) and ``margin_mean`` (mean difference of scores).

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Ouyang et al. 2022, arXiv:2203.02155, equation 1; margin: Touvron et al. 2023, arXiv:2307.09288, section
    3.2.2; centring: Eisenstein et al. 2023, arXiv:2312.09244.
    """
    if score_B.ndim != 1:
        raise ValueError(f"score_B has shape {tuple(score_B.shape)}, expected one dimension (solutions)")
    B = score_B.shape[0]
    check_shapes(chosen_B=(chosen_B, (B,)), pair_B=(pair_B, (B,)))
    check_mask("chosen_B", chosen_B)
    pairs, index_B = torch.unique(pair_B, return_inverse=True)
    chosen_P = torch.zeros_like(pairs).index_add(0, index_B, chosen_B.to(pairs.dtype))
    if bool((chosen_P != 1).any()) or 2 * len(pairs) != B:
        raise ValueError("pair_B must name each pair twice, with chosen_B True once and False once")
    score = score_B.to(torch.promote_types(score_B.dtype, torch.float32))
    zero_P = score.new_zeros(len(pairs))
    difference_P = zero_P.index_add(0, index_B, torch.where(chosen_B, score, -score))
    required_P = zero_P
    if margin_B is not None:
        check_shapes(margin_B=(margin_B, (B,)))
        required_P = zero_P.index_add(0, index_B, masked(margin_B, chosen_B).to(score.dtype))
    loss_P = -functional.logsigmoid(difference_P - required_P)
    if centre:
        loss_P = loss_P + centre * zero_P.index_add(0, index_B, score).square()
    known_P = difference_P.detach()
    order_P = 0.5 * (known_P.sign() + 1.0)
    return LossOutput(
        sum=loss_P.sum(),
        weight=loss_P.new_tensor(float(len(pairs))),
        diagnostics={"accuracy": order_P.mean(), "margin_mean": known_P.mean()},
    )


@dataclass(frozen=True)
class LabelLoss(Objective):
    """Binary cross-entropy on labels of solutions (outcome) or of their steps (process)."""

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return frozenset({"score_BS", "label_BS", "label_mask_BS"})

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return label_loss(columns["score_BS"], columns["label_BS"], columns["label_mask_BS"])


@dataclass(frozen=True)
class BradleyTerry(Objective):
    """Preferences between two solutions of one problem.

    Args:
        margin: least difference of scores, the same for all pairs.
        centre: weight of the squared sum of a pair's scores.
    """

    margin: float = 0.0
    centre: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("centre", self.centre)):
            if value < 0.0:
                raise ValueError(f"{name} is {value}, expected a number of at least 0")

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return frozenset({"score_B", "chosen_B", "pair_B"})

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        score_B = columns["score_B"]
        margin_B = torch.full_like(score_B.detach(), self.margin) if self.margin else None
        return bradley_terry_loss(
            score_B, columns["chosen_B"], columns["pair_B"], margin_B=margin_B, centre=self.centre
        )
