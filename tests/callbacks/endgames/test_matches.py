"""Matches of a policy against fixed opponents: a scripted policy's results are known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_gfn.callbacks.common.problem_rows import Measured, console_table
from lightning_gfn.callbacks.endgames.matches import EndgameMatches, exact_mover, setting_of
from lightning_gfn.endgames.games import EndgameSetting, Game
from lightning_gfn.endgames.players import EndgameExpert
from tests.callbacks.endgames.scripted import Player, trainer

SETTING = EndgameSetting(1, 2, (EndgameExpert(), EndgameExpert(noise=1.0)), oriented=True)


def test_matches_are_written_beside_those_of_the_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scripted(policy: Any, setting: EndgameSetting, temperature: float, seed: int) -> Any:
        assert [p.rooks for p in setting.starts(3, 0)] and setting.prompt(Game(0, setting.starts(1, 0)[0])).count(
            " "
        ) == 3
        return exact_mover(setting) if temperature < 1.0 else lambda games: ["a1a1" for _ in games]

    monkeypatch.setattr("lightning_gfn.callbacks.endgames.matches.policy_mover", scripted)
    module, callback = Player(), EndgameMatches(num_games=30, max_moves=2, num_resamples=50)
    callback.finish(trainer(tmp_path, SimpleNamespace(setting=SETTING)), module, "test")  # type: ignore[arg-type]
    assert module.logged == {
        "test/win_rate_exact": 0.0,
        "test/win_rate_random": 0.0,
        "test/win_rate_exact_t0.001": 1.0,
        "test/win_rate_random_t0.001": 1.0,
    }
    players = json.loads((tmp_path / "results" / "test_matches.json").read_text())["players"]
    assert players["exact"]["exact"]["win_rate"]["value"] == players["expert 0"]["exact"]["win_rate"]["value"] == 1.0
    assert players["expert 1"]["exact"]["win_rate"]["value"] < 0.5
    assert players["model"]["exact"]["ends"] == {"illegal move": 30}


def test_a_wrapped_data_set_keeps_its_endgame(tmp_path: Path) -> None:
    wrapped = SimpleNamespace(source=SimpleNamespace(setting=SETTING))
    assert setting_of(trainer(tmp_path, wrapped)) is SETTING
    with pytest.raises(ValueError, match="has none"):
        setting_of(trainer(tmp_path, SimpleNamespace()))


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="num_games=0"):
        EndgameMatches(num_games=0)


def test_a_metric_of_the_first_temperature_alone_is_printed() -> None:
    first = {"solve_rate": Measured(0.5, 0.4, 0.6), "target_mass": Measured(0.7, 0.6, 0.8)}
    shown = console_table({1.0: first, 0.1: {"solve_rate": Measured(0.6, 0.5, 0.7)}}, "title").splitlines()
    assert shown[-1].split() == ["target_mass", "0.700", "[0.600,", "0.800]", "–"]
