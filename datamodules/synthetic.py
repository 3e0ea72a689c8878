"""Grade-school word problems made from a seed, each with all of its solutions."""

from __future__ import annotations

from random import Random
from typing import Any

from datamodules.generators.generated import GeneratedProblems
from datamodules.generators.synthetic_grammar import LEVELS, WordProblem, sample_problem


class SyntheticWordProblems(GeneratedProblems):
    """Sums of products in words, in MetaMath's format, with up to twelve correct solution paths a problem.

    A path is one of six styles (operations in sentences, a story, an equation, skip counting, undoing, place values)
    in one of two directions. The numbers of a problem decide its split, so training, validation and test share no
    problem under any change of names, things or order; problems of validation and test all differ in their numbers.

    Args:
        levels: share of each level of difficulty: 1, 2 and 3 have two, three and four summands, 4 and 5 four and
            five larger ones; half 1 and half 2 by default.
        settings: arguments of ``GeneratedProblems``.

    Raises:
        ValueError: a level does not exist, shares are not positive, or a level has too few different problems.
    """

    id_prefix = "synthetic"
    known_levels = tuple(LEVELS)

    def __init__(self, *, levels: dict[int, float] | None = None, **settings: Any) -> None:
        super().__init__(levels=levels if levels is not None else {1: 0.5, 2: 0.5}, **settings)

    def sample(self, random: Random, level: int) -> WordProblem:
        """Draw a sum of products."""
        return sample_problem(random, level)
