"""Candidate actions: against the plain forward pass of the model, against scoring, in chunks, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.policies.language_policy import LanguagePolicy
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.scoring import candidates

Maker = Callable[..., LanguagePolicy]
ALLOWED = list("0123456789 +=")


def prepared(
    make_policy: Maker, kit: SimpleNamespace, name: str = "llama", **settings: Any
) -> tuple[LanguagePolicy, Any]:
    """A policy with a teacher, and rows of different lengths that it sampled."""
    policy = make_policy(name, allowed_tokens=ALLOWED, min_new_tokens=2, max_new_tokens=5, **settings)
    policy.start_teacher()
    generator = torch.Generator().manual_seed(3)
    contexts = [policy.encode_prompt(text) for text in kit.TEXTS]
    return policy, kit.rows_of(policy, policy.sample(contexts, torch.rand(len(contexts), 6, generator=generator)))


def plain_distributions(
    policy: LanguagePolicy, kit: SimpleNamespace, rows: Any
) -> dict[tuple[int, int], dict[int, float]]:
    """Probability of every action at every decided prefix, by one unpadded forward pass a row; stop under its id."""
    space, found = policy.space, {}
    allowed = space.allowed_V.nonzero().squeeze(1).tolist()
    for n, (c_ids, c_mask, a_ids, a_mask) in enumerate(zip(*list(vars(rows).values())[:4], strict=True)):
        context, action = c_ids[c_mask].tolist(), a_ids[a_mask].tolist()
        logits = kit.plain_logits(policy, context, action)
        for t in range(min(len(action), policy.max_new_tokens - 1) + 1):
            here = logits[t].exp()
            weights = {a: here[a].item() for a in allowed}
            if t >= policy.min_new_tokens:
                weights[space.stop_id] = here[space.end_ids].sum().item()
            found[n, t] = {a: weight / sum(weights.values()) for a, weight in weights.items()}
    return found


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)])
@pytest.mark.parametrize("top_k", [1, 4, 1000])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_teacher_gives_the_most_probable_actions(
    make_policy: Maker, kit: SimpleNamespace, name: str, top_k: int, lora: LoraSettings | None
) -> None:
    policy, rows = prepared(make_policy, kit, name, lora=lora, max_logits=700)
    scores = policy.teacher_actions(rows, top_k=top_k)
    plain = plain_distributions(policy, kit, rows)
    assert set(plain) == {(n, t) for n, t in scores.mask_NT1.nonzero().tolist()}
    for (n, t), weights in plain.items():
        log_p = scores.log_p_NT1K[n, t]
        found = {a: p.exp().item() for a, p in zip(scores.candidates_NT1K[n, t].tolist(), log_p, strict=True)}
        best = sorted(weights.values(), reverse=True)[:top_k]
        assert sorted(found.values(), reverse=True)[: len(best)] == pytest.approx(best, abs=1e-5)
        assert all(found[a] == pytest.approx(weights.get(a, 0.0), abs=1e-5) for a in found)
        assert scores.log_rest_NT1[n, t].exp().item() == pytest.approx(1 - sum(best), abs=1e-5)
        assert log_p.tolist() == sorted(log_p.tolist(), reverse=True)
    assert not scores.log_p_NT1K[~scores.mask_NT1].any() and not scores.log_rest_NT1[~scores.mask_NT1].any()
    assert not scores.log_p_NT1K.requires_grad


@pytest.mark.parametrize("max_logits", [2**25, 700])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_student_agrees_with_scoring_in_value_and_gradient(
    make_policy: Maker, kit: SimpleNamespace, name: str, max_logits: int
) -> None:
    policy, rows = prepared(make_policy, kit, name, max_logits=max_logits)
    every = policy.teacher_actions(rows, top_k=len(ALLOWED) + 1).candidates_NT1K
    scores, plain = policy.candidate_scores(rows, every), policy.score(rows)
    assert plain.log_pstop_NT1 is not None
    token_NT1 = torch.nn.functional.pad(rows.action_ids_NT, (0, 1), value=policy.space.stop_id)
    ends_NT1 = torch.nn.functional.pad(rows.action_mask_NT, (0, 1))
    token_NT1 = torch.where(ends_NT1, token_NT1, policy.space.stop_id)
    taken = torch.where(every == token_NT1[..., None], scores.log_p_NT1K, 0.0).sum(-1)
    wanted = torch.nn.functional.pad(plain.log_pf_NT, (0, 1))
    wanted = torch.where(ends_NT1 | ~scores.mask_NT1, wanted, plain.log_pstop_NT1)
    torch.testing.assert_close(taken, wanted, atol=1e-5, rtol=0)
    parameters = [p for p in policy.parameters() if p.requires_grad]
    for found, expected in zip(*(torch.autograd.grad(x.sum(), parameters) for x in (taken, wanted)), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_gradient_of_the_rest(make_policy: Maker, kit: SimpleNamespace) -> None:
    """log(1 - Σ_S q) has the same gradient as the log-probability of the rest; -inf entries give none and no nan."""
    policy, rows = prepared(make_policy, kit)
    ids = policy.teacher_actions(rows, top_k=3).candidates_NT1K
    scores = policy.candidate_scores(rows, ids)
    mask = scores.mask_NT1
    complement = torch.log1p(-scores.log_p_NT1K[mask].double().exp().sum(-1))
    torch.testing.assert_close(scores.log_rest_NT1[mask].double(), complement, atol=1e-5, rtol=0)
    parameters = [p for p in policy.parameters() if p.requires_grad]
    losses = (scores.log_rest_NT1[mask].sum(), complement.sum())
    for found, expected in zip(*(torch.autograd.grad(x, parameters, retain_graph=True) for x in losses), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    every = policy.teacher_actions(rows, top_k=1000).candidates_NT1K
    whole = policy.candidate_scores(rows, every)
    kept = torch.where(whole.log_p_NT1K > -torch.inf, whole.log_p_NT1K, 0.0)
    for gradient in torch.autograd.grad(kept.sum(), parameters):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("with_gradient", [True, False])
def test_no_more_logits_than_allowed_exist_at_a_time(
    make_policy: Maker, kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, with_gradient: bool
) -> None:
    policy, rows = prepared(make_policy, kit)
    policy.max_logits = 3 * policy.vocab_size
    sizes: list[int] = []
    restrict = type(policy.space).restrict_

    def counted(space: Any, logits: Tensor, may_stop: Tensor) -> Tensor:
        sizes.append(logits.shape[0])
        return restrict(space, logits, may_stop)

    monkeypatch.setattr(type(policy.space), "restrict_", counted)
    ids = policy.teacher_actions(rows, top_k=2).candidates_NT1K
    with torch.set_grad_enabled(with_gradient):
        log_p = policy.candidate_scores(rows, ids).log_p_NT1K
    if with_gradient:
        log_p.sum().backward()
    assert max(sizes) <= 3 and len(sizes) > 5


def test_wrong_arguments_name_themselves(make_policy: Maker, kit: SimpleNamespace) -> None:
    policy, rows = prepared(make_policy, kit)
    with pytest.raises(ValueError, match="top_k is 0"):
        policy.teacher_actions(rows, top_k=0)
    with pytest.raises(ValueError, match="the model has 64 positions"):
        wide = torch.ones(5, 80, dtype=torch.int64)
        policy.teacher_actions(replace(rows, context_ids_NC=wide, context_mask_NC=wide.bool()), top_k=1)
    policy.teacher = None
    with pytest.raises(RuntimeError, match="start_teacher"):
        policy.teacher_actions(rows, top_k=1)


def test_a_planted_shift_of_prefixes_is_seen(
    make_policy: Maker, kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = candidates.PrefixStates.decided_MH
    monkeypatch.setattr(candidates.PrefixStates, "decided_MH", lambda states: plain(states).roll(1, 0))
    with pytest.raises(AssertionError):
        test_teacher_gives_the_most_probable_actions(make_policy, kit, "llama", 4, None)
