"""What a run of ``lightning-gfn govern`` leaves in its folder, in the form that comparisons and MLflow read."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning_gfn.commands.governing.configuration import GovernConfig
from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.learning import Outcome
from lightning_gfn.mechanism.principals.base import Principal, Proposal
from lightning_gfn.mechanism.rounds import Round
from lightning_gfn.mechanism.world import World
from lightning_gfn.metrics.functional.estimates import bootstrap_ci
from lightning_gfn.tracking.run_folder import RunFolder
from lightning_gfn.whole_files import replace_text

WELFARE = "social_welfare"
TEMPERATURE = 1.0
"""Comparisons ask for one; incentives have none."""
LEVEL = 0.95


def problem_rows(
    world: World, played: Sequence[Round], tested: Sequence[tuple[Proposal, Outcome]]
) -> list[dict[str, Any]]:
    """One row a context, with its metrics.

    ``social_welfare`` is that of the recommended incentives with new populations, ``social_welfare_rounds`` the mean
    over all rounds of the context, ``incentives_paid`` goes with the former; ``usable_answers`` is the share of a
    language model's answers that could be used, None for principals that write none.
    """
    rows = []
    for context, (proposal, outcome) in zip(world.space.contexts, tested, strict=True):
        own = [entry for entry in played if entry.context == context]
        metrics: dict[str, float | None] = {
            WELFARE: outcome.welfare,
            "incentives_paid": float(outcome.paid_P.mean()),
            "usable_answers": None,
        }
        if own:
            metrics["social_welfare_rounds"] = fmean(entry.welfare for entry in own)
            metrics["social_welfare_last_rounds"] = fmean(entry.welfare for entry in own[-max(1, len(own) // 4) :])
        answers = sum(len(entry.answers) for entry in own)
        if answers:
            metrics["usable_answers"] = 1.0 - sum(len(entry.failures) for entry in own) / answers
        rows.append(
            {
                "problem_id": f"{world.name}/{context}",
                "temperature": TEMPERATURE,
                "metrics": metrics,
                "incentives": dict(zip(world.space.names, proposal.incentives, strict=True)),
                "facts": outcome.facts,
            }
        )
    return rows


def identity_of(
    config: GovernConfig, agents: AgentSettings, rows: Sequence[Mapping[str, Any]], seed: int, parameters: int | None
) -> dict[str, Any]:
    """Who was tested on what; runs are compared if problems, decoding and metric settings agree."""
    digest = hashlib.sha256(json.dumps(config.world, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "method": config.name,
        "seed": seed,
        "step": config.rounds,
        "decoding": {"num_samples": config.test_populations, "temperatures": [TEMPERATURE]},
        "problems": {"count": len(rows), "fingerprint": digest},
        "parameters": parameters,
        "metric_settings": {**asdict(agents), "populations": config.populations, "rounds": config.rounds},
    }


def description_of(world: World) -> dict[str, Any]:
    """What a prompt says of a world, for data made of its rounds."""
    space = world.space
    known = {"names": list(space.names), "low": space.low, "high": space.high, "contexts": list(space.contexts)}
    return {"world": world.name, "rules": world.rules, **known}


def budget_of(played: Sequence[Round], principal: Principal, started: tuple[float, float]) -> dict[str, float]:
    """What the rounds cost, on the axes of a ``budget.json``."""
    return {
        "generated_tokens": principal.counts["generated_tokens"],
        "reward_calls": len(played),
        "gradient_tokens": 0,
        "environment_steps": played[-1].environment_steps if played else 0,
        "optimizer_steps": 0,
        "wall_seconds": round(time.monotonic() - started[0], 3),
        "processor_seconds": round(sum(os.times()[:4]) - started[1], 3),
        "labels": 0,
        "peak_memory_mib": 0.0,
    }


def curve_row(block: Sequence[Round], played: int, principal: Principal) -> dict[str, float]:
    """Mean welfare of some rounds, and what had been spent by their end."""
    return {
        f"val/{WELFARE}": fmean(entry.welfare for entry in block),
        "val/incentives_paid": fmean(entry.paid for entry in block),
        "budget/environment_steps": float(block[-1].environment_steps),
        "budget/generated_tokens": float(principal.counts["generated_tokens"]),
        "budget/reward_calls": float(played),
    }


def summary_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and interval over contexts of each metric."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row["metrics"].items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {
        name: {"value": fmean(found), "ci95": list(bootstrap_ci(found, LEVEL, num_resamples=1000, seed=0))}
        for name, found in values.items()
    }


def write_json_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """One JSON object a line."""
    return replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_results(
    folder: RunFolder, identity: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], principal: Principal
) -> list[Path]:
    """The test's files; their paths."""
    results = folder.path / "results"
    content = {
        "stage": "test", **identity, "metrics": summary_of(rows), "counts": dict(principal.counts)
    }  # fmt: skip
    return [
        write_json_lines(results / "test_problems.jsonl", rows),
        replace_text(results / "test_metrics.json", json.dumps(content, indent=2) + "\n"),
    ]
