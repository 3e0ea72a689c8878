from __future__ import annotations

import math
import random
from collections import Counter

import numpy
import pytest

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.types import Step, Trajectory


def filled(sampling: str, **settings) -> ReplayBuffer:
    """Six trajectories of problem p with rewards and births out of order, one of q."""
    buffer = ReplayBuffer(sampling=sampling, **settings)
    data = [(-3.0, 40), (-1.0, 10), (-2.0, 0), (0.5, 25), (-1000.0, 50), (-1.5, 5)]
    buffer.add(Trajectory("p", (Step((1,), (i,)),), str(i), {}, reward, born) for i, (reward, born) in enumerate(data))
    buffer.add([Trajectory("q", (Step((1,), (9,)),), "q", {}, 3.0, 100)])
    return buffer


def expected_shares(sampling: str, temperature: float, half_life: float) -> list[float]:
    weights = {
        "uniform": [1.0] * 6,
        "reward": [math.exp((reward - 0.5) / temperature) for reward in (-3.0, -1.0, -2.0, 0.5, -1000.0, -1.5)],
        "recency": [0.5 ** ((50 - born) / half_life) for born in (40, 10, 0, 25, 50, 5)],
    }[sampling]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("sampling", ["uniform", "reward", "recency"])
def test_draws_have_the_stated_weights(sampling) -> None:
    buffer = filled(sampling, temperature=0.7, half_life=12.0)
    count = 20_000
    drawn = Counter(t.completion for t in buffer.sample("p", count, [(i + 0.5) / count for i in range(count)]))
    for index, share in enumerate(expected_shares(sampling, 0.7, 12.0)):
        assert drawn[str(index)] / count == pytest.approx(share, abs=1e-4)
    wrong = expected_shares(sampling, 1.0, 24.0)
    if sampling != "uniform":
        assert any(abs(drawn[str(index)] / count - share) > 1e-2 for index, share in enumerate(wrong))


def written_draws(shares: list[float], uniforms: list[float]) -> list[int]:
    """Draws without replacement, one after the other, by walking along the weights."""
    left, picks = list(range(len(shares))), []
    for uniform in uniforms[: len(shares)]:
        point = uniform * sum(shares[i] for i in left)
        for i in left:
            point -= shares[i]
            if point < 0.0:
                break
        picks.append(i)
        left.remove(i)
    return picks


@pytest.mark.parametrize("sampling", ["uniform", "reward", "recency"])
def test_draws_without_replacement_equal_a_written_loop(sampling) -> None:
    buffer = filled(sampling, temperature=2.0, half_life=12.0, replacement=False)
    shares = expected_shares(sampling, 2.0, 12.0)
    generator = random.Random(0)
    for _ in range(300):
        uniforms = [generator.random() for _ in range(4)]
        drawn = [int(t.completion) for t in buffer.sample("p", 4, uniforms)]
        assert drawn == written_draws(shares, uniforms) and len(set(drawn)) == 4


def test_without_replacement_even_a_hopeless_trajectory_comes_at_last() -> None:
    buffer = filled("reward", temperature=0.1, replacement=False)
    drawn = [t.completion for t in buffer.sample("p", 10, [0.3] * 10)]
    assert sorted(drawn) == list("012345") and drawn[-1] == "4"


def test_equal_uniforms_give_equal_draws_whatever_was_sampled_before() -> None:
    first, second = filled("reward"), filled("reward")
    uniforms = numpy.random.default_rng(0).random(16).tolist()
    second.sample(None, 5, uniforms)
    assert first.sample("p", 16, uniforms) == second.sample("p", 16, uniforms)
    assert first.sample("p", 1, [0.0])[0].completion == "0"
    assert first.sample("p", 1, [1.0 - 2.0**-53])[0].completion == "5"


def test_from_one_problem_from_all_and_from_nothing() -> None:
    buffer = filled("uniform")
    everything = {t.completion for t in buffer.sample(None, 70, [i / 70 for i in range(70)])}
    assert everything == {*"012345", "q"}
    assert {t.completion for t in buffer.sample("q", 3, [0.1, 0.5, 0.9])} == {"q"}
    assert buffer.sample("unknown", 3, [0.1, 0.5, 0.9]) == []
    assert ReplayBuffer().sample(None, 2, [0.1, 0.2]) == []
    assert buffer.sample("p", 0, []) == []


def test_too_few_uniforms_are_refused() -> None:
    with pytest.raises(ValueError, match="3 draws need as many uniforms, got 2"):
        filled("uniform").sample("p", 3, [0.1, 0.2])
