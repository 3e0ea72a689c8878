"""``lightning-gfn govern``: a run folder that comparisons read, and errors of one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_gfn import cli

CONTENT: dict[str, Any] = {
    "world": {"class_path": "lightning_gfn.mechanism.escape_room.EscapeRoom", "init_args": {"num_levers": 2}},
    "agents": {"updates": 3, "episodes": 4, "test_episodes": 2},
    "rounds": 6,
    "rows_of": 3,
    "test_populations": 2,
    "mlflow": None,
    "principals": {
        "none": {"class_path": "lightning_gfn.mechanism.principals.fixed.FixedIncentives"},
        "ucb": {"class_path": "lightning_gfn.mechanism.principals.bandits.UCB", "init_args": {"levels": 2}},
    },
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "world.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, **changes}))
    return path


def govern(path: Path, run: Path, *more: str, principal: str = "ucb") -> int:
    return cli.main(["govern", "--config", str(path), "--principal", principal, "--run_dir", str(run), *more])


def test_a_run_leaves_everything_and_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path)
    for principal in ("none", "ucb"):
        for seed in (0, 1):
            assert govern(path, tmp_path / f"{principal}{seed}", "--seed", str(seed), principal=principal) == 0
    run = tmp_path / "ucb1"
    rounds = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert [entry["round"] for entry in rounds] == list(range(6))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6, 6] and "test/social_welfare" in rows[-1]
    expected = sum(entry["welfare"] for entry in rounds[:3]) / 3
    assert rows[0]["val/social_welfare"] == pytest.approx(expected)
    steps = rounds[-1]["environment_steps"]
    assert steps == 6 * (3 * 4 + 2) * 5 == json.loads((run / "budget.json").read_text())["environment_steps"]
    output = tmp_path / "page"
    folders = [str(tmp_path / f"{name}{seed}") for name in ("none", "ucb") for seed in (0, 1)]
    assert cli.main(["compare", *folders, "--output", str(output), "--baseline", "none"]) == 0
    found = json.loads((output / "comparison.json").read_text())
    assert {"social_welfare", "social_welfare_rounds"} <= found["methods"]["ucb"].keys() and found["seeds"] == [0, 1]
    values = [json.loads(line)["metrics"]["social_welfare"] for seed in (0, 1) for line in
              (tmp_path / f"ucb{seed}" / "results" / "test_problems.jsonl").read_text().splitlines()]  # fmt: skip
    assert len(values) == 4 and found["methods"]["ucb"]["social_welfare"]["value"] == pytest.approx(sum(values) / 4)
    assert "environment steps" in capsys.readouterr().out


def test_principals_that_write_and_those_that_do_not_are_compared() -> None:
    """Runs may differ in a metric only where one of them says that it has no value."""
    from lightning_gfn.commands.governing.results import problem_rows, summary_of
    from lightning_gfn.mechanism.agents import AgentSettings
    from lightning_gfn.mechanism.escape_room import EscapeRoom
    from lightning_gfn.mechanism.principals.base import Proposal
    from lightning_gfn.mechanism.rounds import Round, generator, outcome_of

    room, proposal = EscapeRoom(num_levers=1), Proposal((0.0,) * 3)
    outcome = outcome_of(room, AgentSettings(updates=0, test_episodes=1), proposal, 0, 1, generator(0, 0, 0))
    silent = Round(0, "lever 1", {}, 1.0, 0.0, 5)
    told = Round(0, "lever 1", {}, 1.0, 0.0, 5, answers=("?", "[0, 0, 0]", "[1]"), failures=("no numbers", "range"))
    without, writing = (problem_rows(room, [entry], [(proposal, outcome)]) for entry in (silent, told))
    assert without[0]["metrics"].keys() == writing[0]["metrics"].keys()
    assert without[0]["metrics"]["usable_answers"] is None and "usable_answers" not in summary_of(without)
    assert writing[0]["metrics"]["usable_answers"] == pytest.approx(1 / 3)


def test_equal_seeds_give_equal_runs(tmp_path: Path) -> None:
    path = written(tmp_path)
    for name in ("a", "b"):
        assert govern(path, tmp_path / name) == 0
    first, second = ((tmp_path / name / "rounds.jsonl").read_text() for name in ("a", "b"))
    assert first == second


def test_a_finished_run_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path)
    assert govern(path, tmp_path / "run") == 0
    assert govern(path, tmp_path / "run") == 2
    assert "--if_exists fresh" in capsys.readouterr().err
    assert govern(path, tmp_path / "run", "--if_exists", "fresh", "--rounds", "2") == 0
    assert (tmp_path / "run.old-1" / "rounds.jsonl").is_file()
    assert len((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"principles": {}}, "unknown field 'principles'"),
        ({"rounds": 0}, "rounds is 0"),
        ({"world": None}, "'world' is missing"),
        ({"world": {"class_path": "lightning_gfn.mechanism.escape_room.Room"}}, "world: class_path"),
        ({"agents": {"episodes": 1}}, "agents.episodes is 1"),
        ({"agents": {"batch": 1}}, "agents: .*batch"),
        ({"principals": {"ucb": {"class_path": "lightning_gfn.mechanism.principals.bandits.UCB",
                                 "init_args": {"levels": 1}}}}, "principals.ucb: .*levels is 1"),
        ({"principals": {"none": CONTENT["principals"]["none"]}}, "there is no principal 'ucb'; it has none"),
    ],
)  # fmt: skip
def test_errors_name_file_and_field(
    changes: dict[str, Any], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert govern(written(tmp_path, **changes), tmp_path / "run") == 2
    told = capsys.readouterr().err
    assert "world.yaml" in told and re.search(named, told) and len(told.splitlines()) == 1
    assert not (tmp_path / "run").exists()


FILES = sorted((Path(__file__).parents[2] / "experiments" / "mechanism").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_names_classes_and_arguments_that_exist(path: Path) -> None:
    import inspect

    from lightning_gfn.commands.asking.classes import build, class_at
    from lightning_gfn.commands.governing.configuration import read_config
    from lightning_gfn.mechanism.agents import AgentSettings
    from lightning_gfn.mechanism.principals.base import Principal

    def check(node: Any) -> None:
        arguments = node.get("init_args", {})
        inspect.signature(class_at(node["class_path"])).bind(**arguments)
        for value in arguments.values():
            if isinstance(value, dict) and "class_path" in value:
                check(value)

    content = yaml.safe_load(path.read_text())
    assert len(content["principals"]) >= 6
    world = build(content["world"])
    for name in content["principals"]:
        config = read_config(path, name)
        check(config.principal)
        assert issubclass(class_at(config.principal["class_path"]), Principal)
        AgentSettings(**config.agents)
        values = config.principal.get("init_args", {}).get("values")
        assert values is None or world.space.checked(values, name)


def test_there_are_files() -> None:
    assert len(FILES) >= 3
