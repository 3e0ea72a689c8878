"""Distributions over integers against scipy, and what the splits hold."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from scipy import stats

from datamodules.inference.random_integers import RandomIntegers

CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "uniform": ({}, stats.randint(0, 101)),
    "poisson": ({"mean": 30.0}, stats.poisson(30.0)),
    "binomial": ({"probability": 0.3}, stats.binom(100, 0.3)),
    "geometric": ({"probability": 0.1}, stats.geom(0.1, loc=-1)),
}


@pytest.mark.parametrize("name", CASES)
def test_probabilities_are_those_of_scipy(name: str) -> None:
    settings, known = CASES[name]
    found = RandomIntegers(distribution=name, **settings).log_probs()  # type: ignore[arg-type]
    numbers = np.arange(101)
    expected = known.pmf(numbers) / known.pmf(numbers).sum()
    assert list(found) == [str(n) for n in numbers]
    np.testing.assert_allclose(np.exp(list(found.values())), expected, atol=1e-12)


def test_the_normal_distribution_is_cut_to_the_range() -> None:
    found = RandomIntegers(distribution="normal", low=10, high=20, mean=14.0, deviation=2.0).log_probs()
    assert sum(map(math.exp, found.values())) == pytest.approx(1.0)
    assert found["14"] - found["16"] == pytest.approx(0.5) and set(found) == {str(n) for n in range(10, 21)}


def test_training_repeats_the_prompt_and_draws_solutions_from_the_target() -> None:
    data = RandomIntegers(distribution="geometric", probability=0.5, num_train=2000, draws=4)
    train, test = data.problems("train"), data.problems("test")
    assert len({problem.id for problem in train}) == 2000 and len({str(p.prompt) for p in train}) == 1
    assert len(test) == 1 and test[0].target == train[0].target == data.log_probs()
    counts = Counter(solution for problem in train for solution in problem.solutions)
    assert counts["0"] / 8000 == pytest.approx(0.5, abs=0.03) and counts["1"] / 8000 == pytest.approx(0.25, abs=0.03)
    assert "success probability 0.5" in str(test[0].prompt)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"distribution": "cauchy"}, "expected one of uniform"),
        ({"low": 5, "high": 5}, "low < high"),
        ({"probability": 1.0}, "probability=1.0"),
        ({"request": "a number"}, "hold {how}"),
    ],
)
def test_parameters_out_of_range_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RandomIntegers(**settings)


@pytest.mark.parametrize("chat", ["on", "off"])
def test_the_request_is_the_whole_prompt_also_when_made_from_yaml(chat: str) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(RandomIntegers, "data")
    data = parser.instantiate_classes(parser.parse_args(["--data.chat", chat, "--data.request", "One, {how}: "])).data
    prompt = data.load_split("test")[0].prompt
    text = prompt if chat == "off" else prompt.messages[0].content
    assert text == "One, uniformly at random: "
