"""Boards of an endgame on which a model's moves are drawn at several temperatures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning_gfn.callbacks.common.evaluated_step import EvaluatedStep
from lightning_gfn.callbacks.common.run_files import gather_rows, records_of, run_folder, send_artifact, write_json
from lightning_gfn.endgames.drawing import Panel, boards_svg
from lightning_gfn.module_interfaces import as_evaluated
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.types import Problem
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class EndgameBoards(EvaluatedStep):
    """Draws what a model plays at falling temperatures: where that helps most, in the middle, and where it harms most.

        gain = share of right moves at the last temperature − that at the first

    Positions of the test are ordered by their gain in the evaluation's own samples; the first, the middle one of those
    whose gain is not 0, and the last are sampled again and drawn. Squares show the value of the move to them, arrows
    how often it is made. ``results/test_boards.svg`` holds the figure, ``test_boards.json`` its numbers.

    Args:
        temperatures: of the columns, falling; the first and the last must be temperatures of the evaluation.
        num_samples: moves drawn at each position and temperature.
        seed: key of the samples.

    Raises:
        ValueError: fewer than two temperatures, or no samples.

    Source: Zhang et al. 2024, arXiv:2406.11741, figure 2.
    """

    def __init__(
        self, *, temperatures: tuple[float, ...] = (1.0, 0.5, 0.001), num_samples: int = 500, seed: int = 0
    ) -> None:
        if len(temperatures) < 2 or num_samples < 1:
            raise ValueError(
                f"EndgameBoards: temperatures={list(temperatures)} needs two at least, num_samples={num_samples} one"
            )
        self.temperatures, self.num_samples, self.seed = tuple(temperatures), num_samples, seed
        self._rows: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse temperatures that the evaluation does not sample at.

        Raises:
            ValueError: names them.
        """
        if stage != "test":
            return
        known = list(as_evaluated(pl_module, self).decoding()["temperatures"])
        missing = [t for t in (self.temperatures[0], self.temperatures[-1]) if t not in known]
        if missing:
            raise ValueError(
                f"EndgameBoards compares temperatures {missing}, which are not among {known}: add them to "
                "model.evaluation.temperatures or change EndgameBoards' temperatures"
            )

    def restart(self) -> None:
        """Forget the records."""
        self._rows = []

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, step_name: str) -> None:
        """Keep how often each position was answered rightly.

        Raises:
            ValueError: the data are no positions of an endgame.
        """
        for record in records_of(outputs, step_name):
            if "position" not in record.problem.metadata:
                raise ValueError(
                    f"EndgameBoards draws positions, but problem {record.problem.id!r} has none: use "
                    "datamodules.experts.chess_games.EndgameGames, or take EndgameBoards out of trainer.callbacks"
                )
            if record.temperature in (self.temperatures[0], self.temperatures[-1]):
                right = sum(record.correct) / len(record.correct)
                problem = record.problem
                self._rows.append(
                    {
                        "prompt": problem.prompt,
                        "position": problem.metadata["position"],
                        "moves": dict(problem.metadata["moves"]),
                        "temperature": record.temperature,
                        "right": right,
                    }
                )

    def finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose, sample and draw; only after a test."""
        if stage != "test":
            return
        chosen = chosen_rows(gather_rows(trainer, self._rows), self.temperatures[0], self.temperatures[-1])
        module = as_evaluated(pl_module, self)
        problems = [Problem(id=f"board/{row['position']}", prompt=row["prompt"], target={"": 0.0}) for row in chosen]
        panels: list[list[Panel]] = [[] for _ in chosen]
        for temperature in self.temperatures:
            how: dict[str, Any] = {"num_samples": self.num_samples, "temperature": temperature, "seed": self.seed}
            records = sample_completions(module.policy, problems, entropy=False, **how)
            for row, record, shown in zip(chosen, records, panels, strict=True):
                shares = {move: n / self.num_samples for move, n in Counter(record.completions).items()}
                shown.append(Panel(row["position"], row["moves"], shares))
        if trainer.is_global_zero:
            self._write(trainer, module.method, chosen, panels)

    def _write(
        self, trainer: Trainer, method: str, chosen: Sequence[dict[str, Any]], panels: list[list[Panel]]
    ) -> None:
        folder = run_folder(trainer) / "results"
        columns = [f"τ = {temperature:g}" for temperature in self.temperatures]
        names = [f"{row['name']}: {row['position']}" for row in chosen]
        figure = replace_text(
            folder / "test_boards.svg", boards_svg(method, columns, list(zip(names, panels, strict=True)))
        )
        rows = [
            {
                "name": row["name"],
                "position": row["position"],
                "gain": row["gain"],
                "boards": [
                    {"temperature": t, "right": panel.right, "illegal": panel.illegal, "shares": dict(panel.shares)}
                    for t, panel in zip(self.temperatures, shown, strict=True)
                ],
            }
            for row, shown in zip(chosen, panels, strict=True)
        ]
        numbers = write_json(folder / "test_boards.json", {"method": method, "samples": self.num_samples, "rows": rows})
        for path in (figure, numbers):
            send_artifact(trainer, path, "results")


def chosen_rows(rows: Sequence[dict[str, Any]], first: float, last: float) -> list[dict[str, Any]]:
    """The positions with the largest, the middle and the smallest gain, each once.

    Args:
        rows: what ``EndgameBoards`` keeps of each position at two temperatures.
        first: the higher temperature.
        last: the lower one.
    """
    by_prompt: dict[str, dict[float, dict[str, Any]]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt"], {})[row["temperature"]] = row
    gains = [
        {**both[last], "gain": both[last]["right"] - both[first]["right"]}
        for both in by_prompt.values()
        if first in both and last in both
    ]
    gains.sort(key=lambda row: (-row["gain"], row["position"]))
    moved = [row for row in gains if row["gain"]] or gains
    named = {"largest gain": gains[:1], "middle": moved[len(moved) // 2 :][:1], "largest loss": gains[-1:]}
    found: dict[str, dict[str, Any]] = {}
    for name, place in named.items():
        for row in place:
            found.setdefault(row["position"], {**row, "name": name})
    return list(found.values())
