"""The same rollouts with a real language model of random weights."""

from __future__ import annotations

import pytest
import torch

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.rollouts.batching import to_trajectories
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.completion_sampler import RolloutSampler
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.rollouts.rewarded_sampler import evaluate_rewards
from lightning_gfn.types import Problem, Rollouts, Scores

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
}
PROBLEMS = [
    Problem(
        f"p{i}", "How much? " * (i % 2 + 1), answer="4", solutions=("2 + 2 = 4\nThe answer is: 4", "The answer is: 4")
    )
    for i in range(6)
]


@pytest.fixture(scope="module")
def language_model() -> CausalLM:
    torch.manual_seed(0)
    model = CausalLM(config=LLAMA, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=60, max_new_tokens=30)
    model.build([])
    model.freeze_reference()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def score(model: CausalLM, rollouts: Rollouts, **options: bool) -> Scores:
    with torch.no_grad():
        return model.score(
            rollouts.steps,
            **options,
        )


def test_a_training_loop_of_rollouts(language_model: CausalLM) -> None:
    reward = SumReward(
        {
            "likelihood": WeightedReward(ReferenceLikelihood(), temperature=2.0),
            "answer": WeightedReward(AnswerMatch(), weight=5.0),
        }
    )
    mix = BehaviourMix(on_policy=0.3, tempered=0.2, replay=0.3, reference=0.2)
    sampler = RolloutSampler(num_samples=3, behaviour=mix, seed=0)
    buffer = ReplayBuffer(replacement=False, duplicates="edit_distance")
    seen: set[str] = set()
    for step in range(4):
        rollouts = sampler.collect(language_model, PROBLEMS, rollout_step=step, buffer=buffer, device="cpu").rollouts
        rollouts, calls = evaluate_rewards(rollouts, reward, language_model, prefixes=True)
        seen.update(rollouts.sources)
        assert calls == rollouts.num_trajectories - rollouts.sources.count("replay")
        log_reward = reward.combine(rollouts.terms, rollouts, step)
        assert rollouts.correct_B is not None and log_reward.prefix_BT1 is not None
        reference = score(language_model, rollouts, reference=True)
        assert reference.log_pstop_NT1 is not None
        log_p_ref = reference.log_pf_NT.sum(1) + rollouts.at_last_prefix(reference.log_pstop_NT1)
        assert torch.allclose(log_reward.terminal_B, log_p_ref / 2.0 + 5.0 * rollouts.correct_B.float(), atol=1e-3)
        for b, source in enumerate(rollouts.sources):
            if source == "reference":
                assert bool(rollouts.correct_B[b]) and rollouts.completions[b] in rollouts.problem_of(b).solutions
        buffer.add(to_trajectories(rollouts, log_reward, optimizer_step=step))
    assert seen == {"on_policy", "tempered", "replay", "reference"}


def test_samples_do_not_depend_on_the_batch(language_model: CausalLM) -> None:
    sampler = RolloutSampler(num_samples=4, behaviour=BehaviourMix(on_policy=0.5, tempered=0.5), seed=1)
    whole = sampler.collect(language_model, PROBLEMS, rollout_step=2, buffer=None, device="cpu").rollouts
    alone = sampler.collect(language_model, PROBLEMS[3:4], rollout_step=2, buffer=None, device="cpu").rollouts
    assert alone.completions == whole.completions[12:16]
    assert len(set(whole.completions)) > 20


def test_on_policy_behaviour_is_the_policy_itself(language_model: CausalLM) -> None:
    sampler = RolloutSampler(num_samples=2, behaviour=BehaviourMix(), seed=1)
    rollouts = sampler.collect(language_model, PROBLEMS, rollout_step=0, buffer=None, device="cpu").rollouts
    assert rollouts.behaviour_log_pf_NT is not None
    scores = score(language_model, rollouts)
    assert torch.allclose(rollouts.behaviour_log_pf_NT, scores.log_pf_NT, atol=1e-4)
    assert rollouts.behaviour_log_pstop_N is not None and scores.log_pstop_NT1 is not None
    assert torch.allclose(rollouts.behaviour_log_pstop_N, rollouts.at_last_prefix(scores.log_pstop_NT1), atol=1e-4)


def test_evaluation_records(language_model: CausalLM) -> None:
    records = sample_completions(language_model, PROBLEMS[:3], num_samples=5, temperature=0.7, seed=0)
    cut = sample_completions(language_model, PROBLEMS[:3], num_samples=5, temperature=0.7, seed=0, max_rows=4)
    assert [record.completions for record in records] == [record.completions for record in cut]
    for record, other in zip(records, cut, strict=True):
        assert record.log_probs == pytest.approx(other.log_probs, abs=1e-3)
        assert record.entropies == pytest.approx(other.entropies, abs=1e-3)
        assert all(0.0 < entropy < 6.0 for entropy in record.entropies)
        assert record.truncated == tuple(length == 30 for length in record.lengths)
