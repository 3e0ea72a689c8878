"""Endgame positions with exact values and experts; PGN files, their filter and their faults."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from datamodules.common.base import Split
from datamodules.experts.chess_games import EndgameGames
from datamodules.experts.pgn_games import PgnGames
from lightning_gfn.endgames.games import board_of
from lightning_gfn.endgames.players import EndgameExpert
from lightning_gfn.endgames.positions import Position, square_number
from lightning_gfn.metrics.experts.endgame_moves import EndgameMoves
from lightning_gfn.metrics.functional.mixtures import tempered_by_letter
from lightning_gfn.types import EvalRecord, Problem

DIVERSE = [EndgameExpert(noise=0.1, blind=files) for files in ("ab", "cd", "ef", "gh")]
SHARED = [EndgameExpert(noise=0.1, blind="ef") for _ in range(4)]
SMALL: dict[str, Any] = {"max_mate": 2, "max_moves": 4, "num_games": 1500, "num_test": 64}


def position_of(text: str) -> Position:
    king, rook, black = (square_number(piece[1:]) for piece in text.split()[:3])
    return Position(king, black, (rook,))


def test_test_positions_are_shared_and_never_trained_on() -> None:
    one, two = EndgameGames(experts=DIVERSE, **SMALL), EndgameGames(experts=SHARED, **SMALL, game_seed=1)
    ids = [problem.id for problem in one.problems("test")]
    assert ids == [problem.id for problem in two.problems("test")] and len(set(ids)) == 64
    for data in (one, two):
        train = data.problems("train")
        seen = {problem.prompt for problem in train}
        assert len(seen) > 500 and not {problem.prompt for problem in one.problems("test")} & seen
    known = EndgameGames(experts=DIVERSE, **SMALL, held_out=False)
    assert {p.prompt for p in known.problems("test")} & {p.prompt for p in known.problems("train")}
    assert {p.id: p.solutions for p in one.problems("train")} != {p.id: p.solutions for p in two.problems("train")}


def test_right_moves_are_the_shortest_mates() -> None:
    board = board_of(1)
    for problem in EndgameGames(experts=DIVERSE, **SMALL).problems("test"):
        position = position_of(problem.prompt)
        plies = board.plies_to_mate(position, white_to_move=True)
        assert plies is not None and problem.target is not None and problem.metadata["mate_in"] == (plies + 1) // 2
        for move, value in problem.metadata["moves"].items():
            assert (move in problem.target) == (value == plies - 1)
        assert board.white_moves(position_of(problem.metadata["position"])) == problem.metadata["moves"]


def test_experts_are_what_they_say() -> None:
    problems = EndgameGames(experts=DIVERSE, **SMALL).problems("test")
    for problem in problems:
        values, said = problem.metadata["moves"], problem.metadata["experts"]
        played = [expert.distribution(values) for expert in DIVERSE]
        for move in values:
            mean = fmean(distribution.get(move, 0.0) for distribution in played)
            assert said["mixture"].get(move, 0.0) == pytest.approx(mean)
        assert said["mean"] == pytest.approx(sum(said["mixture"].get(move, 0.0) for move in said["right"]))
    rates = [
        fmean(sum(e.distribution(p.metadata["moves"]).get(m, 0.0) for m in p.solutions) for p in problems)
        for e in DIVERSE
    ]
    assert fmean(p.metadata["experts"]["best"] for p in problems) == pytest.approx(max(rates))


def coldest(experts: list[EndgameExpert]) -> tuple[float, float]:
    problems = EndgameGames(experts=experts, **SMALL).problems("test")
    known = [problem.metadata["experts"] for problem in problems]
    cold = [tempered_by_letter(said["mixture"], 0.001) for said in known]
    score = fmean(sum(q.get(move, 0.0) for move in said["right"]) for q, said in zip(cold, known, strict=True))
    return score, fmean(said["best"] for said in known)


def test_blind_spots_that_differ_are_outvoted_and_shared_ones_are_not() -> None:
    score, best = coldest(DIVERSE)
    assert score > 0.97 > best + 0.1
    score, best = coldest(SHARED)
    assert score < 0.9 and score - best < 0.1  # what is left of the gain is that over random moves


def test_training_moves_are_drawn_from_the_experts() -> None:
    data = EndgameGames(experts=DIVERSE, **SMALL)
    board = board_of(1)
    chances, right = [], []
    for problem in data.problems("train"):
        values = board.white_moves(position_of(problem.prompt))
        best = {move for move, plies in values.items() if plies == min(values.values())}
        assert problem.target == dict.fromkeys(best, 0.0)
        for move in problem.solutions:
            right.append(float(move in best))
            chances.append(fmean(sum(e.distribution(values).get(m, 0.0) for m in best) for e in DIVERSE))
    assert fmean(right) == pytest.approx(fmean(chances), abs=0.03) and len(right) > 1500


def test_moves_are_measured() -> None:
    metadata = {"moves": {"a1a2": 3, "a1a3": 5, "a1a4": 255}}
    problem, texts = Problem("p", "?", target={"a1a2": 0.0}, metadata=metadata), ("a1a2", "a1a3", "a1a4", "a1h8")
    zeros, no = (0.0,) * 4, (False,) * 4
    metric = EndgameMoves()
    metric.update(EvalRecord(problem, 1.0, texts, no, zeros, (4,) * 4, zeros, no))
    found = {key: float(value) for key, value in metric.compute().items()}
    assert found == {"legal_move_rate": 0.75, "winning_move_rate": 0.5, "mate_delay": 1.0}


@pytest.mark.parametrize(
    ("settings", "said"), [({"experts": []}, "needs one at least"), ({"experts": DIVERSE, "rooks": 3}, "rooks=3")]
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EndgameGames(**settings)


GAMES = """[White "A"]
[Black "B"]
[WhiteElo "{white}"]
[BlackElo "{black}"]

