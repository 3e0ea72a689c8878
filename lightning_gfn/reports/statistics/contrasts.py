"""Paired differences of two methods: the same problems, and the same seeds where they have some in common."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_gfn.reports.statistics.bootstrap import Array, HierarchicalBootstrap, Interval
from lightning_gfn.reports.statistics.cube import ACCURACY, Cube
from lightning_gfn.reports.statistics.significance import Difference, Equality, bootstrap_p_value

Temperatures = tuple[float, float] | None


def resampled_difference(
    cube: Cube,
    bootstrap: HierarchicalBootstrap,
    method: str,
    other: str,
    metric: str,
    *,
    temperatures: Temperatures = None,
    problems: Sequence[str] | None = None,
) -> tuple[float, Array]:
    """The difference of two methods in a metric, and that of each resample.

    Args:
        cube: the values.
        bootstrap: draws the resamples.
        method: name of the method.
        other: the method that is subtracted.
        metric: a metric that all runs have for the same problems.
        temperatures: that of the method and that of the other one; the compared one if None.
        problems: over these problems only; all that were measured if None.
    """
    seeds = cube.common_seeds(method, other)
    chosen = temperatures if temperatures is not None else (None, None)
    over = problems if problems is not None else cube.measured_problems(metric)
    left_SP, right_SP = (
        cube.matrix(name, metric, temperature=temperature, problems=over, seeds=seeds)
        for name, temperature in zip((method, other), chosen, strict=True)
    )
    means_b = bootstrap.difference_means(left_SP, right_SP, paired_seeds=seeds is not None)
    return float(left_SP.mean() - right_SP.mean()), means_b


def contrast(
    cube: Cube,
    bootstrap: HierarchicalBootstrap,
    method: str,
    other: str,
    metric: str,
    *,
    temperatures: Temperatures = None,
    problems: Sequence[str] | None = None,
) -> Difference:
    """The difference with its 95% interval and p-value; arguments as of ``resampled_difference``.

    One problem and one seed give no p-value below 1: there is nothing to resample.
    """
    value, means_b = resampled_difference(
        cube, bootstrap, method, other, metric, temperatures=temperatures, problems=problems
    )
    over = problems if problems is not None else cube.measured_problems(metric)
    one_seed = len(cube.groups[method]) == len(cube.groups[other]) == 1
    alone = one_seed and over is not None and len(over) == 1
    return Difference(bootstrap.percentiles(value, means_b), 1.0 if alone else bootstrap_p_value(means_b))


def equality(
    cube: Cube,
    bootstrap: HierarchicalBootstrap,
    method: str,
    other: str,
    *,
    margin: float,
    temperatures: Temperatures = None,
) -> Equality:
    """Whether two methods solve equally much, for practical purposes.

    Args:
        cube: the values.
        bootstrap: draws the resamples.
        method: name of the method.
        other: the method that is subtracted.
        margin: differences of the solve rate up to this one do not matter.
        temperatures: that of the method and that of the other one; the compared one if None.
    """
    value, means_b = resampled_difference(cube, bootstrap, method, other, ACCURACY, temperatures=temperatures)
    narrow: Interval = bootstrap.percentiles(value, means_b, level=0.9)
    return Equality(bootstrap.percentiles(value, means_b), narrow.low, narrow.high, margin)
