"""A policy with a tool against a written loop: what it samples, what it scores, and what has a gradient."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.policies.vllm.settings import VllmSettings
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.rollouts.reference import text_rollouts
from lightning_gfn.tools.calculator import Calculator
from lightning_gfn.tools.tool import Tool
from lightning_gfn.types import Problem, SampledActions, StepBatch

CALCULATOR = Calculator(before="")
ROWS = 4000


def sampled(policy: Any, prompt: str = "x", rows: int = ROWS, **how: Any) -> SampledActions:
    uniforms = torch.rand(rows, policy.max_new_tokens + 1, generator=torch.Generator().manual_seed(3))
    return policy.sample([policy.encode_prompt(prompt)] * rows, uniforms, **how)


def as_steps(policy: Any, ways: list[Any], prompt: str = "x") -> StepBatch:
    tokens, inserted = [way.tokens for way in ways], [way.inserted for way in ways]
    return pad_steps([policy.encode_prompt(prompt)] * len(ways), tokens, "cpu", inserted)


def p_value(policy: Any, ways: list[Any]) -> float:
    """Of a chi-square test of samples against the probabilities of all trajectories, rare ones put together."""
    found = sampled(policy)
    rows = zip(found.action_ids_NT.tolist(), found.action_mask_NT.sum(1).tolist(), strict=True)
    counts = Counter(tuple(ids[:length]) for ids, length in rows)
    expected = {way.tokens: ROWS * math.exp(way.log_prob) for way in ways}
    frequent = [tokens for tokens, count in expected.items() if count >= 5.0]
    seen = [counts[tokens] for tokens in frequent]
    told = [expected[tokens] for tokens in frequent]
    return float(chisquare([*seen, ROWS - sum(seen)], [*told, ROWS - sum(told)]).pvalue)


def test_trajectories_make_a_distribution(policy: CausalLM, every_way: Callable[..., Any], tool: Tool) -> None:
    ways = every_way(policy, "x", tool)
    assert math.fsum(math.exp(way.log_prob) for way in ways) == pytest.approx(1.0, abs=1e-9)
    assert any(way.inserted for way in ways)


@pytest.mark.parametrize("decoder", ["fused", "hugging_face"])
def test_samples_follow_the_enumerated_distribution(
    make_policy: Callable[..., CausalLM], every_way: Callable[..., Any], tool: Tool, decoder: str
) -> None:
    policy = make_policy(decoder=decoder)
    policy.build([])
    assert p_value(policy.eval(), every_way(policy, "x", tool)) > 1e-3
    assert p_value(policy, every_way(policy, "x", None)) < 1e-9, "a distribution without the tool must be told apart"


def test_scores_are_those_of_a_written_loop(policy: CausalLM, every_way: Callable[..., Any], tool: Tool) -> None:
    ways = every_way(policy, "x", tool)
    steps = as_steps(policy, ways)
    scores = policy.score(steps, entropy=True)
    assert scores.log_prob_N(steps.action_mask_NT).tolist() == pytest.approx([w.log_prob for w in ways], abs=1e-4)
    for n, way in enumerate(ways):
        chosen = [t for t in range(len(way.tokens)) if t not in way.inserted]
        assert scores.log_pf_NT[n, chosen].tolist() == pytest.approx(way.choices[: len(chosen)], abs=1e-4)
        may_stop = [t for t in range(len(way.tokens) + 1) if t not in way.inserted]
        assert scores.stop_mask_NT1[n].nonzero().squeeze(1).tolist() == may_stop
        for place in way.inserted:
            assert scores.log_pf_NT[n, place] == scores.log_pstop_NT1[n, place] == scores.entropy_NT1[n, place] == 0.0


def test_sampling_gives_the_scores_of_the_teacher_forced_pass(policy: CausalLM) -> None:
    found = sampled(policy, rows=200)
    assert found.inserted_NT is not None and bool(found.inserted_NT.any())
    context = policy.encode_prompt("x")
    steps = StepBatch(
        torch.tensor([context] * 200), torch.ones(200, len(context), dtype=torch.bool), found.action_ids_NT,
        found.action_mask_NT, found.inserted_NT,
    )  # fmt: skip
    again = policy.score(steps)
    assert torch.allclose(found.scores.log_pf_NT, again.log_pf_NT, atol=1e-4)
    assert torch.allclose(found.scores.log_pstop_NT1, again.log_pstop_NT1, atol=1e-4)
    assert torch.equal(found.scores.stop_mask_NT1, again.stop_mask_NT1)
    assert torch.allclose(found.behaviour_log_pf_NT, again.log_pf_NT, atol=1e-4)


def test_tempered_samples_count_what_was_chosen_alone(policy: CausalLM) -> None:
    found = sampled(policy, rows=200, temperature_N=torch.full((200,), 2.0), top_k=3)
    assert found.inserted_NT is not None
    assert (found.behaviour_log_pf_NT[found.inserted_NT] == 0.0).all()
    own_NT = found.action_mask_NT & ~found.inserted_NT
    assert (found.behaviour_log_pf_NT[own_NT] < 0.0).all()


def gradient(policy: Any, loss: torch.Tensor) -> torch.Tensor:
    policy.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in policy.hugging_face.parameters() if p.grad is not None])


def test_inserted_tokens_have_no_gradient(make_policy: Callable[..., CausalLM]) -> None:
    policy = make_policy(tools=[CALCULATOR])
    policy.build([])
    prompt, (tokens, places) = policy.encode_prompt("x"), policy.encode_action("1+1=+1")
    assert policy.decode(tokens) == "1+1=2+1"
    policy.eval().set_lengths(0, 9)
    steps = pad_steps([prompt], [tokens], "cpu", [places])
    found = gradient(policy, policy.score(steps).log_prob_N(steps.action_mask_NT).sum())
    logits = policy.hugging_face(torch.tensor([prompt + tokens])).logits[0]
    actions = [*policy.space.allowed_V.nonzero().squeeze(1).tolist(), policy.stop_id]
    terms = []
    for t, token in enumerate([*tokens, policy.stop_id]):
        row = logits[len(prompt) + t - 1]
        terms.append(row[token] - row[actions].logsumexp(0) if t not in places else 0.0 * row[token])
    expected = gradient(policy, torch.stack(terms).sum())
    assert torch.allclose(found, expected, atol=1e-5)
    logits = policy.hugging_face(torch.tensor([prompt + tokens])).logits[0]
    planted = torch.stack([logits[len(prompt) + t - 1].log_softmax(0)[tokens[t]] for t in places]).sum()
    assert gradient(policy, planted).norm() > 1e-3, "the inserted token would have moved the weights"


def test_texts_are_read_with_results_and_without(make_policy: Callable[..., CausalLM]) -> None:
    policy = make_policy(tools=[CALCULATOR], max_new_tokens=12)
    policy.build([])
    with_results = policy.encode_action("1+1=2+1=3")
    assert with_results == policy.encode_action("1+1=+1=")
    assert policy.decode(with_results[0]) == "1+1=2+1=3"
    assert with_results[1] == [4, 8]
    assert policy.marked(*with_results) == "1+1=⟦2⟧+1=⟦3⟧"
    assert policy.encode_action("1=") == (policy.encode_completion("1="), [])
    assert policy.can_produce(*with_results)
    assert not policy.can_produce(with_results[0]), "2 is no token that the policy may choose"


def test_results_that_do_not_fit_are_left_out(policy: CausalLM) -> None:
    ids = policy.encode_completion("1+1=")
    assert policy.results is not None
    assert policy.results.tokens_behind(ids, 1) == []
    assert policy.results.tokens_behind(ids, 2) == policy.encode_completion("22")


def test_reference_solutions_are_scored_without_results(policy: CausalLM) -> None:
    problem = Problem(id="p", prompt="x", solutions=("1=",))
    rollouts, cut = text_rollouts(policy, [problem], [0], problem.solutions, "cpu")
    assert cut == 0
    assert rollouts.inserted_lists() == [[2]]
    assert int(rollouts.steps.chosen_NT.sum()) == 2


def test_evaluation_counts_and_marks(policy: CausalLM) -> None:
    (record,) = sample_completions(policy, [Problem(id="p", prompt="x", answer="2")], num_samples=300)
    assert len(record.marked) == len(record.completions)
    used = [n for n, text in enumerate(record.marked) if "⟦" in text]
    assert used
    for n in range(300):
        plain, inserted = record.marked[n].replace("⟦", "").replace("⟧", ""), record.marked[n].count("2")
        assert plain == record.completions[n]
        assert record.lengths[n] == len(plain) - inserted
    assert record.shown == record.marked


class Broken(Tool):
    """A tool that fails, or returns what it must not."""

    name, trigger = "broken", "="

    def __init__(self, result: Any) -> None:
        self.result = result

    def call(self, text: str) -> str | None:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result  # type: ignore[no-any-return]


def test_tools_that_fail_are_named(make_policy: Callable[..., CausalLM]) -> None:
    for result, error, told in [(OSError("no"), RuntimeError, "broken failed on"), (3, TypeError, "returned int")]:
        policy = make_policy(tools=[Broken(result)])
        policy.build([])
        with pytest.raises(error, match=told):
            sampled(policy.eval(), rows=100)


def test_what_cannot_work_is_refused_before_a_model_is_loaded(make_policy: Callable[..., CausalLM]) -> None:
    for changes, told in [
        ({"decoder": "continuous"}, "leave decoder: continuous out"),
        ({"vllm": VllmSettings()}, "leave vllm out"),
        ({"tools": [Calculator(), Broken("")]}, "share the trigger '='"),
    ]:
        with pytest.raises(ValueError, match=told):
            make_policy(**changes)


def test_a_seq2seq_policy_may_use_tools_as_well(tool: Tool) -> None:
    from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM

    torch.manual_seed(0)
    policy = Seq2SeqLM(
        config={"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 2},
        tokenizer=TokenizerSettings(kind="byte"), max_new_tokens=5, allowed_tokens=["1", "+", "="], tools=[tool],
    )  # fmt: skip
    policy.build([])
    found = sampled(policy.eval(), rows=400)
    assert found.inserted_NT is not None and bool(found.inserted_NT.any())
    context = policy.encode_prompt("x")
    steps = StepBatch(
        torch.tensor([context] * 400), torch.ones(400, len(context), dtype=torch.bool), found.action_ids_NT,
        found.action_mask_NT, found.inserted_NT,
    )  # fmt: skip
    assert torch.allclose(found.scores.log_pf_NT, policy.score(steps).log_pf_NT, atol=1e-4)
