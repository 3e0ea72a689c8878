"""The joint likelihood against a plain forward pass, and the posterior that it makes against enumeration."""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import pytest
import torch

from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.padding import pad_steps
from lightning_gfn.rewards.joint import JointLikelihood
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.types import Problem, Rollouts

X = [Problem(id="p0", prompt="ab", evidence="cd."), Problem(id="p1", prompt="b", evidence="z")]


def plain_joint(policy: Any, problem: Problem, completion: str, model: Any = None) -> float:
    """log p(completion, evidence | prompt) by the own pass of a model (the policy's if None) over all tokens."""
    prompt = policy.encode_prompt(problem.prompt)
    behind = policy.encode_completion(completion) + policy.encode_completion(problem.evidence)
    with torch.no_grad():
        network = policy.hugging_face if model is None else model
        logits = network(torch.tensor([prompt + behind])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) + t - 1, token]) for t, token in enumerate(behind))


def rollouts(policy: Any, completions: list[str]) -> Rollouts:
    index = [n % 2 for n in range(len(completions))]
    return Rollouts(
        problems=tuple(X),
        problem_index_B=torch.tensor(index),
        trajectory_index_N=torch.arange(len(completions)),
        steps=pad_steps(
            [policy.encode_prompt(X[p].prompt) for p in index],
            [policy.encode_completion(c) for c in completions],
            "cpu",
        ),
        completions=tuple(completions),
        sources=("on_policy",) * len(completions),
    )


@pytest.fixture
def policy(make_policy: Any) -> Any:
    """May write the letters a to c alone, at most three, while the likelihood knows all tokens."""
    config = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.25,
    }  # fmt: skip
    policy = make_policy(config=config, max_new_tokens=3, allowed_tokens=["a", "b", "c"])
    policy.build([])
    policy.freeze_reference()
    return policy.eval()


def test_completions_and_prefixes_have_the_likelihood_of_a_plain_pass(policy: Any) -> None:
    given = rollouts(policy, ["ab", "c", "abc", "", "ab"])
    (whole,) = JointLikelihood().terms(given, policy, prefixes=False)[0].values()
    expected = [plain_joint(policy, X[n % 2], text) for n, text in enumerate(given.completions)]
    assert whole.tolist() == pytest.approx(expected, abs=1e-4)
    (every,) = JointLikelihood().terms(given, policy, prefixes=True)[0].values()
    for b, text in enumerate(given.completions):
        wanted = [plain_joint(policy, X[b % 2], text[:end]) for end in range(len(text) + 1)]
        assert every[b, : len(wanted)].tolist() == pytest.approx(wanted, abs=1e-4)


def test_scoring_texts_leaves_the_actions_of_the_policy_as_they_were(policy: Any) -> None:
    before = policy.space
    policy.text_log_probs([[3]], [[4, 5, 6, 7, 8]])
    assert policy.space is before
    with pytest.raises(ValueError, match="action row 0 holds token"):
        policy.text_log_probs([[3]], [[policy.tokenizer.eos_token_id]])
    assert policy.space is before


def test_data_without_evidence_are_refused() -> None:
    with pytest.raises(ValueError, match="problem 'x' has no evidence"):
        JointLikelihood().try_on(Problem(id="x", prompt="a"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "shortest"),
    [(VarGrad(), 2), (ModifiedSubTB(), 0), (ModifiedSubTB(pairs="problem"), 2)],
)
def test_training_samples_the_posterior(policy: Any, make_trainer: Any, objective: Any, shortest: int) -> None:
    """Total variation from p(z | x, y), by enumeration of all z, falls far below that of the prior."""
    problem, behaviour = X[0], BehaviourMix(on_policy=0.5, tempered=0.5, temperature_low=1.0, temperature_high=3.0)
    policy.set_lengths(shortest, 3)
    optimizer = OptimizerSettings(lr=3e-3, schedule="linear")
    module = GFlowNetModule(
        policy, objective, JointLikelihood(), num_samples=64, optimizer=optimizer, behaviour=behaviour
    )
    loader = torch.utils.data.DataLoader([problem] * 200, batch_size=1, collate_fn=list)
    make_trainer(200).fit(module, loader)
    letters = ["".join(word) for n in range(shortest, 4) for word in product("abc", repeat=n)]
    prompt = policy.encode_prompt(problem.prompt)
    rows = pad_steps([prompt] * len(letters), [policy.encode_completion(z) for z in letters], "cpu")
    # The module made the weights anew: the reference is the model that it began with.
    joint = [plain_joint(policy, problem, text, policy.reference) for text in letters]
    posterior = torch.tensor(joint, dtype=torch.float64).softmax(0)

    def distance(reference: bool) -> float:
        with torch.no_grad():
            q = policy.score(rows, reference=reference).log_prob_N(rows.action_mask_NT).double().exp()
        assert float(q.sum()) == pytest.approx(1.0, abs=1e-4)
        return 0.5 * float((q - posterior).abs().sum())

    assert distance(reference=False) < 0.06 < 0.3 < distance(reference=True)


def test_beginnings_that_nothing_joins_are_told(policy: Any) -> None:
    policy.set_lengths(1, 3)
    with pytest.warns(UserWarning, match="nothing says how likely different beginnings should be"):
        GFlowNetModule(policy, ModifiedSubTB(), JointLikelihood())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GFlowNetModule(policy, VarGrad(), JointLikelihood())
        policy.set_lengths(0, 3)
        GFlowNetModule(policy, ModifiedSubTB(), JointLikelihood())
