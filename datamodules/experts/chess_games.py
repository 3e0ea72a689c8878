"""Games of a chess endgame by imperfect experts: what a model can learn from players who all err."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from statistics import fmean
from typing import Any

from datamodules.common.base import ProblemDataModule, Split
from datamodules.experts.solvers import mixture
from datamodules.generators.splits import SHARES
from lightning_gfn.endgames.games import EndgameSetting, Game, advance, position_hash
from lightning_gfn.endgames.players import EndgameExpert, best_moves
from lightning_gfn.types import Problem

REFEREE = EndgameExpert(noise=0.3)
"""Plays the games that validation and test positions come from, whoever the experts are."""
MOST_GAMES = 200
"""Games a problem after which there are taken to be no more positions of a split."""


class EndgameGames(ProblemDataModule):
    """White's moves in games of king and rooks against a bare king; each of them is made by an expert drawn anew.

    A problem is a position with white to move, as a text (``Kc3 Rh5 ke4 `` and the last moves, if ``history`` says so);
    a solution is a move (``h5h4``) that an expert made there. Right are the moves with the shortest mate, exactly, by
    retrograde analysis; they are every problem's ``target``, all alike, so that rewards know them too. Validation and
    test positions are those of games of a referee and do not depend on the experts. If ``held_out``, a hash of the
    position decides its split, and no training move was made in a test position.

    ``metadata["experts"]`` of validation and test problems holds what the experts play there (see ``Transcendence``),
    ``metadata["position"]`` the position alone and ``metadata["moves"]`` the plies to mate after every legal move.

    Args:
        experts: the players of white.
        rooks: 1 or 2.
        max_mate: games begin at most so many moves from mate.
        max_moves: of white in a game.
        num_games: games of the training split.
        num_val: validation positions.
        num_test: test positions.
        history: moves before the position that prompts show, of both sides; None for the whole game.
        oriented: turn the board before each move so that symmetric positions are one (see ``EndgameSetting``).
        held_out: keep training moves out of validation and test positions.
        game_seed: key of the training games.
        settings: arguments of ``ProblemDataModule``.

    Raises:
        ValueError: there are no experts, or a size is below 1.

    Source: Zhang et al. 2024, arXiv:2406.11741, section 3, with endgames whose exact play is known.
    """

    def __init__(
        self,
        *,
        experts: list[EndgameExpert],
        rooks: int = 1,
        max_mate: int = 4,
        max_moves: int = 12,
        num_games: int = 20_000,
        num_val: int = 0,
        num_test: int = 256,
        history: int | None = 0,
        oriented: bool = False,
        held_out: bool = True,
        game_seed: int = 0,
        prompt_template: str = "{question}",
        **settings: Any,
    ) -> None:
        super().__init__(prompt_template=prompt_template, **settings)
        if not experts or min(max_mate, max_moves, num_games, num_test) < 1 or rooks not in (1, 2):
            raise ValueError(
                f"data.experts needs one at least ({len(experts)}); data.max_mate={max_mate}, max_moves={max_moves}, "
                f"num_games={num_games}, num_test={num_test} must be at least 1, data.rooks={rooks} 1 or 2"
            )
        self.setting = EndgameSetting(rooks, max_mate, tuple(experts), history, oriented)
        self.held_out = held_out
        self.max_moves, self.num_games, self.game_seed = max_moves, num_games, game_seed
        self.sizes: dict[Split, int] = {"val": num_val, "test": num_test}

    def load_split(self, split: Split) -> list[Problem]:
        """Positions of a split: those of all training games, or so many of the referee's."""
        if split == "train":
            return self._training_problems()
        found: dict[str, Game] = {}
        wanted = self.sizes[split]
        if not wanted:
            return []
        for game, _ in self._moves(split, wanted * MOST_GAMES, f"referee/{split}", (REFEREE,)):
            found.setdefault(self.setting.prompt(game), Game(0, game.start, list(game.positions), list(game.moves)))
            if len(found) == wanted:
                return self._tests(split, found)
        raise ValueError(f"data.num_{split} is {wanted}, but games reach only {len(found)} {split} positions: lower it")

    def _moves(
        self, split: Split, count: int, key: str, players: tuple[EndgameExpert, ...]
    ) -> Iterator[tuple[Game, str]]:
        """Games before each move of white whose position belongs to a split, and the move."""
        low, high = SHARES[split] if self.held_out else (0.0, 1.0)
        board = self.setting.board
        starts = self.setting.starts(count, int.from_bytes(key.encode(), "big") % 2**63)
        for number, start in enumerate(starts):
            random = Random(f"{key}/{number}")
            game = Game(number, start)
            for _ in range(self.max_moves):
                move = random.choice(players).move(board.white_moves(game.position), random)
                if low <= position_hash(game.position) < high:
                    yield game, move
                advance(self.setting, game, move, "exact" if number % 2 else "random", random)
                if game.end is not None:
                    break

    def _training_problems(self) -> list[Problem]:
        """Each position once, with every move that was made there and the right ones as its target."""
        moves: dict[str, list[str]] = {}
        right: dict[str, tuple[str, ...]] = {}
        for game, move in self._moves("train", self.num_games, f"games/{self.game_seed}", self.setting.experts):
            text = self.setting.prompt(game)
            moves.setdefault(text, []).append(move)
            if text not in right:
                right[text] = best_moves(self.setting.board.white_moves(game.position))
        return [self._problem("train", text, tuple(found), right[text]) for text, found in moves.items()]

    def _problem(
        self,
        split: Split,
        text: str,
        solutions: tuple[str, ...],
        right: tuple[str, ...],
        metadata: dict[str, Any] | None = None,
    ) -> Problem:
        return Problem(
            id=f"endgame/{split}/{text.strip()}",
            prompt=self.prompt(text),
            solutions=solutions,
            target=dict.fromkeys(right, 0.0),
            answer_style="(.+)",
            metadata=metadata or {},
        )

    def _tests(self, split: Split, games: dict[str, Game]) -> list[Problem]:
        board = self.setting.board
        values = {text: board.white_moves(game.position) for text, game in games.items()}
        played = {
            text: [expert.distribution(known) for expert in self.setting.experts] for text, known in values.items()
        }
        right = {text: best_moves(known) for text, known in values.items()}

        def rates(number: int) -> list[float]:
            return [sum(played[text][number].get(move, 0.0) for move in right[text]) for text in games]

        by_expert = [rates(number) for number in range(len(self.setting.experts))]
        best = max(by_expert, key=fmean)
        return [
            self._problem(
                split,
                text,
                right[text],
                right[text],
                {
                    "mate_in": (min(values[text].values()) + 2) // 2,
                    "position": games[text].position.text(),
                    "moves": values[text],
                    "experts": {
                        "mixture": mixture(played[text]),
                        "best": best[place],
                        "mean": fmean(own[place] for own in by_expert),
                        "right": right[text],
                    },
                },
            )
            for place, text in enumerate(games)
        ]
