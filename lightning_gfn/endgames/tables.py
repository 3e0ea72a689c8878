"""Retrograde analysis: the exact distance to mate of every position of a king and rooks against a king."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_gfn.endgames.geometry import NONE, geometry

UNKNOWN = 255
"""Value of positions that are not won, or are none."""
CHUNK = 1 << 16
"""Positions that are looked at together."""
Squares = NDArray[np.int64]


class Pieces(NamedTuple):
    """Squares of the pieces of many positions: the kings, and one array a rook."""

    white_king: Squares
    black_king: Squares
    rooks: tuple[Squares, ...]


class Endgame:
    """Plies to mate under best play by both, for the side with rooks; the other side has a bare king.

        W(p) = 1 + min over white's moves of B(p'),     B(p) = 1 + max over black's moves of W(p'),    B(mate) = 0

    found backwards from the mates. ``white`` and ``black`` hold the values of positions with that side to move,
    ``UNKNOWN`` where white cannot force mate or the position is illegal. A rook that black takes leads to the
    table with one rook less; without rooks the game is drawn.

    Args:
        rooks: 1 or 2.
        size: ranks and files of the board.

    Raises:
        ValueError: another number of rooks.

    Source: Thompson 1986, ICCA Journal 9(3), "Retrograde analysis of certain endgames".
    """

    def __init__(self, rooks: int = 1, size: int = 8) -> None:
        if rooks not in (1, 2):
            raise ValueError(f"Endgame: rooks={rooks} must be 1 or 2")
        self.rooks, self.board = rooks, geometry(size)
        self.smaller = endgame(rooks - 1, size) if rooks > 1 else None
        shape = (self.board.squares,) * (rooks + 2)
        self.white = np.full(shape, UNKNOWN, dtype=np.uint8)
        self.black = np.full(shape, UNKNOWN, dtype=np.uint8)
        self._solve()

    # ---------------------------------------------------------------- rules, elementwise over positions

    def are_apart(self, p: Pieces) -> NDArray[np.bool_]:
        """True where no two pieces share a square and the kings do not touch."""
        apart = (p.white_king != p.black_king) & ~self.board.near_SS[p.white_king, p.black_king]
        for number, rook in enumerate(p.rooks):
            apart &= (rook != p.white_king) & (rook != p.black_king)
            for other in p.rooks[:number]:
                apart &= rook != other
        return apart

    def is_check(self, p: Pieces) -> NDArray[np.bool_]:
        """True where a rook attacks the black king."""
        found = np.zeros(p.black_king.shape, dtype=bool)
        for number, rook in enumerate(p.rooks):
            others = p.rooks[:number] + p.rooks[number + 1 :]
            found |= self.board.sees(rook, p.black_king, p.white_king, *others)
        return found

    def is_white_to_move(self, p: Pieces) -> NDArray[np.bool_]:
        """True where the position is legal with white to move."""
        return self.are_apart(p) & ~self.is_check(p)

    def black_replies(self, p: Pieces, target: Squares) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        """Whether black's king may step onto a square, and the value of what follows.

        Args:
            p: positions with black to move.
            target: the square that the king steps to in each; NONE for no step.
        """
        there = np.where(target == NONE, 0, target)
        legal = (target != NONE) & (there != p.white_king) & ~self.board.near_SS[there, p.white_king]
        value = self.white.reshape(-1)[self._places(p._replace(black_king=there))]
        for number, rook in enumerate(p.rooks):
            others = p.rooks[:number] + p.rooks[number + 1 :]
            taken = there == rook
            legal &= taken | ~self.board.sees(
                rook, there, p.white_king, *(np.where(o == there, rook, o) for o in others)
            )
            value[taken] = self._taken_value(p.white_king, there, others)[taken]
        return legal, value

    def _taken_value(self, white_king: Squares, black_king: Squares, rooks: tuple[Squares, ...]) -> NDArray[np.uint8]:
        if self.smaller is None:
            return np.full(black_king.shape, UNKNOWN, dtype=np.uint8)
        return self.smaller.white[(white_king, black_king, *rooks)]

    def black_value(self, p: Pieces) -> NDArray[np.int64]:
        """Plies to mate with black to move, as far as the values with white to move are known."""
        worst = np.full(p.black_king.shape, NONE)
        for direction in range(8):
            legal, value = self.black_replies(p, self.board.steps_S8[p.black_king, direction])
            worst = np.where(legal, np.maximum(worst, value), worst)
        mated = (worst == NONE) & self.is_check(p)
        known = (worst != NONE) & (worst != UNKNOWN)
        return np.where(mated, 0, np.where(known, worst + 1, UNKNOWN))

    # ---------------------------------------------------------------- the analysis

    def _pieces(self, places: Squares) -> Pieces:
        squares = np.unravel_index(places, self.white.shape)
        return Pieces(squares[0], squares[1], tuple(squares[2:]))

    def _places(self, p: Pieces) -> Squares:
        """Numbers of positions; two rooks are one position in either order, and the lower square stands first."""
        rooks = p.rooks
        if len(rooks) == 2:
            rooks = (np.minimum(*rooks), np.maximum(*rooks))
        return np.ravel_multi_index((p.white_king, p.black_king, *rooks), self.white.shape)

    def _in_order(self, p: Pieces) -> NDArray[np.bool_]:
        return p.rooks[0] < p.rooks[-1] if len(p.rooks) == 2 else np.ones(p.rooks[0].shape, dtype=bool)

    def _solve(self) -> None:
        """Go on from the positions mated in d plies to those mated in d + 1, until there are none."""
        white, black = self.white.reshape(-1), self.black.reshape(-1)
        due: dict[int, list[Squares]] = {}
        for places in chunks(np.arange(black.size)):
            p = self._pieces(places)
            self._note_black(places[self.are_apart(p) & self._in_order(p)], due)
        while due:
            depth = min(due)
            for lost in due.pop(depth):
                black[lost[black[lost] == UNKNOWN]] = depth
            for lost in chunks(np.flatnonzero(black == depth)):
                for before in self._before_white(self._pieces(lost)):
                    white[before[white[before] == UNKNOWN]] = depth + 1
            candidate = np.zeros(black.size, dtype=bool)
            for won in chunks(np.flatnonzero(white == depth + 1)):
                for before in self._before_black(self._pieces(won)):
                    candidate[before] = True
            for places in chunks(np.flatnonzero(candidate & (black == UNKNOWN))):
                self._note_black(places, due)
        if self.rooks == 2:
            self.white = np.minimum(self.white, self.white.swapaxes(2, 3))
            self.black = np.minimum(self.black, self.black.swapaxes(2, 3))

    def _note_black(self, places: Squares, due: dict[int, list[Squares]]) -> None:
        value = self.black_value(self._pieces(places))
        for depth in np.unique(value[value != UNKNOWN]):
            due.setdefault(int(depth), []).append(places[value == depth])

    def _before_white(self, p: Pieces) -> Iterator[Squares]:
        """Positions with white to move that a move of white leads from to these, move by move."""
        for direction in range(8):
            origin = self.board.steps_S8[p.white_king, direction]
            yield self._legal(p._replace(white_king=np.where(origin == NONE, 0, origin)), origin != NONE)
        for number, rook in enumerate(p.rooks):
            others = p.rooks[:number] + p.rooks[number + 1 :]
            for column in range(self.board.lines_SL.shape[1]):
                origin = self.board.lines_SL[rook, column]
                free = self.board.sees(rook, origin, p.white_king, p.black_king, *others)
                yield self._legal(p._replace(rooks=(*p.rooks[:number], origin, *p.rooks[number + 1 :])), free)

    def _legal(self, p: Pieces, reachable: NDArray[np.bool_]) -> Squares:
        chosen = Pieces(p.white_king[reachable], p.black_king[reachable], tuple(rook[reachable] for rook in p.rooks))
        return self._places(chosen)[self.is_white_to_move(chosen)]

    def _before_black(self, p: Pieces) -> Iterator[Squares]:
        """Positions with black to move that a step of black leads from to these, direction by direction."""
        for direction in range(8):
            origin = self.board.steps_S8[p.black_king, direction]
            q = p._replace(black_king=np.where(origin == NONE, 0, origin))
            yield self._places(q)[(origin != NONE) & self.are_apart(q)]


def chunks(places: Squares) -> Iterator[Squares]:
    """The places, some at a time."""
    for start in range(0, len(places), CHUNK):
        yield places[start : start + CHUNK]


@lru_cache(maxsize=8)
def endgame(rooks: int = 1, size: int = 8) -> Endgame:
    """The table of an endgame, made once in a process."""
    return Endgame(rooks, size)
