from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
import yaml

Run = Callable[..., int]


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ("modle: {x: 1}", ["modle", "'model'"]),
        ("trainer: {max_step: 3}", ["max_step", "'trainer.max_steps'"]),
        ("model: {init_args: {llr: 3}}", ["llr", "'lr'"]),
        ("checkpoint: {monitr: x}", ["monitr", "'checkpoint.monitor'"]),
        ("model: {class_path: standins.Nothing}", ["Nothing"]),
        ("trainer: {max_steps: many}", ["max_steps"]),
        ("if_exists: maybe", ["if_exists"]),
        ("trainer: [", ["overlay.yaml"]),
    ],
)
def test_bad_yaml_fails_before_anything_is_built(
    run: Run, workspace: Path, capsys: pytest.CaptureFixture[str], overlay: str, expected: list[str]
) -> None:
    (workspace / "overlay.yaml").write_text(overlay)
    marker = workspace / "marker"
    assert run("fit", "--config", "overlay.yaml", "--model.init_args.marker", str(marker)) == 2
    message = capsys.readouterr().err
    for text in expected:
        assert text in message
    assert len(message) < 3000, "the message must not drown in the usage of all options"
    assert not marker.exists() and not (workspace / "run").exists()


POLICY = "{class_path: lightning_gfn.policies.causal_lm.CausalLM, init_args: {%s}}"
ROLLOUTS = (
    "model: {class_path: lightning_gfn.modules.%s, init_args: "
    "{objective: {class_path: lightning_gfn.objectives.%s}, "
    "reward: {class_path: lightning_gfn.rewards.answer_match.AnswerMatch}, policy: " + POLICY + "}}"
)
GRPO, TB = (
    ("policy_gradient.PolicyGradientModule", "grpo.GRPO"),
    ("gflownet.GFlowNetModule", "trajectory_balance.TrajectoryBalance"),
)
BUDGET = "{class_path: lightning_gfn.callbacks.budget.Budget}"
TINY = "config: {model_type: llama, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1}"


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ("trainer: {callbacks: [%s, %s]}" % ((BUDGET,) * 2), "trainer.callbacks holds Budget more than once"),
        (ROLLOUTS % (*GRPO, "pretrained: smollm2-135m"), "run: lightning-gfn model install smollm2-135m"),
        (ROLLOUTS % (*GRPO, TINY + ", min_new_tokens: 9, max_new_tokens: 8"), "min_new_tokens=9"),
        (ROLLOUTS % (*TB, TINY), "head"),
        ("data: {class_path: datamodules.gsm8k.GSM8K, init_args: {path: ./nowhere}}", "nowhere"),
        ("data: {class_path: datamodules.gsm8k.GSM8K, init_args: {path: x, val_fraction: 2}}", "val_fraction"),
        ("trainer: {callbacks: [{class_path: lightning_gfn.callbacks.progress.Progress, "
         "init_args: {sample_every: -1}}]}", "sample_every"),
    ],
)  # fmt: skip
def test_a_refused_setting_is_said_in_a_few_lines(
    run: Run,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    overlay: str,
    expected: str,
) -> None:
    """Neither a traceback nor the parser's list of all values, but the sentence of the class that refuses them."""
    monkeypatch.setenv("LIGHTNING_GFN_CACHE", str(workspace / "cache"))
    (workspace / "overlay.yaml").write_text(overlay)
    assert run("fit", "--config", "overlay.yaml") == 2
    message = capsys.readouterr().err.strip()
    assert expected in message and message.startswith("lightning-gfn fit: ")
    assert message.count("\n") < 3 and len(message) < 500 and "Namespace" not in message
    assert not (workspace / "run").exists()


def test_an_error_in_a_class_of_the_user_keeps_its_traceback(run: Run, workspace: Path) -> None:
    """The user's own constructor may be wrong itself, and only its traceback shows where."""
    (workspace / "overlay.yaml").write_text("data: {class_path: standins.BrokenData}")
    with pytest.raises(ValueError, match="invalid literal"):
        run("fit", "--config", "overlay.yaml")


@pytest.mark.parametrize("arguments", [("--trainer.max_stepz", "3"), ("--rundir", "x"), ("--config", "nowhere.yaml")])
def test_bad_arguments_fail(
    run: Run, workspace: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str]
) -> None:
    assert run("fit", *arguments) == 2
    assert arguments[0 if arguments[0] != "--config" else 1] in capsys.readouterr().err
    assert not (workspace / "run").exists()


def test_run_dir_is_required(run: Run, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (workspace / "base.yaml").read_text().replace("run_dir: run\n", "")
    (workspace / "base.yaml").write_text(text)
    assert run("fit") == 2
    assert "run_dir" in capsys.readouterr().err


def test_later_configs_win_key_by_key(run: Run, workspace: Path) -> None:
    (workspace / "first.yaml").write_text("model: {init_args: {lr: 0.5, method: first}}\ntrainer: {max_steps: 3}\n")
    (workspace / "second.yaml").write_text("model: {init_args: {lr: 0.25}}\n")
    overlays = ("--config", "first.yaml", "--config", "second.yaml", "--trainer.max_steps", "2")
    assert run("fit", *overlays) == 0
    config = yaml.safe_load((workspace / "run" / "config.yaml").read_text())
    assert config["model"]["init_args"]["lr"] == 0.25
    assert config["model"]["init_args"]["method"] == "first"
    assert config["trainer"]["max_steps"] == 2 and config["trainer"]["val_check_interval"] == 4
    assert config["trainer"]["use_distributed_sampler"] is False


def test_foreign_datamodules_are_noticed(
    run: Run, workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from lightning_gfn.installation import our_datamodules

    our_datamodules.check_datamodules()
    foreign = tmp_path_factory.mktemp("foreign") / "datamodules" / "__init__.py"
    foreign.parent.mkdir()
    foreign.touch()
    from importlib.machinery import ModuleSpec

    monkeypatch.setattr(our_datamodules, "find_spec", lambda name: ModuleSpec(name, None, origin=str(foreign)))
    with pytest.raises(ImportError, match="remove the other one"):
        our_datamodules.check_datamodules()
    monkeypatch.undo()
    for file, text in (("top_level.txt", "x\ndatamodules\n"), ("RECORD", "a.py,,\ndatamodules/b.py,,\n")):
        other = tmp_path_factory.mktemp("path")
        for name in ("datamodules", "other-1.0.dist-info"):
            (other / name).mkdir()
        for name in ("a.py", "datamodules/b.py"):
            (other / name).touch()
        (other / "other-1.0.dist-info" / "METADATA").write_text("Name: other\nVersion: 1.0\n")
        (other / "other-1.0.dist-info" / file).write_text(text)
        with monkeypatch.context() as patch:
            patch.setattr("sys.path", [*sys.path, str(other)])
            assert [
                found.metadata["Name"] for found in distributions() if our_datamodules.holds_datamodules(found)
            ] == packages_distributions()["datamodules"]
            with pytest.raises(ImportError, match="other has one too"):
                our_datamodules.check_datamodules()
