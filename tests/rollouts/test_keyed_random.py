from __future__ import annotations

import random

import numpy
import pytest
from scipy import stats

from lightning_gfn.rollouts.keyed_random import _key, keyed_uniform, keyed_uniforms

WORD = 2**64 - 1
KEY = {"seed": 3, "rollout_step": 17}


def splitmix64(state: int, count: int) -> list[int]:
    """The published generator with Python integers."""
    words = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & WORD
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        words.append(z ^ (z >> 31))
    return words


def test_the_written_generator_is_splitmix64() -> None:
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423], (
        "its published test values"
    )


def test_rows_equal_the_written_generator() -> None:
    rows = keyed_uniforms("action", **KEY, problem_ids=["a", "ü"], samples=[0, 5], length=40)
    for row, (problem, sample) in zip(rows, [("a", 0), ("ü", 5)], strict=True):
        words = splitmix64(_key("action", 3, 17, problem, sample, 0), 40)
        assert row.tolist() == [(word >> 11) / 2**53 for word in words]
    assert rows.dtype == numpy.float64 and rows.shape == (2, 40)


def test_a_row_depends_on_its_key_alone() -> None:
    ids, samples = ["a", "b", "b", "c"], [0, 0, 1, 7]
    whole = keyed_uniforms("action", **KEY, problem_ids=ids, samples=samples, length=30)
    order = [2, 0]
    part = keyed_uniforms(
        "action", **KEY, problem_ids=[ids[i] for i in order], samples=[samples[i] for i in order], length=9
    )
    assert (part == whole[order, :9]).all()


def test_every_part_of_the_key_matters() -> None:
    def draw(stream="action", seed=3, step=17, problem="a", sample=0, turn=0):
        return keyed_uniforms(
            stream, seed=seed, rollout_step=step, problem_ids=[problem], samples=[sample], turns=[turn], length=2
        )[0].tolist()

    variants = [draw(), draw(stream="evaluation"), draw(seed=4), draw(step=18), draw(problem="b"), draw(sample=1)]
    variants += [draw(turn=1), draw(turn=2), draw(sample=1, turn=1)]
    variants += [draw(problem="a "), draw(seed=17, step=3), draw(step=-1), draw()[::-1]]
    assert len({tuple(variant) for variant in variants}) == len(variants)
    assert keyed_uniform("source", seed=3, rollout_step=17, problem_id="a") == draw("source")[0]


@pytest.mark.parametrize("axis", ["positions", "samples", "problems", "steps"])
def test_uniform_and_independent_along_every_axis(axis: str) -> None:
    count = 20_000
    draws = {
        "positions": lambda: keyed_uniforms("action", **KEY, problem_ids=["p"], samples=[0], length=count)[0],
        "samples": lambda: keyed_uniforms("action", **KEY, problem_ids=["p"] * count, samples=range(count), length=1)[
            :, 0
        ],
        "problems": lambda: keyed_uniforms(
            "action", **KEY, problem_ids=[f"train/{i}" for i in range(count)], samples=[0] * count, length=1
        )[:, 0],
        "steps": lambda: numpy.array(
            [keyed_uniform("source", seed=0, rollout_step=step, problem_id="p") for step in range(count)]
        ),
    }
    values = draws[axis]()
    assert values.min() >= 0.0 and values.max() < 1.0
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    pairs = numpy.histogram2d(values[:-1], values[1:], bins=10)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3
    assert stats.kstest(values**1.1, "uniform").pvalue < 1e-3, "the test sees a slight bend"


def test_different_lengths_of_ids_and_samples_are_refused() -> None:
    with pytest.raises(ValueError):
        keyed_uniforms("action", **KEY, problem_ids=["a"], samples=[0, 1], length=2)


def test_no_collisions_among_many_rows() -> None:
    generator = random.Random(0)
    ids = [f"gsm8k/train/{generator.randrange(7473)}" for _ in range(3000)]
    first = keyed_uniforms("action", **KEY, problem_ids=ids, samples=range(3000), length=1)[:, 0]
    assert len(set(first.tolist())) == 3000
