"""What the engine samples, and the log-probabilities that it reports, against our scorer, loops and enumeration."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest
import torch
from scipy.stats import chi2

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.evaluation_mode import no_dropout_and_gradient
from lightning_gfn.policies.vllm.engine import steps_of
from lightning_gfn.policies.vllm.server import VllmError

ENDS = {"end_tokens": ["<eos>", "z"]}
TEXTS = ["x", "yy", "x", "a b", "x"]


def assert_scores_are_ours(policy: CausalLM, contexts: list[list[int]], sampled: Any) -> None:
    own = policy.score(steps_of(contexts, sampled))
    torch.testing.assert_close(sampled.scores.log_pf_NT, own.log_pf_NT, atol=1e-5, rtol=0)
    torch.testing.assert_close(sampled.scores.log_pstop_NT1, own.log_pstop_NT1, atol=1e-5, rtol=0)
    assert torch.equal(sampled.scores.stop_mask_NT1, own.stop_mask_NT1)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize(
    "space",
    [{}, ENDS, {**ENDS, "min_new_tokens": 2}, {"min_new_tokens": 3}, {"allowed_tokens": None, "max_new_tokens": 8}],
)
def test_log_probs_are_those_of_our_scorer(make_policy, draw, adapted, space) -> None:
    policy = make_policy(adapted=adapted, **space)
    contexts, sampled = draw(policy, TEXTS)
    assert_scores_are_ours(policy, contexts, sampled)
    mask_NT, lengths_N = sampled.action_mask_NT, sampled.action_mask_NT.sum(1)
    assert torch.equal(sampled.behaviour_log_pf_NT, sampled.scores.log_pf_NT)
    stops_N = sampled.scores.log_pstop_NT1.gather(1, lengths_N[:, None])[:, 0]
    assert torch.equal(sampled.behaviour_log_pstop_N, stops_N)
    assert bool((stops_N[lengths_N == policy.max_new_tokens] == 0.0).all())
    assert bool((sampled.action_ids_NT[~mask_NT] == policy.pad_id).all()) and int(lengths_N.min()) >= (
        policy.min_new_tokens
    )
    assert not sampled.scores.log_pf_NT.requires_grad


def action_logits(policy: CausalLM, context: list[int], action: tuple[int, ...]) -> tuple[list[int], torch.Tensor]:
    """Tokens that the server may draw after a prefix, and their logits, by a plain forward pass."""
    ends = policy.space.end_ids.tolist() if len(action) >= policy.min_new_tokens else []
    tokens = [*policy.space.allowed_V.nonzero()[:, 0].tolist(), *ends]
    with no_dropout_and_gradient(policy.hugging_face):
        logits = policy.hugging_face(torch.tensor([[*context, *action]])).logits[0, -1].double()
    return tokens, logits[tokens]


def behaviour(policy: CausalLM, context: list[int], action: tuple[int, ...], settings: dict[str, Any]) -> dict:
    """Probability of each token and of the stop (None) after a prefix, under the server's behaviour."""
    tokens, logits = action_logits(policy, context, action)
    p = (logits / settings.get("temperature", 1.0)).softmax(0)
    if "top_k" in settings:
        p = torch.where(p >= p.topk(min(settings["top_k"], len(p))).values[-1], p, 0.0)
        p = p / p.sum()
    if "top_p" in settings:
        order = p.sort(descending=True)
        kept = order.values.cumsum(0) - order.values < settings["top_p"]
        p = torch.zeros_like(p).scatter(0, order.indices, torch.where(kept, order.values, 0.0))
        p = p / p.sum()
    found: dict[int | None, float] = Counter()
    for token, value in zip(tokens, p.tolist(), strict=True):
        found[None if token in policy.space.end_ids else token] += value
    return found


BEHAVIOURS = [{"temperature": 0.6}, {"top_k": 3}, {"top_p": 0.7}, {"temperature": 1.7, "top_k": 4, "top_p": 0.8}]


def as_arguments(settings: dict[str, Any], rows: int) -> dict[str, Any]:
    arguments = {name: value for name, value in settings.items() if name != "temperature"}
    if "temperature" in settings:
        arguments["temperature_N"] = torch.full((rows,), settings["temperature"])
    return arguments


@pytest.mark.parametrize("settings", BEHAVIOURS, ids=str)
def test_behaviour_log_probs_are_those_of_the_server_s_distribution(make_policy, draw, settings) -> None:
    """Temperature and cuts act on single tokens; the probabilities of the end tokens are added afterwards."""
    policy = make_policy(**ENDS)
    contexts, sampled = draw(policy, TEXTS, **as_arguments(settings, len(TEXTS)))
    assert_scores_are_ours(policy, contexts, sampled)
    for n, context in enumerate(contexts):
        action = tuple(sampled.action_ids_NT[n][sampled.action_mask_NT[n]].tolist())
        for t, token in enumerate(action):
            expected = math.log(behaviour(policy, context, action[:t], settings)[token])
            assert sampled.behaviour_log_pf_NT[n, t] == pytest.approx(expected, abs=1e-5)
        if len(action) < policy.max_new_tokens:
            expected = math.log(behaviour(policy, context, action, settings)[None])
            assert sampled.behaviour_log_pstop_N[n] == pytest.approx(expected, abs=1e-5)


