"""Positions of an endgame as people and models write them, with the exact value of every move."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lightning_gfn.endgames.geometry import NONE
from lightning_gfn.endgames.tables import UNKNOWN, Endgame, Pieces

FILES = "abcdefgh"
MOVE = re.compile(r"[a-h][1-8][a-h][1-8]")


def square_name(square: int, size: int = 8) -> str:
    """``e4`` and so on."""
    return f"{FILES[square % size]}{square // size + 1}"


def square_number(name: str, size: int = 8) -> int:
    """The number of a square by its name."""
    return (int(name[1]) - 1) * size + FILES.index(name[0])


@dataclass(frozen=True, order=True)
class Position:
    """Squares of the pieces, by number; ``rooks`` in rising order.

    Args:
        white_king: of the side with rooks.
        black_king: of the other side.
        rooks: white's rooks.
    """

    white_king: int
    black_king: int
    rooks: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rooks", tuple(sorted(self.rooks)))

    def text(self, size: int = 8) -> str:
        """``Kc3 Rh5 ke4``: white's pieces in capitals, black's king last."""
        pieces = [f"K{square_name(self.white_king, size)}", *(f"R{square_name(rook, size)}" for rook in self.rooks)]
        return " ".join([*pieces, f"k{square_name(self.black_king, size)}"])

    def oriented(self, size: int = 8) -> Position:
        """The same position turned and mirrored so that the black king stands in the triangle a1–d1–d4.

        Of the orientations that do, the first one in the order of positions: equal positions look alike.
        """
        last = size - 1
        found = []
        for turn in range(8):

            def seen(square: int, turn: int = turn) -> int:
                rank, file = divmod(square, size)
                rank, file = (last - rank if turn & 1 else rank), (last - file if turn & 2 else file)
                return file * size + rank if turn & 4 else rank * size + file

            position = Position(seen(self.white_king), seen(self.black_king), tuple(map(seen, self.rooks)))
            rank, file = divmod(position.black_king, size)
            if rank <= file <= last // 2:
                found.append(position)
        return min(found)

    def after(self, origin: int, target: int, *, white: bool) -> Position:
        """The position after a move; a rook that black takes is gone."""
        if not white:
            return Position(self.white_king, target, tuple(rook for rook in self.rooks if rook != target))
        if origin == self.white_king:
            return Position(target, self.black_king, self.rooks)
        return Position(self.white_king, self.black_king, tuple(target if r == origin else r for r in self.rooks))


class EndgameBoard:
    """The legal moves of positions of an endgame and their values.

    Args:
        table: exact values; positions with fewer rooks are looked up in the smaller tables.
    """

    def __init__(self, table: Endgame) -> None:
        self.table, self.size = table, table.board.size
        self._white_moves: dict[Position, dict[str, int]] = {}

    def _table_of(self, position: Position) -> Endgame | None:
        table: Endgame | None = self.table
        while table is not None and table.rooks != len(position.rooks):
            table = table.smaller
        return table

    def plies_to_mate(self, position: Position, *, white_to_move: bool) -> int | None:
        """Exact plies to mate; None if white cannot force it."""
        table = self._table_of(position)
        if table is None:
            return None
        values = table.white if white_to_move else table.black
        value = int(values[(position.white_king, position.black_king, *position.rooks)])
        return value if value != UNKNOWN else None

    def move_text(self, origin: int, target: int) -> str:
        """``h5h4`` and so on."""
        return square_name(origin, self.size) + square_name(target, self.size)

    def squares_of(self, move: str) -> tuple[int, int]:
        """Origin and target of a move by its text."""
        return square_number(move[:2], self.size), square_number(move[2:], self.size)

    def white_moves(self, position: Position) -> dict[str, int]:
        """Every legal move of white, mapped to the plies to mate after it, ``UNKNOWN`` where the win is lost."""
        if position not in self._white_moves:
            self._white_moves[position] = {
                self.move_text(origin, target): self._value_after(position, origin, target)
                for origin, target in self._white_steps(position)
            }
        return self._white_moves[position]

    def _value_after(self, position: Position, origin: int, target: int) -> int:
        value = self.plies_to_mate(position.after(origin, target, white=True), white_to_move=False)
        return value if value is not None else UNKNOWN

    def _white_steps(self, position: Position) -> Iterator[tuple[int, int]]:
        board = self.table.board
        taken = {position.white_king, position.black_king, *position.rooks}
        for target in map(int, board.steps_S8[position.white_king]):
            if target != NONE and target not in taken and not board.near_SS[target, position.black_king]:
                yield position.white_king, target
        for rook in position.rooks:
            blockers = sum(1 << square for square in taken - {rook})
            for target in map(int, board.lines_SL[rook]):
                if target not in taken and not int(board.between_SS[rook, target]) & blockers:
                    yield rook, target

    def black_moves(self, position: Position) -> list[str]:
        """Every legal move of black's king, captures of rooks among them."""
        board, king = self.table.board, position.white_king
        found = []
        for target in map(int, board.steps_S8[position.black_king]):
            if target != NONE and target != king and not board.near_SS[target, king]:
                rest = [rook for rook in position.rooks if rook != target]
                if not self._is_attacked(target, king, rest):
                    found.append(self.move_text(position.black_king, target))
        return found

    def _is_attacked(self, square: int, king: int, rooks: list[int]) -> bool:
        board = self.table.board
        return any(
            board.aligned_SS[rook, square]
            and not int(board.between_SS[rook, square]) & sum(1 << other for other in (king, *rooks) if other != rook)
            for rook in rooks
        )

    def is_check(self, position: Position) -> bool:
        """True if a rook attacks black's king."""
        return self._is_attacked(position.black_king, position.white_king, list(position.rooks))

    def pieces(self, position: Position) -> Pieces:
        """The position as arrays of one element."""
        import numpy as np

        one = [np.array([square]) for square in (position.white_king, position.black_king, *position.rooks)]
        return Pieces(one[0], one[1], tuple(one[2:]))

    def is_legal(self, position: Position) -> bool:
        """True if the position is legal with white to move."""
        table = self._table_of(position)
        return table is not None and bool(table.is_white_to_move(self.pieces(position))[0])
