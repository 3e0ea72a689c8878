"""Rewards of proofs against written arithmetic, and feedback at every strength."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lightning_gfn.feedback.lean_messages import LeanFeedback
from lightning_gfn.interfaces import RewardNetwork
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rewards import proof as proof_module
from lightning_gfn.rewards.proof import ProofReward, ProofSuccess
from lightning_gfn.types import Rollouts


@pytest.fixture
def attempts(tactic, theorems, make_proving, collect) -> tuple[Any, Rollouts]:
    """A policy of up to two tactics a step, and attempts of every outcome."""
    names = ("constructor", "left", "exact hp")
    policy = tactic.TacticPolicy(tactics=names, max_new_tokens=2, stop_bonus=-1.0, end_bonus=3.0)
    policy.freeze_reference()
    rollouts = collect(policy, theorems, make_proving(max_steps=2), num_samples=150)
    assert {episode.outcome for episode in rollouts.episodes} == {"proved", "error", "unfinished"}
    return policy, rollouts


def written(policy: Any, rollouts: Rollouts, *, c: float, aggregate: str = "mean", binary: bool = False) -> list[float]:
    """The formula, one attempt and one token after the other."""
    actions, values = rollouts.action_lists(), []
    for b, episode in enumerate(rollouts.episodes or ()):
        assert episode is not None
        rows = (rollouts.trajectory_index_N == b).nonzero().squeeze(1).tolist()
        if episode.outcome == "proved":
            values.append(0.0)
        elif episode.outcome == "error" or binary:
            length = sum(len(actions[n]) for n in rows) / len(rows)
            values.append(-15 + 8 * math.log((c - length) / c))
        else:
            parts = []
            for n in rows:
                context = rollouts.context_ids_NC[n][rollouts.context_mask_NC[n]].tolist()
                log_p = [float(policy.log_q(context, actions[n][:i])[token]) for i, token in enumerate(actions[n])]
                if len(actions[n]) < policy.max_new_tokens:
                    log_p.append(float(policy.log_q(context, actions[n])[-1]))
                parts.append(sum(log_p) / len(log_p))
            values.append(max(-30.0, sum(parts) / (len(parts) if aggregate == "mean" else 1)))
    return values


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("scale", [None, 88.0])
def test_the_log_reward_is_the_written_one(attempts, aggregate, binary, scale) -> None:
    policy, rollouts = attempts
    reward = ProofReward(aggregate=aggregate, binary=binary, scale=scale)
    terms, correct_B = reward.terms(rollouts, policy, prefixes=False)
    c = scale if scale is not None else policy.max_new_tokens + 4
    expected = torch.tensor(written(policy, rollouts, c=c, aggregate=aggregate, binary=binary))
    torch.testing.assert_close(terms["proof"], expected, atol=1e-4, rtol=1e-5)
    assert correct_B.tolist() == [episode.outcome == "proved" for episode in rollouts.episodes]
    assert torch.equal(reward.combine(terms, rollouts, 7).terminal_B, terms["proof"])
    assert reward.needs_reference is not binary


def test_a_forced_stop_that_counts_is_noticed(attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, rollouts = attempts
    expected = torch.tensor(written(policy, rollouts, c=6))
    values = proof_module.reference_values
    monkeypatch.setattr(
        proof_module,
        "reference_values",
        lambda *given: {b: [x * 2 / 3 for x in row] for b, row in values(*given).items()},
    )
    terms, _ = ProofReward().terms(rollouts, policy, prefixes=False)
    assert not torch.allclose(terms["proof"], expected, atol=1e-4)


def test_tactics_as_long_as_the_scale_stay_finite(attempts) -> None:
    policy, rollouts = attempts
    terms, _ = ProofReward(scale=1.0, binary=True).terms(rollouts, policy, prefixes=False)
    assert bool(terms["proof"].isfinite().all()) and terms["proof"].min() == -15.0


class Network(RewardNetwork):
    """The score is the length of prompt and tactic."""

    is_calibrated = True

    def score_steps(self, prompts, steps, device) -> list[list[float]]:
        return [[(len(prompt) + len(text)) / 100 for text in row] for prompt, row in zip(prompts, steps, strict=True)]


def test_a_reward_network_judges_unfinished_attempts(attempts) -> None:
    policy, rollouts = attempts
    reward = ProofReward(network=Network(), partial_weight=2.0)
    assert not reward.needs_reference
    terms, _ = reward.terms(rollouts, policy, prefixes=False)
    checked = 0
    for b, episode in enumerate(rollouts.episodes):
        if episode.outcome == "unfinished":
            prompts = [ProofPrompt()(state, episode.tactics[:k]) for k, state in enumerate(episode.states)]
            scores = [(len(x) + len(y)) / 100 for x, y in zip(prompts, episode.tactics, strict=True)]
            expected = 2 * sum(-math.log1p(math.exp(-score)) for score in scores) / 2
            assert float(terms["proof"][b]) == pytest.approx(expected, rel=1e-5)
            checked += 1
    assert checked > 0


def test_success_is_the_plain_reward(attempts) -> None:
    policy, rollouts = attempts
    terms, correct_B = ProofSuccess(unfinished=0.25).terms(rollouts, policy, prefixes=False)
    worth = {"proved": 1.0, "unfinished": 0.25, "error": 0.0}
    assert terms["proved"].tolist() == [worth[episode.outcome] for episode in rollouts.episodes]
    assert correct_B.tolist() == (terms["proved"] == 1).tolist()


@pytest.mark.parametrize("reward", [ProofReward(), ProofSuccess()])
def test_what_cannot_be_judged_is_refused(attempts, reward) -> None:
    from dataclasses import replace

    policy, rollouts = attempts
    with pytest.raises(ValueError, match="terminal rewards"):
        reward.terms(rollouts, policy, prefixes=True)
    with pytest.raises(ValueError, match=r"model\.proving"):
        reward.terms(replace(rollouts, episodes=None), policy, prefixes=False)


@pytest.mark.parametrize(
    "settings", [{"aggregate": "max"}, {"scale": 0.0}, {"slope": -1.0}, {"floor": math.inf},
                 {"binary": True, "network": Network()}]
)  # fmt: skip
def test_settings_out_of_range_are_named(settings) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ProofReward(**settings)


def test_feedback_on_outcomes(attempts) -> None:
    policy, rollouts = attempts
    given = LeanFeedback(strength=0.0, on_proved=False).give(rollouts, policy, range(300))
    words = {"proved": None, "error": "The proof fails.", "unfinished": "The proof is unfinished."}
    assert list(given.texts) == [words[episode.outcome] for episode in rollouts.episodes]
    assert given.counts == {"without_message": given.texts.count(None)}
