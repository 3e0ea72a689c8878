"""Sentences state in plain words what a comparison found (``**…**`` stands for strong text)."""

from __future__ import annotations

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.statistics.bootstrap import Interval
from lightning_gfn.reports.statistics.cube import DISTINCT
from lightning_gfn.reports.statistics.significance import Difference, Equality
from lightning_gfn.reports.titles import axis_title, metric_title, p_text, with_interval


def reach_sentence(c: Comparison) -> str:
    """How far the conclusions reach: on every page."""
    size = f" ({c.parameters:,} parameters)" if c.parameters is not None else ""
    return (
        f"**These conclusions come from models of this size{size}**, this task and these budgets; "
        "they say nothing of larger models."
    )


def accuracy_clause(x: Equality) -> str:
    """``at equal accuracy (…)``, ``at lower accuracy (…)``, or that equality is not shown."""
    interval = f"90% interval {x.low:+.3f} to {x.high:+.3f}"
    if x.equal:
        return f"at equal accuracy (solve rate {x.difference.value:+.3f}, {interval}, within ±{x.margin:g})"
    if x.difference.sign:
        side = "higher" if x.difference.sign > 0 else "lower"
        return f"at {side} accuracy (solve rate {side} by {abs(x.difference.value):.3f}, {interval})"
    return (
        f"at an accuracy not shown to be equal (solve rate {x.difference.value:+.3f}, {interval}, beyond ±{x.margin:g})"
    )


def claim_sentence(c: Comparison, name: str) -> str:
    """Whether a method finds more distinct correct solutions than the baseline, and at what accuracy."""
    assert c.diversity is not None
    x = c.differences[name][c.diversity]
    match = DISTINCT.fullmatch(c.diversity)
    assert match is not None
    what = f"distinct correct solutions of {c.decoding['num_samples']} (ROUGE-L < {match[1]})"
    value = abs(x.interval.value)
    low, high = sorted((x.interval.low * x.sign, x.interval.high * x.sign))
    evidence = f"95% interval {low:.2f} to {high:.2f}, {difference_p(x)}"
    clause = accuracy_clause(c.equality[name])
    if x.sign == 0:
        interval = f"{x.interval.value:+.2f}, 95% interval {x.interval.low:+.2f} to {x.interval.high:+.2f}"
        return f"**{name}** and {c.baseline} cannot be told apart in {what}: {interval}, {difference_p(x)}; {clause}."
    side = "more" if x.sign > 0 else "fewer"
    small = ""
    if value < c.options.min_difference:
        small = f", less than the {c.options.min_difference:g} that count"
    return f"**{name}** finds {value:.2f} {side} {what} than {c.baseline}{small} ({evidence}), {clause}."


def difference_p(x: Difference) -> str:
    """The corrected p-value if there is one."""
    return f"{p_text(x.p_holm)} (Holm)" if x.p_holm is not None else f"{p_text(x.p)} (uncorrected)"


def claims(c: Comparison) -> list[str]:
    """One claim a method against the baseline; empty where the runs have no distinct-correct metric."""
    return [claim_sentence(c, name) for name in c.differences] if c.diversity is not None else []


def difference_sentence(c: Comparison, name: str, metric: str) -> str:
    """Who is higher in a metric, by how much; or that it cannot be told."""
    x = c.differences[name][metric]
    by, p = f"{abs(x.interval.value):.3f}", difference_p(x)
    low, high = x.interval.low, x.interval.high
    if x.sign > 0:
        return f"**{name}** is higher than {c.baseline} by {by} (95% interval {low:.3f} to {high:.3f}, {p})."
    if x.sign < 0:
        return f"**{name}** is lower than {c.baseline} by {by} (95% interval {-high:.3f} to {-low:.3f}, {p})."
    return (
        f"**{name}** and {c.baseline} cannot be told apart: the difference is {x.interval.value:+.3f} "
        f"(95% interval {low:+.3f} to {high:+.3f}, {p})."
    )


def lead_sentence(c: Comparison, metric: str) -> str:
    """Which method is highest, and whether its lead over each method but the baseline can be told from chance."""
    found = c.leads[metric]
    leader = next(name for name in c.headline if name not in found)
    clear = [f"{name} by {with_interval(x)}" for name, x in found.items() if x.sign > 0 and name != c.baseline]
    level = [f"{name} ({with_interval(x, signed=True)})" for name, x in found.items() if x.sign <= 0]
    text = f"{metric_title(metric)}: {leader} highest with {c.headline[leader][metric].value:.3f}"
    if clear and leader != c.baseline:
        text += f"; ahead of {', of '.join(clear)}"
    if level:
        text += f"; not to be told apart from {', '.join(level)}"
    return text + "."


def findings(c: Comparison) -> list[tuple[str, list[str]]]:
    """For each headline metric: the highest method and its leads, then each method against the baseline."""
    return [(lead_sentence(c, m), [difference_sentence(c, name, m) for name in c.differences]) for m in c.leads]


