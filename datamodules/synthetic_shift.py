"""Word problems that training on the first family never saw, from mildly to wholly different."""

from __future__ import annotations

from random import Random
from typing import Any

from datamodules.generators.generated import GeneratedProblem, GeneratedProblems
from datamodules.generators.shift_grammar import FAMILY


class ShiftedWordProblems(GeneratedProblems):
    """A second test set for models trained on ``SyntheticWordProblems``, and a harder task to train larger ones on.

    Level 1 asks the first family's first level in other words, level 2 with other containers and larger numbers;
    both are solved by the paths of the first family. Levels 3, 4 and 5 are comparisons, rates and ages of three to five
    operations: three plans, each told in six voices. The numbers decide the split by the rule of the first family, so
    no training problem of either family is a test problem of the other under any change of words.

    Args:
        levels: share of each level: 1 reworded, 2 enlarged, 3 comparison, 4 rate, 5 age; level 1 alone by default.
        settings: arguments of ``GeneratedProblems``.

    Raises:
        ValueError: a level does not exist, shares are not positive, or a level has too few different problems.
    """

    id_prefix = "shift"
    known_levels = tuple(FAMILY)

    def __init__(self, *, levels: dict[int, float] | None = None, **settings: Any) -> None:
        super().__init__(levels=levels if levels is not None else {1: 1.0}, **settings)

    def sample(self, random: Random, level: int) -> GeneratedProblem:
        """Draw a problem of a level."""
        return FAMILY[level](random)
