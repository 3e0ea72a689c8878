"""Draw whether partial rewards tell attempts that become proofs from those that do not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.commands._plots import add_plot_options, draw

if TYPE_CHECKING:
    from lightning_gfn.interfaces import RewardNetwork

FIELDS = ("problem_id", "outcome", "steps")


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn lean rewards``."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn lean rewards",
        description=f"{__doc__} A partial reward is the log-probability of an action under the model that made the "
        "attempts, or the mean of a verifier's log σ(score) of each tactic.",
    )
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run folders of evaluated tactic models")
    parser.add_argument(
        "--temperature", type=float, help="which temperature of the runs (default: the first one of each run's grid)"
    )
    group = parser.add_argument_group("a verifier instead; the runs' predictions are read, in place of their results")
    group.add_argument("--verifier", metavar="RUN", help="a reward model, or with --reference a policy trained by DPO")
    group.add_argument("--reference", metavar="RUN", help="the policy that the verifier's training by DPO began with")
    group.add_argument("--beta", type=float, default=0.1, help="DPO's beta (default: 0.1)")
    add_plot_options(parser, "partial_rewards")
    return parser


def network_of(options: argparse.Namespace) -> RewardNetwork:
    """The verifier that the options name.

    Raises:
        FileNotFoundError: there is none.
        ValueError: an option is out of range.
    """
    if options.reference is None:
        from lightning_gfn.policies.reward_models.trained import TrainedRewardNetwork

        return TrainedRewardNetwork(options.verifier)
    from lightning_gfn.policies.reward_models.implicit import ImplicitReward

    return ImplicitReward(options.verifier, options.reference, beta=options.beta)


def read_attempts(folders: Sequence[Path], temperature: float | None) -> list[dict[str, Any]]:
    """The attempts that ``predict`` wrote; a theorem's of two runs stay apart.

    Args:
        folders: run folders.
        temperature: of the attempts; that of each run's first row if None.

    Raises:
        FileNotFoundError: a run has no predictions.
        ValueError: names file, line and field of a row that is no attempt at a theorem.
    """
    from lightning_gfn.reports.rows import json_rows

    found = []
    for folder in folders:
        path, wanted = folder / "predictions" / "predictions.jsonl", temperature
        for number, row in json_rows(path, "sample attempts first (lightning-gfn predict)"):
            if missing := [name for name in FIELDS if name not in row]:
                raise ValueError(
                    f"{path}, line {number}: field {missing[0]!r} is missing; attempts at theorems are needed"
                )
            wanted = row["temperature"] if wanted is None else wanted
            if row["temperature"] == wanted and row["steps"]:
                found.append({**row, "problem_id": f"{folder}/{row['problem_id']}"})
    return found


def separation_by(network: RewardNetwork, attempts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How well the mean of log σ(score) over an attempt's tactics tells proofs from failures.

    Args:
        network: judges tactics.
        attempts: rows of ``read_attempts``.
    """
    import torch

    from lightning_gfn.metrics.functional.partial_rewards import reward_separation
    from lightning_gfn.rewards.proof import verifier_values

    steps = [step for row in attempts for step in row["steps"]]
    prompts, tactics = [step["prompt"] for step in steps], [step["tactic"] for step in steps]
    values = iter(verifier_values(network, prompts, tactics, torch.device("cpu")))
    means = [sum(next(values) for _ in row["steps"]) / len(row["steps"]) for row in attempts]
    return reward_separation(means, [row["outcome"] for row in attempts], [row["problem_id"] for row in attempts])


def main(args: list[str]) -> int:
    """Run the command; 0 if the plot was written, 1 if there is nothing to plot."""
    parser = build_parser()
    options = parser.parse_args(args)
    if options.reference is not None and options.verifier is None:
        parser.error("--reference needs --verifier: the policy that was trained from it")

    def make(output: Path) -> list[str]:
        from lightning_gfn.reports.partial_rewards import draw_separation, load_separation, report

        if options.verifier is None:
            found, label = (
                load_separation(options.runs, options.stage, options.temperature),
                "log-probability of an action",
            )
        else:
            network = network_of(options)
            found, label = separation_by(network, read_attempts(options.runs, options.temperature)), "mean log σ(score)"
        draw_separation(found, output, label)
        return report(found)

    name = "partial_rewards" if options.verifier is None else "verifier_rewards"
    return draw(options, options.runs[0], name, make)
