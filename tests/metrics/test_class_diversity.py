"""Metrics of classes against enumeration over all subsets, written loops and limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.metrics import ClassDiversity, Coverage, DistinctCorrect, DistinctEquations, PerProblemMetric
from lightning_gfn.metrics.functional.classes import cover_area, cover_at_k, effective_classes, uniform_distance
from lightning_gfn.metrics.functional.estimates import pass_at_k
from lightning_gfn.solution_classes import (
    EquationClasses,
    FunctionClasses,
    KnownPaths,
    RougeClusters,
    SolutionClasses,
)
from lightning_gfn.types import EvalRecord, Problem


def record(texts: Sequence[str], correct: Sequence[bool], problem: Problem | None = None) -> EvalRecord:
    count = len(texts)
    return EvalRecord(
        problem=problem if problem is not None else Problem("p", "?", answer="1"),
        temperature=1.0,
        completions=tuple(texts),
        correct=tuple(correct),
        log_probs=(0.0,) * count,
        lengths=(1,) * count,
        entropies=(0.0,) * count,
        truncated=(False,) * count,
    )


def values(metric: PerProblemMetric, taken: EvalRecord) -> dict[str, float]:
    metric.update(taken)
    return metric.per_problem()[taken.problem.id]


def first_letter(completions: list[str]) -> list[str | None]:
    return [text[0] if text[0] != "-" else None for text in completions]


LETTERS = FunctionClasses(first_letter)


def drawn(random: Random, size: int) -> tuple[list[str], list[bool]]:
    texts = ["".join(random.choices("aaabbcd-", k=1)) + str(random.random()) for _ in range(size)]
    return texts, [random.random() < 0.7 for _ in range(size)]


def test_cover_equals_the_mean_over_all_subsets() -> None:
    random = Random(0)
    for size in (1, 2, 3, 5, 8, 9):
        for _ in range(4):
            texts, correct = drawn(random, size)
            found = values(ClassDiversity(LETTERS, ks=range(1, 11)), record(texts, correct))
            area = 0.0
            for k in range(1, size + 1):
                counts = [
                    len({texts[i][0] for i in subset if correct[i]} - {"-"}) for subset in combinations(range(size), k)
                ]
                area += sum(counts) / len(counts)
                assert found[f"cover_at_{k}_first_letter"] == pytest.approx(sum(counts) / len(counts), abs=1e-12)
            assert found["cover_area_first_letter"] == pytest.approx(area / (size * (size + 1) / 2), abs=1e-12)
            assert f"cover_at_{size + 1}_first_letter" not in found
            assert found[f"cover_at_{size}_first_letter"] == found["distinct_classes_first_letter"]


def test_cover_in_its_limits() -> None:
    assert cover_at_k(8, [3], 2) == pass_at_k(8, 3, 2), "one class: pass@k"
    assert cover_area(7, [1] * 7) == pytest.approx(1.0) and cover_area(7, []) == 0.0
    assert cover_area(6, [6]) == pytest.approx(6 / 21), "one class found by every sample: height 1 everywhere"
    assert cover_at_k(64, [16] * 4, 1) == 1.0
    with pytest.raises(ValueError, match="k: must lie between 1 and"):
        cover_at_k(4, [1], 5)


def test_effective_classes_by_a_written_loop_and_limits() -> None:
    random = Random(1)
    for _ in range(20):
        texts, correct = drawn(random, 12)
        found = values(ClassDiversity(LETTERS), record(texts, correct))
        counts = Counter(text[0] for text, right in zip(texts, correct, strict=True) if right and text[0] != "-")
        entropy = 0.0
        for count in counts.values():
            entropy -= count / sum(counts.values()) * math.log(count / sum(counts.values()))
        assert found["distinct_classes_first_letter"] == len(counts)
        assert found["effective_classes_first_letter"] == pytest.approx(math.exp(entropy) if counts else 0.0)
        assert found["effective_classes_first_letter"] <= len(counts) + 1e-12
    assert effective_classes([5, 5, 5]) == pytest.approx(3.0) and effective_classes([9]) == 1.0
    assert effective_classes([10**9, 1]) == pytest.approx(1.0, abs=1e-7) and effective_classes([]) == 0.0


def test_distance_from_equal_shares() -> None:
    known = Problem("k", "?", answer="1", solution_set={"a": "one", "b": "two", "c": "three", "d": "three"})
    texts = ["a", "a", "b", "a", "x", "c"]
    found = values(ClassDiversity(KnownPaths()), record(texts, [True] * 5 + [False], known))
    shares = {"one": 3 / 4, "two": 1 / 4, "three": 0.0}
    assert found["class_total_variation_known_paths"] == pytest.approx(sum(abs(s - 1 / 3) for s in shares.values()) / 2)
    even = values(ClassDiversity(KnownPaths()), record(["a", "b", "d"], [True] * 3, known))
    assert even["class_total_variation_known_paths"] == pytest.approx(0.0, abs=1e-15)
    none = values(ClassDiversity(KnownPaths()), record(["a", "x"], [False, True], known))
    assert "class_total_variation_known_paths" not in none
    assert none["distinct_classes_known_paths"] == 0.0 and none["distinct_classes_known_paths_solved"] == 0.0
    assert uniform_distance(["other"], ["one", "two"]) == 1.0, "a class that is not known has no share to meet"
    assert math.isnan(uniform_distance([], ["one"])) and math.isnan(uniform_distance(["one"], []))


def test_distance_by_other_maps_where_labels_compare() -> None:
    texts = {"1 + 2 = 3": "x", "2 + 1 = 3": "y", "so 1 + 2 = 3": "z"}
    known = Problem("k", "?", answer="3", solution_set=texts)
    found = values(ClassDiversity(EquationClasses("set")), record(["1 + 2 = 3", "1 + 2 = 3"], [True] * 2, known))
    assert found["class_total_variation_equation_sets"] == pytest.approx(0.5), "two known classes"
    clusters = values(ClassDiversity(RougeClusters()), record(["1 + 2 = 3"], [True], known))
    assert "class_total_variation_rouge_0.7_components" not in clusters


def test_problems_without_a_correct_sample_and_unjudged_ones() -> None:
    nothing = values(ClassDiversity(LETTERS), record(["a", "b"], [False, False]))
    assert nothing["distinct_classes_first_letter"] == nothing["effective_classes_first_letter"] == 0.0
    assert nothing["cover_at_2_first_letter"] == nothing["cover_area_first_letter"] == 0.0
    assert not {key for key in nothing if key.endswith("_solved")}
    unjudged = EvalRecord(**{**vars(record(["a"], [False], Problem("u", "?"))), "log_rewards": (0.5,)})
    metric = ClassDiversity(LETTERS)
    assert values(metric, unjudged) == {} and metric.sample_labels(unjudged) == {}


def test_the_older_counts_are_special_cases() -> None:
    random = Random(2)
    words = ["take", "five", "nuts", "then", "add", "three", "more"]
    for _ in range(10):
        texts = [" ".join(random.choices(words, k=5)) + f" {a} + {a} = {2 * a}" for a in random.choices(range(4), k=8)]
        taken = record(texts, [random.random() < 0.8 for _ in texts], Problem("k", "?", answer="1"))
        maps: list[tuple[SolutionClasses, PerProblemMetric, str]] = [
            (EquationClasses("set"), DistinctEquations(), "distinct_equation_sets"),
            (EquationClasses("sequence"), DistinctEquations(), "distinct_equation_sequences"),
            (RougeClusters(0.7, "leaders"), DistinctCorrect((0.7,)), "distinct_correct_rouge_0.7"),
            (RougeClusters(0.5), DistinctCorrect((0.5,), "components"), "distinct_correct_rouge_0.5_components"),
        ]  # fmt: skip
        for classes, older, key in maps:
            assert (
                values(ClassDiversity(classes), taken)[f"distinct_classes_{classes.name}"]
                == (values(older, taken)[key])
            )
    known = Problem("k", "?", answer="1", solution_set={"a": "one", "b": "two", "c": "three"})
    taken = record(["a", "b", "a", "x"], [True] * 4, known)
    found = values(Coverage(), taken)["solution_paths_found"]
    assert values(ClassDiversity(KnownPaths()), taken)["distinct_classes_known_paths"] == found == 2.0


def test_wrong_samples_never_reach_the_map_and_labels_are_made_once() -> None:
    seen: list[list[str]] = []

    def spy(completions: list[str]) -> list[str]:
        seen.append(completions)
        return ["x"] * len(completions)

    metric = ClassDiversity(FunctionClasses(spy))
    taken = record(["a", "b", "c"], [True, False, True])
    metric.update(taken)
    assert metric.sample_labels(taken) == {"spy": ["x", None, "x"]} and seen == [["a", "c"]]


def test_yaml_names_it_and_evaluation_tells_settings_apart() -> None:
    parser = ArgumentParser()
    parser.add_argument("--metrics", type=list[PerProblemMetric])

    def made(threshold: float) -> list[PerProblemMetric]:
        classes = {"class_path": "lightning_gfn.solution_classes.RougeClusters",
                   "init_args": {"threshold": threshold, "tokenizer": "unicode"}}  # fmt: skip
        config: list[Any] = [
            {"class_path": "lightning_gfn.metrics.ClassDiversity", "init_args": {"classes": classes, "ks": [1, 4]}}
        ]
        found: list[PerProblemMetric] = parser.instantiate(parser.parse_object({"metrics": config})).metrics
        return found

    (metric,) = made(0.7)
    assert metric.keys[0] == "distinct_classes_rouge_0.7_components"
    assert "cover_at_4_rouge_0.7_components" in metric.keys and "cover_at_2_rouge_0.7_components" not in metric.keys
    settings = Evaluation(extra_metrics=made(0.7)).metric_settings["extra"]
    assert settings == ["classes rouge_0.7_components, tokenizer unicode, cover at 1, 4"]
    for ks in ([], [0], [2, 2]):
        with pytest.raises(ValueError, match="ks: need different whole numbers"):
            ClassDiversity(LETTERS, ks=ks)
