"""Proposals: sampled ones against the policy's table, beam search against enumeration."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rollouts.search.beam_tactics import BeamTactics
from lightning_gfn.rollouts.search.tactic_generator import ProposalRequest, SampledTactics, log_sum_exp, merged
from lightning_gfn.types import CandidateScores, StepBatch


def requests_of(*prompts: str) -> list[ProposalRequest]:
    return [ProposalRequest(prompt, f"key of {prompt}") for prompt in prompts]


def test_sampled_tactics_are_distinct_sorted_and_scored_exactly(worlds: Any) -> None:
    policy = worlds.LetterPolicy()
    for temperature in (1.0, 2.0):
        found = SampledTactics(oversampling=20, temperature=temperature).propose(policy, requests_of("x", "yy"), 8)
        rows = [proposed.tactics for proposed in found]
        assert [proposed.generated_tokens for proposed in found] == [160, 160]
        for prompt, row in zip(("x", "yy"), rows, strict=True):
            log_q = policy.log_q(policy.encode_prompt(prompt))
            assert len({p.tactic for p in row}) == len(row) > 3
            assert [p.log_prob for p in row] == sorted((p.log_prob for p in row), reverse=True)
            for proposal in row:
                assert proposal.log_prob == pytest.approx(float(log_q[worlds.LETTERS.index(proposal.tactic)]))


def test_enough_samples_find_the_most_probable_tactics(worlds: Any) -> None:
    policy = worlds.LetterPolicy()
    [found] = SampledTactics(oversampling=200).propose(policy, requests_of("x"), 3)
    log_q = policy.log_q(policy.encode_prompt("x"))
    best = log_q.topk(3).indices.tolist()
    assert [p.tactic for p in found.tactics] == [worlds.LETTERS[i] for i in best]


def test_samples_depend_on_key_seed_and_step_alone(worlds: Any) -> None:
    policy, sampled = worlds.LetterPolicy(), SampledTactics()
    alone = sampled.propose(policy, requests_of("x"), 4, seed=1)[0]
    assert sampled.propose(policy, requests_of("y", "x"), 4, seed=1)[1] == alone
    assert SampledTactics(max_rows=3).propose(policy, requests_of("x"), 4, seed=1)[0] == alone
    assert any(sampled.propose(policy, requests_of("x"), 4, seed=s)[0] != alone for s in (2, 3))
    assert any(sampled.propose(policy, requests_of("x"), 4, seed=1, rollout_step=s)[0] != alone for s in (1, 2))


def test_spellings_are_joined_and_empty_tactics_dropped() -> None:
    found = [("simp", math.log(0.2)), (" simp\n", math.log(0.1)), ("rfl", math.log(0.25)), ("  ", math.log(0.4))]
    row = merged(found, 5)
    assert [p.tactic for p in row] == ["simp", "rfl"]
    assert row[0].log_prob == pytest.approx(math.log(0.3))
    assert merged(found, 1) == row[:1]
    assert log_sum_exp([0.0, -1.0]) == 0.0


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="oversampling"):
        SampledTactics(oversampling=0)
    with pytest.raises(ValueError, match="width"):
        BeamTactics(width=0)


class TinyPolicy:
    """Four tokens (stop is 3) whose probabilities depend on context and prefix; at most three tokens."""

    vocab_size = 4
    stop_id = 3
    max_new_tokens = 3
    min_new_tokens = 1

    def encode_prompt(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, ids: Any) -> str:
        return "".join("xyz"[token] for token in ids)

    def log_q(self, context: tuple[int, ...], prefix: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((context, prefix)) % 10_000)
        logits = 2.0 * torch.randn(4, generator=generator)
        if len(prefix) < self.min_new_tokens:
            logits[3] = -torch.inf
        return logits.log_softmax(0)

    def candidate_scores(self, steps: StepBatch, wanted: Tensor) -> Any:
        rows, width = steps.action_ids_NT.shape
        found = torch.zeros(rows, width + 1, wanted.shape[2])
        for n in range(rows):
            context = tuple(steps.context_ids_NC[n][steps.context_mask_NC[n]].tolist())
            action = tuple(steps.action_ids_NT[n].tolist())
            for t in range(width + 1):
                found[n, t] = self.log_q(context, action[:t])[wanted[n, t]]
        return CandidateScores(wanted, found, torch.zeros(rows, width + 1), torch.ones(rows, width + 1).bool())


def enumerated(policy: TinyPolicy, prompt: str) -> dict[str, float]:
    """log q of every action."""
    context = tuple(policy.encode_prompt(prompt))
    found = {}
    for length in range(1, 4):
        for ids in itertools.product(range(3), repeat=length):
            log_prob = sum(float(policy.log_q(context, ids[:t])[ids[t]]) for t in range(length))
            found[policy.decode(ids)] = log_prob + (float(policy.log_q(context, ids)[3]) if length < 3 else 0.0)
    return found


def test_a_wide_beam_is_enumeration() -> None:
    policy, prompts = TinyPolicy(), ("p", "qq", "r")
    rows = BeamTactics(width=27, max_rows=5).propose(policy, requests_of(*prompts), 6)  # type: ignore[arg-type]
    for prompt, row in zip(prompts, (proposed.tactics for proposed in rows), strict=True):
        every = enumerated(policy, prompt)
        assert sum(math.exp(v) for v in every.values()) == pytest.approx(1.0, abs=1e-5)
        best = sorted(every, key=lambda text: -every[text])[:6]
        assert [p.tactic for p in row] == best
        assert [p.log_prob for p in row] == pytest.approx([every[text] for text in best], abs=1e-5)


def test_a_narrow_beam_gives_exact_log_probs_and_never_more_than_asked() -> None:
    policy = TinyPolicy()
    [found] = BeamTactics().propose(policy, requests_of("p"), 2)  # type: ignore[arg-type]
    row = found.tactics
    assert found.generated_tokens > 0
    every = enumerated(policy, "p")
    assert 1 <= len(row) <= 2
    for proposal in row:
        assert proposal.log_prob == pytest.approx(every[proposal.tactic], abs=1e-5)


def test_a_beam_over_a_language_model_finds_its_most_probable_actions() -> None:
    """A real policy: every action of at most two letters, scored by ``Policy.score``."""
    torch.manual_seed(0)
    config = {
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 16,
    }  # fmt: skip
    policy = CausalLM(
        config=config,
        tokenizer=TokenizerSettings(kind="byte"),
        max_prompt_tokens=8,
        max_new_tokens=2,
        allowed_tokens=["x", "y", "z"],
    )
    policy.build(())
    policy.eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    [found] = BeamTactics(width=12).propose(policy, requests_of("p"), 5)
    texts = ["".join(letters) for length in (1, 2) for letters in itertools.product("xyz", repeat=length)]
    actions = [policy.encode_completion(text) for text in texts]
    steps = pad_steps([policy.encode_prompt("p")] * len(texts), actions, "cpu")
    with torch.no_grad():
        every = dict(zip(texts, policy.score(steps).log_prob_N(steps.action_mask_NT).tolist(), strict=True))
    best = sorted(every, key=lambda text: -every[text])[:5]
    assert [p.tactic for p in found.tactics] == best
    assert [p.log_prob for p in found.tactics] == pytest.approx([every[text] for text in best], abs=1e-5)
