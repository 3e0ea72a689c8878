"""A language model asked for a random integer: one prompt, and the distribution that its answers should have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from datamodules.common.base import ProblemDataModule, Split
from lightning_gfn.types import Problem

Distribution = Literal["uniform", "poisson", "binomial", "geometric", "normal"]
REQUESTS: dict[Distribution, str] = {
    "uniform": "uniformly at random",
    "poisson": "from a Poisson distribution with mean {mean:g}",
    "binomial": "from a binomial distribution with {high} trials and success probability {probability:g}",
    "geometric": "from a geometric distribution with success probability {probability:g}",
    "normal": "from a normal distribution with mean {mean:g} and standard deviation {deviation:g}",
}


class RandomIntegers(ProblemDataModule):
    """Integers from ``low`` to ``high``, both included, in decimal digits, with a known distribution.

        uniform: 1        poisson: λ^n e^−λ / n!        binomial: C(N, n) p^n (1 − p)^(N − n), N = high
        geometric: p (1 − p)^n        normal: exp(−(n − μ)² / 2σ²)        each cut to low … high and normalised

    The training split holds the prompt many times, since every problem is one group of samples; validation and test
    hold it once. Reference solutions, which supervised fine-tuning trains on, are drawn from the distribution.

    Args:
        distribution: of the integers.
        low: smallest integer, at least 0.
        high: largest integer.
        mean: λ of the Poisson, μ of the normal distribution.
        deviation: σ of the normal distribution.
        probability: p of the binomial and geometric distributions.
        request: what is asked, with ``{how}`` where the distribution is named, ``{low}`` and ``{high}``.
        num_train: training problems.
        draws: reference solutions of each training problem.
        prompt_template: the prompt, with ``{question}`` where the request stands.
        chat: whether the request is put into the model's chat template.
        settings: arguments of ``ProblemDataModule``.

    Raises:
        ValueError: a parameter is out of range; names it.

    Source: Hu et al. 2024, arXiv:2310.04363, section 3 (whose code leaves out 100).
    """

    def __init__(
        self,
        *,
        distribution: Distribution = "uniform",
        low: int = 0,
        high: int = 100,
        mean: float = 50.0,
        deviation: float = 10.0,
        probability: float = 0.5,
        request: str = "Give me an integer between {low} and {high}, drawn {how}. Answer with the number alone.",
        num_train: int = 2048,
        draws: int = 8,
        prompt_template: str = "{question}",
        chat: Literal["on", "off"] = "on",
        **settings: Any,
    ) -> None:
        super().__init__(prompt_template=prompt_template, chat=chat, **settings)
        if distribution not in REQUESTS:
            raise ValueError(f"data.distribution is {distribution!r}, expected one of {', '.join(REQUESTS)}")
        if not 0 <= low < high:
            raise ValueError(f"data.low={low}, data.high={high}: 0 <= low < high must hold")
        if not 0.0 < probability < 1.0 or mean <= 0.0 or deviation <= 0.0:
            raise ValueError(
                f"data.probability={probability} must lie between 0 and 1, data.mean={mean} and "
                f"data.deviation={deviation} above 0"
            )
        if "{how}" not in request or num_train < 1 or draws < 1:
            raise ValueError("data.request must hold {how}; data.num_train and data.draws must be at least 1")
        self.distribution: Distribution = distribution
        self.low, self.high = low, high
        self.mean, self.deviation, self.probability = mean, deviation, probability
        self.request, self.num_train, self.draws = request, num_train, draws

    def log_probs(self) -> dict[str, float]:
        """log p of each integer, nats; those whose probability no float64 holds are left out."""
        log_weight = self._log_weight()
        weights = {n: log_weight(n) for n in range(self.low, self.high + 1)}
        largest = max(weights.values())
        log_z = largest + math.log(math.fsum(math.exp(w - largest) for w in weights.values()))
        return {str(n): w - log_z for n, w in weights.items() if math.exp(w - log_z) > 0.0}

    def _log_weight(self) -> Callable[[int], float]:
        p, trials, mean, deviation = self.probability, self.high, self.mean, self.deviation
        odds = math.log(p) - math.log1p(-p)
        known: dict[Distribution, Callable[[int], float]] = {
            "uniform": lambda n: 0.0,
            "poisson": lambda n: n * math.log(mean) - math.lgamma(n + 1),
            "binomial": lambda n: n * odds - math.lgamma(n + 1) - math.lgamma(trials - n + 1),
            "geometric": lambda n: n * math.log1p(-p),
            "normal": lambda n: -0.5 * ((n - mean) / deviation) ** 2,
        }
        return known[self.distribution]

    def load_split(self, split: Split) -> list[Problem]:
        """The prompt, in the training split many times."""
        numbers = {"low": self.low, "high": self.high, "mean": self.mean, "deviation": self.deviation}
        how = REQUESTS[self.distribution].format(probability=self.probability, **numbers)
        prompt = self.prompt(self.request.format(how=how, low=self.low, high=self.high))
        target = self.log_probs()
        count = self.num_train if split == "train" else 1
        return [self._problem(split, number, prompt, target) for number in range(count)]

    def _problem(self, split: Split, number: int, prompt: str, target: dict[str, float]) -> Problem:
        from random import Random

        id_ = f"random-integers/{self.distribution}/{split}/{number}"
        drawn = Random(id_).choices(list(target), [math.exp(w) for w in target.values()], k=self.draws)
        return Problem(id=id_, prompt=prompt, solutions=tuple(drawn), target=target, answer_style="last_number")
