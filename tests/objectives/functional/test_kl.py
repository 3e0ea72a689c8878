"""Estimators of the KL: exact expectations over every action of a small softmax, of values and of gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.functional.kl import KLEstimator, kl_estimate

LOGITS = torch.tensor([0.3, -1.2, 2.0, 0.1, -0.4], dtype=torch.float64)
REFERENCE = torch.tensor([-0.5, 0.2, 1.1, 0.7, -2.0], dtype=torch.float64).log_softmax(0)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of log-probabilities, a written sum."""
    return sum((p[i].exp() * (p[i] - q[i]) for i in range(len(p))), torch.zeros((), dtype=torch.float64))


def expected_gradient(estimator: KLEstimator) -> Tensor:
    """E over actions of q of the gradient of the estimator as a loss: probabilities are weights without gradient."""
    logits = LOGITS.clone().requires_grad_()
    log_q = logits.log_softmax(0)
    (gradient,) = torch.autograd.grad((log_q.detach().exp() * kl_estimate(log_q, REFERENCE, estimator)).sum(), logits)
    return gradient


def gradient_of(direction: str) -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    log_q = logits.log_softmax(0)
    return torch.autograd.grad(kl(log_q, REFERENCE) if direction == "reverse" else kl(REFERENCE, log_q), logits)[0]


def test_k1_and_k3_are_unbiased_and_k2_is_not() -> None:
    log_q = LOGITS.log_softmax(0)
    exact = kl(log_q, REFERENCE)
    mean = {name: (log_q.exp() * kl_estimate(log_q, REFERENCE, name)).sum() for name in ("k1", "k2", "k3")}
    torch.testing.assert_close(mean["k1"], exact)
    torch.testing.assert_close(mean["k3"], exact)
    assert (mean["k2"] - exact).abs() > 1e-2
    assert exact > 0.2


def test_expected_gradients_as_a_loss() -> None:
    torch.testing.assert_close(expected_gradient("k1"), torch.zeros_like(LOGITS), atol=1e-12, rtol=0.0)
    torch.testing.assert_close(expected_gradient("k2"), gradient_of("reverse"))
    torch.testing.assert_close(expected_gradient("k3"), gradient_of("forward"))
    assert (gradient_of("reverse") - gradient_of("forward")).abs().max() > 1e-2


def test_k2_and_k3_are_never_negative_and_zero_only_where_the_policies_agree() -> None:
    difference = torch.arange(-40, 41, dtype=torch.float64) / 10
    for name in ("k2", "k3"):
        estimates = kl_estimate(difference, torch.zeros_like(difference), name)  # type: ignore[arg-type]
        assert (estimates >= 0).all() and ((estimates == 0) == (difference == 0)).all()
    k1 = kl_estimate(difference, torch.zeros_like(difference), "k1")
    assert (k1 < 0).any()


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_gradcheck_and_a_constant_reference(estimator: KLEstimator) -> None:
    log_q = LOGITS.log_softmax(0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: kl_estimate(x, REFERENCE, estimator), (log_q,))
    reference = REFERENCE.clone().requires_grad_()
    assert not kl_estimate(log_q.detach(), reference, estimator).requires_grad


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="estimator is 'k4'"):
        kl_estimate(LOGITS, REFERENCE, "k4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ref_log_pf has shape"):
        kl_estimate(LOGITS, REFERENCE[:2], "k1")
