"""Study files: what is planned, in which order it runs, what a search chooses, and what is never done twice."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_gfn import cli
from lightning_gfn.commands.study import with_needs
from lightning_gfn.studies import runner
from lightning_gfn.studies.plan import read_study
from lightning_gfn.studies.runner import Runner, mark_of
from lightning_gfn.studies.stages import Study, StudyError
from lightning_gfn.studies.worker import Worker

CONTENT: dict[str, Any] = {
    "output": "out",
    "seeds": [0, 1],
    "overlays": ["over.yaml"],
    "search": {"seed": 7, "metric": "solve_rate", "set": {"trainer.limit_val_batches": 1}},
    "defaults": {"tuned": {"set": {"start": "{base}/model"}, "grid": {"lr": [0.1, 0.2, 0.3]}}},
    "stages": {
        "base": {"config": "base.yaml"},
        "samples": {"command": "predict", "config": "base.yaml", "set": {"start": "{base}/model"}},
        "filter": {"command": "pairs", "arguments": ["{samples}/p.jsonl", "--output", "{run_dir}/pairs.jsonl"]},
        "dpo": {"like": "tuned", "config": "base.yaml", "set": {"data": "{filter}/pairs.jsonl"}},
        "noise_{p}": {
            "config": "base.yaml",
            "for": {"p": [0, 0.5]},
            "set": {"p": "{p}"},
            "method": "noise",
            "needs": ["base"],
        },
    },
    "compare": [{"name": "main", "stages": ["base", "dpo"], "baseline": "base"}],
}


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    for name in ("base", "over"):
        (tmp_path / f"{name}.yaml").write_text("a: 1\n")
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(CONTENT, sort_keys=False))
    return path


def changed(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**CONTENT, **changes}, sort_keys=False))
    return path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that ran, in order; each candidate of a search leaves a validation metric, 0.2 the best."""
    found: list[str] = []
    guard = threading.Lock()

    def run(self: Worker, label: str, arguments: list[str], log_path: Path) -> int:
        with guard:
            found.append(label)
        folder = log_path.with_suffix("")
        (folder / "results").mkdir(parents=True, exist_ok=True)
        if ".search" in label:
            score = {"0.1": 0.3, "0.2": 0.9, "0.3": 0.5}[arguments[-1]]
            (folder / "results" / "val_metrics.json").write_text(
                json.dumps({"metrics": {"solve_rate": {"value": score}}})
            )
        (folder / "arguments.json").write_text(json.dumps(list(arguments)))
        return 0

    monkeypatch.setattr(runner.Worker, "run", run)
    return found


def planned(path: Path, tmp_path: Path, **options: Any) -> Study:
    return read_study(path, output=tmp_path / "out", **options)


def test_stages_name_folders_of_their_own_seed(study_file: Path, tmp_path: Path) -> None:
    study = planned(study_file, tmp_path)
    dpo = study.stages["dpo@1"]
    assert dpo.arguments[dpo.arguments.index("--data") + 1] == str(tmp_path / "out/filter_seed1/pairs.jsonl")
    assert dpo.arguments[dpo.arguments.index("--start") + 1] == str(tmp_path / "out/base_seed1/model")
    assert {"filter@1", "base@1"} < set(dpo.needs)
    assert study.stages["filter@1"].needs == ("samples@1",)
    assert study.stages["noise_0@1"].needs == ("base@1",), "named without a placeholder"
    assert study.stages["filter@1"].arguments[-1] == str(tmp_path / "out/filter_seed1/pairs.jsonl")
    assert "--run_dir" not in study.stages["filter@0"].arguments, "only the trainer's commands have one"


def test_overlays_come_after_the_config_and_settings_last(study_file: Path, tmp_path: Path) -> None:
    arguments = planned(study_file, tmp_path).stages["base@0"].arguments
    assert [Path(text).name for text in arguments if text.endswith(".yaml")] == ["base.yaml", "over.yaml"]
    assert arguments.index("--run_dir") > arguments.index(str(study_file.parent / "over.yaml"))


def test_a_stage_may_have_several_commands(study_file: Path, tmp_path: Path) -> None:
    changed(study_file, stages={"a": {"command": ["run", "validate"], "config": "base.yaml"}}, compare=[])
    run, validate = planned(study_file, tmp_path, seeds=[0]).stages["a@0"].command_lines(["--lr", "0.5"])
    assert run[0] == "run" and "--if_exists" in run and run[-2:] == ["--lr", "0.5"]
    assert validate[0] == "validate" and "--if_exists" not in validate and validate[-2:] == ["--lr", "0.5"]


def test_for_gives_one_stage_a_value_with_its_type(study_file: Path, tmp_path: Path) -> None:
    stages = planned(study_file, tmp_path).stages
    assert stages["noise_0.5@0"].arguments[-2:] == ("--p", "0.5")
    assert stages["noise_0@0"].arguments[-2:] == ("--p", "0")
    assert stages["noise_0@1"].arguments[stages["noise_0@1"].arguments.index("--model.init_args.method") + 1] == "noise"


