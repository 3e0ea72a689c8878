"""The tempered mixture against enumeration and sampling; a model's gain over experts."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from lightning_gfn.metrics.experts.transcendence import Transcendence
from lightning_gfn.metrics.functional.mixtures import tempered_by_letter
from lightning_gfn.types import EvalRecord, Problem

MIXTURE = {"55": 0.5, "5": 0.1, "65": 0.25, "67": 0.15}


def by_hand(temperature: float) -> dict[str, float]:
    """Every conditional distribution written out."""

    def share(p: float, *others: float) -> float:
        powers = [value ** (1 / temperature) for value in (p, *others)]
        return powers[0] / sum(powers)

    first_5, first_6 = share(0.6, 0.4), share(0.4, 0.6)
    return {
        "55": first_5 * share(0.5, 0.1),
        "5": first_5 * share(0.1, 0.5),
        "65": first_6 * share(0.25, 0.15),
        "67": first_6 * share(0.15, 0.25),
    }


@pytest.mark.parametrize("temperature", [0.3, 0.75, 1.0, 1.5])
def test_each_letter_is_tempered(temperature: float) -> None:
    found = tempered_by_letter(MIXTURE, temperature)
    assert found == pytest.approx(by_hand(temperature)) and sum(found.values()) == pytest.approx(1.0)


def test_limits_of_the_temperature() -> None:
    assert tempered_by_letter(MIXTURE, 1.0) == pytest.approx(MIXTURE)
    cold = tempered_by_letter(MIXTURE, 0.001)
    assert cold["55"] == pytest.approx(1.0)
    tied = tempered_by_letter({"1": 0.5, "2": 0.5}, 0.001)
    assert tied == pytest.approx({"1": 0.5, "2": 0.5})
    hot = tempered_by_letter({"1": 0.9, "2": 0.1}, 1e9)
    assert hot == pytest.approx({"1": 0.5, "2": 0.5}, abs=1e-6)


def test_letters_compete_and_not_completions() -> None:
    # 2x is the most probable completion, but most completions begin with 1.
    found = tempered_by_letter({"1a": 0.3, "1b": 0.3, "2x": 0.4}, 0.001)
    assert found.get("2x", 0.0) == pytest.approx(0.0) and found["1a"] == pytest.approx(0.5)


def test_sampling_letter_by_letter_gives_these_shares() -> None:
    random, counts, draws = Random(0), dict.fromkeys(MIXTURE, 0), 20_000
    for _ in range(draws):
        prefix = ""
        while True:
            weights: dict[str, float] = {}
            for text, p in MIXTURE.items():
                if text.startswith(prefix):
                    letter = text[len(prefix) : len(prefix) + 1]
                    weights[letter] = weights.get(letter, 0.0) + p
            letter = random.choices(list(weights), [w**2 for w in weights.values()])[0]
            if not letter:
                break
            prefix += letter
        counts[prefix] += 1
    for text, q in tempered_by_letter(MIXTURE, 0.5).items():
        assert counts[text] / draws == pytest.approx(q, abs=4 * math.sqrt(q * (1 - q) / draws))


@pytest.mark.parametrize(
    ("mixture", "temperature"), [({"1": 1.0}, 0.0), ({"1": -0.1, "2": 1.1}, 1.0), ({"1": 0.0}, 1.0)]
)
def test_bad_arguments_are_named(mixture: dict[str, float], temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature=0" if temperature == 0 else "mixture must hold"):
        tempered_by_letter(mixture, temperature)


def record(correct: tuple[bool, ...], temperature: float, **experts: Any) -> EvalRecord:
    problem = Problem("p", "9+1=", answer="01", metadata={"experts": experts} if experts else {})
    count = len(correct)
    texts = tuple("01" if right else "9" for right in correct)
    return EvalRecord(
        problem, temperature, texts, correct, (0.0,) * count, (1,) * count, (0.0,) * count, (False,) * count
    )


def test_the_gain_is_that_over_the_best_expert() -> None:
    mixture = {"01": 0.6, "11": 0.4}
    metric = Transcendence()
    metric.update(record((True, True, True, False), 0.5, mixture=mixture, best=0.7, mean=0.6))
    found = {key: float(value) for key, value in metric.compute().items()}
    expected = {"gain_over_best_expert": 0.05, "best_expert": 0.7, "mean_expert": 0.6}
    assert found == pytest.approx({**expected, "imitator_solve_rate": 0.36 / (0.36 + 0.16)})


def test_several_right_completions_count_together() -> None:
    metric = Transcendence()
    metric.update(record((True,), 1.0, mixture={"01": 0.2, "1": 0.3, "2": 0.5}, best=1.0, mean=0.5, right=("01", "1")))
    assert float(metric.compute()["imitator_solve_rate"]) == pytest.approx(0.5)


def test_problems_without_experts_have_no_values() -> None:
    metric = Transcendence()
    metric.update(record((True,), 1.0))
    assert metric.compute() == {}
