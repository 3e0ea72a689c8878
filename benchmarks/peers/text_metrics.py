"""Metrics of sets of texts as users of rouge-score and nltk write them."""

from __future__ import annotations

from collections.abc import Callable


def count_with_rouge_score(threshold: float) -> Callable[[list[str]], float]:
    """Greedy count of distinct texts in their order: each pair is scored when it is needed."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)

    def count(texts: list[str]) -> float:
        kept: list[str] = []
        for text in texts:
            if all(scorer.score(other, text)["rougeL"].fmeasure < threshold for other in kept):
                kept.append(text)
        return float(len(kept))

    return count


def score_with_nltk(tokenise: Callable[[str], list[str]]) -> Callable[[list[str]], float]:
    """Mean BLEU of each text against the others, up to 4-grams, smoothing 1."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smoothing = SmoothingFunction().method1

    def score(texts: list[str]) -> float:
        tokens = [tokenise(text) for text in texts]
        values = [
            sentence_bleu(tokens[:i] + tokens[i + 1 :], words, smoothing_function=smoothing)
            for i, words in enumerate(tokens)
        ]
        return sum(values) / len(values)

    return score
