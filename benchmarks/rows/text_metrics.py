"""Distinct-correct beside rouge-score and self-BLEU beside nltk, of completions that are all correct.

Both sides must agree on every problem that both see; the peers see the first few, as they are slow, and all figures are
of one problem.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

from benchmarks.frame.machine import needs_package
from benchmarks.frame.row import Contest, Options, Row, Seconds, Target, Way
from benchmarks.peers.text_metrics import count_with_rouge_score, score_with_nltk
from lightning_gfn.metrics.functional.bleu import bleu_tokens, self_bleu
from lightning_gfn.metrics.functional.estimates import distinct_correct

THRESHOLD, TOLERANCE = 0.7, 1e-9
WORDS = (64, 128, 256)
VOCABULARY = [f"word{index}" for index in range(300)]


def make_problem(generator: random.Random, num_words: int, completions: int) -> list[str]:
    """Noisy copies of two texts, so that some pairs lie above the threshold and some below."""
    sources = [generator.choices(VOCABULARY, k=num_words) for _ in range(2)]
    texts = []
    for index in range(completions):
        noise = generator.uniform(0.05, 0.4)
        words = [generator.choice(VOCABULARY) if generator.random() < noise else word for word in sources[index % 2]]
        texts.append(" ".join(words))
    return texts


def for_each(problems: list[list[str]], value: Callable[[list[str]], float]) -> Way:
    """Processor seconds of one problem."""

    def run() -> Seconds:
        started = time.process_time()
        for texts in problems:
            value(texts)
        return Seconds((time.process_time() - started) / len(problems))

    return Way(run)


def contest(
    ours: Callable[[list[str]], float],
    peer: Callable[[list[str]], float],
    name: str,
    sizes: tuple[int, int, int, int],
) -> Contest:
    """Both sides, after a check that they agree.

    Args:
        ours: value of one problem.
        peer: the same.
        name: of the peer.
        sizes: words of a completion, completions of a problem, problems for us, problems for the peer.
    """
    num_words, completions, many, few = sizes
    generator = random.Random(0)
    problems = [make_problem(generator, num_words, completions) for _ in range(many)]
    if any(abs(ours(texts) - peer(texts)) > TOLERANCE for texts in problems[:few]):
        raise RuntimeError(f"ours and {name} differ at {num_words} words: the comparison is void")
    return Contest(ours=lambda: for_each(problems, ours), peers={name: lambda: for_each(problems[:few], peer)})


def distinct(num_words: int, options: Options) -> Contest:
    """16 samples; 1,000 problems for us, as many as take seconds for the peer."""

    def ours(texts: list[str]) -> float:
        return float(distinct_correct(texts, [True] * len(texts), THRESHOLD))

    few = max(1, 256 // num_words)
    return contest(ours, count_with_rouge_score(THRESHOLD), "rouge-score", (num_words, 16, 1000, few))


def bleu(num_words: int, options: Options) -> Contest:
    """8 samples; 200 problems for us."""

    def ours(texts: list[str]) -> float:
        return float(self_bleu(texts).mean())

    return contest(ours, score_with_nltk(bleu_tokens), "nltk", (num_words, 8, 200, max(1, 1280 // num_words)))


ROWS = [
    Row(
        name=f"distinct_correct_{num_words}",
        what=f"distinct-correct, 16 samples of {num_words} words (1,000 problems for us), time of a problem",
        build=partial(distinct, num_words),
        target=Target(ratio=200.0),
        rounds=2,
        needs=[needs_package("rouge_score", "pip install rouge-score")],
        by_name_only=num_words == 256,
    )
    for num_words in WORDS
] + [
    Row(
        name=f"self_bleu_{num_words}",
        what=f"self-BLEU, 8 samples of {num_words} words, time of a problem",
        build=partial(bleu, num_words),
        rounds=2,
        needs=[needs_package("nltk", "pip install nltk")],
        by_name_only=num_words != 128,
    )
    for num_words in WORDS
]