def test_a_search_brings_its_own_seed_and_what_that_needs(study_file: Path, tmp_path: Path) -> None:
    study = planned(study_file, tmp_path)
    candidates = [key for key in study.stages if ".search" in key]
    assert candidates == ["dpo.search0@7", "dpo.search1@7", "dpo.search2@7"]
    assert {"filter@7", "base@7"} == set(study.stages["dpo.search0@7"].needs)
    assert study.stages["dpo.search0@7"].commands == ("fit",), "a search never sees the test problems"
    assert {"dpo.search0@7", "dpo.search2@7"} < set(study.stages["dpo@0"].needs)
    assert "--trainer.limit_val_batches" in study.stages["dpo.search1@7"].arguments
    assert "--trainer.limit_val_batches" not in study.stages["dpo@0"].arguments


def test_an_empty_grid_ends_an_inherited_search(study_file: Path, tmp_path: Path) -> None:
    changed(study_file, stages={**CONTENT["stages"], "fixed": {"like": "dpo", "grid": {}, "set": {"lr": 0.5}}})
    fixed = planned(study_file, tmp_path).stages["fixed@0"]
    assert fixed.choice is None and fixed.arguments[-2:] == ("--lr", "0.5")


def test_a_stage_may_have_a_seed_of_its_own(study_file: Path, tmp_path: Path) -> None:
    stages = {"fixed": {"config": "base.yaml", "seed": 9}, "user": {"config": "base.yaml", "set": {"m": "{fixed}/m"}}}
    study = planned(changed(study_file, stages=stages, compare=[]), tmp_path)
    assert list(study.stages) == ["fixed@9", "user@0", "user@1"]
    assert study.stages["user@1"].arguments[-1] == str(tmp_path / "out/fixed_seed9/m")


def test_everything_runs_once_after_what_it_needs(study_file: Path, tmp_path: Path, ran: list[str]) -> None:
    study = planned(study_file, tmp_path)
    assert Runner(study, jobs=3).run() == {}
    assert sorted(ran) == sorted(study.stages)
    for key, stage in study.stages.items():
        assert all(ran.index(need) < ran.index(key) for need in stage.needs)
    final = json.loads((tmp_path / "out/dpo_seed0/arguments.json").read_text())
    assert final[-2:] == ["--lr", "0.2"], "the best candidate's setting comes last"

    ran.clear()
    assert Runner(planned(study_file, tmp_path), jobs=3).run() == {}
    assert ran == []


def test_a_search_can_look_for_the_smallest_value(study_file: Path, tmp_path: Path, ran: list[str]) -> None:
    changed(study_file, search={**CONTENT["search"], "mode": "min"})
    assert Runner(planned(study_file, tmp_path), jobs=1).run() == {}
    assert json.loads((tmp_path / "out/dpo_seed0/arguments.json").read_text())[-1] == "0.1"


def test_changed_settings_are_refused_where_they_matter(study_file: Path, tmp_path: Path, ran: list[str]) -> None:
    assert Runner(planned(study_file, tmp_path), jobs=1).run() == {}
    (study_file.parent / "over.yaml").write_text("a: 2\n")
    failed = Runner(planned(study_file, tmp_path), jobs=1).run()
    assert "other settings" in failed["base@0"] and "failed" in failed["dpo@0"]


def test_more_seeds_leave_the_earlier_runs_alone(study_file: Path, tmp_path: Path, ran: list[str]) -> None:
    assert Runner(planned(study_file, tmp_path, seeds=[0]), jobs=1).run() == {}
    ran.clear()
    assert Runner(planned(study_file, tmp_path, seeds=[0, 5]), jobs=1).run() == {}
    assert {key.split("@")[1] for key in ran} == {"5"}