def matched_sentences(c: Comparison) -> list[str]:
    """What is found at equal solve rates, and where nothing can be."""
    if c.matched is None or c.diversity is None:
        return []
    found = c.matched
    temperatures = ", ".join(f"{t:g}" for t in sorted(c.cube.temperatures))
    lines = [
        f"Each method's temperatures ({temperatures}) draw a path of solve rate and {metric_title(c.diversity)}, "
        "taken as straight between two temperatures; where it crosses a solve rate more than once, its highest "
        "crossing counts. "
        "Paths are drawn anew in each bootstrap resample; p-values here are not corrected."
    ]
    if found.level is None:
        lines.append("No solve rate is reached by all methods, so there is no single level to compare them at.")
    for name, pair in found.pairs.items():
        lines.append(matched_sentence(c.baseline, name, pair.low, pair.high, pair.difference, pair.p))
        if pair.difference is not None and pair.reached < 0.95:
            lines[-1] += f" Only {pair.reached:.0%} of the resamples reach this range: read it with care."
    return lines


def matched_sentence(
    baseline: str, name: str, low: float, high: float, difference: Interval | None, p: float | None
) -> str:
    """One method against the baseline at equal solve rates.

    Args:
        baseline: its name.
        name: of the method.
        low: lowest solve rate that both reach.
        high: the highest.
        difference: in distinct correct solutions; None if they reach none in common.
        p: p-value of the difference.
    """
    if difference is None or p is None:
        return f"**{name}** and {baseline} reach no common solve rate: they cannot be compared at matched accuracy."
    where = f"at the solve rates that both reach ({low:.3f} to {high:.3f})"
    evidence = f"(95% interval {difference.low:+.2f} to {difference.high:+.2f}, {p_text(p)})"
    if difference.sign == 0:
        return f"**{name}** and {baseline} cannot be told apart {where}: {difference.value:+.2f} {evidence}."
    side = "more" if difference.sign > 0 else "fewer"
    return f"**{name}** finds {abs(difference.value):.2f} {side} than {baseline} {where} {evidence}."


def best_sentence(c: Comparison) -> str:
    """On which problems the best temperatures were chosen."""
    if c.best is None:
        return ""
    if c.best.validated:
        return "Temperatures chosen on the validation problems, by their mean of distinct correct solutions."
    return (
        "Temperatures chosen on the compared problems themselves, by their mean of distinct correct solutions, because "
        "not every method was validated at two temperatures or more: this flatters every method a little."
    )


def spending_sentences(c: Comparison) -> list[str]:
    """Which budgets were equal over the methods."""
    if not c.spending.methods:
        return ["No run kept an account of what it spent."]
    same = [axis_title(axis) for axis, equal in c.spending.equalised.items() if equal]
    apart = [axis_title(axis) for axis, equal in c.spending.equalised.items() if not equal]
    lines = [
        f"Equalised (within 5%, methods that spent nothing left out): {', '.join(same) if same else 'nothing'}. "
        f"Not equalised: {', '.join(apart) if apart else 'nothing'}.",
        "Means over seeds; earlier stages are included where a run names them (`prior` of its Budget).",
    ]
    if c.spending.without:
        lines.append(f"No account was kept by {', '.join(c.spending.without)}.")
    return lines


def cut_off(name: str, value: float | None) -> str:
    """A truncation of the sampling distribution in words."""
    return f"{name} {value}" if value is not None else f"no {name}"


def setting_sentences(c: Comparison) -> list[str]:
    """How the figures were measured."""
    decoding = c.decoding
    limits = f"{cut_off('top-k', decoding.get('top_k'))}, {cut_off('top-p', decoding.get('top_p'))}"
    named = {name: ", ".join(map(str, seeds)) for name, seeds in c.cube.seeds.items()}
    same = len(set(named.values())) == 1
    single = {len(seeds) for seeds in c.cube.seeds.values()} == {1}
    over = "problems; with one seed they leave out how much training runs differ." if single else "seeds and problems."
    drawn = f"at temperature {c.cube.temperature:g} ({limits}), the same for every method."
    if c.own_decoding:
        drawn = "by each method's own decoding: " + "; ".join(f"{n}: {how}" for n, how in c.own_decoding.items()) + "."
    lines = [
        f"{len(c.cube.problems)} problems, {decoding['num_samples']} completions each {drawn}",
        "Seeds: " + next(iter(named.values())) + "."
        if same
        else "Seeds by method: " + "; ".join(f"{name}: {seeds}" for name, seeds in named.items()) + ".",
        f"Brackets hold 95% bootstrap intervals over {over}",
    ]
    if not single:
        lines.append(
            "Seeds are drawn first, then problems, the same problems for all seeds and methods. With few seeds such "
            "intervals are somewhat too narrow (by the factor √((S - 1)/S) in the part that comes from S seeds)."
        )
    if not same:
        lines.append("Differences use the seeds that both methods have; without any, seeds are not paired.")
    return lines
