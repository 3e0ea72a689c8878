"""Let a principal (bandit, gradient, language model) set incentives in a world of learning agents, round by round."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.commands.asking.options import run_asking

if TYPE_CHECKING:
    from lightning_gfn.commands.governing.configuration import GovernConfig
    from lightning_gfn.mechanism.agents import AgentSettings
    from lightning_gfn.mechanism.principals.base import Principal
    from lightning_gfn.mechanism.rounds import Round
    from lightning_gfn.mechanism.world import World

EPILOG = """example:
  lightning-gfn govern --config experiments/mechanism/escape_room.yaml --principal ucb --run_dir runs/ucb

In each round the principal sets incentives, fresh agents learn under them by REINFORCE, and it is told their social
welfare: the sum of all agents' rewards, incentives left out. The run folder holds rounds.jsonl (every round and every
answer), metrics.jsonl (welfare against rounds and steps), results/ (the incentives that it recommends at the end, with
new agents) and budget.json; lightning-gfn compare reads them. An interrupted run starts again from its first round."""


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn govern``."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn govern",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="YAML", type=Path, required=True, help="world, agents and principals")
    parser.add_argument("--principal", metavar="NAME", required=True, help="which of the file's principals")
    parser.add_argument("--run_dir", metavar="DIR", type=Path, required=True, help="the folder of this run")
    parser.add_argument("--seed", type=int, default=0, help="of contexts, agents and the principal (default: 0)")
    parser.add_argument("--rounds", type=int, help="instead of the file's")
    parser.add_argument("--model", help="model or run that writes a language principal's answers")
    parser.add_argument(
        "--if_exists", choices=("error", "fresh"), default="error", help="a folder that holds a run: refuse, or move it"
    )
    return parser


def work(args: Sequence[str]) -> int:
    """Read, check, play, write."""
    options = build_parser().parse_args(args)
    if options.seed < 0:
        raise ValueError(f"--seed is {options.seed}, expected at least 0")
    from lightning_gfn.commands.asking.classes import find_classes
    from lightning_gfn.commands.governing.configuration import built, read_config
    from lightning_gfn.mechanism.agents import AgentSettings
    from lightning_gfn.tracking.run_folder import RunFolder

    find_classes()
    config = read_config(options.config, options.principal, options.rounds, options.model)
    world = built(options.config, "world", config.world)
    try:
        agents = AgentSettings(**config.agents)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{options.config}: agents: {error}") from error
    principal = built(options.config, f"principals.{config.name}", config.principal)
    folder = RunFolder(options.run_dir)
    if (folder.path / "results").exists() or (folder.path / "rounds.jsonl").exists():
        if options.if_exists == "error" and (folder.path / "results" / "test_metrics.json").exists():
            raise ValueError(f"{folder.path} holds a finished run: give another --run_dir, or --if_exists fresh")
        print(f"[lightning-gfn] moved the earlier run to {folder.set_aside()}", flush=True)
    govern(config, world, agents, principal, folder, options.seed)
    return 0


def govern(
    config: GovernConfig, world: World, agents: AgentSettings, principal: Principal, folder: Any, seed: int
) -> None:
    """Play the rounds and the test, and write the run folder.

    Args:
        config: of the run.
        world: the game.
        agents: how they learn.
        principal: decides.
        folder: the run folder.
        seed: of the run.
    """
    import numpy as np
    import yaml

    from lightning_gfn.commands.governing import results
    from lightning_gfn.mechanism.rounds import recommended
    from lightning_gfn.whole_files import replace_text

    started = time.monotonic(), sum(os.times()[:4])
    replace_text(folder.config_file, yaml.safe_dump(config.content(seed), sort_keys=False))
    folder.stamp("govern")
    replace_text(folder.path / "world.json", json.dumps(results.description_of(world), indent=2) + "\n")
    loggers = open_loggers(config, folder, seed)
    principal.setup(world, agents, np.random.default_rng([seed, 99]))
    played = play_and_log(config, world, agents, principal, folder, seed, loggers[0])
    budget = results.budget_of(played, principal, started)
    rows = results.problem_rows(
        world, played, recommended(world, agents, principal, populations=config.test_populations, seed=seed)
    )
    parameters = getattr(getattr(principal, "writer", None), "parameters", None)
    identity = results.identity_of(config, agents, rows, seed, parameters)
    files = results.write_results(folder, identity, rows, principal)
    replace_text(folder.path / "budget.json", json.dumps({**budget, "own": budget, "prior": {}}, indent=2) + "\n")
    summary = results.summary_of(rows)
    loggers[0].log_metrics({f"test/{name}": found["value"] for name, found in summary.items()}, step=config.rounds)
    for logger in loggers[1:]:
        for file in files:
            logger.log_artifact_file(file, "results")
        for name in ("budget.json", "rounds.jsonl", "config.yaml"):
            logger.log_artifact_file(folder.path / name, None)
        logger.finalize("success")
    told = ", ".join(f"{name} {found['value']:.3f}" for name, found in summary.items())
    print(f"{config.name}, test: {len(rows)} contexts, {told}", flush=True)
    if principal.counts:
        print(", ".join(f"{name} {count:,}" for name, count in sorted(principal.counts.items())), flush=True)


def open_loggers(config: GovernConfig, folder: Any, seed: int) -> list[Any]:
    """The figures on disk, and unless the file says no, MLflow as their mirror."""
    from lightning_gfn.tracking.disk_logger import DiskLogger

    disk = DiskLogger(folder.path)
    if config.mlflow is None:
        return [disk]
    from lightning_gfn.tracking.mlflow_logger import MLflowLogger

    mlflow = MLflowLogger(**config.mlflow, run_dir=str(folder.path))
    mlflow.follow(disk)
    mlflow.log_hyperparams(config.content(seed))
    mlflow.log_tags({"seed": seed, "method": config.name})
    folder.update(tags={"seed": seed, "method": config.name})
    return [disk, mlflow]


def play_and_log(
    config: GovernConfig,
    world: World,
    agents: AgentSettings,
    principal: Principal,
    folder: Any,
    seed: int,
    logger: Any,
) -> list[Round]:
    """Play the rounds; each is on disk when the next begins.

    Args:
        config: of the run.
        world: the game.
        agents: how they learn.
        principal: decides.
        folder: the run folder.
        seed: of the run.
        logger: takes the rows of the learning curve.

    Returns:
        all rounds.
    """
    from lightning_gfn.commands.governing.results import curve_row
    from lightning_gfn.mechanism.rounds import play_rounds

    played: list[Round] = []
    told = time.monotonic()
    with (folder.path / "rounds.jsonl").open("w", encoding="utf-8") as file:
        for entry in play_rounds(
            world, agents, principal, rounds=config.rounds, populations=config.populations, seed=seed
        ):
            played.append(entry)
            file.write(json.dumps(entry.to_json(), ensure_ascii=False) + "\n")
            file.flush()
            if len(played) % config.rows_of == 0:
                logger.log_metrics(curve_row(played[-config.rows_of :], len(played), principal), step=len(played))
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"round {len(played)} of {config.rounds}: welfare {entry.welfare:.1f}", flush=True)
    return played


def main(args: list[str]) -> int:
    """Run the command; 0 if it played to the end, 2 if the file or a model cannot be used."""
    return run_asking("govern", work, args)
