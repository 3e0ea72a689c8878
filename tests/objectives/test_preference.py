"""DPO, IPO, KTO: written loops, values and gradients at the reference, order of rows, planted errors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.interfaces import COLUMNS, Objective
from lightning_gfn.objectives.preference import DPO, IPO, KTO, dpo_loss, ipo_loss, kto_loss
from lightning_gfn.types import LossOutput

Columns = dict[str, Tensor]
OBJECTIVES = [
    DPO(),
    DPO(beta=0.3, label_smoothing=0.2),
    IPO(),
    IPO(beta=0.4, per_action=True),
    KTO(desirable_weight=2.0),
]


def columns_of(num_pairs: int = 5, *, at_reference: bool = False, seed: int = 0) -> Columns:
    """Rows of pairs in a random order, ids of pairs with gaps."""
    generator = torch.Generator().manual_seed(seed)
    B = 2 * num_pairs

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    order = torch.randperm(B, generator=generator)
    log_pf = (-10.0 + 4.0 * draw(B)).requires_grad_()
    lengths = torch.randint(1, 8, (B,), generator=generator)
    return {
        "log_pf_B": log_pf,
        "ref_log_pf_B": log_pf.detach().clone() if at_reference else -10.0 + 4.0 * draw(B),
        "pair_B": (3 * torch.arange(num_pairs) + 5).repeat(2)[order],
        "chosen_B": (torch.arange(B) < num_pairs)[order],
        "unrelated_log_ratio_B": draw(B) + 1.0,
        "mask_BT": torch.arange(7) < lengths[:, None],
        "forced_stop_B": lengths == 7,
    }


def sigmoid(x: Tensor) -> Tensor:
    return 1.0 / (1.0 + (-x).exp())


def ratio(c: Columns, b: int) -> Tensor:
    return c["log_pf_B"][b] - c["ref_log_pf_B"][b]


def pairs_of(c: Columns) -> list[tuple[int, int]]:
    """Row of the chosen and of the rejected completion of each pair, by search."""
    found = []
    for pair in set(c["pair_B"].tolist()):
        rows = [b for b, p in enumerate(c["pair_B"].tolist()) if p == pair]
        found.append(tuple(sorted(rows, key=lambda b: not c["chosen_B"][b])))
    return found


def dpo_loop(c: Columns, beta: float = 0.1, smoothing: float = 0.0) -> Tensor:
    terms = []
    for w, r in pairs_of(c):
        h = ratio(c, w) - ratio(c, r)
        terms.append(-(1 - smoothing) * sigmoid(beta * h).log() - smoothing * sigmoid(-beta * h).log())
    return sum(terms) / len(terms)


def ipo_loop(c: Columns, beta: float = 0.1, per_action: bool = False) -> Tensor:
    actions = [
        sum(row) + (not forced) for row, forced in zip(c["mask_BT"].tolist(), c["forced_stop_B"].tolist(), strict=True)
    ]
    size = actions if per_action else [1] * len(actions)
    terms = [(ratio(c, w) / size[w] - ratio(c, r) / size[r] - 1 / (2 * beta)) ** 2 for w, r in pairs_of(c)]
    return sum(terms) / len(terms)


def kto_loop(c: Columns, beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0) -> Tensor:
    point = max(0.0, sum(c["unrelated_log_ratio_B"].tolist()) / len(c["pair_B"]))
    terms = [
        desirable * (1 - sigmoid(beta * (ratio(c, b) - point)))
        if good
        else undesirable * (1 - sigmoid(beta * (point - ratio(c, b))))
        for b, good in enumerate(c["chosen_B"].tolist())
    ]
    return sum(terms) / len(terms)


CASES: list[tuple[Objective, Callable[[Columns], Tensor]]] = [
    (DPO(), dpo_loop),
    (DPO(beta=0.3, label_smoothing=0.2), lambda c: dpo_loop(c, 0.3, 0.2)),
    (IPO(beta=0.2), lambda c: ipo_loop(c, 0.2)),
    (IPO(beta=0.4, per_action=True), lambda c: ipo_loop(c, 0.4, True)),
    (KTO(), kto_loop),
    (KTO(beta=0.5, desirable_weight=1.5, undesirable_weight=0.7), lambda c: kto_loop(c, 0.5, 1.5, 0.7)),
]


@pytest.mark.parametrize(("objective", "loop"), CASES, ids=[repr(case[0]) for case in CASES])
def test_written_loop(objective: Objective, loop: Callable[[Columns], Tensor]) -> None:
    for seed in range(3):
        c = columns_of(seed=seed)
        found, wanted = objective(c).loss, loop(c)
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)
        gradients = [torch.autograd.grad(loss, c["log_pf_B"])[0] for loss in (found, wanted)]
        torch.testing.assert_close(*gradients, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("objective", "loop"), CASES, ids=[repr(case[0]) for case in CASES])
def test_planted_errors_are_noticed(objective: Objective, loop: Callable[[Columns], Tensor]) -> None:
    """A swapped sign, a reference left out and pairs mixed up all leave the loop."""
    c = columns_of()
    planted = [
        {**c, "chosen_B": ~c["chosen_B"]},
        {**c, "ref_log_pf_B": torch.zeros_like(c["ref_log_pf_B"])},
        {**c, "ref_log_pf_B": -c["ref_log_pf_B"]},
    ]
    if "pair_B" in objective.requires:
        good = c["chosen_B"]
        mixed = c["pair_B"].clone()
        mixed[good] = mixed[good].roll(1)
        planted.append({**c, "pair_B": mixed})
    for wrong in planted:
        assert (objective(wrong).loss - loop(c)).abs() > 1e-3


def test_dpo_at_the_reference_is_log_2() -> None:
    c = columns_of(at_reference=True)
    output = DPO(beta=0.3)(c)
    assert output.loss.item() == pytest.approx(math.log(2.0))
    (gradient,) = torch.autograd.grad(output.loss, c["log_pf_B"])
    torch.testing.assert_close(gradient, torch.where(c["chosen_B"], -1.0, 1.0).double() * 0.3 / 2 / 5)
    assert DPO(label_smoothing=0.4)(c).loss.item() == pytest.approx(math.log(2.0))


def test_ipo_at_the_reference_and_at_its_target() -> None:
    c = columns_of(at_reference=True)
    output = IPO(beta=0.2)(c)
    assert output.loss.item() == pytest.approx(1 / (4 * 0.2**2))
    (gradient,) = torch.autograd.grad(output.loss, c["log_pf_B"])
    torch.testing.assert_close(gradient, torch.where(c["chosen_B"], -1.0, 1.0).double() / 0.2 / 5)
    shift = torch.where(c["chosen_B"], 1.0, -1.0).double() / (4 * 0.2)
    assert IPO(beta=0.2)({**c, "log_pf_B": c["log_pf_B"] + shift}).loss.item() == pytest.approx(0.0, abs=1e-20)


def test_kto_at_the_reference() -> None:
    c = columns_of(at_reference=True)
    c["unrelated_log_ratio_B"] = torch.zeros(10, dtype=torch.float64)
    output = KTO(beta=0.3, desirable_weight=2.0, undesirable_weight=3.0)(c)
    assert output.loss.item() == pytest.approx((2.0 + 3.0) / 4)
    (gradient,) = torch.autograd.grad(output.loss, c["log_pf_B"])
    torch.testing.assert_close(gradient, torch.where(c["chosen_B"], -2.0, 3.0).double() * 0.3 / 4 / 10)


def test_the_reference_point_is_a_mean_clamped_at_zero_and_constant() -> None:
    c = columns_of()
    unrelated = c["unrelated_log_ratio_B"].clone().requires_grad_()
    positive = KTO()({**c, "unrelated_log_ratio_B": unrelated})
    assert positive.diagnostics["reference_point"].item() == pytest.approx(unrelated.mean().item())
    positive.loss.backward()
    assert unrelated.grad is None
    negative = KTO()({**c, "unrelated_log_ratio_B": c["unrelated_log_ratio_B"] - 50.0})
    zero = KTO()({**c, "unrelated_log_ratio_B": torch.zeros_like(unrelated)})
    assert negative.diagnostics["reference_point"].item() == 0.0
    assert negative.loss.item() == zero.loss.item() != positive.loss.item()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_gradcheck(objective: Objective) -> None:
    c = columns_of(3)
    assert torch.autograd.gradcheck(lambda x: objective({**c, "log_pf_B": x}).loss, (c["log_pf_B"],))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_order_and_padding_do_not_matter(objective: Objective) -> None:
    c = columns_of()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    shuffled = {name: column[order] for name, column in c.items()}
    shuffled["mask_BT"] = torch.nn.functional.pad(shuffled["mask_BT"], (0, 3))
    torch.testing.assert_close(objective(shuffled).loss, objective(c).loss, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_the_contract(objective: Objective) -> None:
    """Exactly the required columns are read; sum and weight are scalars; diagnostics are finite and detached."""
    read: set[str] = set()

    class Recorder(dict[str, Tensor]):
        def __getitem__(self, name: str) -> Tensor:
            read.add(name)
            return super().__getitem__(name)

    output = objective(Recorder(columns_of()))
    assert read == objective.requires <= set(COLUMNS)
    assert output.sum.ndim == output.weight.ndim == 0
    assert output.sum.requires_grad and not output.weight.requires_grad
    for name, value in output.diagnostics.items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert value.ndim == 0 and not value.requires_grad and torch.isfinite(value)


def test_sums_of_parts_add_up() -> None:
    """Sum and weight of two halves are those of the whole, so that windows and ranks are exact."""
    c = columns_of(6)
    low = c["pair_B"] < c["pair_B"].median()
    for loss in (dpo_loss, ipo_loss):
        arguments = [c[name] for name in ("log_pf_B", "ref_log_pf_B", "pair_B", "chosen_B")]
        parts: list[LossOutput] = [loss(*(x[side] for x in arguments)) for side in (low, ~low)]
        whole = loss(*arguments)
        torch.testing.assert_close(sum(part.sum for part in parts), whole.sum)
        assert sum(part.weight for part in parts) == whole.weight == 6


def test_only_desirable_or_only_undesirable_completions() -> None:
    c = columns_of()
    for side in (c["chosen_B"], ~c["chosen_B"]):
        part = {name: column[side] for name, column in c.items()}
        torch.testing.assert_close(KTO()(part).loss, kto_loop(part))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ref_log_pf_B": torch.zeros(3)}, "ref_log_pf_B has shape"),
        ({"chosen_B": torch.zeros(10)}, "chosen_B has dtype"),
        ({"chosen_B": torch.ones(10, dtype=torch.bool)}, "pair_B must name each pair twice"),
        ({"pair_B": torch.arange(10)}, "pair_B must name each pair twice"),
        ({"pair_B": torch.zeros(10, dtype=torch.int64)}, "pair_B must name each pair twice"),
    ],
)
def test_wrong_columns_are_named(change: Columns, message: str) -> None:
    for objective in (DPO(), IPO()):
        with pytest.raises(ValueError, match=message):
            objective({**columns_of(), **change})
    with pytest.raises(ValueError, match="unrelated_log_ratio_B has shape"):
        KTO()({**columns_of(), "unrelated_log_ratio_B": torch.zeros(2)})
    with pytest.raises(ValueError, match="log_pf_B has shape"):
        kto_loss(torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2, 2).bool(), torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: DPO(beta=0.0), "beta"),
        (lambda: DPO(label_smoothing=0.5), "label_smoothing"),
        (lambda: IPO(beta=-1.0), "beta"),
        (lambda: KTO(undesirable_weight=0.0), "undesirable_weight"),
    ],
)
def test_a_wrong_setting_names_itself(build: Callable[[], Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is "):
        build()
