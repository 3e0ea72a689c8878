"""Experts play at their stated rates; exact play mates in the known number of moves; prompts hold the game."""

from __future__ import annotations

from collections import Counter
from random import Random
from statistics import fmean

import pytest

from lightning_gfn.endgames.games import (
    EndgameSetting,
    Game,
    advance,
    board_of,
    expert_mover,
    lost_plies,
    play_match,
)
from lightning_gfn.endgames.players import EndgameExpert, best_moves, defend
from lightning_gfn.endgames.positions import Position, square_number
from lightning_gfn.endgames.tables import UNKNOWN

SETTING = EndgameSetting(1, 16, (EndgameExpert(),))


def position(text: str) -> Position:
    king, *rooks, black = (square_number(piece[1:]) for piece in text.split())
    return Position(king, black, tuple(rooks))


def test_texts_name_the_pieces() -> None:
    assert position("Kc3 Rh5 ke4").text() == "Kc3 Rh5 ke4"
    assert Position(0, 63, (9, 8)).text() == "Ka1 Ra2 Rb2 kh8"


def test_symmetric_positions_are_one_and_keep_their_value() -> None:
    board = board_of(1)

    def images(square: int) -> list[int]:
        rank, file = divmod(square, 8)
        corners = [(rank, file), (rank, 7 - file), (7 - rank, file), (7 - rank, 7 - file)]
        return [r * 8 + f for r, f in corners] + [f * 8 + r for r, f in corners]

    for start in SETTING.starts(100, 5):
        found = start.oriented()
        rank, file = divmod(found.black_king, 8)
        assert rank <= file <= 3 and found.oriented() == found
        for king, black, rook in zip(*map(images, (start.white_king, start.black_king, start.rooks[0])), strict=True):
            image = Position(king, black, (rook,))
            assert image.oriented() == found
            assert board.plies_to_mate(image, white_to_move=True) == board.plies_to_mate(found, white_to_move=True)


def test_games_on_a_turned_board_are_won_as_fast() -> None:
    turned = EndgameSetting(1, 16, (EndgameExpert(),), oriented=True)
    games = play_match(turned, turned.starts(40, 3), expert_mover(turned, EndgameExpert(), 0), defence="exact",
                       max_moves=16, seed=1)  # fmt: skip
    for game in games:
        assert game.end == "mate" and len(game.moves) == board_of(1).plies_to_mate(game.start, white_to_move=True)
        assert all(position.oriented() == position for position in game.positions)
    with pytest.raises(ValueError, match=r"data\.history=2"):
        EndgameSetting(1, 16, (EndgameExpert(),), history=2, oriented=True)


def test_best_moves_are_found() -> None:
    values = board_of(1).white_moves(position("Kb6 Rh1 kb8"))
    assert best_moves(values) == ("h1h8",) and values["h1h8"] == 0
    assert lost_plies(values, "h1h7") == values["h1h7"] and lost_plies(values, "h1a9") is None
    assert best_moves({"a1a2": UNKNOWN}) == ()


def test_an_expert_plays_as_its_distribution_says() -> None:
    values = board_of(1).white_moves(position("Kf6 Rb7 kh8"))
    expert = EndgameExpert(noise=0.4, blind="ab")
    chances = expert.distribution(values)
    seen = {move: plies for move, plies in values.items() if move[2] not in "ab"}
    best = [move for move, plies in seen.items() if plies == min(seen.values())]
    assert min(values.values()) < min(seen.values()) or set(best) <= set(best_moves(values))
    for move in values:
        expected = 0.4 / len(values) + (0.6 / len(best) if move in best else 0.0)
        assert chances[move] == pytest.approx(expected)
    random = Random(0)
    counts = Counter(expert.move(values, random) for _ in range(20_000))
    assert sum(counts[move] for move in best) / 20_000 == pytest.approx(sum(chances[m] for m in best), abs=0.015)


