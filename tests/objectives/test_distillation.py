"""Distillation: written loops, the exact divergence where all actions are kept, masks, clipping, planted errors."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor
from torch.nn import functional

from lightning_gfn.interfaces import COLUMNS, Objective
from lightning_gfn.objectives.distillation import TopKDistillation, distillation_loss, divergence_terms

B, T1, V = 3, 5, 7
CHOICES = [
    (rest, divergence)
    for rest, divergence in itertools.product(("drop", "renormalise", "bucket"), ("forward", "reverse", "js"))
    if rest != "drop" or divergence == "forward"
]


def make_batch(top_k: int, seed: int = 0) -> SimpleNamespace:
    """Teacher and student over V actions, cut to the teacher's K best; some prefixes have no last action."""
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (2 * torch.randn(B, T1, V, generator=generator, dtype=torch.float64) for _ in range(2))
    for logits in (teacher, student):
        logits[1:, ::2, -1] = -torch.inf
    log_p = teacher.log_softmax(-1)
    logits = student.requires_grad_()
    log_q = logits.log_softmax(-1)
    ids = log_p.topk(top_k, dim=-1).indices
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [False] * 5])

    def cut(values: Tensor) -> tuple[Tensor, Tensor]:
        others = values.scatter(-1, ids, -torch.inf)
        none = (others == -torch.inf).all(-1, keepdim=True)
        total = torch.where(none, 0.0, others).logsumexp(-1)
        return values.gather(-1, ids), torch.where(none.squeeze(-1), -torch.inf, total)

    return SimpleNamespace(
        logits=logits, log_p=log_p, log_q=log_q, ids=ids, mask=mask, teacher=cut(log_p), student=cut(log_q)
    )


def arguments(b: SimpleNamespace) -> tuple[Tensor, ...]:
    return (*b.teacher, *b.student, b.mask)


def written_loop(b: SimpleNamespace, rest: str, divergence: str, weight: float, clip: float, how: str) -> float:
    """Every prefix and every action by themselves, from whole distributions."""
    total, prefixes, rows = 0.0, 0, set()
    for row, t in b.mask.nonzero().tolist():
        chosen = b.ids[row, t].tolist()
        p, q = ([values[row, t, a].exp().item() for a in chosen] for values in (b.log_p, b.log_q))
        if rest == "renormalise":
            p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        elif rest == "bucket":
            p, q = [*p, 1 - sum(p)], [*q, 1 - sum(q)]
        prefixes, rows = prefixes + 1, rows | {row}
        for x, y in zip(p, q, strict=True):
            if x < 1e-12:
                continue
            if divergence == "forward":
                term = x * math.log(x / y)
            elif divergence == "reverse":
                term = y * math.log(y / x)
            else:
                m = weight * x + (1 - weight) * y
                term = weight * x * math.log(x / m) + (1 - weight) * y * math.log(y / m)
            total += min(term, clip)
    return total / (prefixes if how == "token" else len(rows))


@pytest.mark.parametrize("how", ["trajectory", "token"])
@pytest.mark.parametrize(("rest", "divergence"), CHOICES)
@pytest.mark.parametrize("top_k", [1, 3, 7])
def test_written_loop(top_k: int, rest: str, divergence: str, how: str) -> None:
    b = make_batch(top_k)
    objective = TopKDistillation(rest=rest, divergence=divergence, js_weight=0.3, clip=0.4, aggregation=how)
    columns = dict(zip(COLUMN_NAMES, arguments(b), strict=True))
    expected = written_loop(b, rest, divergence, 0.3, 0.4, how)
    assert objective(columns).loss.item() == pytest.approx(expected, abs=1e-9)


COLUMN_NAMES = (
    "teacher_log_p_BT1K",
    "teacher_log_rest_BT1",
    "student_log_p_BT1K",
    "student_log_rest_BT1",
    "distil_mask_BT1",
)


@pytest.mark.parametrize("rest", ["drop", "renormalise", "bucket"])
def test_all_actions_kept_is_torch_kl_div_with_its_gradient(rest: str) -> None:
    b = make_batch(V)
    output = distillation_loss(*arguments(b), rest=rest, aggregation="token")  # type: ignore[arg-type]
    p, q = b.log_p[b.mask], b.log_q[b.mask]
    there = p > -torch.inf
    expected = functional.kl_div(
        torch.where(there, q, 0.0), torch.where(there, p, -1e9), log_target=True, reduction="sum"
    )
    torch.testing.assert_close(output.sum, expected, atol=1e-9, rtol=0)
    found, wanted = (torch.autograd.grad(loss, b.logits, retain_graph=True)[0] for loss in (output.sum, expected))
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)
    assert output.diagnostics["teacher_mass"].item() == pytest.approx(1.0)
    assert output.diagnostics["kl"].item() == pytest.approx(expected.item() / int(b.mask.sum()))


@pytest.mark.parametrize("top_k", [2, 4])
def test_bucket_bounds_the_full_divergence_and_drop_has_the_gradient_of_cross_entropy(top_k: int) -> None:
    b = make_batch(top_k)
    full = distillation_loss(*arguments(make_batch(V))).sum
    bucket = distillation_loss(*arguments(b), rest="bucket").sum
    assert 0 < bucket < full
    dropped = distillation_loss(*arguments(b)).sum
    entropy = -(b.teacher[0].exp() * b.student[0])[b.mask].sum()
    gradients = [torch.autograd.grad(loss, b.logits, retain_graph=True)[0] for loss in (dropped, entropy)]
    torch.testing.assert_close(*gradients)


