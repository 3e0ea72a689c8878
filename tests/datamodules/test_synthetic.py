"""The generated splits: reproducible, disjoint in their numbers, complete in their solutions."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from datamodules.generators.splits import SHARES
from datamodules.generators.synthetic_grammar import LEVELS
from datamodules.synthetic import SyntheticWordProblems
from lightning_gfn.types import Problem


def splits(**settings: Any) -> dict[str, list[Problem]]:
    data = SyntheticWordProblems(**({"num_train": 600, "num_val": 40, "num_test": 60} | settings))
    return {split: data.problems(split) for split in ("train", "val", "test")}  # type: ignore[arg-type]


def numbers(problem: Problem) -> tuple[str, ...]:
    """The pairs and single numbers of a prompt, whatever their order."""
    groups = re.findall(r"(\d+) \w+ of (\d+)", problem.prompt)
    return (*sorted(map(str, groups)), *re.findall(r"and (\d+) more", problem.prompt))


def without_names(problem: Problem) -> str:
    """The prompt with its name and its things replaced."""
    return re.sub(r"[A-Z]\w+ has|\b(pens|eggs|nuts|cards|coins|beads)\b", "_", problem.prompt)


def test_splits_share_no_problem() -> None:
    found = splits()
    for form in (numbers, without_names, lambda problem: problem.id):
        sets = {split: {form(problem) for problem in problems} for split, problems in found.items()}
        assert sets["train"].isdisjoint(sets["val"])
        assert sets["train"].isdisjoint(sets["test"])
        assert sets["val"].isdisjoint(sets["test"])
    for split in ("val", "test"):
        assert len({numbers(problem) for problem in found[split]}) == len(found[split])


def test_leaking_splits_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHARES, "train", (0.0, 1.0))
    with pytest.raises(AssertionError):
        test_splits_share_no_problem()


def test_problems_are_complete() -> None:
    for problem in splits(levels={1: 1, 2: 1, 3: 1, 4: 1, 5: 1})["train"]:
        assert problem.solution_set is not None
        assert sorted(problem.solutions) == sorted(problem.solution_set)
        assert problem.answer_style == "metamath"
        assert all(text.endswith(f"\nThe answer is: {problem.answer}") for text in problem.solutions)


def test_first_solutions_are_of_every_path() -> None:
    """The first reference solution is not always of the same path."""
    labels = [
        problem.solution_set[problem.solutions[0]] for problem in splits()["train"] if problem.solution_set is not None
    ]
    assert len(set(labels)) == 12
    assert max(map(labels.count, set(labels))) < 3 * len(labels) / 12


def test_generation_depends_on_its_own_seed_alone() -> None:
    assert splits(seed=1, batch_size=7) == splits()
    assert splits(generator_seed=1)["test"] != splits()["test"]


def test_mixture_of_levels() -> None:
    data = SyntheticWordProblems(levels={1: 0.2, 3: 0.5, 2: 0.3}, num_train=101)
    levels = [problem.metadata["level"] for problem in data.problems("train")]
    assert len(levels) == 101
    assert {level: levels.count(level) for level in sorted(set(levels))} == {1: 20, 2: 30, 3: 51}


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_has_problems_enough_for_its_own_comparison(level: int) -> None:
    data = SyntheticWordProblems(levels={level: 1.0}, num_test=128, num_val=64)
    assert (len(data.problems("test")), len(data.problems("val"))) == (128, 64)


def test_impossible_requests() -> None:
    with pytest.raises(ValueError, match="data.levels"):
        SyntheticWordProblems(levels={9: 1.0})
    with pytest.raises(ValueError, match="data.levels"):
        SyntheticWordProblems(levels={1: 0.0})
    with pytest.raises(ValueError, match=r"level 1 has only \d+ different test problems, 5000 are asked for"):
        SyntheticWordProblems(levels={1: 1.0}, num_test=5000).problems("test")


def test_training_texts_hold_prompts_and_solutions() -> None:
    data = SyntheticWordProblems(num_train=5)
    texts = list(data.training_texts())
    assert len(texts) == sum(len(problem.solutions) for problem in data.problems("train"))
    assert texts[0] == data.problems("train")[0].prompt + data.problems("train")[0].solutions[0]


def test_answers_alone_leave_the_problems_as_they_are() -> None:
    """Training reads no rationale; what evaluation compares, and the ids, stay the same."""
    sizes = {"levels": {1: 1.0}, "num_train": 20, "num_val": 4, "num_test": 4}
    plain, direct = (SyntheticWordProblems(rationales=kept, **sizes).problems("train") for kept in (True, False))
    assert [one.solutions for one in direct] == [(f"The answer is: {one.answer}",) for one in plain]
    assert [(one.id, one.prompt, one.solution_set) for one in direct] == [
        (one.id, one.prompt, one.solution_set) for one in plain
    ]


SKEWED = {"steps": 40, "story": 12, "equation": 5, "count": 2, "undo": 2, "places": 2, "forward": 3, "backward": 1}


def test_style_shares_decide_how_training_problems_are_solved_and_nothing_else() -> None:
    plain, skewed = splits(num_train=3000), splits(num_train=3000, style_shares=SKEWED)
    problems = skewed["train"]
    assert all(len(problem.solutions) == 1 for problem in problems)
    paths = [problem.solution_set[problem.solutions[0]].split("/") for problem in problems if problem.solution_set]
    for position, parts in ((0, list(SKEWED)[:6]), (1, ["forward", "backward"])):
        whole = sum(SKEWED[part] for part in parts)
        counts = Counter(path[position] for path in paths)
        for part in parts:
            share = SKEWED[part] / whole
            assert abs(counts[part] / len(paths) - share) < 4 * (share * (1 - share) / len(paths)) ** 0.5 + 0.01
    assert [problem.solution_set for problem in problems] == [p.solution_set for p in plain["train"]]
    assert skewed["test"] == plain["test"]
    assert problems == splits(num_train=3000, style_shares=SKEWED)["train"]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"step": 1}, "no path has the part 'step'; there are"),
        ({}, "style_shares must map parts of paths to weights"),
        ({"steps": -1}, "weights of at least 0"),
        ({"forward": 0, "backward": 0}, "leaves a problem no solution"),
    ],
)
def test_style_shares_that_fit_no_path_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticWordProblems(num_train=8, style_shares=shares).problems("train")