def enumerated(policy: CausalLM, context: list[int], settings: dict[str, Any]) -> dict[tuple[int, ...], float]:
    """Probability of every action."""
    letters = policy.space.allowed_V.nonzero()[:, 0].tolist()
    found = {}
    for length in range(policy.max_new_tokens + 1):
        for action in itertools.product(letters, repeat=length):
            p = 1.0
            for t, token in enumerate(action):
                p *= behaviour(policy, context, action[:t], settings)[token]
            if length < policy.max_new_tokens:
                p *= behaviour(policy, context, action, settings)[None]
            found[action] = p
    return found


def p_value(policy: CausalLM, settings: dict[str, Any], rows: int = 2000) -> float:
    """Of the hypothesis that the engine samples from the enumerated distribution; rare actions count together."""
    context = policy.encode_prompt("x")
    uniforms = torch.rand(rows, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sampled = policy.sample([context] * rows, uniforms, **as_arguments(settings, rows))
    ids = zip(sampled.action_ids_NT, sampled.action_mask_NT, strict=True)
    counts = Counter(tuple(row[mask].tolist()) for row, mask in ids)
    expected = enumerated(policy, context, settings)
    assert sum(expected.values()) == pytest.approx(1.0) and set(counts) <= set(expected)
    common = [action for action, p in expected.items() if p * rows >= 5]
    rest = sum(expected.values()) - sum(expected[action] for action in common)
    cells = [(counts[action], expected[action] * rows) for action in common]
    if rest * rows >= 1:
        cells.append((rows - sum(count for count, _ in cells), rest * rows))
    assert len(cells) > 5
    return float(chi2.sf(sum((count - mean) ** 2 / mean for count, mean in cells), len(cells) - 1))


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.6}, {"temperature": 1.7, "top_p": 0.9}], ids=str)
def test_samples_follow_the_enumerated_distribution(make_policy, settings) -> None:
    assert p_value(make_policy(**ENDS), settings) > 0.01


def test_a_server_that_ignores_the_temperature_is_noticed(make_policy, server) -> None:
    policy = make_policy(**ENDS)
    server.set(fault="temperature")
    assert p_value(policy, {"temperature": 0.6}) < 1e-9


def test_equal_uniforms_give_equal_samples(make_policy, draw) -> None:
    policy = make_policy(max_new_tokens=8)
    first, again, other = (draw(policy, TEXTS, seed=seed)[1].action_ids_NT for seed in (0, 0, 1))
    assert torch.equal(first, again) and not (first.shape == other.shape and torch.equal(first, other))
    assert len({tuple(row) for row in first[[0, 2, 4]].tolist()}) > 1


def test_equal_contexts_at_one_temperature_share_a_request(make_policy, draw, server) -> None:
    policy = make_policy(vllm={"concurrency": 2})
    draw(policy, TEXTS)
    assert server.counts()["/v1/completions"] == 1 + 3  # the first one is the probe of build
    draw(policy, TEXTS, temperature_N=torch.tensor([1.0, 1.0, 0.5, 1.0, 1.0]))
    assert server.counts()["/v1/completions"] == 1 + 3 + 4
    texts = [f"{n:03}" for n in range(40)]
    contexts, sampled = draw(policy, texts)
    assert_scores_are_ours(policy, contexts, sampled)
    assert server.set()["most_at_once"] <= 2


def test_greedy_takes_the_most_probable_token(make_policy, draw) -> None:
    policy = make_policy()
    contexts, sampled = draw(policy, ["x", "yy"], top_k=1)
    for n, context in enumerate(contexts):
        action: tuple[int, ...] = ()
        while len(action) < 3:
            found = behaviour(policy, context, action, {})
            best = max(found, key=lambda token: found[token])
            if best is None:
                break
            action += (best,)
        assert tuple(sampled.action_ids_NT[n][sampled.action_mask_NT[n]].tolist()) == action
    assert float(sampled.behaviour_log_pf_NT.abs().max()) < 1e-5


def test_shorter_actions_inside_shortened(make_policy, draw) -> None:
    policy = make_policy(min_new_tokens=2)
    with policy.shortened(1):
        contexts, sampled = draw(policy, TEXTS)
        assert_scores_are_ours(policy, contexts, sampled)
        assert int(sampled.action_mask_NT.sum(1).max()) <= 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("shifted", "differ from the policy's by .* nats on average"),
        ("stop", "differ from the policy's by"),
        ("cut", "raise its --max-model-len"),
        ("foreign", "sampled token 0, which allowed_tokens leaves out"),
    ],
)
def test_replies_that_cannot_come_from_q_are_refused(make_policy, draw, server, fault, message) -> None:
    policy = make_policy(**ENDS, vllm={"max_mismatch": 0.05})
    server.set(fault=fault)
    with pytest.raises(VllmError, match=f"{server.url}.*{message}"):
        draw(policy, TEXTS)


def test_all_but_special_tokens_are_allowed_by_the_shorter_list(make_policy) -> None:
    from lightning_gfn.policies.action_space import ActionSpace
    from lightning_gfn.policies.vllm.requests import restriction

    def space(vocab: int, allowed: range) -> ActionSpace:
        return ActionSpace(vocab_size=vocab, allowed_ids=allowed, end_ids=[1], min_new_tokens=0, max_new_tokens=2)

    assert restriction(space(50, range(50))) == {}
    assert restriction(space(3000, range(2, 5))) == {"allowed_token_ids": [1, 2, 3, 4]}
    assert restriction(space(3000, range(2, 3000))) == {"logit_bias": {"0": -100.0}}
    assert len(restriction(space(9000, range(1500)))["allowed_token_ids"]) == 1500
