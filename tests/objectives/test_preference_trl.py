"""DPO, IPO and KTO against the statements of TRL's trainers (1.16), executed on the same tensors.

Runs where TRL is installed (``pip install -c constraints.txt -e '.[bench]'``), or where ``TRL_SOURCE`` names the folder
that holds ``trl/``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.preference import DPO, IPO, KTO


def trainers() -> Path:
    """The folder of TRL's trainers; need not exist."""
    spec = find_spec("trl")
    roots = [Path(place).parent for place in (spec.submodule_search_locations or [])] if spec is not None else []
    return Path(os.environ.get("TRL_SOURCE", roots[0] if roots else "/nonexistent")) / "trl" / "trainer"


PAIRED, SINGLE = trainers() / "dpo_trainer.py", trainers() / "kto_trainer.py"
pytestmark = pytest.mark.skipif(not (PAIRED.is_file() and SINGLE.is_file()), reason="TRL's DPO and KTO are not here")
Columns = dict[str, Tensor]
Execute = Callable[[Path, str, str, dict[str, Any]], dict[str, Any]]
P, T = 5, 7


def columns_of(seed: int) -> Columns:
    """Chosen completions first, then the rejected ones in the same order, as TRL stacks them; no two lengths alike."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(2 * P, generator=generator, dtype=torch.float64)

    lengths = torch.tensor([3, 7, 1, 5, 6, 2, 4, 7, 6, 3])
    return {
        "log_pf_B": (-9.0 + 3.0 * draw()).requires_grad_(),
        "ref_log_pf_B": -9.0 + 3.0 * draw(),
        "pair_B": torch.arange(P).repeat(2),
        "chosen_B": torch.arange(2 * P) < P,
        "unrelated_log_ratio_B": draw() + (1.0 if seed % 2 else -3.0),
        "mask_BT": torch.arange(T) < lengths.unsqueeze(1),
        "forced_stop_B": lengths == T,
    }


def log_probs(c: Columns) -> dict[str, Tensor]:
    """Chosen and rejected log-probabilities under TRL's names."""
    names = {"log_pf_B": "{}_logps", "ref_log_pf_B": "ref_{}_logps"}
    sides = {"chosen": c["chosen_B"], "rejected": ~c["chosen_B"]}
    return {name.format(side): c[column][rows] for column, name in names.items() for side, rows in sides.items()}


def paired_loss(c: Columns, execute: Execute, loss_type: str, **settings: float) -> Tensor:
    """TRL's loss of pairs; its completions hold the end token, ours the free stop, which is an action as well."""
    actions = c["mask_BT"].sum(1) + (~c["forced_stop_B"]).long()
    trainer = SimpleNamespace(
        loss_types=[loss_type], loss_weights=[1.0], f_divergence_type="reverse_kl", use_weighting=False, **settings
    )
    names = {**log_probs(c), "self": trainer, "completion_mask": torch.arange(T + 1) < actions.unsqueeze(1)}
    loss = execute(PAIRED, "chosen_logratios =", "for loss_type", names)["loss"]
    assert isinstance(loss, Tensor)
    return loss


def kto_loss(c: Columns, execute: Execute, **settings: float) -> Tensor:
    """TRL's loss of single completions."""
    accelerator = SimpleNamespace(gather_for_metrics=lambda values: values)
    trainer = SimpleNamespace(loss_type="kto", calculate_KL=True, accelerator=accelerator, **settings)
    shift = torch.tensor(-4.0, dtype=torch.float64)
    unrelated = {"KL_logps": c["unrelated_log_ratio_B"] + shift, "ref_KL_logps": shift}
    names = {**log_probs(c), **unrelated, "self": trainer}
    losses = execute(SINGLE, "if self.calculate_KL:\n    kl =", "losses = torch.cat", names)["losses"]
    assert isinstance(losses, Tensor)
    return losses.nanmean()


def smoothed_dpo(c: Columns, execute: Execute, beta: float, smoothing: float) -> Tensor:
    """Conservative DPO from TRL's ``robust``, which is its difference of the two terms over 1 - 2 ε, and its DPO.

    (1 - ε) a + ε b = (1 - 2 ε) robust + 2 ε b, where b is the loss of the pairs turned round.
    """
    robust = paired_loss(c, execute, "robust", beta=beta, label_smoothing=smoothing)
    turned = paired_loss({**c, "chosen_B": ~c["chosen_B"]}, execute, "sigmoid", beta=beta)
    return (1 - 2 * smoothing) * robust + 2 * smoothing * turned


CASES: list[tuple[Objective, Callable[[Columns, Execute], Tensor]]] = [
    (DPO(beta=0.1), lambda c, execute: paired_loss(c, execute, "sigmoid", beta=0.1)),
    (DPO(beta=0.7), lambda c, execute: paired_loss(c, execute, "sigmoid", beta=0.7)),
    (DPO(beta=0.3, label_smoothing=0.2), lambda c, execute: smoothed_dpo(c, execute, 0.3, 0.2)),
    (IPO(beta=0.2, per_action=True), lambda c, execute: paired_loss(c, execute, "ipo", beta=0.2)),
    (KTO(beta=0.1), lambda c, execute: kto_loss(c, execute, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)),
    (
        KTO(beta=0.5, desirable_weight=1.5, undesirable_weight=0.7),
        lambda c, execute: kto_loss(c, execute, beta=0.5, desirable_weight=1.5, undesirable_weight=0.7),
    ),
]


@pytest.mark.parametrize(("objective", "theirs"), CASES, ids=[repr(case[0]) for case in CASES])
def test_loss_and_gradient(
    objective: Objective, theirs: Callable[[Columns, Execute], Tensor], execute: Execute
) -> None:
    """Odd seeds put KTO's reference point above zero, even ones below it, where it is clamped."""
    for seed in range(4):
        c = columns_of(seed)
        ours, wanted = objective(c).loss, theirs(c, execute)
        torch.testing.assert_close(ours, wanted, atol=1e-12, rtol=1e-12)
        found, expected = (torch.autograd.grad(loss, c["log_pf_B"])[0] for loss in (ours, wanted))
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
        assert expected.abs().sum() > 0


@pytest.mark.parametrize(("objective", "theirs"), CASES, ids=[repr(case[0]) for case in CASES])
def test_a_planted_error_is_noticed(
    objective: Objective, theirs: Callable[[Columns, Execute], Tensor], execute: Execute
) -> None:
    c = columns_of(1)
    wanted = theirs(c, execute)
    for wrong in ({**c, "chosen_B": ~c["chosen_B"]}, {**c, "ref_log_pf_B": torch.zeros(2 * P, dtype=torch.float64)}):
        assert (objective(wrong).loss - wanted).abs() > 1e-3
