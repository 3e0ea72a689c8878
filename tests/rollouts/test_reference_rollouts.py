from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from lightning_gfn.rollouts.reference import reference_rollouts


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
