"""Games of the evaluated model against fixed opponents, beside those of the experts that taught it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lightning_gfn.callbacks.common.evaluated_step import EvaluatedStep
from lightning_gfn.callbacks.common.problem_rows import run_seed, temperature_suffix
from lightning_gfn.callbacks.common.run_files import run_folder, send_artifact, write_json
from lightning_gfn.endgames.games import EndgameSetting, Game, expert_mover, play_match
from lightning_gfn.endgames.players import Defence
from lightning_gfn.interfaces import Policy
from lightning_gfn.metrics.functional.estimates import bootstrap_ci
from lightning_gfn.module_interfaces import as_evaluated
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.types import Problem

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

Mover = Callable[[list[Game]], list[str]]


class EndgameMatches(EvaluatedStep):
    """Lets the policy play whole games of an endgame at each temperature, against exact and against random defence.

        win_rate = share of games that end in mate within ``max_moves`` moves

    An illegal move, stalemate or the loss of the rook ends a game without a win. The experts play from the same
    positions against the same defenders; so does an exact player. Logged as ``<stage>/win_rate_<defence>``, with
    ``_t<temperature>`` behind it as in ``Evaluation``; all of it, with intervals over games (95%, bootstrap) and how
    games ended, goes to ``results/<stage>_matches.json``.

    Args:
        num_games: of each match.
        max_moves: of the side with rooks in one game.
        temperatures: of the policy; None for those of the module's evaluation.
        defences: opponents with the bare king: ``exact``, ``random``.
        seed: key of the first positions, the defenders' choices and the samples.
        num_resamples: bootstrap resamples of the intervals.

    Raises:
        ValueError: a number is below 1, or there is no opponent.
    """

    def __init__(
        self,
        *,
        num_games: int = 200,
        max_moves: int = 20,
        temperatures: tuple[float, ...] | None = None,
        defences: tuple[Defence, ...] = ("exact", "random"),
        seed: int = 0,
        num_resamples: int = 1000,
    ) -> None:
        if min(num_games, max_moves, num_resamples) < 1 or not defences:
            raise ValueError(
                f"EndgameMatches: num_games={num_games}, max_moves={max_moves} and num_resamples={num_resamples} must "
                f"be at least 1, and defences={defences} must name an opponent"
            )
        self.num_games, self.max_moves = num_games, max_moves
        self.temperatures, self.defences = temperatures, defences
        self.seed, self.num_resamples = seed, num_resamples

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse data that play no endgame.

        Raises:
            ValueError: names the data module.
        """
        if stage != "predict":
            setting_of(trainer)

    def restart(self) -> None:
        """Nothing is gathered."""

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, step_name: str) -> None:
        """Games do not depend on the problems of the split."""

    def finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Play, log and write; within ``fit`` no games are played."""
        if trainer.state.fn == "fit":
            return
        module, setting = as_evaluated(pl_module, self), setting_of(trainer)
        starts = setting.starts(self.num_games, self.seed)
        chosen = self.temperatures
        temperatures = list(chosen if chosen is not None else module.decoding()["temperatures"])
        movers: dict[str, Mover] = {"exact": exact_mover(setting)}
        movers |= {
            f"expert {number}": expert_mover(setting, expert, self.seed)
            for number, expert in enumerate(setting.experts)
        }
        movers |= {
            f"model{temperature_suffix(t, temperatures)}": policy_mover(module.policy, setting, t, self.seed)
            for t in temperatures
        }
        found = {name: self._matches(setting, starts, mover) for name, mover in movers.items()}
        logged = {
            f"{stage}/win_rate_{defence}{name.removeprefix('model')}": match["win_rate"]["value"]
            for name, matches in found.items()
            if name.startswith("model")
            for defence, match in matches.items()
        }
        pl_module.log_dict(logged, sync_dist=True)  # every rank plays all games and finds the same
        if trainer.is_global_zero:
            settings = {"num_games": self.num_games, "max_moves": self.max_moves, "seed": self.seed}
            content: dict[str, Any] = {
                "stage": stage,
                "method": module.method,
                "seed": run_seed(),
                "settings": settings,
            }
            content |= {"temperatures": temperatures, "players": found}
            path = write_json(run_folder(trainer) / "results" / f"{stage}_matches.json", content)
            send_artifact(trainer, path, "results")

    def _matches(self, setting: EndgameSetting, starts: Sequence[Any], mover: Mover) -> dict[str, Any]:
        """Win rate, its interval and how games ended, by opponent."""
        found: dict[str, Any] = {}
        for defence in self.defences:
            how: dict[str, Any] = {"defence": defence, "max_moves": self.max_moves, "seed": self.seed}
            games = play_match(setting, starts, mover, **how)
            won = [float(game.end == "mate") for game in games]
            low, high = bootstrap_ci(won, num_resamples=self.num_resamples, seed=self.seed)
            ends = Counter(str(game.end) for game in games)
            found[defence] = {"win_rate": {"value": fmean(won), "ci95": [low, high]}, "ends": dict(ends)}
        return found


def setting_of(trainer: Trainer) -> EndgameSetting:
    """The endgame that the data module holds games of.

    Raises:
        ValueError: it holds none.
    """
    datamodule = getattr(trainer, "datamodule", None)
    setting = getattr(getattr(datamodule, "source", datamodule), "setting", None)
    if not isinstance(setting, EndgameSetting):
        raise ValueError(
            f"EndgameMatches plays the endgame of the data, but {type(datamodule).__name__} has none: use "
            "datamodules.experts.chess_games.EndgameGames, or take EndgameMatches out of trainer.callbacks"
        )
    return setting


def exact_mover(setting: EndgameSetting) -> Mover:
    """White plays a move with the shortest mate, the first by name."""

    def moves(games: list[Game]) -> list[str]:
        values = (setting.board.white_moves(game.position) for game in games)
        return [min(sorted(known), key=known.__getitem__) for known in values]

    return moves


def policy_mover(policy: Policy, setting: EndgameSetting, temperature: float, seed: int) -> Mover:
    """The policy writes white's moves.

    Args:
        policy: writes a move behind the text of a game.
        setting: how games are written.
        temperature: of sampling.
        seed: key of the samples.
    """

    def moves(games: list[Game]) -> list[str]:
        problems = [
            Problem(id=f"match/{game.number}/{len(game.moves)}", prompt=setting.prompt(game), target={"": 0.0})
            for game in games
        ]
        records = sample_completions(policy, problems, num_samples=1, temperature=temperature, seed=seed, entropy=False)
        return [record.completions[0] for record in records]

    return moves
