"""Chain-of-thought decoding against a loop over a model's own forward passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_gfn.answers import extract_answer
from lightning_gfn.metrics.branches import BranchAccuracy
from lightning_gfn.metrics.functional.branches import chosen_branch
from lightning_gfn.modules.settings import EvaluationSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.vllm.settings import VllmSettings
from lightning_gfn.rollouts.reasoning.branching import answer_and_confidence, decode_branches, with_branches
from lightning_gfn.types import Branch, EvalRecord, Problem

CONFIG = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 96, "initializer_range": 0.5,
}  # fmt: skip
ALLOWED = list("0123456789 =a#\n")
PROBLEMS = [
    Problem(id="p0", prompt="3 and 4?", answer="7", answer_style="last_number"),
    Problem(id="p1", prompt="1 and 1, please?", answer="2", answer_style="last_number"),
    Problem(id="p2", prompt="3 and 4?", answer="7", answer_style="a([0-9]+)"),
]


@pytest.fixture(scope="module", params=["fused", "continuous", "hugging_face"])
def policy(request: pytest.FixtureRequest) -> CausalLM:
    torch.manual_seed(3)
    policy = CausalLM(
        config=dict(CONFIG), max_prompt_tokens=32, max_new_tokens=12, allowed_tokens=ALLOWED, decoder=request.param
    )
    policy.build(())
    return policy.eval()


@torch.no_grad()
def probabilities(policy: CausalLM, ids: list[int], length: int) -> torch.Tensor:
    """Of all actions behind a prefix, from the logits of the whole model."""
    logits = policy.hugging_face(torch.tensor([ids])).logits[0, -1].double()
    possible = policy.space.allowed_V.clone()
    logits[~possible] = -torch.inf
    stop = policy.hugging_face(torch.tensor([ids])).logits[0, -1].double()[policy.space.end_ids].logsumexp(0)
    logits[policy.stop_id] = stop
    return logits.softmax(0)


def written_loop(policy: CausalLM, problem: Problem, num_branches: int) -> list[tuple[str, str | None, float]]:
    prompt = policy.encode_prompt(problem.prompt)
    order = probabilities(policy, prompt, 0).sort(descending=True).indices.tolist()
    found = []
    for first in [token for token in order if token != policy.stop_id][:num_branches]:
        action, gaps = [first], [float("nan")]
        while len(action) < policy.max_new_tokens:
            best = probabilities(policy, [*prompt, *action], len(action)).topk(2)
            if best.indices[0] == policy.stop_id:
                break
            action.append(int(best.indices[0]))
            gaps.append(float(best.values[0] - best.values[1]))
        start = probabilities(policy, prompt, 0).topk(2).values
        gaps[0] = float(start[0] - start[1])
        text = policy.decode(action)
        answer = extract_answer(text, problem.answer_style)
        if answer is None:
            found.append((text, None, 0.0))
            continue
        # One character a token: the last occurrence of the digits is the answer's place.
        begin = text.rindex(answer)
        found.append((text, answer, sum(gaps[begin : begin + len(answer)]) / len(answer)))
    return found


@pytest.mark.parametrize("num_branches", [1, 5])
def test_branches_are_those_of_a_written_loop(policy: CausalLM, num_branches: int) -> None:
    found = decode_branches(policy, PROBLEMS, num_branches, "cpu")
    answered = 0
    for problem, branches in zip(PROBLEMS, found, strict=True):
        expected = written_loop(policy, problem, num_branches)
        assert [(one.completion, one.answer) for one in branches] == [row[:2] for row in expected]
        assert [one.confidence for one in branches] == pytest.approx([row[2] for row in expected], abs=1e-5)
        assert [one.correct for one in branches] == [one.answer == problem.answer for one in branches]
        answered += sum(one.answer is not None for one in branches)
    assert answered >= num_branches, "an untrained model that writes digits gives answers"


def test_the_first_branch_is_greedy_decoding(policy: CausalLM) -> None:
    prompts = [policy.encode_prompt(problem.prompt) for problem in PROBLEMS]
    greedy = policy.sample(prompts, torch.zeros(len(prompts), policy.max_new_tokens + 1), top_k=1)
    texts = [
        policy.decode(ids[mask].tolist()) for ids, mask in zip(greedy.action_ids_NT, greedy.action_mask_NT, strict=True)
    ]
    assert [found[0].completion for found in decode_branches(policy, PROBLEMS, 2, "cpu")] == texts


def test_given_first_actions_are_scored_as_any_other(policy: CausalLM) -> None:
    """Log q stays that of the policy, the behaviour is sure of the given token, and a given stop ends the row."""
    context = policy.encode_prompt("3 and 4?")
    first = [policy.encode_completion("5")[0], policy.stop_id, policy.encode_completion("a")[0]]
    drawn = policy.sample([context] * 3, torch.full((3, 13), 0.4), first_N=torch.tensor(first))
    assert drawn.action_mask_NT.sum(1)[1] == 0 and drawn.behaviour_log_pstop_N[1] == 0.0
    assert drawn.action_ids_NT[[0, 2], 0].tolist() == [first[0], first[2]]
    assert drawn.behaviour_log_pf_NT[[0, 2], 0].tolist() == [0.0, 0.0]
    lengths = drawn.action_mask_NT.sum(1).tolist()
    actions = [ids[:length].tolist() for ids, length in zip(drawn.action_ids_NT, lengths, strict=True)]
    scored = policy.score(pad_steps([context] * 3, actions, "cpu"))
    own, again = (scores.log_prob_N(drawn.action_mask_NT) for scores in (drawn.scores, scored))
    assert torch.allclose(own, again, atol=1e-4)
    with pytest.raises(ValueError, match=r"first_N has shape \(2,\), expected \(3,\)"):
        policy.sample([context] * 3, torch.zeros(3, 13), first_N=torch.tensor(first[:2]))


def test_top_actions_are_those_of_all_candidates(policy: CausalLM) -> None:
    """The policy's own way and the general one, which asks for every action."""
    contexts = [policy.encode_prompt("1?"), policy.encode_prompt("22?")]
    steps = pad_steps(contexts, [[], policy.encode_completion("5a")], "cpu")
    own, general = policy.top_actions(steps, top_k=4), super(type(policy), policy).top_actions(steps, top_k=4)
    every = policy.vocab_size
    known = policy.candidate_scores(steps, torch.arange(every).expand(2, 3, every).contiguous())
    for found in (own, general):
        assert torch.equal(found.mask_NT1, known.mask_NT1)
        best = known.log_p_NT1K.topk(4).values
        assert torch.allclose(found.log_p_NT1K[found.mask_NT1], best[found.mask_NT1], atol=1e-5)
        mass = found.log_p_NT1K.exp().sum(2) + found.log_rest_NT1.exp()
        assert torch.allclose(mass[found.mask_NT1], torch.ones(4), atol=1e-5)


