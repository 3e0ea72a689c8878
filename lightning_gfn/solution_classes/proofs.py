"""Classes of proofs: by the first tactic, by the lemmas that they use, by the tactics in order."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_gfn.similarity.tactic_scripts import head_words, lemma_names, normal_script
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem


class FirstTactic(SolutionClasses):
    """Proofs that begin with the same tactic; an empty script belongs to no class.

    Args:
        whole: compare the whole first tactic, names that it introduces renamed, and not its first word alone.
    """

    def __init__(self, whole: bool = False) -> None:
        self.whole = whole

    @property
    def name(self) -> str:
        return "whole_first_tactics" if self.whole else "first_tactics"

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """The first tactic of each script, or its first word."""
        scripts = [normal_script([text], rename=self.whole) for text in completions]
        return [(script[0] if self.whole else head_words(script[:1])[0]) if script else None for script in scripts]


class LemmaSets(SolutionClasses):
    """Proofs that take the same names from the library: lemmas, constructors, definitions, in any order and number.

    ``similarity.tactic_scripts.lemma_names`` says how they are read from the text; proofs without any are one class,
    with the empty label.
    """

    @property
    def name(self) -> str:
        return "lemma_sets"

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """The names of each script, sorted."""
        statement = problem.theorem.statement if problem.theorem is not None else ""
        return [", ".join(sorted(lemma_names([text], statement))) for text in completions]


class ScriptSkeleton(SolutionClasses):
    """Proofs with the same tactics in the same order, whatever their arguments."""

    @property
    def name(self) -> str:
        return "script_skeletons"

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """The first words of each script's tactics, joined by semicolons."""
        return ["; ".join(head_words([text])) for text in completions]
