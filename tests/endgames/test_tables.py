"""Retrograde tables against a search written with loops on a small board, python-chess, and known figures."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest

from lightning_gfn.endgames.positions import EndgameBoard, Position
from lightning_gfn.endgames.tables import UNKNOWN, Endgame, endgame

SIZE = 4


def neighbours(square: int) -> list[int]:
    rank, file = divmod(square, SIZE)
    steps = itertools.product((-1, 0, 1), repeat=2)
    found = [(rank + up, file + right) for up, right in steps if up or right]
    return [r * SIZE + f for r, f in found if 0 <= r < SIZE and 0 <= f < SIZE]


def reach(rook: int, blockers: set[int]) -> set[int]:
    """Squares that a rook attacks, square by square; the first blocker is attacked, too."""
    found = set()
    for up, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        rank, file = divmod(rook, SIZE)
        while 0 <= (rank := rank + up) < SIZE and 0 <= (file := file + right) < SIZE:
            found.add(rank * SIZE + file)
            if rank * SIZE + file in blockers:
                break
    return found


def attacked(square: int, king: int, rooks: tuple[int, ...]) -> bool:
    return square in neighbours(king) or any(square in reach(rook, {king, *rooks} - {rook}) for rook in rooks)


State = tuple[int, int, tuple[int, ...], bool]


def children(state: State) -> list[State]:
    """Every position after a legal move, white to move if the last field is true."""
    king, black, rooks, is_white = state
    if not is_white:
        return [
            (king, step, rest, True)
            for step in neighbours(black)
            if step != king and not attacked(step, king, rest := tuple(rook for rook in rooks if rook != step))
        ]
    found = [(step, black, rooks, False) for step in neighbours(king) if step not in (black, *rooks)]
    found = [state for state in found if black not in neighbours(state[0])]
    for number, rook in enumerate(rooks):
        for target in reach(rook, {king, black, *rooks} - {rook}) - {king, black, *rooks}:
            moved = tuple(sorted((*rooks[:number], target, *rooks[number + 1 :])))
            found.append((king, black, moved, False))
    return found


def searched(num_rooks: int) -> dict[State, int]:
    """Plies to mate by repeating the definition until nothing changes: no backward moves, no layers."""
    squares = range(SIZE * SIZE)
    states = [
        (king, black, rooks, is_white)
        for count in range(1, num_rooks + 1)
        for rooks in itertools.combinations(squares, count)
        for king, black in itertools.permutations(set(squares) - set(rooks), 2)
        if black not in neighbours(king)
        for is_white in (True, False)
        if not (is_white and attacked(black, king, rooks))
    ]
    value: dict[State, int] = {}
    moves = {state: children(state) for state in states}
    for depth in range(100):
        new = {}
        for state in states:
            if state in value:
                continue
            king, black, rooks, is_white = state
            known = [value[child] for child in moves[state] if child in value]
            if is_white:
                is_due = bool(known) and min(known) == depth - 1
            elif not moves[state]:
                is_due = depth == 0 and attacked(black, king, rooks)
            else:
                is_due = len(known) == len(moves[state]) and max(known) == depth - 1
            if is_due:
                new[state] = depth
        value |= new
    return value


@pytest.mark.parametrize("rooks", [1, 2])
def test_tables_agree_with_a_search_on_a_small_board(rooks: int) -> None:
    expected = searched(rooks)
    table = Endgame(rooks, SIZE)
    found = 0
    for white, values in ((True, table.white), (False, table.black)):
        for king, black, *pieces in np.argwhere(values != UNKNOWN):
            state = (int(king), int(black), tuple(sorted(map(int, pieces))), white)
            assert expected[state] == values[(king, black, *pieces)], state
            found += 1
    own = [state for state in expected if len(state[2]) == rooks]
    assert found == len(own) * (2 if rooks == 2 else 1) and found > 1000


def test_king_and_rook_have_their_known_figures() -> None:
    table = endgame(1)
    pieces = table._pieces(np.arange(table.white.size))
    assert int(table.is_white_to_move(pieces).sum()) == 175_168  # every one of them is won
    assert int(table.are_apart(pieces).sum()) == 223_944
    assert int((table.white != UNKNOWN).sum()) == 175_168
    assert int(table.white[table.white != UNKNOWN].max()) == 31  # mate in 16 moves


def random_position(random: Random, rooks: int) -> Position:
    squares = random.sample(range(64), rooks + 2)
    return Position(squares[0], squares[1], tuple(squares[2:]))


@pytest.mark.parametrize("rooks", [1, 2])
def test_moves_are_those_of_python_chess(rooks: int) -> None:
    chess = pytest.importorskip("chess")
    table = endgame(1)
    board = EndgameBoard(table)
    random, checked = Random(rooks), 0
    for _ in range(3000):
        position = random_position(random, rooks)
        other = chess.Board(None)
        other.set_piece_at(position.white_king, chess.Piece.from_symbol("K"))
        other.set_piece_at(position.black_king, chess.Piece.from_symbol("k"))
        for rook in position.rooks:
            other.set_piece_at(rook, chess.Piece.from_symbol("R"))
        other.turn = chess.WHITE
        if rooks == 1:
            assert board.is_legal(position) == other.is_valid()
        if not other.is_valid():
            continue
        checked += 1
        steps = {board.move_text(*step) for step in board._white_steps(position)}
        assert steps == {move.uci() for move in other.legal_moves}
        for move in other.legal_moves:
            after = position.after(move.from_square, move.to_square, white=True)
            other.push(move)
            assert set(board.black_moves(after)) == {reply.uci() for reply in other.legal_moves}
            assert board.is_check(after) == other.is_check()
            if rooks == 1:
                assert (board.plies_to_mate(after, white_to_move=False) == 0) == other.is_checkmate()
            other.pop()
    assert checked > 500


def test_a_table_is_refused_for_other_material() -> None:
    with pytest.raises(ValueError, match="rooks=3"):
        Endgame(3)
