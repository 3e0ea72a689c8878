"""Losses of reward models: torch's own cross-entropy, written loops, closed forms, padding, planted errors."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from lightning_gfn.interfaces import COLUMNS, Objective
from lightning_gfn.objectives.reward_model import BradleyTerry, LabelLoss, bradley_terry_loss, label_loss

STEPS = [3, 1, 4]


def labelled(seed: int = 0) -> SimpleNamespace:
    """Scores and labels of three solutions; the second step of the first one and all padding have no label."""
    generator = torch.Generator().manual_seed(seed)
    score_BS = (2 * torch.randn(3, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    label_BS = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    mask_BS = torch.arange(5) < torch.tensor(STEPS)[:, None]
    mask_BS[0, 1] = False
    return SimpleNamespace(score_BS=score_BS, label_BS=label_BS, label_mask_BS=mask_BS)


def label_loop(b: SimpleNamespace) -> tuple[Tensor, int]:
    """One label after the other."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row, steps in enumerate(STEPS):
        for k in range(steps):
            if (row, k) != (0, 1):
                p, y = b.score_BS[row, k].sigmoid(), b.label_BS[row, k]
                total = total - y * p.log() - (1 - y) * (1 - p).log()
                count += 1
    return total, count


def loss_of(b: SimpleNamespace) -> Tensor:
    return label_loss(b.score_BS, b.label_BS, b.label_mask_BS).loss


def test_labels_written_loop_and_gradient() -> None:
    b = labelled()
    output = LabelLoss()(vars(b))
    total, count = label_loop(b)
    assert output.weight.item() == count == 7
    torch.testing.assert_close(output.sum, total)
    found, wanted = (torch.autograd.grad(value, b.score_BS)[0] for value in (output.sum, total))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found[b.label_mask_BS], (b.score_BS.sigmoid() - b.label_BS)[b.label_mask_BS].detach())


def test_labels_equal_the_cross_entropy_of_torch() -> None:
    b = labelled()
    expected = torch.nn.BCEWithLogitsLoss()(b.score_BS[b.label_mask_BS], b.label_BS[b.label_mask_BS])
    torch.testing.assert_close(loss_of(b), expected)


def test_outcome_labels_are_labels_of_the_last_step() -> None:
    """A mask with one label a solution gives the plain cross-entropy of solutions."""
    b = labelled()
    last_BS = torch.arange(5) == torch.tensor(STEPS)[:, None] - 1
    expected = torch.nn.functional.binary_cross_entropy_with_logits(b.score_BS[last_BS], b.label_BS[last_BS])
    torch.testing.assert_close(label_loss(b.score_BS, b.label_BS, last_BS).loss, expected)


def test_labels_gradcheck_padding_and_diagnostics() -> None:
    b = labelled()
    assert torch.autograd.gradcheck(lambda score: label_loss(score, b.label_BS, b.label_mask_BS).loss, b.score_BS)
    value, output = loss_of(b), LabelLoss()(vars(b))
    p = b.score_BS.detach().sigmoid()[b.label_mask_BS]
    agree = (p > 0.5) == (b.label_BS[b.label_mask_BS] > 0.5)
    assert output.diagnostics["accuracy"].item() == pytest.approx(agree.double().mean().item())
    assert output.diagnostics["label_mean"].item() == pytest.approx(b.label_BS[b.label_mask_BS].mean().item())
    b.score_BS = torch.where(b.label_mask_BS, b.score_BS.detach(), float("nan")).requires_grad_()
    b.label_BS = torch.where(b.label_mask_BS, b.label_BS, float("inf"))
    torch.testing.assert_close(loss_of(b), value)
    assert torch.isfinite(torch.autograd.grad(loss_of(b), b.score_BS)[0]).all()
    sliced = label_loss(b.score_BS[:, :4], b.label_BS[:, :4], b.label_mask_BS[:, :4])
    torch.testing.assert_close(sliced.loss, value)


def test_no_label_gives_a_zero_with_a_graph() -> None:
    b = labelled()
    output = label_loss(b.score_BS, b.label_BS, torch.zeros_like(b.label_mask_BS))
    assert output.loss.item() == 0.0
    assert torch.equal(torch.autograd.grad(output.loss, b.score_BS)[0], torch.zeros_like(b.score_BS))


@pytest.mark.parametrize("plant", ["sign", "padding counted", "labels swapped", "one label masked"])
def test_planted_errors_in_labels_are_caught(plant: str) -> None:
    b = labelled()
    total, count = label_loop(b)
    if plant == "sign":
        b.score_BS = -b.score_BS
    elif plant == "padding counted":
        b.label_mask_BS = torch.ones_like(b.label_mask_BS)
    elif plant == "labels swapped":
        b.label_BS = 1 - b.label_BS
    else:
        b.label_mask_BS[2, 3] = False
    assert (loss_of(b) - total / count).abs() > 1e-3


def paired(seed: int = 0) -> SimpleNamespace:
    """Four pairs whose solutions stand in any order."""
    generator = torch.Generator().manual_seed(seed)
    score_B = (2 * torch.randn(8, generator=generator, dtype=torch.float64)).requires_grad_()
    pair_B = torch.tensor([7, 3, 3, 9, 7, 1, 9, 1])
    chosen_B = torch.tensor([True, True, False, False, False, True, True, False])
    margin_B = torch.rand(8, generator=generator, dtype=torch.float64)
    return SimpleNamespace(score_B=score_B, chosen_B=chosen_B, pair_B=pair_B, margin_B=margin_B)


