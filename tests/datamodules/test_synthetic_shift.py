"""The second family: every path right by a reader of its own, voices apart, splits disjoint across both families."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import combinations
from random import Random
from typing import Any

import pytest
from rouge_score import rouge_scorer

from datamodules.generators import shift_voices, splits
from datamodules.generators.shift_grammar import FAMILY, PlannedProblem
from datamodules.generators.shift_voices import VOICES
from datamodules.synthetic import SyntheticWordProblems
from datamodules.synthetic_shift import ShiftedWordProblems
from lightning_gfn.answers import extract_answer
from lightning_gfn.similarity.rouge import rouge_l_f1_matrix
from lightning_gfn.types import Problem

THRESHOLD = 0.7
PLANNED = (3, 4, 5)
OPERATIONS: dict[Any, Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
SIGNS = {"plus": "+", "minus": "-", "times": "*", "over": "/", "add": "+", "lower": "-", "multiply": "*", "divide": "/"}


def drawn(level: int, count: int) -> list[PlannedProblem]:
    random = Random(level)
    return [FAMILY[level](random) for _ in range(count)]  # type: ignore[misc]


def evaluate(expression: str) -> Fraction:
    """The exact value of an arithmetic expression."""

    def value(node: Any) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        return OPERATIONS[type(node.op)](value(node.left), value(node.right))

    return value(ast.parse(expression, mode="eval").body)


def read(question: str) -> dict[str, int]:
    """Everything that a plan may name, worked out from the words of the question; ``answer`` is what it asks."""
    numbers = [int(number) for number in re.findall(r"\d+", question)]
    if found := re.search(r"^(\w+) has \d+ (\w+) of .*\. (\w+) has \d+ (more|fewer)", question):
        first, container, second, word = (text.lower() for text in found.groups())
        count, size, change = numbers
        other = count * size + (change if word == "more" else -change)
        both = count * size + other
        named = {first: count * size, second: other, "double": 2 * count * size, "equal": 2 * count * size}
        return named | {container: 2 * count, "both": both, "answer": both}
    if found := re.search(r"^(\w+) makes .* and (\w+) makes", question):
        first, second = (text.lower() for text in found.groups())
        made, hours, other, total = numbers
        mine = sum(made for _ in range(hours, total + 1, hours))
        both = mine + sum(other for _ in range(total))
        named = {first: mine, second: other * total, "rate": made // hours, "rounds": total // hours}
        return named | {"speed": made // hours + other, "both": both, "answer": both}
    found = re.search(r"^(\w+) is \d+ times as old as (\w+)\. ", question)
    assert found is not None, question
    first, second = (text.lower() for text in found.groups())
    ratio, years, later = numbers
    (young,) = (age for age in range(later) if ratio * age + years + age + years == later)
    named = {first: ratio * young, second: young, "gain": 2 * years, "midway": later - years}
    return named | {"now": young + ratio * young, "parts": ratio + 1, "answer": ratio * young}


def statements(text: str, known: dict[str, int]) -> Iterator[bool]:
    """Whether each statement of a text is true; False as well for a text in no known voice."""
    body, last = text.split("\n")
    yield last == f"The answer is: {known['answer']}"
    if match := re.fullmatch(r"Let x be the answer and simplify from the inside: x = (.*)\.", body):
        yield from (evaluate(side) == known["answer"] for side in match[1].split(" = "))
    elif match := re.fullmatch(r"Guess (\d+)\. It fits because (.*)\.", body):
        yield int(match[1]) == known["answer"]
        sides = [chain.split(" = ") for chain in match[2].split(" and ")]
        yield from (evaluate(left) == int(right) for left, right in sides)
        yield sides[0][0].startswith(f"{match[1]} ")
    elif match := re.fullmatch(r"We find (.*)\.", body):
        parts = [re.fullmatch(r"(\d+) as (\d+) (\w+) (\d+)", part) for part in match[1].split(", then ")]
        for part in parts:
            yield part is not None and evaluate(f"{part[2]} {SIGNS[part[3]]} {part[4]}") == int(part[1])
        yield parts[-1] is not None and int(parts[-1][1]) == known["answer"]
    elif match := re.fullmatch(r"Work back: (.*)\.", body):
        for part in match[1].split(", "):
            goal = re.fullmatch(r"for (\w+) (\w+) (\d+) (?:and|by) (\d+)", part)
            yield goal is not None and evaluate(f"{goal[3]} {SIGNS[goal[2]]} {goal[4]}") == known[goal[1].lower()]
    elif match := re.fullmatch(r"In my head: (.*)\.", body):
        for part in match[1].split(", "):
            name, value = part.split(" ")
            yield known[name.lower()] == int(value)
    else:
        found = re.findall(r"(\w+): (\d+ [-+*/] \d+) = (\d+)\.", body)
        yield " ".join(f"{name}: {left} = {right}." for name, left, right in found) == body
        yield from (evaluate(left) == int(right) == known[name.lower()] for name, left, right in found)


@pytest.mark.parametrize("level", PLANNED)
def test_every_path_is_right(level: int) -> None:
    for problem in drawn(level, 150):
        known = read(problem.question)
        assert problem.answer == known["answer"] > 0
        assert {goal.value for goal in problem.plans.values()} == {problem.answer}
        solutions = problem.solutions()
        assert {label.split("/")[1] for label in solutions.values()} == set(VOICES)
        assert {label.split("/")[0] for label in solutions.values()} == set(problem.plans)
        assert 12 <= len(solutions) == len(set(solutions.values())) <= 18
        for text in solutions:
            assert all(statements(text, known)), text
            assert extract_answer(text, "metamath") == str(problem.answer)


@pytest.mark.parametrize("level", PLANNED)
def test_a_wrong_number_anywhere_is_noticed(level: int) -> None:
    for problem in drawn(level, 15):
        known = read(problem.question)
        for text in problem.solutions():
            for match in re.finditer(r"\d+", text):
                wrong = text[: match.start()] + str(int(match.group()) + 1) + text[match.end() :]
                assert not all(statements(wrong, known)), wrong


def test_a_wrong_inverse_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift_voices, "INVERSE", {**shift_voices.INVERSE, "-": "-"})
    with pytest.raises(AssertionError):
        test_every_path_is_right(5)


@pytest.mark.parametrize("level", [1, 2])
def test_reworded_sums_keep_the_solutions_of_the_first_family(level: int) -> None:
    for problem in drawn(level, 100):
        count, size, rest = (int(number) for number in re.findall(r"\d+", problem.question))
        assert problem.answer == count * size + rest
        assert problem.metadata == {"level": level, "kind": "sum"}
        assert 6 <= len(problem.solutions()) <= 12
        assert all(extract_answer(text, "metamath") == str(problem.answer) for text in problem.solutions())
        container = re.findall(r"\d+ (\w+) of", problem.question)[0]
        assert any(text.startswith(f"{count} {container} hold {count} * {size} = ") for text in problem.solutions())


def too_alike(problem: PlannedProblem, scores: Any) -> list[tuple[str, str]]:
    """Pairs of different voices that ROUGE-L takes for one solution."""
    labels = list(problem.solutions().values())
    return [
        (one, other)
        for (i, one), (j, other) in combinations(enumerate(labels), 2)
        if one.split("/")[1] != other.split("/")[1] and scores[i][j] >= THRESHOLD
    ]


@pytest.mark.parametrize("level", PLANNED)
def test_voices_differ_at_rouge_threshold(level: int) -> None:
    rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    problems = drawn(level, 300)
    for problem in problems:
        assert too_alike(problem, rouge_l_f1_matrix(list(problem.solutions()))) == [], problem
    texts = list(problems[0].solutions())
    scores = [[rouge.score(one, other)["rougeL"].fmeasure for other in texts] for one in texts]
    assert too_alike(problems[0], scores) == []


@pytest.mark.slow
@pytest.mark.parametrize("level", PLANNED)
def test_voices_differ_for_every_choice_of_numbers(level: int) -> None:
    random, seen = Random(0), {}
    for _ in range(40_000):
        problem = FAMILY[level](random)
        seen.setdefault(problem.numbers, problem)
    assert len(seen) > 1000
    for problem in seen.values():
        assert too_alike(problem, rouge_l_f1_matrix(list(problem.solutions()))) == [], problem  # type: ignore[arg-type]


def test_voices_that_share_their_words_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VOICES, "list", lambda goal: VOICES["goals"](goal).replace("Work", "Think"))
    with pytest.raises(AssertionError):
        test_voices_differ_at_rouge_threshold(3)


def numbers_of(problem: Problem) -> tuple[str, ...]:
    """What a prompt says without names and things: its numbers in their roles, and the words that decide the answer."""
    return tuple(re.findall(r"\d+|fewer|more than|an hour|times as old", problem.prompt))


def test_no_training_problem_of_either_family_is_tested_in_the_other() -> None:
    sizes = {"num_train": 500, "num_val": 64, "num_test": 128}
    first = SyntheticWordProblems(levels={1: 1.0}, **sizes)
    second = ShiftedWordProblems(levels={1: 1.0}, **sizes)
    trained = {numbers_of(problem) for data in (first, second) for problem in data.problems("train")}
    for data in (first, second):
        for split in ("val", "test"):
            tested = [numbers_of(problem) for problem in data.problems(split)]
            assert len(set(tested)) == len(tested)
            assert trained.isdisjoint(tested)


def test_leaking_splits_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(splits.SHARES, "train", (0.0, 1.0))
    with pytest.raises(AssertionError):
        test_no_training_problem_of_either_family_is_tested_in_the_other()


@pytest.mark.parametrize("level", FAMILY)
def test_every_level_has_disjoint_splits_of_full_size(level: int) -> None:
    data = ShiftedWordProblems(levels={level: 1.0}, num_train=600)
    found = {split: data.problems(split) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert [len(problems) for problems in found.values()] == [600, 64, 128]
    forms = {split: {numbers_of(problem) for problem in problems} for split, problems in found.items()}
    assert forms["train"].isdisjoint(forms["val"] | forms["test"]) and forms["val"].isdisjoint(forms["test"])
    for problem in found["test"]:
        assert problem.solution_set is not None and sorted(problem.solution_set) == sorted(problem.solutions)
        assert problem.id.startswith(f"shift/{level}/") and problem.metadata["level"] == level


def test_mixtures_name_their_kind_and_unknown_levels_are_refused() -> None:
    data = ShiftedWordProblems(levels={1: 1, 3: 1, 5: 2}, num_test=40, predict_split="val", max_test=20)
    kinds = [problem.metadata["kind"] for problem in data.load_split("test")]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {"age": 20, "comparison": 10, "sum": 10}
    assert len(data.problems("test")) == 20 and data.predict_split == "val"
    with pytest.raises(ValueError, match=r"data.levels must map levels out of \[1, 2, 3, 4, 5\]"):
        ShiftedWordProblems(levels={6: 1.0})


def test_the_first_levels_fit_a_small_model_of_the_first_family() -> None:
    """With a tokenizer that never saw the new words: 40 tokens for the prompt, 64 for a solution."""
    from lightning_gfn.policies.text.tokenizers import TextCodec, TokenizerSettings, make_tokenizer

    texts = SyntheticWordProblems(levels={1: 1.0}, num_train=400).training_texts()
    codec = TextCodec(make_tokenizer(TokenizerSettings(kind="bpe", vocab_size=384), texts))
    for problem in ShiftedWordProblems(levels={1: 1.0, 2: 1.0}).problems("test"):
        ids = codec.encode_prompt(problem.prompt)
        assert len(ids) <= 40 and codec.decode(ids[1:]) == problem.prompt
        assert max(len(codec.encode_completion(text)) for text in problem.solutions) <= 64
