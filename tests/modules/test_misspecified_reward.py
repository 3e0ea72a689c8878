"""The wrong likelihood of evidence, and the posterior that it makes, against enumeration."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.padding import pad_steps
from lightning_gfn.rewards.joint import JointLikelihood
from lightning_gfn.rewards.misspecified import MisspecifiedLikelihood
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.types import Problem, Rollouts

LETTERS = ["".join(word) for n in range(3) for word in product("ab", repeat=n)]


def problem(number: int = 0, evidence: str = "cd 12.") -> Problem:
    return Problem(id=f"p{number}", prompt="ab", evidence=evidence)


def log_likelihood(policy: Any, before: str, text: str) -> float:
    """log p(text | before) by the reference's own pass over all tokens."""
    start, ids = policy.encode_prompt(before), policy.encode_completion(text)
    if not ids:
        return 0.0
    with torch.no_grad():
        logits = policy.reference(torch.tensor([start + ids])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(start) + t - 1, token]) for t, token in enumerate(ids))


def log_rewards(reward: JointLikelihood, policy: Any, one: Problem, completions: list[str]) -> torch.Tensor:
    (found,) = reward.terms(rollouts(policy, one, completions), policy, prefixes=False)[0].values()
    return found


def rollouts(policy: Any, one: Problem, completions: list[str]) -> Rollouts:
    prompt, count = policy.encode_prompt(one.prompt), len(completions)
    return Rollouts(
        problems=(one,),
        problem_index_B=torch.zeros(count, dtype=torch.int64),
        trajectory_index_N=torch.arange(count),
        steps=pad_steps([prompt] * count, [policy.encode_completion(text) for text in completions], "cpu"),
        completions=tuple(completions),
        sources=("on_policy",) * count,
    )


@pytest.fixture
def policy(make_policy: Any) -> Any:
    """Writes at most two of the letters a and b, while the likelihood knows all tokens."""
    config = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.25,
    }  # fmt: skip
    policy = make_policy(config=config, max_new_tokens=2, allowed_tokens=["a", "b"])
    policy.build([])
    policy.freeze_reference()
    return policy.eval()


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0, 2.5])
def test_the_posterior_is_that_of_the_powered_likelihood(policy: Any, exponent: float) -> None:
    """exp(log R) over all completions, normalised, is p(z | x) p(y | x, z)^w, normalised; 0 gives the prior."""
    one, reward = problem(), MisspecifiedLikelihood(exponent=exponent)
    found = log_rewards(reward, policy, one, LETTERS)
    priors = torch.tensor([log_likelihood(policy, "ab", z) for z in LETTERS])
    behind = torch.tensor([log_likelihood(policy, "ab" + z, "cd 12.") for z in LETTERS])
    assert torch.allclose(found.softmax(0), (priors + exponent * behind).softmax(0), atol=1e-4)
    assert found.tolist() == pytest.approx((priors + exponent * behind).tolist(), abs=1e-3)
    (every,) = reward.terms(rollouts(policy, one, ["ba"]), policy, prefixes=True)[0].values()
    places = [LETTERS.index(text) for text in ("", "b", "ba")]
    assert every[0].tolist() == pytest.approx((priors + exponent * behind)[places].tolist(), abs=1e-3)
    assert float(log_rewards(reward, policy, one, [""])) == pytest.approx(exponent * float(behind[0]), abs=1e-3)


def test_wrong_evidence_is_that_of_a_share_of_the_problems(policy: Any) -> None:
    problems = [problem(n) for n in range(400)]
    wrong = {}
    for share in (0.0, 0.2, 0.6, 1.0):
        reward = MisspecifiedLikelihood(corruption=share, seed=3)
        texts = [reward.evidence(one) for one in problems]
        wrong[share] = {n for n, text in enumerate(texts) if text != "cd 12."}
        assert abs(len(wrong[share]) / 400 - share) < 0.07
        assert all(text.startswith("cd ") and 13 <= int(text[3:-1]) <= 21 for text in texts if text != "cd 12.")
        assert texts == [reward.evidence(one) for one in problems]
    assert wrong[0.0] < wrong[0.2] < wrong[0.6] < wrong[1.0]
    every = MisspecifiedLikelihood(corruption=1.0)
    assert {every.evidence(one) for one in problems} == {f"cd {n}." for n in range(13, 22)}
    other_seed = MisspecifiedLikelihood(corruption=0.2)
    assert wrong[0.2] != {n for n, one in enumerate(problems) if other_seed.evidence(one) != "cd 12."}


def test_the_reward_of_wrong_evidence_is_that_of_a_problem_with_it(policy: Any) -> None:
    reward = MisspecifiedLikelihood(corruption=1.0, alternatives=["cd 12.", "xyz"])
    found = log_rewards(reward, policy, problem(), LETTERS)
    expected = log_rewards(JointLikelihood(), policy, problem(evidence="xyz"), LETTERS)
    true = log_rewards(JointLikelihood(), policy, problem(), LETTERS)
    assert torch.allclose(found, expected) and float((found - true).abs().min()) > 0.1


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reward.exponent is -1"):
        MisspecifiedLikelihood(exponent=-1.0)
    with pytest.raises(ValueError, match="probability is 1.5"):
        MisspecifiedLikelihood(corruption=1.5)
    with pytest.raises(ValueError, match=r"evidence 'word' of problem 'p0' has no number to change: set reward.altern"):
        MisspecifiedLikelihood(corruption=0.1).try_on(problem(evidence="word"))
    with pytest.raises(ValueError, match=r"reward.alternatives has no text other than the evidence 'word'"):
        MisspecifiedLikelihood(corruption=0.1, alternatives=["word"]).try_on(problem(evidence="word"))
    MisspecifiedLikelihood(exponent=2.0).try_on(problem(evidence="word"))


@pytest.mark.slow
def test_training_samples_the_misspecified_posterior(policy: Any, make_trainer: Any) -> None:
    """VarGrad ends at the powered posterior, and not at the right one."""
    one, words = problem(evidence="aa"), [word for word in LETTERS if len(word) == 2]
    policy.set_lengths(2, 2)
    module = GFlowNetModule(
        policy,
        VarGrad(),
        MisspecifiedLikelihood(exponent=4.0),
        num_samples=64,
        behaviour=BehaviourMix(on_policy=0.5, tempered=0.5, temperature_low=1.0, temperature_high=3.0),
        optimizer=OptimizerSettings(lr=3e-3, schedule="linear"),
    )
    loader = torch.utils.data.DataLoader([one] * 200, batch_size=1, collate_fn=list)
    make_trainer(200).fit(module, loader)
    given = rollouts(policy, one, words)
    priors = torch.tensor([log_likelihood(policy, "ab", z) for z in words])
    behind = torch.tensor([log_likelihood(policy, "ab" + z, "aa") for z in words])
    with torch.no_grad():
        q = policy.score(given.steps).log_prob_N(given.action_mask_NT).exp()

    def distance(exponent: float) -> float:
        return 0.5 * float((q - (priors + exponent * behind).softmax(0)).abs().sum())

    assert distance(4.0) < 0.1 < 0.2 < distance(1.0)