def test_a_blind_expert_misses_the_mate_that_all_others_see() -> None:
    values = board_of(1).white_moves(position("Kb6 Rh1 kb8"))  # Rh8 is mate, on the file h
    assert EndgameExpert(blind="ab").distribution(values) == {"h1h8": 1.0}
    assert "h1h8" not in EndgameExpert(blind="gh").distribution(values)


def test_exact_play_mates_in_exactly_the_known_number_of_moves() -> None:
    starts = SETTING.starts(60, 3)
    games = play_match(
        SETTING, starts, expert_mover(SETTING, EndgameExpert(), 0), defence="exact", max_moves=16, seed=1
    )
    for game in games:
        plies = board_of(1).plies_to_mate(game.start, white_to_move=True)
        assert game.end == "mate" and len(game.moves) == plies, game
    easier = play_match(
        SETTING, starts, expert_mover(SETTING, EndgameExpert(), 0), defence="random", max_moves=16, seed=1
    )
    assert fmean(len(game.moves) for game in easier) < fmean(len(game.moves) for game in games)


def test_exact_defence_takes_a_rook_and_draws() -> None:
    board = board_of(1)
    after = position("Ka1 Rd5 ke4")
    assert defend(board, after, "exact", Random(0)) == "e4d5"
    game = Game(0, position("Ka1 Rd8 ke4"))
    advance(SETTING, game, "d8d5", "exact", Random(0))
    assert game.end == "rook lost" and game.moves == ["d8d5", "e4d5"]


@pytest.mark.parametrize(
    ("start", "move", "end"),
    [("Kb6 Rh1 kb8", "h1h8", "mate"), ("Kc7 Rb1 ka8", "b1b7", "stalemate"), ("Kb6 Rh1 kb8", "h1g2", "illegal move")],
)
def test_games_end(start: str, move: str, end: str) -> None:
    game = Game(0, position(start))
    advance(SETTING, game, move, "exact", Random(0))
    assert game.end == end


def test_a_game_that_goes_on_for_too_long_is_no_win() -> None:
    starts = [position("Ka1 Rb1 kd4")]
    games = play_match(SETTING, starts, lambda going: ["a1a2" if len(g.moves) % 4 == 0 else "a2a1" for g in going],
                       defence="random", max_moves=2, seed=0)  # fmt: skip
    assert games[0].end == "move limit" and len(games[0].moves) == 4


@pytest.mark.parametrize("history", [0, 2, 3, 4, None])
def test_prompts_hold_a_position_and_the_moves_since_then(history: int | None) -> None:
    setting = EndgameSetting(1, 16, (EndgameExpert(),), history)
    game, random, board = Game(0, position("Ka1 Rb1 kd4")), Random(0), board_of(1)
    assert setting.prompt(game) == "Ka1 Rb1 kd4 "
    for _ in range(3):
        advance(setting, game, EndgameExpert().move(board.white_moves(game.position), random), "exact", random)
    first, *moves = setting.prompt(game).strip().split(" k")[0], *setting.prompt(game).split()[3:]
    shown = {0: 0, 2: 2, 3: 2, 4: 4, None: 6}[history]
    assert len(moves) == shown and moves == game.moves[6 - shown :]
    replayed = position(" ".join(setting.prompt(game).split()[:3]))
    for number, move in enumerate(moves):
        replayed = replayed.after(*board.squares_of(move), white=number % 2 == 0)
    assert replayed == game.position and first


def test_starts_are_within_reach_of_mate() -> None:
    setting = EndgameSetting(1, 3, (EndgameExpert(),))
    plies = [board_of(1).plies_to_mate(start, white_to_move=True) for start in setting.starts(500, 0)]
    assert set(plies) == {1, 3, 5} and setting.starts(5, 0) == setting.starts(5, 0) != setting.starts(5, 1)


@pytest.mark.parametrize(
    ("settings", "said"), [({"noise": 1.5}, "noise is 1.5"), ({"blind": "xy"}, "letters of files")]
)
def test_experts_out_of_range_are_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EndgameExpert(**settings)  # type: ignore[arg-type]
