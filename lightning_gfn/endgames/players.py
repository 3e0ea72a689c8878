"""Players of endgames: experts who err at a stated rate and in their own way, and defenders with a bare king."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from lightning_gfn.endgames.positions import FILES, EndgameBoard, Position
from lightning_gfn.endgames.tables import UNKNOWN

Defence = Literal["exact", "random"]


@dataclass(frozen=True)
class EndgameExpert:
    """A player of the side with rooks, around exact play.

        p(m) = (1 − ε) / |best| [m in best] + ε / |legal|

    where best are the moves with the shortest mate among those that the expert considers.

    Args:
        noise: ε, share of moves that are drawn from all legal ones.
        blind: files that the expert never thinks of moving to, such as ``ab``; it looks at all moves where only such
            are legal.

    Raises:
        ValueError: a setting is out of range.
    """

    noise: float = 0.0
    blind: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise <= 1.0:
            raise ValueError(f"experts.noise is {self.noise}, expected a probability")
        if set(self.blind) - set(FILES):
            raise ValueError(f"experts.blind is {self.blind!r}, expected letters of files from a to h")

    def distribution(self, values: Mapping[str, int]) -> dict[str, float]:
        """Probability of each legal move.

        Args:
            values: legal moves, mapped to the plies to mate after them.
        """
        considered = {move: plies for move, plies in values.items() if move[2] not in self.blind} or dict(values)
        shortest = min(considered.values())
        best = {move for move, plies in considered.items() if plies == shortest}
        share, rest = (1.0 - self.noise) / len(best), self.noise / len(values)
        found = {move: rest + (share if move in best else 0.0) for move in values}
        return {move: p for move, p in found.items() if p > 0.0}

    def move(self, values: Mapping[str, int], random: Random) -> str:
        """Draw a move."""
        chances = self.distribution(values)
        return random.choices(list(chances), list(chances.values()))[0]


def best_moves(values: Mapping[str, int]) -> tuple[str, ...]:
    """The moves with the shortest mate; none where no move wins."""
    shortest = min(values.values(), default=UNKNOWN)
    return tuple(move for move, plies in values.items() if plies == shortest != UNKNOWN)


def defend(board: EndgameBoard, position: Position, defence: Defence, random: Random) -> str | None:
    """Black's move; None if there is no legal one.

    Args:
        board: knows moves and values.
        position: with black to move.
        defence: ``exact`` draws if it can and else delays mate as long as possible, ``random`` takes any legal move.
        random: draws among equally good moves.
    """
    moves = board.black_moves(position)
    if not moves or defence == "random":
        return random.choice(moves) if moves else None

    def delay(move: str) -> int:
        after = position.after(*board.squares_of(move), white=False)
        plies = board.plies_to_mate(after, white_to_move=True)
        return plies if plies is not None else UNKNOWN

    longest = max(map(delay, moves))
    return random.choice([move for move in moves if delay(move) == longest])