def test_limits_of_the_jensen_shannon_divergence() -> None:
    b = make_batch(4)

    def loss(divergence: str, weight: float = 0.5) -> float:
        return distillation_loss(*arguments(b), rest="bucket", divergence=divergence, js_weight=weight).sum.item()

    assert loss("js", 1e-7) / 1e-7 == pytest.approx(loss("forward"), rel=1e-4)
    assert loss("js", 1 - 1e-7) / 1e-7 == pytest.approx(loss("reverse"), rel=1e-4)
    assert 0 < loss("js") < math.log(2) * int(b.mask.sum())


@pytest.mark.parametrize(("rest", "divergence"), CHOICES)
def test_student_that_is_the_teacher_has_no_loss_and_no_gradient(rest: str, divergence: str) -> None:
    b = make_batch(3)
    logits = torch.where(b.log_p > -torch.inf, b.log_p, -50.0).requires_grad_()
    log_q = logits.log_softmax(-1)
    student = (log_q.gather(-1, b.ids), log_q.scatter(-1, b.ids, -torch.inf).logsumexp(-1))
    output = distillation_loss(*b.teacher, *student, b.mask, rest=rest, divergence=divergence)  # type: ignore[arg-type]
    assert output.loss.item() == pytest.approx(0.0, abs=1e-9)
    (gradient,) = torch.autograd.grad(output.sum, logits)
    if rest == "drop":  # pulls the student's other actions into S: its minimum is p / Σ_S p, not p
        assert gradient.abs().max() > 1e-3
    else:
        assert gradient.abs().max() < 1e-9
    assert output.diagnostics["agreement"].item() == pytest.approx(1.0)
    assert output.diagnostics["top1_agreement"].item() == 1.0


@pytest.mark.parametrize(("rest", "divergence"), CHOICES)
def test_gradcheck(rest: str, divergence: str) -> None:
    b = make_batch(3)

    def loss(log_p: Tensor, log_rest: Tensor) -> Tensor:
        return distillation_loss(*b.teacher, log_p, log_rest, b.mask, rest=rest, divergence=divergence, clip=0.7).loss

    leaves = [torch.where(value > -torch.inf, value, -3.0).detach().requires_grad_() for value in b.student]
    assert torch.autograd.gradcheck(loss, leaves)


@pytest.mark.parametrize(("rest", "divergence"), CHOICES)
def test_what_lies_under_the_mask_is_harmless(rest: str, divergence: str) -> None:
    b = make_batch(4)
    options = {"rest": rest, "divergence": divergence}
    dirty = [
        torch.where(b.mask[..., None] if v.ndim == 3 else b.mask, v, float("nan")) for v in (*b.teacher, *b.student)
    ]
    found, wanted = distillation_loss(*dirty, b.mask, **options), distillation_loss(*arguments(b), **options)
    torch.testing.assert_close(found.loss, wanted.loss)
    gradients = [torch.autograd.grad(output.loss, b.logits, retain_graph=True)[0] for output in (found, wanted)]
    torch.testing.assert_close(*gradients)
    assert wanted.weight.item() == 2.0
    sliced = distillation_loss(*(value[:2, :] for value in arguments(b)), **options)
    torch.testing.assert_close(sliced.loss, wanted.loss)


def test_nothing_to_distil_is_a_zero_with_a_graph() -> None:
    b = make_batch(3)
    output = distillation_loss(*arguments(b)[:4], torch.zeros_like(b.mask))
    (gradient,) = torch.autograd.grad(output.loss, b.logits)
    assert output.loss.item() == 0.0 and not gradient.any()
    assert all(math.isfinite(value) for value in output.diagnostics.values())


def test_contract() -> None:
    objective = TopKDistillation(rest="bucket", divergence="js", js_weight=0.4, clip=1.0)
    assert objective.requires == set(COLUMN_NAMES) <= set(COLUMNS)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective)
    config = {"class_path": f"{TopKDistillation.__module__}.TopKDistillation", "init_args": vars(objective)}
    assert parser.instantiate(parser.parse_object({"objective": config})).objective == objective


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"rest": "keep"}, "rest"),
        ({"divergence": "tv"}, "divergence"),
        ({"rest": "drop", "divergence": "js"}, "rest"),
        ({"js_weight": 1.0}, "js_weight"),
        ({"clip": 0.0}, "clip"),
        ({"aggregation": "mean"}, "aggregation"),
    ],
)
def test_a_wrong_setting_names_itself(settings: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is "):
        TopKDistillation(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("position", range(5))
def test_a_wrong_shape_names_its_argument(position: int) -> None:
    values = list(arguments(make_batch(3)))
    values[position] = values[position][:, :-1]
    with pytest.raises(ValueError, match="has shape"):
        distillation_loss(*values)


@pytest.mark.parametrize("plant", ["sides swapped", "rest forgotten", "padding counted", "order lost", "sign"])
def test_planted_errors_are_caught(plant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    b = make_batch(3)
    values = arguments(b)
    expected = written_loop(b, "bucket", "forward", 0.5, math.inf, "trajectory")
    if plant == "sides swapped":
        values = (*values[2:4], *values[:2], values[4])
    elif plant == "rest forgotten":
        values = (values[0], torch.full_like(values[1], -torch.inf), *values[2:])
    elif plant == "padding counted":
        values = (*values[:4], torch.ones_like(b.mask))
    elif plant == "order lost":
        values = (*values[:2], values[2].flip(-1), *values[3:])
    else:
        module = "lightning_gfn.objectives.distillation.divergence_terms"
        monkeypatch.setattr(module, lambda *given: -divergence_terms(*given))
    assert abs(distillation_loss(*values, rest="bucket").loss.item() - expected) > 1e-3
