"""Boards drawn at several temperatures: which positions are chosen, what is sampled there and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_gfn.callbacks.endgames.boards import EndgameBoards, chosen_rows
from lightning_gfn.types import EvalRecord, Problem
from tests.callbacks.endgames.scripted import Player, trainer

MOVES = {"e3b3": 4, "e3e8": 6}


def record(position: str, temperature: float, right: int) -> EvalRecord:
    known = {"position": position, "moves": MOVES}
    nothing = (0.0,) * 4
    return EvalRecord(
        problem=Problem(position, f"{position} ", metadata=known),
        temperature=temperature,
        completions=("e3b3",) * right + ("e3e8",) * (4 - right),
        correct=(True,) * right + (False,) * (4 - right),
        log_probs=nothing,
        lengths=(4,) * 4,
        entropies=nothing,
        truncated=(False,) * 4,
    )


def test_the_largest_the_middle_and_the_smallest_gain_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scripted(policy: Any, problems: list[Problem], *, num_samples: int, temperature: float, **_: Any) -> list[Any]:
        texts = {1.0: ["e3b3", "e3e8", "e3e8", "xxxx"], 0.5: ["e3b3"] * 4, 0.001: ["e3e8"] * 4}[temperature]
        assert num_samples == 4
        return [SimpleNamespace(completions=tuple(texts)) for _ in problems]

    monkeypatch.setattr("lightning_gfn.callbacks.endgames.boards.sample_completions", scripted)
    callback, module = EndgameBoards(num_samples=4), Player()
    callback.restart()
    for position, (warm, cold) in {
        "Ka1 Ra3 kc1": (0, 4),  # gains most
        "Ka1 Ra4 kc1": (2, 3),
        "Ka1 Ra5 kc1": (2, 2),  # nothing changes, so that it is not in the middle
        "Ka1 Ra6 kc1": (2, 2),
        "Ka1 Ra7 kc1": (3, 1),  # loses most
    }.items():
        callback.take(trainer(tmp_path), module, [record(position, 1.0, warm)], "test_step")  # type: ignore[arg-type]
        both = [record(position, 0.5, 0), record(position, 0.001, cold)]
        callback.take(trainer(tmp_path), module, both, "test_step")  # type: ignore[arg-type]
    callback.finish(trainer(tmp_path), module, "test")  # type: ignore[arg-type]
    rows = json.loads((tmp_path / "results" / "test_boards.json").read_text())["rows"]
    assert [(row["name"], row["position"], row["gain"]) for row in rows] == [
        ("largest gain", "Ka1 Ra3 kc1", 1.0),
        ("middle", "Ka1 Ra4 kc1", 0.25),
        ("largest loss", "Ka1 Ra7 kc1", -0.5),
    ]
    first = rows[0]["boards"]
    assert [board["temperature"] for board in first] == [1.0, 0.5, 0.001]
    assert [board["right"] for board in first] == [0.25, 1.0, 0.0]
    assert [board["illegal"] for board in first] == [0.25, 0.0, 0.0]
    drawing = (tmp_path / "results" / "test_boards.svg").read_text()
    assert drawing.count("<g transform") == 9 and "largest loss: Ka1 Ra7 kc1" in drawing


def test_validation_draws_nothing(tmp_path: Path) -> None:
    EndgameBoards().finish(trainer(tmp_path), Player(), "val")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_position_stands_once() -> None:
    row = {"prompt": "p", "position": "p", "moves": MOVES, "right": 0.5}
    found = chosen_rows([{**row, "temperature": 1.0}, {**row, "temperature": 0.1}], 1.0, 0.1)
    assert [place["name"] for place in found] == ["largest gain"]
    assert chosen_rows([{**row, "temperature": 1.0}], 1.0, 0.1) == []


def test_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    callback, module = EndgameBoards(), Player()
    other = record("Ka1 Ra3 kc1", 1.0, 1)
    plain = EvalRecord(**{**vars(other), "problem": Problem("sum", "1+1=")})
    with pytest.raises(ValueError, match=r"problem 'sum' has none.*EndgameGames"):
        callback.take(trainer(tmp_path), module, [plain], "test_step")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[0\.1\].*evaluation\.temperatures"):
        EndgameBoards(temperatures=(1.0, 0.1)).setup(trainer(tmp_path), module, "test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two at least"):
        EndgameBoards(temperatures=(1.0,))
