"""Every solution of every path is right, by a reader of its own, and paths differ as much as promised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, product
from random import Random

import pytest
from rouge_score import rouge_scorer

from datamodules.generators.synthetic_grammar import LEVELS, STYLES, Difficulty, Summand, WordProblem, sample_problem
from lightning_gfn.answers import extract_answer

THRESHOLD = 0.7
ROUGE = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


def problems(level: int, count: int) -> list[WordProblem]:
    random = Random(level)
    return [sample_problem(random, level) for _ in range(count)]


def answer_of(question: str) -> int:
    """Solve the question from its words alone."""
    groups = re.findall(r"(\d+) \w+ of (\d+)", question)
    rest = re.findall(r"and (\d+) more", question)
    assert len(rest) == 1
    return sum(int(count) * int(size) for count, size in groups) + int(rest[0])


def wrong_equations(text: str, answer: int) -> Iterator[str]:
    """Equations of a text whose sides differ, x being the answer."""
    for chain in re.findall(r"[\dx][\dx *+=-]*=[\dx *+=-]*[\dx]", text):
        values = set()
        for side in chain.split(" = "):
            terms = re.findall(r"([+-]?) ?([\dx]+(?: \* \d+)?)", side)
            total = 0
            for sign, term in terms:
                value = 1
                for factor in term.split(" * "):
                    value *= answer if factor == "x" else int(factor)
                total += -value if sign == "-" else value
            values.add(total)
        if len(values) != 1:
            yield chain


def wrong_counts(text: str, problem: WordProblem) -> Iterator[str]:
    """Skip counts that do not go up by the size of their container, as often as there are containers."""
    if not text.startswith("Count up"):
        return
    total = 0
    sizes = {summand.container: summand for summand in problem.summands}
    for part in text.split("\n")[0].removeprefix("Count up ").removesuffix(".").split(" then "):
        container, numbers = part.split(" ", 1)
        summand = sizes.pop(container)
        for number in numbers.split(", "):
            total += summand.size
            if int(number) != total:
                yield part
        if total < summand.value or numbers.count(",") + 1 != (summand.count if summand.count is not None else 1):
            yield part
    if sizes:
        yield f"left out: {sorted(sizes)}"


def wrong_stories(text: str, problem: WordProblem) -> Iterator[str]:
    """Stories whose running totals are off."""
    if not text.startswith("Take"):
        return
    total = 0
    values = {summand.container: summand.value for summand in problem.summands}
    for amount, container, after in re.findall(r"(\d+) from the (\w+)(?: makes (\d+))?", text):
        total += int(amount)
        if int(amount) != values.pop(container) or (after and int(after) != total):
            yield container
    if values:
        yield f"left out: {sorted(values)}"


def wrong_groups(text: str, problem: WordProblem) -> Iterator[str]:
    """Sentences about a group that is not in the question."""
    groups = {(str(s.count), s.container, str(s.count), str(s.size)) for s in problem.summands if s.count is not None}
    told = re.findall(r"(\d+) (\w+) hold (\d+) \* (\d+)", text)
    if told and set(told) != groups:
        yield str(told)


def faults(text: str, problem: WordProblem) -> list[str]:
    answer = answer_of(problem.question)
    found = [*wrong_equations(text, answer), *wrong_counts(text, problem), *wrong_stories(text, problem)]
    found += wrong_groups(text, problem)
    if extract_answer(text, "metamath") != str(answer):
        found.append("final answer")
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_every_path_is_right(level: int) -> None:
    for problem in problems(level, 100):
        assert problem.answer == answer_of(problem.question)
        solutions = problem.solutions()
        assert {label.split("/")[0] for label in solutions.values()} == set(STYLES)
        assert 6 <= len(solutions) <= 12
        assert len(set(solutions.values())) == len(solutions)
        for text in solutions:
            assert faults(text, problem) == [], text


def test_a_wrong_number_anywhere_is_noticed() -> None:
    for problem in problems(2, 20):
        for text in problem.solutions():
            for match in re.finditer(r"\d+", text):
                wrong = text[: match.start()] + str(int(match.group()) + 1) + text[match.end() :]
                assert faults(wrong, problem), wrong


def all_of_level(bounds: Difficulty) -> Iterator[WordProblem]:
    """Every problem of one group within the bounds."""
    ranges = (range(2, bounds.max_size + 1), range(2, bounds.max_count + 1), range(2, bounds.max_rest + 1))
    for size, count, rest in product(*ranges):
        yield WordProblem("Ann", "pens", (Summand("bags", size, count), Summand("rest", rest)), 1)


def alike(problem: WordProblem) -> dict[tuple[str, str], float]:
    """ROUGE-L F1 of each pair of solutions, by their labels."""
    return {
        (one, other): ROUGE.score(first, second)["rougeL"].fmeasure
        for (first, one), (second, other) in combinations(problem.solutions().items(), 2)
    }


@pytest.mark.parametrize("level", LEVELS)
def test_six_paths_differ_at_rouge_threshold(level: int) -> None:
    for problem in problems(level, 40):
        for (one, other), score in alike(problem).items():
            if one.split("/")[0] != other.split("/")[0]:
                assert score < THRESHOLD, (problem, one, other)


@pytest.mark.slow
def test_six_paths_differ_for_every_problem_of_the_first_level() -> None:
    for problem in all_of_level(LEVELS[1]):
        assert all(
            score < THRESHOLD
            for (one, other), score in alike(problem).items()
            if one.split("/")[0] != other.split("/")[0]
        )


def test_styles_that_share_their_words_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "undo", lambda summands: STYLES["story"](summands).replace("Take", "Taking"))
    with pytest.raises(AssertionError):
        test_six_paths_differ_at_rouge_threshold(1)


def test_texts_are_short() -> None:
    longest = max(
        len(re.findall(r"\d|[a-zA-Z]+|[^\sa-zA-Z\d]", text))
        for problem in problems(2, 200)
        for text in problem.solutions()
    )
    assert longest <= 70
