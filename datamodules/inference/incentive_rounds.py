"""Prompts that ask for incentives, with histories of rounds that some principal has played."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from datamodules.common.base import ProblemDataModule, Split
from lightning_gfn.prompts.incentives import incentive_prompt
from lightning_gfn.types import Problem

AGAIN = "make the run again with lightning-gfn govern"
ROUND_FIELDS = ("context", "incentives", "welfare")


class IncentiveRounds(ProblemDataModule):
    """What a language principal reads, for training it: the rules, the context and some rounds that were played there.

    Histories are drawn from the rounds of a run of ``lightning-gfn govern``: of a context, at most ``history`` of its
    rounds at random, the best at the end. The test split has one problem a context, without a history.

    Args:
        run: folder of that run; it holds ``world.json`` and ``rounds.jsonl``.
        history: most rounds that a prompt tells; the number is drawn between 0 and it.
        num_train: training problems, contexts in turn.
        settings: arguments of ``ProblemDataModule``.

    Raises:
        ValueError: a number makes no sense, or a file of the run cannot be read.
        FileNotFoundError: the run has none.
    """

    def __init__(self, *, run: str, history: int = 5, num_train: int = 256, **settings: Any) -> None:
        super().__init__(**settings)
        if history < 0 or num_train < 1:
            raise ValueError(f"data.history={history} must be at least 0 and data.num_train={num_train} at least 1")
        self.run, self.history, self.num_train = Path(run), history, num_train

    def load_split(self, split: Split) -> list[Problem]:
        """The problems of a split; validation has the test's."""
        world, rounds = self._world(), self._rounds()
        contexts: list[str] = world["contexts"]
        if split != "train":
            return [self._problem(split, number, world, name, []) for number, name in enumerate(contexts)]
        problems = []
        for number in range(self.num_train):
            random, context = Random(f"incentive-rounds/{number}"), contexts[number % len(contexts)]
            own = [entry for entry in rounds if entry["context"] == context]
            count = random.randint(0, min(self.history, len(own)))
            chosen = sorted(random.sample(own, count), key=lambda entry: float(entry["welfare"]))
            problems.append(self._problem(split, number, world, context, chosen))
        return problems

    def _problem(
        self, split: Split, number: int, world: Mapping[str, Any], context: str, chosen: list[dict[str, Any]]
    ) -> Problem:
        entries: list[tuple[list[float], float, dict[str, float]]] = [
            (list(entry["incentives"].values()), float(entry["welfare"]), {}) for entry in chosen
        ]
        told = context if len(world["contexts"]) > 1 else ""
        question = incentive_prompt(
            world["rules"], told, world["names"], (float(world["low"]), float(world["high"])), entries
        )
        return Problem(id=f"incentives/{split}/{number}", prompt=self.prompt(question), metadata={"context": context})

    def _world(self) -> dict[str, Any]:
        path = self.run / "world.json"
        try:
            found = json.loads(self._text(path))
            missing = [name for name in ("rules", "names", "low", "high", "contexts") if name not in found]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is no JSON object ({error}): make the run again with lightning-gfn govern"
            ) from error
        if missing:
            raise ValueError(f"{path} lacks {missing[0]!r}: make the run again with lightning-gfn govern")
        return dict(found)

    def _rounds(self) -> list[dict[str, Any]]:
        path, rounds = self.run / "rounds.jsonl", []
        for number, line in enumerate(self._text(path).splitlines(), start=1):
            try:
                entry = json.loads(line)
                missing = [name for name in ROUND_FIELDS if name not in entry]
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: no JSON object ({error}): delete the line") from error
            if missing:
                raise ValueError(f"{path}, line {number}: field {missing[0]!r} is missing: delete the line")
            rounds.append(entry)
        return rounds

    def _text(self, path: Path) -> str:
        if not path.is_file():
            raise FileNotFoundError(
                f"data.run: {path} does not exist: play rounds first, lightning-gfn govern --config "
                f"experiments/mechanism/escape_room.yaml --principal epsilon_greedy --run_dir {self.run}"
            )
        return path.read_text(encoding="utf-8")
