from __future__ import annotations

import pytest
import torch

from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.types import Problem

TEXTS = ["abc", "", "a", "hello worl"]


def written_loop(policy, prompt: str, text: str, end: int) -> float:
    """log p_ref(first ``end`` characters, stop)."""
    action = policy.encode_completion(text)
    total, previous = 0.0, policy.encode_prompt(prompt)[-1]
    for i, token in enumerate(action[:end]):
        total += float(policy.log_q(previous, i, reference=True)[token])
        previous = token
    return total + float(policy.log_q(previous, end, reference=True)[-1])


def test_prefix_values_equal_a_written_loop(make_policy, make_rollouts) -> None:
    policy = make_policy(max_new_tokens=10)
    rollouts = make_rollouts([Problem("p", "What?")], TEXTS, [0] * 4)
    terms, correct_B = ReferenceLikelihood().terms(rollouts, policy, prefixes=True)
    assert correct_B is None and terms["log_p_ref"].shape == (4, 11)
    for b, text in enumerate(TEXTS):
        for end in range(len(text) + 1):
            assert terms["log_p_ref"][b, end] == pytest.approx(written_loop(policy, "What?", text, end), abs=1e-4)
    assert terms["log_p_ref"].isfinite().all()
    assert terms["log_p_ref"][3, 10] == pytest.approx(
        float(
            policy.score(
                rollouts.steps,
                reference=True,
            )
            .log_pf_NT[3]
            .sum()
        ),
        abs=1e-4,
    ), "a stop that the maximum length forces costs nothing"


def test_the_loop_catches_planted_errors(make_policy, make_rollouts) -> None:
    policy = make_policy()
    rollouts = make_rollouts([Problem("p", "What?")], ["abc"])
    value = float(ReferenceLikelihood().terms(rollouts, policy, prefixes=False)[0]["log_p_ref"])
    truth = written_loop(policy, "What?", "abc", 3)
    assert value == pytest.approx(truth, abs=1e-4)
    without_stop = truth - float(policy.log_q(policy.encode_completion("c")[0], 3, reference=True)[-1])
    policy.reference = policy.table
    of_the_policy_itself = written_loop(policy, "What?", "abc", 3)
    for wrong in (-truth, without_stop, of_the_policy_itself):
        assert value != pytest.approx(wrong, abs=1e-2)


def test_terminal_values_are_the_last_prefix_values(policy, make_rollouts) -> None:
    rollouts = make_rollouts([Problem("p", "What?")], TEXTS, [0] * 4)
    prefix_terms, _ = ReferenceLikelihood().terms(rollouts, policy, prefixes=True)
    terms, _ = ReferenceLikelihood().terms(rollouts, policy, prefixes=False)
    from_prefixes = ReferenceLikelihood().combine(prefix_terms, rollouts, optimizer_step=0)
    assert torch.allclose(terms["log_p_ref"], from_prefixes.terminal_B)
    assert torch.allclose(
        ReferenceLikelihood().combine(terms, rollouts, optimizer_step=9).terminal_B, from_prefixes.terminal_B
    )


def test_steps_of_one_trajectory_add_up(policy, make_rollouts) -> None:
    rollouts = make_rollouts([Problem("p", "What?")], TEXTS, [0] * 4)
    single = ReferenceLikelihood().terms(rollouts, policy, prefixes=False)[0]["log_p_ref"]
    rollouts.trajectory_index_N = torch.tensor([0, 0, 1, 1])
    rollouts.problem_index_B = torch.tensor([0, 0])
    rollouts.completions = ("abc", "ahello worl")
    summed = ReferenceLikelihood().terms(rollouts, policy, prefixes=False)[0]["log_p_ref"]
    assert torch.allclose(summed, single.reshape(2, 2).sum(1))


def test_prefixes_that_may_not_stop_hold_finite_values(make_policy, make_rollouts) -> None:
    policy = make_policy(min_new_tokens=3)
    rollouts = make_rollouts([Problem("p", "What?")], ["abcd"])
    values = ReferenceLikelihood().terms(rollouts, policy, prefixes=True)[0]["log_p_ref"]
    assert values.isfinite().all()
    assert values[0, 3] == pytest.approx(written_loop(policy, "What?", "abcd", 3), abs=1e-4)


def test_it_asks_for_a_reference_policy() -> None:
    assert ReferenceLikelihood().needs_reference
    assert "log_reward_BT1" in ReferenceLikelihood().provides
