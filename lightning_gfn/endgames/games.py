"""Games of an endgame: where they begin, how they are written, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Literal

import numpy as np

from lightning_gfn.endgames.players import Defence, EndgameExpert, defend
from lightning_gfn.endgames.positions import EndgameBoard, Position
from lightning_gfn.endgames.tables import UNKNOWN, endgame

End = Literal["mate", "stalemate", "rook lost", "illegal move", "move limit"]


@dataclass
class Game:
    """A game under way; white, who has the rooks, is to move or the game has ended.

    Args:
        number: which of its match.
        start: first position.
        positions: before each move of white, and the present one.
        moves: of both sides, in turn.
        end: how it ended; None while it goes on.
    """

    number: int
    start: Position
    positions: list[Position] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    end: End | None = None

    @property
    def position(self) -> Position:
        """The present one."""
        return self.positions[-1] if self.positions else self.start


@dataclass(frozen=True)
class EndgameSetting:
    """Which endgame is played, from where, by whom it was taught, and how a model reads it.

    Args:
        rooks: of white.
        max_mate: games begin at most so many moves from mate.
        experts: the players whose games a model learns from.
        history: moves of both sides before the present position that a prompt shows; None for all.
        oriented: turn the board before each move of white, as ``Position.oriented`` says, so that symmetric positions
            are one; moves are written as on the turned board, and prompts show no moves.

    Raises:
        ValueError: moves are to be shown on a board that turns.
    """

    rooks: int
    max_mate: int
    experts: tuple[EndgameExpert, ...]
    history: int | None = 0
    oriented: bool = False

    def __post_init__(self) -> None:
        if self.oriented and self.history != 0:
            raise ValueError(f"data.history={self.history} needs data.oriented: false, a board that is not turned")

    @property
    def board(self) -> EndgameBoard:
        """Moves and values."""
        return board_of(self.rooks)

    def starts(self, count: int, seed: int) -> list[Position]:
        """Positions with white to move and mate within reach, drawn uniformly.

        Args:
            count: how many.
            seed: key of the draw.
        """
        places = np.flatnonzero(self.board.table.white.reshape(-1) < 2 * self.max_mate)
        drawn = np.random.default_rng(seed).choice(places, size=count)
        squares = np.unravel_index(drawn, self.board.table.white.shape)
        found = [Position(int(k), int(b), tuple(map(int, rooks))) for k, b, *rooks in zip(*squares, strict=True)]
        return [self.turned(position) for position in found]

    def turned(self, position: Position) -> Position:
        """The position as it is played on."""
        return position.oriented(self.board.size) if self.oriented else position

    def prompt(self, game: Game) -> str:
        """The text that white's next move continues: a position, and the moves since then."""
        played = len(game.moves)
        shown = played if self.history is None else min(self.history, played)
        shown -= shown % 2  # a position with white to move stands first
        first = [game.start, *game.positions][0] if shown == played else game.positions[(played - shown) // 2]
        recent = game.moves[played - shown :]
        return " ".join([first.text(self.board.size), *recent]) + " "


_BOARDS: dict[int, EndgameBoard] = {}


def board_of(rooks: int) -> EndgameBoard:
    """The board of an endgame, made once."""
    if rooks not in _BOARDS:
        _BOARDS[rooks] = EndgameBoard(endgame(rooks))
    return _BOARDS[rooks]


def position_hash(position: Position) -> float:
    """A number from 0 to 1 that decides whether a position is for training or for tests."""
    digest = blake2b(position.text().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def advance(setting: EndgameSetting, game: Game, move: str, defence: Defence, random: Random) -> None:
    """Play a move of white and black's answer.

    Args:
        setting: the endgame.
        game: changed in place.
        move: what white plays; ends the game if it is not legal.
        defence: how black answers.
        random: black's.
    """
    board = setting.board
    if not game.positions:
        game.positions.append(game.start)
    position = game.position
    if move not in board.white_moves(position):
        game.end = "illegal move"
        return
    game.moves.append(move)
    position = position.after(*board.squares_of(move), white=True)
    answer = defend(board, position, defence, random)
    if answer is None:
        game.end = "mate" if board.is_check(position) else "stalemate"
        return
    game.moves.append(answer)
    after = position.after(*board.squares_of(answer), white=False)
    game.positions.append(setting.turned(after))
    if board.plies_to_mate(after, white_to_move=True) is None:
        game.end = "rook lost"


def play_match(
    setting: EndgameSetting,
    starts: Sequence[Position],
    white: Callable[[list[Game]], list[str]],
    *,
    defence: Defence,
    max_moves: int,
    seed: int,
) -> list[Game]:
    """Play games side by side to their end.

    Args:
        setting: the endgame.
        starts: first position of each game.
        white: the moves of white in the games that go on.
        defence: how black plays.
        max_moves: of white in one game.
        seed: key of black's choices.
    """
    games = [Game(number, start) for number, start in enumerate(starts)]
    randoms = [Random(f"{seed}/{number}") for number in range(len(games))]
    for _ in range(max_moves):
        going = [game for game in games if game.end is None]
        if not going:
            break
        for game, move in zip(going, white(going), strict=True):
            advance(setting, game, move, defence, randoms[game.number])
    for game in games:
        if game.end is None:
            game.end = "move limit"
    return games


def expert_mover(setting: EndgameSetting, expert: EndgameExpert, seed: int) -> Callable[[list[Game]], list[str]]:
    """An expert as the white player of a match.

    Args:
        setting: the endgame.
        expert: who plays.
        seed: key of the moves.
    """

    def moves(games: list[Game]) -> list[str]:
        return [
            expert.move(setting.board.white_moves(game.position), Random(f"{seed}/{game.number}/{len(game.moves)}"))
            for game in games
        ]

    return moves


def lost_plies(values: dict[str, int], move: str) -> int | None:
    """How much later mate comes than after the best move; None for an illegal move or one that wins no more."""
    plies = values.get(move, UNKNOWN)
    return None if plies == UNKNOWN else plies - min(values.values())
