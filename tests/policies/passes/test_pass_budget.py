"""Which rows share a pass: every row once, no pass beyond the limits, and little padding."""

from __future__ import annotations

import random
import warnings

import pytest

from lightning_gfn.policies.passes.pass_budget import PassBudget, warn_of_long_rows


def padded(chosen: list[int], contexts: list[int], actions: list[int]) -> int:
    """Tokens of a pass, by a plain count."""
    return len(chosen) * (max(contexts[n] for n in chosen) + max(actions[n] for n in chosen))


@pytest.mark.parametrize("seed", range(20))
def test_passes_hold_every_row_once_within_the_limits(seed: int) -> None:
    numbers = random.Random(seed)
    contexts = [numbers.randint(1, 30) for _ in range(numbers.randint(1, 40))]
    actions = [numbers.randint(0, 30) for _ in contexts]
    budget = PassBudget(numbers.choice((None, 60, 100, 200)), numbers.choice((None, 1, 3, 7)))
    passes = budget.scoring_passes(contexts, actions)
    assert sorted(n for chosen in passes for n in chosen) == list(range(len(contexts)))
    for chosen in passes:
        assert budget.max_rows_per_pass is None or len(chosen) <= budget.max_rows_per_pass
        assert budget.max_tokens_per_pass is None or padded(chosen, contexts, actions) <= budget.max_tokens_per_pass


def test_rows_of_like_length_share_a_pass() -> None:
    """Long and short rows by turns: in their order every pass would be padded to the long ones."""
    contexts, actions = [2, 2] * 50, [2, 98] * 50
    passes = PassBudget(max_tokens_per_pass=400).scoring_passes(contexts, actions)
    used = sum(padded(chosen, contexts, actions) for chosen in passes)
    assert used < 1.1 * sum(contexts + actions)
    assert len(passes) == 14, "50 rows of 4 tokens in one pass of 400, 50 of 100 in passes of 4"


def test_rows_of_one_prompt_stay_together_where_it_is_read_once() -> None:
    contexts, actions, prompts = [6] * 6, [1, 9, 3, 2, 8, 4], [0, 1, 1, 0, 0, 1]
    budget = PassBudget(max_rows_per_pass=3)
    assert budget.scoring_passes(contexts, actions) == [[0, 3, 2], [5, 4, 1]]
    assert budget.scoring_passes(contexts, actions, prompts) == [[0, 3, 4], [2, 5, 1]]


def test_without_limits_there_is_one_pass() -> None:
    assert PassBudget().scoring_passes([9, 1, 5], [1, 1, 1]) == [[1, 2, 0]]
    assert not PassBudget().limits_scoring and not PassBudget(max_sampling_tokens=5).limits_scoring
    assert PassBudget(max_rows_per_pass=5).limits_scoring and PassBudget(max_tokens_per_pass=5).limits_scoring


def test_a_row_beyond_the_limit_goes_alone_and_is_told_once() -> None:
    warn_of_long_rows.cache_clear()
    budget = PassBudget(max_tokens_per_pass=10)
    with pytest.warns(UserWarning, match="more tokens than budget.max_tokens_per_pass=10 and goes alone"):
        assert budget.scoring_passes([5, 20, 5, 30], [0, 0, 0, 0]) == [[0, 2], [1], [3]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        budget.scoring_passes([50], [0])


def test_sampling_counts_the_longest_action_and_keeps_equal_contexts_together() -> None:
    long, short = [1, 2, 3, 4], [7, 8]
    contexts = [long, short, [5, 6, 7, 8], short, long]
    budget = PassBudget(max_tokens_per_pass=18)
    assert budget.sampling_passes(contexts, max_new_tokens=5) == [[1, 3], [0, 4], [2]]
    wider = PassBudget(max_tokens_per_pass=18, max_sampling_tokens=27)
    assert wider.sampling_passes(contexts, max_new_tokens=5) == [[1, 3, 0], [4, 2]]
    assert PassBudget(max_rows_per_pass=2).sampling_passes(contexts, 5) == [[1, 3], [0, 4], [2]]


@pytest.mark.parametrize("name", ["max_tokens_per_pass", "max_rows_per_pass", "max_sampling_tokens"])
def test_a_limit_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"budget.{name} is 0, expected at least 1, or null for no limit"):
        PassBudget(**{name: 0})
