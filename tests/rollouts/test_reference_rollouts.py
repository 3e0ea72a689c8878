from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lightning_gfn.rollouts.reference import reference_rollouts, with_reference_scores, with_target_scores
from lightning_gfn.types import EvalRecord, Problem, Scores


def test_each_problem_gets_one_of_its_solutions(policy, problems) -> None:
    rollouts, num_cut = reference_rollouts(policy, problems, seed=0, epoch=3, device="cpu")
    assert num_cut == 0 and set(rollouts.sources) == {"reference"}
    assert rollouts.problem_index_B.tolist() == rollouts.trajectory_index_N.tolist() == list(range(8))
    for b, problem in enumerate(problems):
        assert rollouts.completions[b] in problem.solutions
        assert policy.decode(rollouts.action_lists()[b]) == rollouts.completions[b]
        assert policy.decode(rollouts.context_ids_NC[b][rollouts.context_mask_NC[b]].tolist()) == problem.prompt


def test_epochs_draw_all_solutions_evenly_and_batches_do_not_matter(policy, problems) -> None:
    drawn = Counter(
        reference_rollouts(policy, problems[:1], seed=0, epoch=epoch, device="cpu")[0].completions[0]
        for epoch in range(400)
    )
    assert set(drawn) == set(problems[0].solutions) and min(drawn.values()) > 150
    whole, _ = reference_rollouts(policy, problems, seed=0, epoch=1, device="cpu")
    part, _ = reference_rollouts(policy, problems[5:], seed=0, epoch=1, device="cpu")
    assert whole.completions[5:] == part.completions


def test_long_solutions_are_cut_and_counted_and_missing_ones_named(make_policy, problems) -> None:
    policy = make_policy(max_new_tokens=2)
    long = [replace(problem, solutions=("abcd" if i < 3 else "ab",)) for i, problem in enumerate(problems)]
    rollouts, num_cut = reference_rollouts(policy, long, seed=0, epoch=0, device="cpu")
    assert num_cut == 3 and rollouts.action_mask_NT.sum(1).tolist() == [2] * 8
    with pytest.raises(ValueError, match="'id1' has no reference solution"):
        reference_rollouts(policy, [problems[0], replace(problems[1], solutions=())], seed=0, epoch=0, device="cpu")


def records_of(problems: list[Problem], temperature: float) -> list[EvalRecord]:
    return [EvalRecord(problem, temperature, ("a",), (True,), (0.0,), (1,), (0.0,), (False,)) for problem in problems]


@pytest.mark.parametrize("max_rows", [1, 3, 100])
def test_reference_scores_equal_a_written_loop(make_policy, problems, max_rows) -> None:
    policy = make_policy(max_new_tokens=3)
    mixed = [
        replace(problem, solutions=("ab", f"c{i}d", "long one", "")[: 4 if i else 0])
        for i, problem in enumerate(problems)
    ]
    records = records_of(mixed, 1.0) + records_of(mixed, 0.6)
    scored = with_reference_scores(policy, records, max_rows=max_rows, device="cpu")
    assert [replace(r, reference_log_probs=(), reference_actions=()) for r in scored] == records
    assert scored[0] == records[0] and scored[8:] == records[8:]
    for record in scored[1:8]:
        assert record.reference_actions == (3, 3, 3, 1), "tokens, and the stop unless it is forced"
        for text, found in zip(record.problem.solutions, record.reference_log_probs, strict=True):
            previous, total = policy.encode_prompt(record.problem.prompt)[-1], 0.0
            tokens = policy.encode_completion(text)[:3]
            for i, token in enumerate([*tokens, -1]):
                total += float(policy.log_q(previous, i)[token])
                previous = token
            assert found == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("max_rows", [2, 100])
def test_target_scores_are_the_whole_distribution(make_policy, problems, max_rows) -> None:
    """Every completion of a policy over few tokens is scored: their probabilities add up to 1."""
    policy = make_policy(max_new_tokens=2)
    letters = [policy.decode([token]) for token in range(policy.vocab_size) if token != policy.stop_id]
    letters = [text for text in letters if policy.encode_completion(text) and len(policy.encode_completion(text)) == 1]
    everything = dict.fromkeys(("", *letters, *(a + b for a in letters for b in letters)), 0.0)
    aimed = [replace(problems[0], target=everything), problems[1]]
    scored = with_target_scores(policy, records_of(aimed, 1.0), max_rows=max_rows, device="cpu")
    assert sum(map(math.exp, scored[0].target_log_probs)) == pytest.approx(1.0, abs=1e-5)
    assert scored[1].target_log_probs == ()
    with pytest.raises(ValueError, match="cannot produce 'abc' of its target"):
        with_target_scores(
            policy, records_of([replace(problems[0], target={"abc": 0.0})], 1.0), max_rows=9, device="cpu"
        )


def test_a_forgotten_stop_would_be_noticed(make_policy, problems, monkeypatch) -> None:
    def without_stop(scores: Scores, mask_NT: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        return scores.log_pf_NT.masked_fill(~mask_NT, 0.0).sum(1, dtype=dtype)

    monkeypatch.setattr(Scores, "log_prob_N", without_stop)
    with pytest.raises(AssertionError):
        test_reference_scores_equal_a_written_loop(make_policy, problems, 100)