def test_a_failed_stage_stops_only_what_needs_it(
    study_file: Path, tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = planned(study_file, tmp_path, seeds=[0])
    good = runner.Worker.run

    def run(self: Worker, label: str, arguments: list[str], log_path: Path) -> int:
        return 3 if label == "samples@0" else good(self, label, arguments, log_path)

    monkeypatch.setattr(runner.Worker, "run", run)
    failed = Runner(study, jobs=2).run()
    assert "exit status 3" in failed["samples@0"] and "samples_seed0.log" in failed["samples@0"]
    assert {"filter@0", "dpo@0"} < failed.keys()
    assert mark_of(study.stages["noise_0@0"]).is_file() and not mark_of(study.stages["samples@0"]).exists()


def test_only_some_stages_and_their_needs(study_file: Path, tmp_path: Path) -> None:
    study = planned(study_file, tmp_path, seeds=[0])
    assert with_needs(study, ["filter"]) == {"filter@0", "samples@0", "base@0"}
    with pytest.raises(StudyError, match="no stage 'nothing'"):
        with_needs(study, ["nothing"])


def test_a_setting_may_name_a_file_beside_the_study(study_file: Path, tmp_path: Path) -> None:
    reward = study_file.with_name("reward.yaml")
    reward.write_text("class_path: mine\n")
    stages = {"a": {"config": "base.yaml", "set": {"reward": "reward.yaml"}}}
    stage = planned(changed(study_file, stages=stages, compare=[]), tmp_path).stages["a@0"]
    assert stage.arguments[-2:] == ("--reward", str(reward)) and reward in stage.inputs
    before = stage.fingerprint((), ())
    reward.write_text("class_path: another\n")
    assert stage.fingerprint((), ()) != before, "what the file says decides what the stage does"


def test_a_part_of_a_study_is_compared_as_far_as_it_has_ended(
    study_file: Path,
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compared: list[list[str]] = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        compared.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    compare = [{"name": "main", "stages": ["base", "noise_0", "dpo"], "baseline": "base"}]
    path, output = str(changed(study_file, compare=compare)), str(tmp_path / "out")
    assert cli.main(["study", path, "--output", output, "--only", "noise_0", "--seeds", "0"]) == 0
    assert "still to be run: dpo" in capsys.readouterr().out
    assert cli.main(["study", path, "--output", output, "--only", "noise_0.5"]) == 0
    folders = [[Path(word).name for word in command if "_seed" in word] for command in compared]
    assert folders == [["base_seed0", "noise_0_seed0"], ["base_seed0", "noise_0_seed0", "base_seed1"]]
    compared.clear()
    assert cli.main(["study", path, "--output", str(tmp_path / "other"), "--only", "base"]) == 0
    assert not compared and "no comparison in" in capsys.readouterr().out, "two methods make a comparison"
    for baseline, count in (("noise", 1), ("dpo", 0)):
        compared.clear()
        by_method = [{"name": "main", "stages": ["base", "noise_0.5", "dpo"], "baseline": baseline}]
        path, output = str(changed(study_file, compare=by_method)), str(tmp_path / baseline)
        assert cli.main(["study", path, "--output", output, "--only", "noise_0.5", "--seeds", "0"]) == 0
        assert len(compared) == count, "a baseline is named by its method, and must have ended"


def test_a_study_builds_on_another_one(study_file: Path, tmp_path: Path, ran: list[str]) -> None:
    more = study_file.with_name("more.yaml")
    stages = {
        "weak": {"config": "base.yaml"},
        "{m}_weak": {"for": {"m": ["dpo"]}, "like": "{m}", "set": {"start": "{weak}/model"}, "choose": "{m}"},
    }
    compared = [{"name": "weak", "stages": ["base", "dpo_weak"]}]
    more.write_text(
        yaml.safe_dump({"include": "study.yaml", "seeds": [0], "stages": stages, "compare": compared}, sort_keys=False)
    )
    study = planned(more, tmp_path)
    assert {key for key in study.stages if key.endswith("@0")} == {
        "base@0", "samples@0", "filter@0", "weak@0", "dpo_weak@0"
    }, "included stages are there only where they are needed"  # fmt: skip
    assert "--start" in study.stages["dpo_weak@0"].arguments and "weak@0" in study.stages["dpo_weak@0"].needs
    assert Runner(study, jobs=2).run() == {}
    assert json.loads((tmp_path / "out/dpo_weak_seed0/arguments.json").read_text())[-2:] == ["--lr", "0.2"]
    ran.clear()
    assert Runner(planned(study_file, tmp_path), jobs=1).run() == {}
    assert not {"base@0", "dpo.search0@7", "samples@0"} & set(ran), "what both have is made once"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": {"a": {"confg": "base.yaml"}}}, "stages.a has the unknown field 'confg'"),
        ({"stages": {"a": {"config": "missing.yaml"}}, "compare": []}, "missing.yaml does not exist"),
        (
            {"stages": {"a": {"config": "base.yaml", "set": {"reward": "r/lost.yaml"}}}, "compare": []},
            "stages.a: .*r/lost.yaml does not exist",
        ),
        ({"stages": {"a": {"like": "nobody"}}}, "stages.a.like names 'nobody'"),
        ({"compare": [{"name": "x", "stages": ["b"]}]}, r"compare\[0\].stages names 'b'"),
        ({"stages": {"a": {"config": "base.yaml", "choose": "b"}}, "compare": []}, "'b' is no stage with a grid"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"search": {"mode": "best"}}, "search.mode is 'best'"),
    ],
)
def test_faults_name_the_file_and_the_field(
    study_file: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message) as raised:
        planned(changed(study_file, **changes), tmp_path)
    assert "study.yaml" in str(raised.value)


def test_a_dry_run_prints_the_commands(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", str(study_file), "--dry_run", "--only", "samples", "--seeds", "0"]) == 0
    printed = capsys.readouterr().out
    assert "samples@0 (to do) after base@0" in printed and "lightning-gfn predict --config" in printed
    assert "dpo" not in printed


def test_a_worker_serves_one_command_after_another(tmp_path: Path) -> None:
    worker = Worker()
    try:
        assert worker.run("a", ["--version"], tmp_path / "a.log") == 0
        first = worker.process
        assert worker.run("b", ["nonsense"], tmp_path / "b.log") == 2
        assert worker.process is first
        assert "there is no command" in (tmp_path / "b.log").read_text()
        assert first is not None
        first.kill()
        first.wait()
        assert worker.run("c", ["--version"], tmp_path / "c.log") == 0, "a dead process is replaced"
    finally:
        worker.close()
