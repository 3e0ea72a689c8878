"""Speed of distinct-correct beside the rouge-score package: 8 completions a problem, all correct, one thread.

Usage: ``python benchmarks/distinct_correct.py [--problems 200] [--output FILE.json]``. Both sides count greedily in
generation order at ROUGE-L F1 0.7 and must agree on every problem that both see; rouge-score sees the first few, as it
is slow. Times are CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

COMPLETIONS = 8
THRESHOLD = 0.7
WORDS = (64, 128, 256)
VOCABULARY = [f"word{index}" for index in range(300)]
Number = TypeVar("Number", int, float)


def make_problem(generator: random.Random, num_words: int) -> list[str]:
    """Noisy copies of two texts, so that some pairs lie above the threshold and some below."""
    sources = [generator.choices(VOCABULARY, k=num_words) for _ in range(2)]
    texts = []
    for index in range(COMPLETIONS):
        noise = generator.uniform(0.05, 0.4)
        words = [generator.choice(VOCABULARY) if generator.random() < noise else word for word in sources[index % 2]]
        texts.append(" ".join(words))
    return texts


def count_with_rouge_score() -> Callable[[list[str]], int]:
    """The same greedy count as a user of rouge-score would write it: each pair is scored when it is needed."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)

    def count(texts: list[str]) -> int:
        kept: list[str] = []
        for text in texts:
            if all(scorer.score(other, text)["rougeL"].fmeasure < THRESHOLD for other in kept):
                kept.append(text)
        return len(kept)

    return count


def count_with_ours() -> Callable[[list[str]], int]:
    """The library's function."""
    from lightning_gfn.metrics.functional.estimates import distinct_correct

    return lambda texts: distinct_correct(texts, [True] * len(texts), THRESHOLD)


def milliseconds(
    count: Callable[[list[str]], Number], problems: list[list[str]], repeats: int
) -> tuple[float, list[Number]]:
    """Best CPU time a problem over the repeats, and the results."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        counts = [count(texts) for texts in problems]
        times.append(1e3 * (time.process_time() - started) / len(problems))
    return min(times), counts


def main() -> None:
    """Measure, print the table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=200, help="problems for our side")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    ours, theirs = count_with_ours(), count_with_rouge_score()
    generator = random.Random(0)
    rows = []
    print("words  rouge-score ms  ours ms   ratio  distinct (mean)")
    for num_words in WORDS:
        problems = [make_problem(generator, num_words) for _ in range(arguments.problems)]
        few = problems[: max(1, 640 // num_words)]
        their_time, their_counts = milliseconds(theirs, few, repeats=2)
        our_time, our_counts = milliseconds(ours, problems, repeats=3)
        if our_counts[: len(few)] != their_counts:
            raise SystemExit(f"counts differ at {num_words} words")
        ratio, mean = their_time / our_time, sum(our_counts) / len(our_counts)
        print(f"{num_words:5d}  {their_time:14.2f}  {our_time:7.3f}  {ratio:6.0f}  {mean:.2f}", flush=True)
        rows.append({"words": num_words, "rouge_score_ms": their_time, "ours_ms": our_time, "ratio": ratio})
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(
            json.dumps({"completions": COMPLETIONS, "threshold": THRESHOLD, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
