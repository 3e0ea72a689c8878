"""Classes that the data state: the label of each known solution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem


class KnownPaths(SolutionClasses):
    """The labels of a problem's known solutions, compared up to white space; other completions belong to no class."""

    @property
    def name(self) -> str:
        return "known_paths"

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """The label of each completion that is a known solution.

        Raises:
            ValueError: the data do not know the solutions of the problem.
        """
        known = problem.solution_set
        if known is None:
            raise ValueError(
                f"problem {problem.id!r} has no known set of solutions, which KnownPaths reads: use EquationClasses or "
                "other classes of texts"
            )
        return paths_of(completions, known)


def paths_of(completions: Iterable[str], solution_set: Mapping[str, str]) -> list[str | None]:
    """The path of each completion that is a text of the set, up to white space; None for others.

    Args:
        completions: texts.
        solution_set: every correct completion of a problem, mapped to the label of its path.
    """
    paths = {" ".join(text.split()): path for text, path in solution_set.items()}
    return [paths.get(" ".join(text.split())) for text in completions]