def pair_loop(b: SimpleNamespace, *, margin: bool, centre: float) -> Tensor:
    """One pair after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for pair in set(b.pair_B.tolist()):
        (w,) = [i for i in range(8) if b.pair_B[i] == pair and b.chosen_B[i]]
        (l,) = [i for i in range(8) if b.pair_B[i] == pair and not b.chosen_B[i]]  # noqa: E741
        required = b.margin_B[w] if margin else 0.0
        total = total + torch.log1p(torch.exp(-(b.score_B[w] - b.score_B[l] - required)))
        total = total + centre * (b.score_B[w] + b.score_B[l]) ** 2
    return total / 4


@pytest.mark.parametrize("margin", [False, True])
@pytest.mark.parametrize("centre", [0.0, 0.3])
def test_pairs_written_loop_gradient_and_gradcheck(margin: bool, centre: float) -> None:
    b = paired()
    given = b.margin_B if margin else None
    output = bradley_terry_loss(b.score_B, b.chosen_B, b.pair_B, margin_B=given, centre=centre)
    expected = pair_loop(b, margin=margin, centre=centre)
    assert output.weight.item() == 4
    torch.testing.assert_close(output.loss, expected)
    found, wanted = (torch.autograd.grad(value, b.score_B)[0] for value in (output.loss, expected))
    torch.testing.assert_close(found, wanted)
    assert torch.autograd.gradcheck(
        lambda score: bradley_terry_loss(score, b.chosen_B, b.pair_B, margin_B=given, centre=centre).loss, b.score_B
    )


def test_pairs_limits() -> None:
    """Equal scores give log 2; a large difference gives nothing, or the difference if the order is wrong."""
    chosen_B, pair_B = torch.tensor([True, False]), torch.tensor([0, 0])
    for scores, loss, accuracy in (((1.5, 1.5), math.log(2), 0.5), ((40.0, -40.0), 0.0, 1.0), ((-40.0, 40.0), 80.0, 0)):
        output = bradley_terry_loss(torch.tensor(scores), chosen_B, pair_B)
        assert output.loss.item() == pytest.approx(loss, abs=1e-5)
        assert output.diagnostics["accuracy"].item() == accuracy
        assert output.diagnostics["margin_mean"].item() == pytest.approx(scores[0] - scores[1])


def test_a_fixed_margin_shifts_the_difference() -> None:
    b = paired()
    columns = {"score_B": b.score_B, "chosen_B": b.chosen_B, "pair_B": b.pair_B}
    b.margin_B = torch.full((8,), 0.7, dtype=torch.float64)
    torch.testing.assert_close(BradleyTerry(margin=0.7)(columns).loss, pair_loop(b, margin=True, centre=0.0))
    shifted = torch.where(b.chosen_B, b.score_B - 0.7, b.score_B)
    torch.testing.assert_close(
        BradleyTerry(margin=0.7)(columns).loss, bradley_terry_loss(shifted, b.chosen_B, b.pair_B).loss
    )


@pytest.mark.parametrize("plant", ["sign", "chosen swapped", "margin of the other", "centre of the difference"])
def test_planted_errors_in_pairs_are_caught(plant: str) -> None:
    b = paired()
    expected = pair_loop(b, margin=True, centre=0.3)
    score_B, chosen_B, margin_B = b.score_B, b.chosen_B, b.margin_B
    if plant == "sign":
        score_B = -score_B
    elif plant == "chosen swapped":
        chosen_B = ~chosen_B
    elif plant == "margin of the other":
        margin_B = margin_B.roll(1)
    centre = 0.0 if plant == "centre of the difference" else 0.3
    found = bradley_terry_loss(score_B, chosen_B, b.pair_B, margin_B=margin_B, centre=centre).loss
    assert (found - expected).abs() > 1e-3


@pytest.mark.parametrize("objective", [LabelLoss(), BradleyTerry(), BradleyTerry(margin=0.5, centre=0.1)], ids=repr)
def test_contract(objective: Objective) -> None:
    columns = {**vars(labelled()), **vars(paired())}
    output = objective(columns)
    assert objective.requires <= set(COLUMNS)
    assert objective({name: columns[name] for name in objective.requires}).loss == output.loss
    assert output.sum.requires_grad and not output.weight.requires_grad
    assert all(value.ndim == 0 and not value.requires_grad for value in output.diagnostics.values())
    for name in objective.requires:
        with pytest.raises(ValueError, match=rf"^{name} has shape|label_BS has shape|chosen_B has shape"):
            objective({**columns, name: columns[name][..., :-1]})
    settings = {field.name: getattr(objective, field.name) for field in dataclasses.fields(objective)}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective)
    path = f"{type(objective).__module__}.{type(objective).__qualname__}"
    config = parser.parse_object({"objective": {"class_path": path, "init_args": settings}})
    assert parser.instantiate(config).objective == objective


def test_errors_name_the_argument() -> None:
    b, p = labelled(), paired()
    with pytest.raises(ValueError, match=r"label_mask_BS has dtype"):
        label_loss(b.score_BS, b.label_BS, b.label_mask_BS.long())
    with pytest.raises(ValueError, match=r"label_BS holds values outside"):
        label_loss(b.score_BS, b.label_BS + 1, b.label_mask_BS)
    with pytest.raises(ValueError, match=r"score_B has shape"):
        bradley_terry_loss(b.score_BS, p.chosen_B, p.pair_B)
    with pytest.raises(ValueError, match="pair_B must name each pair twice"):
        bradley_terry_loss(p.score_B, torch.ones_like(p.chosen_B), p.pair_B)
    with pytest.raises(ValueError, match=r"^centre is -1"):
        BradleyTerry(centre=-1.0)
