"""Answers that only algebra tells apart: two math-verify workers beside one, and beside math-verify called directly.

Where one pair is stuck, ours give it its limit of 2 s, and math-verify alone its own of 5 s.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

from benchmarks.frame.machine import needs_package
from benchmarks.frame.row import Contest, Options, Row, Way
from lightning_gfn.answers import are_equivalent, equivalence
from lightning_gfn.answers.checker import MathVerifyChecker

Pair = tuple[str, str]
PAIRS = 60
FORMS = (
    (r"(x+{n})^2", r"x^2+{m}x+{n}^2"),
    (r"\frac{{x^2-{n}^2}}{{x-{n}}}", r"x+{n}"),
    (r"\sqrt{{{n}}}+{n}\pi", r"{m}\pi+\sqrt{{{n}}}"),
    (r"\left(\frac{{{n}x}}{{7}},\sqrt{{{n}}}\right)", r"\left(\frac{{x}}{{7}}{n},\sqrt{{{n}}}\right)"),
)
TOWER = ("9^{9^{9^9}}", "5")


def make_pairs(numbers: itertools.count[int], count: int, stuck: bool) -> list[Pair]:
    """Pairs of equal and of different answers that no rule decides; none comes twice, or caches would answer."""
    chosen = [(FORMS[n % len(FORMS)], n) for n in itertools.islice(numbers, count)]
    pairs = [(predicted.format(n=n), reference.format(n=n, m=2 * n)) for (predicted, reference), n in chosen]
    return [*pairs[:1], TOWER, *pairs[1:]] if stuck else pairs


def by_workers(number: int, stuck: bool) -> Way:
    """The library's function with so many workers, which run already."""
    checker, numbers = MathVerifyChecker(num_workers=number), itertools.count(2)

    def judge(pairs: list[Pair]) -> None:
        equivalence._CHECKER = checker
        equivalence._comparison.cache_clear()
        are_equivalent(pairs)

    warm_up = itertools.count(100_000)
    while len(checker.pids) < number:
        judge(make_pairs(warm_up, 40, stuck=False))
    return Way(lambda: judge(make_pairs(numbers, PAIRS, stuck)), close=checker.close)


def directly(stuck: bool) -> Way:
    """As a user of math-verify would write it."""
    from math_verify import parse, verify

    numbers = itertools.count(2)

    def run() -> None:
        for predicted, reference in make_pairs(numbers, PAIRS, stuck):
            verify(parse(f"${reference}$"), parse(f"${predicted}$"))

    return Way(run)


def contest(peer: Callable[[], Way], name: str, stuck: bool, options: Options) -> Contest:
    """Checks a second of wall-clock time."""
    ours = partial(by_workers, 2, stuck)
    return Contest(ours=ours, peers={name: peer}, amount=PAIRS + stuck, unit="checks")


ROWS = [
    Row(
        name=f"answers_{'stuck_' if stuck else ''}{label}",
        what=f"answer checks by two workers{', one pair stuck' if stuck else ''}",
        build=partial(contest, partial(*peer, stuck), name, stuck),
        meter="wall_seconds",
        needs=[needs_package("math_verify", "pip install math-verify")],
    )
    for stuck in (False, True)
    for label, name, peer in (
        ("one_worker", "one worker", (by_workers, 1)),
        ("math_verify", "math-verify", (directly,)),
    )
]
