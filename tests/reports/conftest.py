"""Evaluated run folders, written by hand from given or fabricated samples."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_gfn.metrics.functional.estimates import pass_at_k
from lightning_gfn.similarity.counting import distinct_in_order
from lightning_gfn.similarity.rouge import rouge_l_f1_matrix

DISTINCT = ("distinct_correct_rouge_0.5", "distinct_correct_rouge_0.7")
METRICS = ("solve_rate", "pass_at_8", "maj_at_8", *DISTINCT, "coverage")
THRESHOLDS = (0.5, 0.7, 0.9)
PATHS = (
    "first we add the apples and the pears which makes {n}",
    "three boxes times {n} over three is {n} in all",
    "count backwards from ninety until {n} remain on the table",
    "half of twice {n} equals what was asked",
    "by subtraction of the eaten ones from the bought ones {n} stay",
    "every child gets one so {n} children share {n} sweets",
)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder: ``values[metric][problem]``, by default drawn around ``level`` from the seed."""

    def build(method: str, seed: int = 0, *, level: float = 0.5, num_problems: int = 40, **identity: Any) -> Path:
        rng = np.random.default_rng([seed, *method.encode()])
        folder = tmp_path / f"{method}-s{seed}"
        rows = []
        for problem in range(num_problems):
            rate = float(np.clip(level + 0.3 * rng.standard_normal(), 0, 1))
            values = dict.fromkeys(METRICS, rate)
            values["distinct_correct_rouge_0.7"] = 5 * rate * (1 - 0.5 * rate)
            values["distinct_correct_rouge_0.5"] = 3 * rate * (1 - 0.5 * rate)
            rows.append({"problem_id": f"p{problem}", "temperature": 1.0, "metrics": values})
            rows.append({"problem_id": f"p{problem}", "temperature": 0.6, "metrics": {"solve_rate": 1.0}})
        budget = {"generated_tokens": 1000 + seed, "wall_seconds": 60.5}
        write_run(folder, rows, method=method, seed=seed, temperatures=[1.0, 0.6], budget=budget, **identity)
        return folder

    return build


def write_run(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    stage: str = "test",
    temperatures: Sequence[float],
    budget: dict[str, Any],
    **identity: Any,
) -> None:
    """The files of an evaluated run."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    problems = {row["problem_id"] for row in rows}
    content = {
        "stage": stage,
        "decoding": {"num_samples": 8, "temperatures": list(temperatures), "top_k": None, "top_p": None, "seed": 0},
        "metric_settings": {"ks": [1, 8], "thresholds": list(THRESHOLDS)},
        "problems": {"count": len(problems), "fingerprint": f"n{len(problems)}"},
        "parameters": 612_000,
        **identity,
        "metrics": {},
    }
    (folder / "results" / f"{stage}_metrics.json").write_text(json.dumps(content))
    (folder / "results" / f"{stage}_problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "budget.json").write_text(json.dumps(budget))


def sampled_row(
    rng: np.random.Generator, problem: int, temperature: float, skill: float, spread: float
) -> dict[str, Any]:
    """Eight samples: hotter ones are wrong more often and take more different ways."""
    ease = 1.5 * math.sin(7.0 * problem)
    rate = 1 / (1 + math.exp(-(skill + ease - 1.2 * temperature)))
    weights = np.exp(-np.arange(len(PATHS)) / (spread * temperature))
    correct = (rng.random(8) < rate).tolist()
    ways = rng.choice(len(PATHS), size=8, p=weights / weights.sum())
    texts = [
        f"{PATHS[way].format(n=problem if right else problem + 1)}\nThe answer is: {problem if right else problem + 1}"
        for way, right in zip(ways, correct, strict=True)
    ]
    kept = [text for text, right in zip(texts, correct, strict=True) if right]
    scores = rouge_l_f1_matrix(kept)
    metrics: dict[str, float | None] = {
        "solve_rate": sum(correct) / 8,
        "pass_at_1": pass_at_k(8, sum(correct), 1),
        "pass_at_8": pass_at_k(8, sum(correct), 8),
        "maj_at_8": float(sum(correct) > 4),
        "coverage": len({way for way, right in zip(ways, correct, strict=True) if right}) / len(PATHS),
        "self_bleu": float(scores.mean()) if len(kept) > 1 else None,
        "entropy_mean": spread * temperature,
    }
    for threshold in THRESHOLDS:
        count = distinct_in_order(scores >= threshold)
        metrics[f"distinct_correct_rouge_{threshold}"] = count
        metrics[f"distinct_correct_rouge_{threshold}_solved"] = count if kept else None
    return {
        "problem_id": f"p{problem:03d}",
        "temperature": temperature,
        "num_samples": 8,
        "num_correct": sum(correct),
        "metrics": metrics,
        "correct": correct,
        "completions": texts,
        "prompt": f"How much is <b>{problem}</b> & nothing?",
        "answer": str(problem),
        "metadata": {"level": 1 + problem % 3, "family": "even" if problem % 2 == 0 else "odd", "number": problem},
    }


def metric_lines(skill: float, seed: int) -> list[dict[str, Any]]:
    """What a run logged: training every ten steps, validation every fifty."""
    lines: list[dict[str, Any]] = []
    for step in range(9, 200, 10):
        rate = 1 - math.exp(-(step + 20 * seed) / 150) * (1 - 0.2 * skill)
        budget = {"generated_tokens": 2000 * step, "reward_calls": 64 * step, "optimizer_steps": step + 1}
        line = {"step": step, "time": 0.0, "train/solve_rate_on_policy": rate}
        lines.append({**line, **{f"budget/{name}": float(value) for name, value in budget.items()}})
        if step % 50 == 49:
            lines.append(
                {"step": step + 1, "time": 0.0, "val/solve_rate": rate, "val/distinct_correct_rouge_0.7": 3 * rate}
            )
    return lines


METHODS = {"sft": (0.9, 1.6), "grpo": (2.4, 0.25), "subtb": (1.9, 2.4), "vargrad": (2.0, 2.0)}


@pytest.fixture(scope="session")
def make_study(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes the runs of a whole study, with samples, a grid of temperatures, validation results and figures."""

    def build(
        *,
        methods: dict[str, tuple[float, float]] = METHODS,
        seeds: Sequence[int] = (0, 1),
        temperatures: Sequence[float] = (1.0, 0.6, 1.5),
        num_problems: int = 24,
    ) -> Path:
        folder = tmp_path_factory.mktemp("study")
        for method, (skill, spread) in methods.items():
            for seed in seeds:
                rng = np.random.default_rng([seed, *method.encode()])
                run = folder / f"{method}_seed{seed}"
                budget = {"generated_tokens": 400_000 + seed, "reward_calls": 12_800, "wall_seconds": 30.0 * skill}
                for stage in ("val", "test"):
                    rows = [
                        sampled_row(rng, problem, temperature, skill + 0.1 * seed, spread)
                        for problem in range(num_problems)
                        for temperature in temperatures
                    ]
                    settings = {"method": method, "seed": seed, "temperatures": temperatures, "budget": budget}
                    write_run(run, rows, stage=stage, **settings)
                lines = [json.dumps(line) + "\n" for line in metric_lines(skill, seed)]
                (run / "metrics.jsonl").write_text("".join(lines))
        return folder

    return build
