"""Speed of self-BLEU beside nltk's sentence_bleu: 8 completions a problem, all correct, one thread.

Usage: ``python benchmarks/diversity.py [--problems 200] [--output FILE.json]``. Both sides score each completion
against the other seven with the same tokens, up to 4-grams and smoothing 1, and must agree to 1e-9. Times are CPU
seconds of this process.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

from distinct_correct import COMPLETIONS, WORDS, make_problem, milliseconds

from lightning_gfn.metrics.functional.bleu import bleu_tokens, self_bleu

TOLERANCE = 1e-9


def score_with_nltk() -> Callable[[list[str]], float]:
    """Mean BLEU of each text against the others, as a user of nltk would write it."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smoothing = SmoothingFunction().method1

    def score(texts: list[str]) -> float:
        tokens = [bleu_tokens(text) for text in texts]
        values = [
            sentence_bleu(tokens[:i] + tokens[i + 1 :], words, smoothing_function=smoothing)
            for i, words in enumerate(tokens)
        ]
        return sum(values) / len(values)

    return score


def score_with_ours(texts: list[str]) -> float:
    """The library's function."""
    return float(self_bleu(texts).mean())


def main() -> None:
    """Measure, print the table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=200, help="problems for our side")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    theirs = score_with_nltk()
    generator = random.Random(0)
    rows = []
    print("words  nltk ms  ours ms   ratio  self-BLEU (mean)")
    for num_words in WORDS:
        problems = [make_problem(generator, num_words) for _ in range(arguments.problems)]
        few = problems[: max(1, 2560 // num_words)]
        their_time, their_scores = milliseconds(theirs, few, repeats=2)
        our_time, our_scores = milliseconds(score_with_ours, problems, repeats=3)
        if any(abs(one - other) > TOLERANCE for one, other in zip(our_scores, their_scores, strict=False)):
            raise SystemExit(f"scores differ at {num_words} words")
        ratio, mean = their_time / our_time, sum(our_scores) / len(our_scores)
        print(f"{num_words:5d}  {their_time:7.2f}  {our_time:7.3f}  {ratio:6.1f}  {mean:.3f}", flush=True)
        rows.append({"words": num_words, "nltk_ms": their_time, "ours_ms": our_time, "ratio": ratio})
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"completions": COMPLETIONS, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