1. e4 e5 2. Nf3 {{a comment}} Nc6 (2... d6) 3. Bb5 a6 1-0

"""
SECOND = """[White "C"]
[Black "D"]
[WhiteElo "?"]
[FEN "8/8/8/8/4k3/2K5/8/7R b - - 0 40"]

40... Kf4 41. Kd3 Kf5 *
"""


@pytest.fixture
def pgn(tmp_path: Path) -> Path:
    pytest.importorskip("chess")
    path = tmp_path / "games.pgn"
    first, second = GAMES.format(white=990, black=1000), GAMES.format(white=990, black=1301).replace("a6", "Nf6")
    path.write_text(first + second + SECOND)
    return path


def every_problem(data: PgnGames) -> list[Problem]:
    splits: tuple[Split, ...] = ("train", "val", "test")
    return [problem for split in splits for problem in data.load_split(split)]


def test_a_game_becomes_its_moves(pgn: Path) -> None:
    found = every_problem(PgnGames(str(pgn), max_rating=1000))
    assert [(p.prompt, p.solutions[0]) for p in found] == [
        ("1.", "e4"),
        ("1.e4 ", "e5"),
        ("1.e4 e5 2.", "Nf3"),
        ("1.e4 e5 2.Nf3 ", "Nc6"),
        ("1.e4 e5 2.Nf3 Nc6 3.", "Bb5"),
        ("1.e4 e5 2.Nf3 Nc6 3.Bb5 ", "a6"),
    ]


def test_ratings_are_filtered_as_in_the_paper(pgn: Path) -> None:
    for rating, kept in ((1000, 1), (1300, 1), (1500, 2), (None, 3)):
        data = PgnGames(str(pgn), max_rating=rating)
        assert len(data.games()) == kept and data.left_out == 3 - kept


def test_sides_notation_and_other_starts(pgn: Path) -> None:
    black = every_problem(PgnGames(str(pgn), max_rating=1000, side="black", notation="uci", first_move=2))
    assert [(p.prompt, p.solutions[0]) for p in black] == [
        ("1.e2e4 e7e5 2.g1f3 ", "b8c6"),
        ("1.e2e4 e7e5 2.g1f3 b8c6 3.f1b5 ", "a7a6"),
    ]
    prompts = [p.prompt for p in every_problem(PgnGames(str(pgn), last_move=50))]
    assert "8/8/8/8/4k3/2K5/8/7R b - - 0 40 40...Kf4 41." in prompts


def test_test_problems_know_the_legal_moves(pgn: Path) -> None:
    data = PgnGames(str(pgn))
    known = [*data.load_split("val"), *data.load_split("test")]
    first = [data._moves(game, "x", "test") for game in data.games()]
    problem = next(first[0])
    assert len(problem.metadata["legal_moves"]) == 20 and all("legal_moves" in p.metadata for p in known)
    zeros, no = (0.0, 0.0), (False, False)
    metric = EndgameMoves()
    metric.update(EvalRecord(problem, 1.0, ("Nf3", "Qh5"), no, zeros, (3, 3), zeros, no))
    assert {key: float(value) for key, value in metric.compute().items()} == {"legal_move_rate": 0.5}


def test_faults_name_the_file_and_the_game(pgn: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pgn"
    bad.write_text(GAMES.format(white=1, black=1) + GAMES.format(white=1, black=1).replace("Bb5", "Bh8"))
    with pytest.raises(ValueError, match=r"bad\.pgn, game 2 \(A – B\).*Bh8"):
        PgnGames(str(bad)).games()
    with pytest.raises(FileNotFoundError, match="no PGN file"):
        PgnGames(str(tmp_path / "none.pgn")).games()
    with pytest.raises(ValueError, match=r"data\.first_move=3"):
        PgnGames(str(pgn), first_move=3, last_move=2)