def test_an_answer_of_several_tokens_and_characters() -> None:
    """Tokens that hold a part of the answer count, and no others."""
    tokens = ["The answer is:", " 1", "2", ".", "5\nso"]

    def decode(ids: Any) -> str:
        return "".join(tokens[n] for n in ids)

    gaps = [0.9, 0.1, 0.2, 0.3, 0.4, 0.7]
    assert answer_and_confidence(decode, range(5), "metamath", gaps) == ("12.5", pytest.approx(0.25))
    assert answer_and_confidence(decode, range(2), "metamath", gaps) == ("1", pytest.approx(0.1))
    assert answer_and_confidence(decode, range(1), "metamath", gaps) == (None, 0.0)


def branch(answer: str | None, confidence: float, correct: bool = False) -> Branch:
    return Branch(f"… {answer}", answer, correct, confidence)


def test_answers_vote_by_confidence() -> None:
    """Two moderately sure branches of one answer beat a surer one of another; the same number counts as one answer."""
    branches = (branch("5", 0.6), branch("7", 0.4, True), branch(None, 0.0), branch("7.0", 0.3, True))
    assert chosen_branch(branches) is branches[1]
    assert chosen_branch(branches[:3]) is branches[0]
    assert chosen_branch([branches[2]]) is None
    record = EvalRecord(PROBLEMS[0], 1.0, ("",), (False,), (0.0,), (0,), (0.0,), (False,), branches=branches)
    assert list(BranchAccuracy().row(record)) == [0.0, 1.0, 0.0]


def test_problems_without_an_answer_are_left_alone(policy: CausalLM) -> None:
    def record(problem: Problem, temperature: float) -> EvalRecord:
        return EvalRecord(problem, temperature, ("",), (False,), (0.0,), (0,), (0.0,), (False,))

    records = [record(Problem(id="x", prompt="a"), 1.0), record(PROBLEMS[0], 1.0), record(PROBLEMS[0], 0.5)]
    found = with_branches(policy, records, num_branches=3, max_rows=2, device="cpu")
    assert [len(one.branches) for one in found] == [0, 3, 0]


def test_a_server_that_cannot_branch_is_refused_before_anything_is_loaded() -> None:
    policy = CausalLM(config=dict(CONFIG), max_prompt_tokens=32, max_new_tokens=12, vllm=VllmSettings())
    with pytest.raises(ValueError, match=r"evaluation.branches begins completions with given tokens"):
        SFTModule(policy, evaluation=EvaluationSettings(branches=2))
    SFTModule(policy, evaluation=EvaluationSettings())
    with pytest.raises(ValueError, match=r"evaluation.branches must be at least 1, or null for none, got 0"):
        EvaluationSettings(branches=0)
