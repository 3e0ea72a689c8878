"""Final answers of mathematical solutions: extraction from text, and equality of two answers."""

from lightning_gfn.answers.equivalence import are_equivalent, checker_counters, is_equivalent
from lightning_gfn.answers.extraction import (
    answer_place,
    check_style,
    extract_answer,
    first_answer_position,
    reference_answer,
)
from lightning_gfn.answers.normalisation import canonical_answer

__all__ = [
    "answer_place",
    "are_equivalent",
    "canonical_answer",
    "check_style",
    "checker_counters",
    "extract_answer",
    "first_answer_position",
    "is_equivalent",
    "reference_answer",
]
