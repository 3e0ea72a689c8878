"""The implicit reward of a policy trained on preferences: against a written loop, and DPO's own margin."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.language_policy import LanguagePolicy
from lightning_gfn.policies.reward_models.implicit import ImplicitReward
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings

T5 = {
    "model_type": "t5", "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2,
    "dropout_rate": 0.3, "initializer_factor": 3.0,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
}  # fmt: skip
PROMPTS = ["p q : Prop\n⊢ p\n", "⊢ True\n", "⊢ False\n"]
STEPS = [["intro h\n", "exact h"], [], ["skip"]]
LIMITS = {"max_prompt_tokens": 32, "max_new_tokens": 24}


@pytest.fixture(params=[(Seq2SeqLM, T5), (CausalLM, LLAMA)], ids=["t5", "llama"])
def policies(request: pytest.FixtureRequest, tmp_path: Path) -> list[tuple[LanguagePolicy, str]]:
    made = []
    for seed, name in enumerate(("trained", "reference")):
        torch.manual_seed(seed)
        kind, config = request.param
        policy = kind(config=config, tokenizer=TokenizerSettings(kind="byte"), **LIMITS)
        policy.build(())
        policy.save_pretrained(tmp_path / name / "model")
        made.append((policy.eval(), str(tmp_path / name)))
    return made


def log_prob(policy: LanguagePolicy, prompt: str, text: str) -> float:
    """log q(text, stop | prompt), one token after the other."""
    context, ids = policy.encode_prompt(prompt), policy.encode_completion(text)
    total = 0.0
    for t in range(len(ids) + 1):
        scores = policy.score(pad_steps([context], [ids[:t]], "cpu"))
        if t == len(ids):
            total += float(scores.log_pstop_NT1[0, -1])
        else:
            scores = policy.score(pad_steps([context], [ids[: t + 1]], "cpu"))
            total += float(scores.log_pf_NT[0, -1])
    return total


def test_scores_are_log_ratios_of_the_solution_ended_at_each_step(policies: Any) -> None:
    (trained, path), (reference, base) = policies
    network = ImplicitReward(path, base, beta=0.5, **LIMITS)
    assert network.policies == [] and not network.is_calibrated
    with torch.no_grad():
        expected = [
            [
                0.5 * (log_prob(trained, prompt, text) - log_prob(reference, prompt, text))
                for text in ("".join(steps[: k + 1]) for k in range(len(steps)))
            ]
            for prompt, steps in zip(PROMPTS, STEPS, strict=True)
        ]
    for rows in (256, 1):
        network.max_rows = rows
        for found, wanted in zip(network.score_steps(PROMPTS, STEPS, "cpu"), expected, strict=True):
            assert found == pytest.approx(wanted, abs=1e-4)
    assert len({round(value, 2) for row in expected for value in row}) == 3
    assert not any(p.requires_grad for policy in network.load() for p in policy.parameters())


def test_a_policy_against_itself_scores_nothing(policies: Any) -> None:
    (_, path), _ = policies
    network = ImplicitReward(path, f"{path}/model", **LIMITS)
    assert [[0.0] * len(steps) for steps in STEPS] == network.score_steps(PROMPTS, STEPS, "cpu")


def test_sampled_bytes_that_are_no_text_can_be_judged(policies: Any) -> None:
    """Each becomes a character of three bytes: decoded and read again, an action may be three times as long."""
    (trained, path), (_, base) = policies
    text = trained.decode(trained.encode_completion("é" * 12)[::2])
    assert len(trained.encode_completion(text)) == 3 * 12
    with pytest.raises(ValueError, match="max_new_tokens is 24"):
        ImplicitReward(path, base, **LIMITS).score_steps([PROMPTS[1]], [[text]], "cpu")
    judged = ImplicitReward(path, base, max_prompt_tokens=24, max_new_tokens=36)
    assert math.isfinite(judged.score_steps([PROMPTS[1]], [[text]], "cpu")[0][0])


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        ImplicitReward(str(tmp_path / "missing"), "owner/model")
    with pytest.raises(ValueError, match="beta"):
        ImplicitReward("owner/model", "owner/model", beta=0.0)
