"""Final answers of mathematical solutions: extraction from text, and equality of two answers."""

from lightning_gfn.answers.equivalence import checker_counters, is_equivalent
from lightning_gfn.answers.extraction import extract_answer, first_answer_position
from lightning_gfn.answers.normalisation import canonical_answer

__all__ = ["canonical_answer", "checker_counters", "extract_answer", "first_answer_position", "is_equivalent"]
