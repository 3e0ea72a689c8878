"""Many pairs at once: the verdicts of one after the other, no process where none was needed, and no waiting."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_gfn.answers import are_equivalent, checker_counters, equivalence, is_equivalent
from lightning_gfn.answers.checker import MathVerifyChecker

FIXTURE = Path(__file__).parents[1] / "fixtures" / "answers" / "pairs.txt"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "answers" / "pairs.jsonl"
TOWERS = [("9^{9^{9^9}}", "5"), ("8^{9^{9^9}}", "5")]
Pair = tuple[str | None, str | None]


def corpus() -> list[Pair]:
    """All pairs of the corpora, right and wrong ones."""
    rows = [
        line.strip() for line in FIXTURE.read_text(encoding="utf-8").splitlines() if " == " in line or " != " in line
    ]
    halves = [row.partition(" == " if " == " in row else " != ") for row in rows]
    pairs: list[Pair] = [(predicted, reference) for predicted, _, reference in halves]
    if SHARED.is_file():
        found = map(json.loads, SHARED.read_text(encoding="utf-8").splitlines())
        pairs += [(row["predicted"], row["reference"]) for row in found]
    assert len(pairs) > 1000
    return pairs


@pytest.fixture
def checkers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[MathVerifyChecker]]:
    """One process, then three; each begins without a verdict."""
    # The limit is that of a thought, not of a busy machine.
    made = [MathVerifyChecker(time_limit=30.0, num_workers=number) for number in (1, 3)]
    yield made
    for checker in made:
        checker.close()


def use(checker: MathVerifyChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "_CHECKER", checker)
    equivalence._comparison.cache_clear()


def test_verdicts_are_those_of_one_process_on_every_corpus(
    checkers: list[MathVerifyChecker], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = corpus()
    use(checkers[0], monkeypatch)
    expected = [is_equivalent(*pair) for pair in pairs]
    order = list(range(len(pairs)))
    random.Random(0).shuffle(order)
    use(checkers[1], monkeypatch)
    found: dict[int, bool] = {}
    while len(found) < len(order):
        batch = order[len(found) : len(found) + 97]
        found.update(zip(batch, are_equivalent([pairs[index] for index in batch]), strict=True))
    assert [found[index] for index in range(len(pairs))] == expected
    assert {True, False} == set(expected)
    assert checkers[0].counters == checkers[1].counters and checkers[0].counters.checks > 100


def test_random_neighbours_are_judged_alike(checkers: list[MathVerifyChecker], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = random.Random(1)
    texts = [text for pair in corpus() for text in pair]
    pairs: list[Pair] = [(generator.choice(texts), generator.choice(texts)) for _ in range(150)]
    for index in range(0, 150, 3):
        pairs[index] = (f"{pairs[index][0]} + {index}", f"{index} + {pairs[index][0]}")
    pairs += [(None, "5"), ("5", None), ("", "5"), ("27", "B) 27"), ("x+1", "C) 1+x"), pairs[0], pairs[1]]
    verdicts = []
    for checker in checkers:
        use(checker, monkeypatch)
        verdicts.append([is_equivalent(*pair) for pair in pairs] if checker is checkers[0] else are_equivalent(pairs))
    assert verdicts[0] == verdicts[1]
    assert sum(verdicts[0]) > 10 and not all(verdicts[0])


def test_no_process_where_the_rules_decide(checkers: list[MathVerifyChecker], monkeypatch: pytest.MonkeyPatch) -> None:
    use(checkers[1], monkeypatch)
    monkeypatch.setattr(equivalence, "ThreadPoolExecutor", None)
    easy = [("17", "18"), ("1,200", "1200"), ("1/2", "0.5"), ("$5", "5"), ("(1,2)", "(1, 2)"), (None, "3"), ("x", "x")]
    assert are_equivalent(easy) == [False, True, True, True, True, False, True]
    assert are_equivalent([]) == []
    assert are_equivalent([*easy, ("x+1", "1+x")])[-1], "one hard pair needs no thread"
    assert checkers[1].counters.checks == 1 and len(checkers[1].pids) == 1


def test_equal_pairs_are_asked_once(checkers: list[MathVerifyChecker], monkeypatch: pytest.MonkeyPatch) -> None:
    use(checkers[1], monkeypatch)
    pairs = [("x+1", "1+x"), ("x+2", "1+x")] * 8
    assert are_equivalent(pairs) == [True, False] * 8
    assert checkers[1].counters.checks == 2


def test_stuck_pairs_are_wrong_and_the_others_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = MathVerifyChecker(time_limit=3.0, num_workers=2)
    use(checker, monkeypatch)
    others = [(f"x+{number}", f"{number + number % 2}+x") for number in range(20)]
    verdicts = are_equivalent([TOWERS[0], *others, TOWERS[1]])
    assert verdicts == [False, *(number % 2 == 0 for number in range(20)), False]
    assert checker.counters.timeouts == 2 and checker.counters.checks == 22
    checker.close()


def test_one_deadline_holds_in_each_pair_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = MathVerifyChecker(time_limit=1.0, num_workers=2)
    use(checker, monkeypatch)
    parts = ", ".join(f"8^{{9^{{{n}}}}}" for n in range(20))
    long = [(", ".join(f"9^{{9^{{9^{{{low + n}}}}}}}" for n in range(20)), parts) for low in (2, 30)]
    assert are_equivalent(long) == [False, False]
    assert checker.counters.timeouts == 2, "each has twenty parts, and the first took all its time"
    checker.close()


def test_a_checker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    use(MathVerifyChecker(memory_limit=30 * 2**20, num_workers=2), monkeypatch)
    with pytest.raises(RuntimeError, match="memory limit is|math-verify"):
        are_equivalent([("x+1", "1+x"), ("x+2", "2+x")])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_checks_side_by_side(checkers: list[MathVerifyChecker], monkeypatch: pytest.MonkeyPatch) -> None:
    use(checkers[1], monkeypatch)
    pairs = [(f"x+{number}", f"{number}+x") for number in range(8)]
    assert all(are_equivalent(pairs))
    before = checkers[1].pids
    child = os.fork()
    if child == 0:
        equivalence._comparison.cache_clear()
        right = checkers[1].pids == [] and all(are_equivalent(pairs)) and not set(before) & set(checkers[1].pids)
        checkers[1].close()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    equivalence._comparison.cache_clear()
    assert all(are_equivalent(pairs)) and checkers[1].pids == before


def test_counters_are_those_of_the_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = MathVerifyChecker(num_workers=2)
    use(checker, monkeypatch)
    assert not are_equivalent([("1" * 1_000_000, "18")])[0]
    assert checker_counters()["oversized"] == 1
