"""The definition of q: allowed tokens, merged end tokens, minimum and maximum length; and behaviour distributions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.policies.sampling.truncation import behaviour_logits, check_behaviour

LETTERS = ["a", "b", "c"]
MODELS = ["llama", "t5"]


def tiny(make_policy: Any, name: str = "llama", **settings: Any) -> Any:
    """A policy over three letters, of at most three of them."""
    options = {"allowed_tokens": LETTERS, "end_tokens": ["<eos>", ".", ";"], "max_new_tokens": 3, **settings}
    return make_policy(name, **options)


def every_action(policy: Any) -> list[list[int]]:
    ids = [policy.codec.token_id(letter, "test") for letter in LETTERS]
    lengths = range(policy.min_new_tokens, policy.max_new_tokens + 1)
    return [list(action) for length in lengths for action in itertools.product(ids, repeat=length)]


def total_probability(policy: Any, kit: Any) -> float:
    actions = every_action(policy)
    rows = kit.pad_rows([policy.encode_prompt("q: ")] * len(actions), actions)
    scores = policy.score(rows)
    last = rows.action_mask_NT.sum(1, keepdim=True)
    log_q = scores.log_pf_NT.sum(1) + scores.log_pstop_NT1.gather(1, last).squeeze(1)
    return log_q.double().exp().sum().item()


@pytest.mark.parametrize("min_new_tokens", [0, 1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_probabilities_of_all_actions_sum_to_one(make_policy: Any, kit: Any, name: str, min_new_tokens: int) -> None:
    assert total_probability(tiny(make_policy, name, min_new_tokens=min_new_tokens), kit) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_stop_breaks_the_sum(make_policy: Any, kit: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    policy = tiny(make_policy, name)

    def first_end_token_alone(space: Any, logits: torch.Tensor, may_stop: Any) -> torch.Tensor:
        logits.index_fill_(1, space.forbidden_ids, -torch.inf)
        return logits

    monkeypatch.setattr(ActionSpace, "restrict_", first_end_token_alone)
    assert abs(total_probability(policy, kit) - 1) > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_sampling_follows_the_enumerated_distribution(make_policy: Any, kit: Any, name: str) -> None:
    policy = tiny(make_policy, name, min_new_tokens=1)
    actions = every_action(policy)
    rows = kit.pad_rows([policy.encode_prompt("q: ")] * len(actions), actions)
    scores = policy.score(rows)
    last = rows.action_mask_NT.sum(1, keepdim=True)
    q = (scores.log_pf_NT.sum(1) + scores.log_pstop_NT1.gather(1, last).squeeze(1)).exp()
    draws = 8000
    uniforms = torch.rand(draws, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sampled = policy.sample([policy.encode_prompt("q: ")] * draws, uniforms)
    index = {tuple(action): i for i, action in enumerate(actions)}
    counts = torch.zeros(len(actions))
    for ids, mask in zip(sampled.action_ids_NT, sampled.action_mask_NT, strict=True):
        counts[index[tuple(ids[mask].tolist())]] += 1
    chi_square = ((counts - draws * q) ** 2 / (draws * q)).sum().item()
    assert chi_square < len(actions) - 1 + 5 * math.sqrt(2 * (len(actions) - 1))
    reversed_q = q.flip(0)
    assert ((counts - draws * reversed_q) ** 2 / (draws * reversed_q)).sum().item() > 2 * len(actions)


@pytest.mark.parametrize("name", MODELS)
def test_stop_mask_and_forced_stop(make_policy: Any, kit: Any, name: str) -> None:
    policy = tiny(make_policy, name, min_new_tokens=2)
    a, b, _ = (policy.codec.token_id(letter, "test") for letter in LETTERS)
    rows = kit.pad_rows([policy.encode_prompt("x")] * 2, [[a, b], [b, b, a]])
    scores = policy.score(rows, entropy=True)
    assert scores.stop_mask_NT1.tolist() == [[False, False, True, False], [False, False, True, True]]
    assert scores.log_pstop_NT1[1, 3] == 0 and scores.entropy_NT1[1, 3] == 0
    assert (scores.log_pstop_NT1[:, :2] == 0).all() and (scores.log_pstop_NT1[:, 2] < 0).all()
    assert policy.score(rows, stop=False).log_pstop_NT1 is None


def test_special_tokens_and_rows_without_a_token_are_no_actions(make_policy: Any) -> None:
    policy = make_policy("llama", config={"vocab_size": 300})
    space = policy.space
    assert space.allowed_V.nonzero().squeeze(1).tolist() == list(range(3, 259))
    assert space.end_ids.tolist() == [policy.tokenizer.eos_token_id]
    assert policy.tokenizer.pad_token_id in space.forbidden_ids and 299 in space.forbidden_ids


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"end_tokens": ["ab"]}, "end_tokens: 'ab' is 2 tokens"),
        ({"allowed_tokens": ["a", "<pad>"]}, "allowed_tokens: '<pad>' is a special token"),
        ({"allowed_tokens": ["a"], "end_tokens": ["a"]}, "leaves no token"),
        ({"end_tokens": []}, "end_tokens is empty"),
    ],
)
def test_impossible_token_lists_are_refused(make_policy: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_policy("llama", **settings)


@pytest.mark.parametrize("name", MODELS)
def test_actions_that_q_cannot_produce_are_refused(make_policy: Any, kit: Any, name: str) -> None:
    policy = tiny(make_policy, name)
    prompt, a, d = policy.encode_prompt("x"), *(policy.codec.token_id(x, "test") for x in "ad")
    with pytest.raises(ValueError, match=r"row 1 holds token \d+ \('d'\)"):
        policy.score(kit.pad_rows([prompt] * 2, [[a], [a, d]]))
    with pytest.raises(ValueError, match="row 0 has 4 tokens, max_new_tokens is 3"):
        policy.score(kit.pad_rows([prompt], [[a] * 4]))
    with pytest.raises(ValueError, match="context is empty"):
        policy.score(kit.pad_rows([[], prompt], [[a], [a]]))


def written_behaviour(p: list[float], temperature: float, top_k: int | None, top_p: float | None) -> list[float]:
    """Temperature, then top-k, then top-p, one action at a time."""
    weights = [x ** (1 / temperature) for x in p]
    if top_k is not None:
        bound = sorted(weights, reverse=True)[min(top_k, len(p)) - 1]
        weights = [w if w >= bound else 0.0 for w in weights]
    total = sum(weights)
    weights = [w / total for w in weights]
    if top_p is not None:
        kept, mass = set(), 0.0
        for i in sorted(range(len(p)), key=lambda i: -weights[i]):
            if mass >= top_p:
                break
            kept.add(i)
            mass += weights[i]
        weights = [w if i in kept else 0.0 for i, w in enumerate(weights)]
    return [w / sum(weights) for w in weights]


@pytest.mark.parametrize("top_k", [None, 1, 3, 99])
@pytest.mark.parametrize("top_p", [None, 0.05, 0.6, 1.0])
def test_behaviour_matches_a_written_loop(top_k: int | None, top_p: float | None) -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(5))
    logits[:, 4] = -torch.inf
    temperature = torch.tensor([[0.5], [1.0], [2.0], [0.1]])
    given = behaviour_logits(logits, temperature, top_k, top_p).softmax(1)
    for row in range(4):
        expected = written_behaviour(logits[row].softmax(0).tolist(), temperature[row, 0].item(), top_k, top_p)
        torch.testing.assert_close(given[row], torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.tensor([1.0, 0.0]), None, None), "top_k=1"),
        ((None, 0, None), "top_k=0"),
        ((None, None, 0.0), "top_p=0.0"),
        ((None, None, 1.5), "top_p=1.5"),
    ],
)
def test_impossible_behaviour_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_behaviour(*arguments)
