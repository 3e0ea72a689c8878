"""Answer checks a second: math-verify called directly, ours with one worker, ours with two.

Usage: ``python benchmarks/answer_checks.py [--repeats 5] [--pairs 100] [--output FILE.json]``. No rule decides a pair,
and none is asked twice. In the second row one tower of powers stands among the pairs: ours give it its limit of 2 s,
math-verify alone its own of 5 s. Wall-clock time of an idle machine with two cores, workers running, the ways taken in
turn; ratios are those of one run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_gfn.answers import are_equivalent, equivalence
from lightning_gfn.answers.checker import MathVerifyChecker

Pair = tuple[str, str]
Way = Callable[[list[Pair]], list[bool]]
FORMS = (
    (r"(x+{n})^2", r"x^2+{m}x+{n}^2"),
    (r"\frac{{x^2-{n}^2}}{{x-{n}}}", r"x+{n}"),
    (r"\sqrt{{{n}}}+{n}\pi", r"{m}\pi+\sqrt{{{n}}}"),
    (r"\left(\frac{{{n}x}}{{7}},\sqrt{{{n}}}\right)", r"\left(\frac{{x}}{{7}}{n},\sqrt{{{n}}}\right)"),
)
TOWER = ("9^{9^{9^9}}", "5")


def make_pairs(numbers: itertools.count[int], count: int, stuck: bool) -> list[Pair]:
    """Pairs of equal and of different answers that only algebra tells apart."""
    chosen = [(FORMS[n % len(FORMS)], n) for n in itertools.islice(numbers, count)]
    pairs = [(predicted.format(n=n), reference.format(n=n, m=2 * n)) for (predicted, reference), n in chosen]
    return [*pairs[:1], TOWER, *pairs[1:]] if stuck else pairs


def by_workers(number: int) -> Way:
    """The library's function with so many workers."""
    checker = MathVerifyChecker(num_workers=number)

    def judge(pairs: list[Pair]) -> list[bool]:
        equivalence._CHECKER = checker
        equivalence._comparison.cache_clear()
        return are_equivalent(pairs)

    warm_up = itertools.count(100_000)
    while len(checker.pids) < number:
        judge(make_pairs(warm_up, 40, stuck=False))
    return judge


def directly() -> Way:
    """As a user of math-verify would write it."""
    from math_verify import parse, verify

    def judge(pairs: list[Pair]) -> list[bool]:
        return [verify(parse(f"${reference}$"), parse(f"${predicted}$")) for predicted, reference in pairs]

    return judge


def measure(ways: dict[str, Way], stuck: bool, pairs: int, repeats: int) -> dict[str, Any]:
    """Median checks a second of each way, and the ratios to the first one with their ranges."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    # A way sees numbers that it has not seen, or SymPy's caches would answer.
    numbers = {name: itertools.count(2) for name in ways}
    for repeat in range(repeats + 1):
        verdicts = {}
        for name, way in ways.items():
            asked = make_pairs(numbers[name], pairs, stuck)
            started = time.perf_counter()
            verdicts[name] = way(asked)
            if repeat > 0:
                rates[name].append(len(asked) / (time.perf_counter() - started))
        ours = [found for name, found in verdicts.items() if name != "math-verify"]
        if any(found != ours[0] for found in ours):
            raise SystemExit("one worker and two disagree: the comparison is void")
    one = rates["1 worker"]
    return {
        "stuck": stuck,
        "checks_per_second": {name: statistics.median(found) for name, found in rates.items()},
        "two_to_one": statistics.median(two / alone for two, alone in zip(rates["2 workers"], one, strict=True)),
        "two_to_direct": statistics.median(
            two / alone for two, alone in zip(rates["2 workers"], rates["math-verify"], strict=True)
        ),
    }


def main() -> None:
    """Measure, print the table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each way, after one warm-up")
    parser.add_argument("--pairs", type=int, default=100, help="pairs in a run")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    ways = {"math-verify": directly(), "1 worker": by_workers(1), "2 workers": by_workers(2)}
    rows = [measure(ways, stuck, arguments.pairs, arguments.repeats) for stuck in (False, True)]
    print(f"checks/s  {'  '.join(ways)}  2 workers to 1  2 workers to math-verify")
    for row in rows:
        rates = "  ".join(f"{row['checks_per_second'][name]:{len(name)}.0f}" for name in ways)
        label = "stuck" if row["stuck"] else "plain"
        print(f"{label:8}  {rates}  {row['two_to_one']:14.2f}  {row['two_to_direct']:24.2f}")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"cores": len(os.sched_getaffinity(0)), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
