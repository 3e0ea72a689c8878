"""The torchmetrics classes: keys, means over problems, and merging over processes."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.queues import Queue
from typing import Any

import pytest
import torch

from lightning_gfn.metrics.accuracy import MajorityAtK, PassAtK, SolveRate
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.completions import CompletionStatistics
from lightning_gfn.metrics.diversity import Coverage, DistinctCorrect
from lightning_gfn.metrics.functional import estimates
from lightning_gfn.types import EvalRecord, Problem

WORDS = ("one two three four five six", "seven eight nine ten", "one two three four five seven", "a b c d e f g")


def make_record(index: int, num_samples: int = 4, temperature: float = 1.0) -> EvalRecord:
    """Problem number ``index``: the first ``index % 5`` samples are right, and some of them alike."""
    texts = [f"{WORDS[(index + sample) % 4]}\nThe answer is: {index % 3}" for sample in range(num_samples)]
    correct = [sample < index % 5 for sample in range(num_samples)]
    texts = [text if is_right else f"{text}9" for text, is_right in zip(texts, correct, strict=True)]
    known = {texts[0]: "first", "never found": "second"} if index % 2 == 0 else None
    return EvalRecord(
        problem=Problem(id=f"problem-{index}-é", prompt="?", answer=str(index % 3), solution_set=known),
        temperature=temperature,
        completions=tuple(texts),
        correct=tuple(correct),
        log_probs=(-1.0,) * num_samples,
        lengths=tuple(range(index, index + num_samples)),
        entropies=(0.1 * index,) * num_samples,
        truncated=(index % 2 == 0,) * num_samples,
    )


def make_metrics() -> list[PerProblemMetric]:
    return [
        SolveRate(),
        PassAtK([1, 2, 4]),
        MajorityAtK([1, 4]),
        DistinctCorrect([0.5, 0.7]),
        DistinctCorrect([0.7], rule="expected"),
        DistinctCorrect([0.7], rule="components"),
        Coverage(),
        CompletionStatistics(),
    ]


def evaluate(indices: Sequence[int]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """All metrics on these problems, in this process; merged with others where there are others."""
    means: dict[str, float] = {}
    rows: dict[str, dict[str, float]] = {}
    for metric in make_metrics():
        for index in indices:
            metric.update(make_record(index))
        means |= {key: value.item() for key, value in metric.compute().items()}
        for problem, row in metric.per_problem().items():
            rows.setdefault(problem, {}).update(row)
    return means, rows


def test_keys_and_values_of_one_problem() -> None:
    means, rows = evaluate([2])
    record = make_record(2)
    assert set(means) == {
        *("solve_rate", "pass_at_1", "pass_at_2", "pass_at_4", "maj_at_1", "maj_at_4"),
        *("coverage", "solution_paths_found"),
        *("distinct_correct_rouge_0.5", "distinct_correct_rouge_0.7"),
        *("distinct_correct_rouge_0.5_solved", "distinct_correct_rouge_0.7_solved"),
        *("distinct_correct_rouge_0.7_expected", "distinct_correct_rouge_0.7_expected_solved"),
        *("distinct_correct_rouge_0.7_components", "distinct_correct_rouge_0.7_components_solved"),
        *("completion_length_mean", "entropy_mean", "truncated_share", "answered_share"),
    }
    assert rows == {"problem-2-é": means}
    assert means["solve_rate"] == 0.5
    assert means["pass_at_2"] == estimates.pass_at_k(4, 2, 2)
    assert means["coverage"] == 0.5
    assert means["maj_at_4"] == estimates.maj_at_k(["2", "2", "29", "29"], record.correct, 4) == 0.5
    for threshold in (0.5, 0.7):
        expected = estimates.distinct_correct(record.completions, record.correct, threshold)
        assert means[f"distinct_correct_rouge_{threshold}"] == expected
    assert means["completion_length_mean"] == 3.5
    assert means["truncated_share"] == means["answered_share"] == 1.0


def test_means_are_over_all_problems_and_over_solved_ones() -> None:
    means, rows = evaluate(range(10))
    assert len(rows) == 10
    solve_rates = [sum(make_record(index).correct) / 4 for index in range(10)]
    assert means["solve_rate"] == pytest.approx(sum(solve_rates) / 10, abs=1e-12)
    name = "distinct_correct_rouge_0.7"
    counts = [estimates.distinct_correct(r.completions, r.correct, 0.7) for r in map(make_record, range(10))]
    solved = [count for count, rate in zip(counts, solve_rates, strict=True) if rate]
    assert len(solved) == 8
    assert means[name] == pytest.approx(sum(counts) / 10, abs=1e-12)
    assert means[f"{name}_solved"] == pytest.approx(sum(solved) / 8, abs=1e-12)
    assert f"{name}_solved" not in rows["problem-0-é"] and rows["problem-0-é"][name] == 0


def test_a_problem_seen_twice_counts_once_and_order_does_not_matter() -> None:
    assert evaluate([3, 1, 2, 1, 3]) == evaluate([1, 2, 3])
    assert evaluate([1, 2, 3])[0] != evaluate([1, 2])[0]


def test_a_metric_without_problems_has_no_values() -> None:
    for metric in make_metrics():
        with pytest.warns(UserWarning, match="before the ``update``"):
            assert metric.compute() == {}
        assert metric.per_problem() == {}
    coverage = Coverage()
    coverage.update(make_record(1))
    assert coverage.compute() == {}
    assert coverage.per_problem() == {"problem-1-é": {}}


def test_reset_forgets_problems_and_temperature() -> None:
    metric = SolveRate()
    metric.update(make_record(4))
    metric.reset()
    metric.update(make_record(1, temperature=0.6))
    assert metric.compute()["solve_rate"].item() == 0.25


def test_wrong_records_and_arguments_are_refused() -> None:
    metric = SolveRate()
    metric.update(make_record(1))
    with pytest.raises(ValueError, match="problem-2.*temperature 0.6 after 1.0"):
        metric.update(make_record(2, temperature=0.6))
    with pytest.raises(ValueError, match="problem-2.*no samples"):
        metric.update(replace(make_record(2), completions=()))
    with pytest.raises(ValueError, match="k: .*not 8"):
        PassAtK([8]).update(make_record(1))
    with pytest.raises(ValueError, match="rule: .*'best'.*greedy, expected, components"):
        DistinctCorrect(rule="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold"):
        DistinctCorrect([0.7, 70.0])
    for ks in ([], [0], [2, 2]):
        with pytest.raises(ValueError, match="ks: "):
            MajorityAtK(ks)


def free_port() -> int:
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return int(connection.getsockname()[1])


SHARES = {
    "padded duplicate": ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9, 0]),
    "empty rank": ([], list(range(10))),
}


def run_rank(rank: int, port: int, results: Queue[Any]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    try:
        for name, shares in SHARES.items():
            results.put((name, rank, torch.distributed.get_world_size(), evaluate(shares[rank])))
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.ddp
def test_two_processes_equal_one() -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    port = free_port()
    ranks = [context.Process(target=run_rank, args=(rank, port, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    answers = [results.get(timeout=120) for _ in range(2 * len(SHARES))]
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    alone = evaluate(range(10))
    assert sorted(answer[:2] for answer in answers) == sorted((name, rank) for name in SHARES for rank in range(2))
    for _, _, world_size, merged in answers:
        assert world_size == 2
        assert merged == alone
