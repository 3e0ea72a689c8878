"""How close a text comes to reference texts: BLEU and GLEU by nltk, BERTScore over given token vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_gfn.metrics.functional.bleu import EPSILON, ORDER, bleu_tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray


def bleu(text: str, references: Sequence[str]) -> float:
    """BLEU-4 of a text, smoothed as ``self_bleu`` is, in [0, 1].

    Args:
        text: what was produced.
        references: texts that would be right, at least one; the closest one in length sets the brevity penalty.

    Source: nltk's ``sentence_bleu``; Papineni et al. 2002; Chen and Cherry 2014, smoothing 1.
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    return float(
        sentence_bleu(
            [bleu_tokens(reference) for reference in references],
            bleu_tokens(text),
            weights=(1.0 / ORDER,) * ORDER,
            smoothing_function=SmoothingFunction(epsilon=EPSILON).method1,
        )
    )


def gleu(text: str, references: Sequence[str]) -> float:
    """GLEU-4 of a text: the smaller of precision and recall of all 1- to 4-grams, of the best reference, in [0, 1].

    Args:
        text: what was produced.
        references: texts that would be right, at least one.

    Source: nltk's ``sentence_gleu``; Wu et al. 2016, arXiv:1609.08144, section 4.4.
    """
    from nltk.translate.gleu_score import sentence_gleu

    return float(sentence_gleu([bleu_tokens(reference) for reference in references], bleu_tokens(text), 1, ORDER))


def greedy_matching(
    text_TH: NDArray[np.float64], references: Sequence[NDArray[np.float64]]
) -> tuple[float, float, float]:
    """BERTScore of a text: precision, recall and F1, each of the reference where it is largest.

        P = mean_t max_r e_t · e_r,   R = mean_r max_t e_t · e_r,   F1 = 2PR / (P + R)

    Args:
        text_TH: unit vectors of the T tokens of the text.
        references: those of each reference, at least one.

    Returns:
        P, R and F1 without rescaling; 0 where either text has no token.

    Source: Zhang et al. 2020, arXiv:1904.09675, section 3 (no weighting by inverse document frequency).
    """
    found = []
    for reference_RH in references:
        if not len(text_TH) or not len(reference_RH):
            found.append((0.0, 0.0, 0.0))
            continue
        cosine_TR = text_TH @ reference_RH.T
        precision, recall = float(cosine_TR.max(1).mean()), float(cosine_TR.max(0).mean())
        both = precision + recall
        found.append((precision, recall, 2.0 * precision * recall / both if both > 0.0 else 0.0))
    precisions, recalls, scores = zip(*found, strict=True)
    return max(precisions), max(recalls), max(scores)
