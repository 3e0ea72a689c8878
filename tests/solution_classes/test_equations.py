"""Classes of equal equations."""

from __future__ import annotations

import pytest

from lightning_gfn.solution_classes.equations import EquationClasses
from lightning_gfn.solution_classes.known_paths import KnownPaths
from lightning_gfn.types import Problem

PROBLEM = Problem("p", "x", solution_set={"one": "a/forward", "two": "b/forward"})


def test_order_and_repetition_count_in_sequences_alone() -> None:
    texts = ["2 + 3 = 5, 5 * 2 = 10", "5 x 2 = 10. Before: 2+3 = 5.", "2+3=5. 5*2=10. 2+3=5", "no numbers", "2+3=6"]
    assert EquationClasses("set").labels(PROBLEM, texts) == ["2+3=5; 5*2=10"] * 3 + ["", "2+3=6"]
    found = EquationClasses("sequence").labels(PROBLEM, texts)
    assert found[:3] == ["2+3=5; 5*2=10", "5*2=10; 2+3=5", "2+3=5; 5*2=10; 2+3=5"]


def test_false_equations_and_none_at_all_are_no_class_if_asked() -> None:
    texts = ["2+3=5", "2+3=6", "2+3=5. 5*2=11", "none", "x - 9 - 18 = 21"]
    assert EquationClasses(only_true=True).labels(PROBLEM, texts) == ["2+3=5", None, None, None, "x-9-18=21"]


def test_known_paths_are_the_labels_of_the_data() -> None:
    assert KnownPaths().labels(PROBLEM, ["two ", "three", "one"]) == ["b/forward", None, "a/forward"]
    with pytest.raises(ValueError, match=r"'q' has no known set of solutions, which KnownPaths reads"):
        KnownPaths().labels(Problem("q", "x"), ["one"])
    with pytest.raises(ValueError, match=r"order: unknown choice 'sets'"):
        EquationClasses("sets")  # type: ignore[arg-type]
