"""``fit --dry_run``: what it says, that it leaves nothing behind, and that errors come as they would."""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

Run = Callable[..., int]
Write = Callable[[str], None]
Capture = pytest.CaptureFixture[str]
DATA = """
data:
  class_path: datamodules.synthetic.SyntheticWordProblems
  init_args: {levels: {1: 1.0}, num_train: 12, num_val: 4, num_test: 4, batch_size: 4}
"""
ROLLOUTS = """
  class_path: lightning_gfn.modules.gflownet.GFlowNetModule
  init_args:
    objective: {class_path: lightning_gfn.objectives.vargrad.VarGrad}
    reward:
      class_path: lightning_gfn.rewards.function.FunctionReward
      init_args: {function: own.py:letters}
    num_samples: 3
    optimizer: {lr: 1.0e-2}
"""
SFT = """
  class_path: lightning_gfn.modules.sft.SFTModule
"""
OWN = "def letters(completions, **columns):\n    return [len(text) / 10 for text in completions]\n"


@pytest.fixture
def small(workspace: Path, write_small_run: Write) -> Callable[[str], None]:
    """Write a small run of a module, in a folder with a reward function."""

    def write(model: str, trainer: str = "trainer: {max_steps: 7}") -> None:
        (workspace / "own.py").write_text(OWN)
        write_small_run(f"{trainer}\n{DATA}model:{model}")

    return write


def left(folder: Path) -> set[str]:
    """Names of files and folders, but for what Python compiles."""
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


@pytest.mark.parametrize("model", [ROLLOUTS, SFT], ids=["rollouts", "sft"])
@pytest.mark.parametrize("command", ["fit", "run"])
def test_it_says_everything_and_leaves_nothing(
    run: Run, workspace: Path, small: Callable[..., None], capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory, model: str, command: str,
) -> None:  # fmt: skip
    small(model)
    scratch = tmp_path_factory.mktemp("scratch")
    importlib.import_module("torch._dynamo")  # makes a folder when it is first imported, which Lightning does
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = left(workspace)
    assert run(command, "--dry_run", "--trainer.gradient_clip_val", "0.5") == 0
    said = capsys.readouterr().out
    assert left(workspace) == before and not list(scratch.iterdir())
    assert f"dry run of {command}: two steps" in said and "gradient_clip_val: 0.5" in said
    assert "max_epochs" not in said, "defaults are left out"
    assert re.search(r"optimiser step: [\d.e-]+ s \(measured\)", said)
    assert re.search(r"memory of a step on each device \(estimated\): [\d,]+ MiB for \d+ rows", said)
    for part in ("weights", "gradients", "optimiser", "activations", "logits", "program"):
        assert re.search(rf"^  {part} +[\d,]+ MiB", said, re.M), part
    assert ("  keys and values  " in said) == (model is ROLLOUTS)
    assert "all of this worked" in said.splitlines()[-1]


def test_the_short_configuration_is_the_whole_one(
    run: Run, workspace: Path, small: Callable[..., None], capsys: Capture
) -> None:
    """Given back as the only file, it makes the same run."""
    small(ROLLOUTS)
    assert run("fit", "--dry_run") == 0
    lines = capsys.readouterr().out.split("from the defaults)\n")[1].splitlines()
    short = "\n".join(line for line in takewhile(lambda line: line.startswith("  "), lines))
    assert len(short.splitlines()) < 40
    assert run("fit", "--trainer.max_steps", "1", "--run_dir", "whole") == 0
    (workspace / "base.yaml").write_text(dedent(short))
    assert run("fit", "--trainer.max_steps", "1", "--run_dir", "again") == 0
    whole, again = (yaml.safe_load((workspace / name / "config.yaml").read_text()) for name in ("whole", "again"))
    assert [again[key] for key in ("seed_everything", "model", "data")] == [
        whole[key] for key in ("seed_everything", "model", "data")
    ]
    assert {**again["trainer"], "default_root_dir": None} == {**whole["trainer"], "default_root_dir": None}


def columns(said: str) -> list[tuple[str, int, int]]:
    """Token, id and mask of every token of the report, read back."""
    rows: dict[str, list[str]] = {"token": [], "id": [], "loss": []}
    for line in said.splitlines():
        head, *cells = line.split()[:1] + line.split()[1:]
        if head in rows and line.startswith("    "):
            rows[head] += cells
    return [(token, int(id_), int(mask)) for token, id_, mask in zip(*rows.values(), strict=True)]


def test_tokens_mask_and_reward_are_those_of_the_first_problem(
    run: Run, workspace: Path, small: Callable[..., None], capsys: Capture
) -> None:
    """The prompt in front under 0, then the solution and the stop under 1; its reward by the function's own rule."""
    from datamodules.synthetic import SyntheticWordProblems
    from lightning_gfn.policies.causal_lm import CausalLM
    from lightning_gfn.policies.text.tokenizers import TokenizerSettings

    small(ROLLOUTS)
    assert run("fit", "--dry_run", "--model.init_args.policy.init_args.max_new_tokens", "60",
               "--model.init_args.policy.init_args.config.max_position_embeddings", "128") == 0  # fmt: skip
    said = capsys.readouterr().out
    data = SyntheticWordProblems(levels={1: 1.0}, num_train=12, num_val=4, num_test=4, batch_size=4)
    match = re.search(r"Problem '([^']+)': (\d+) tokens of the prompt", said)
    assert match is not None
    problem = next(problem for problem in data.problems("train") if problem.id == match[1])
    policy = CausalLM(
        config={"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                "num_attention_heads": 2, "max_position_embeddings": 128},
        tokenizer=TokenizerSettings(kind="bpe", vocab_size=300), max_prompt_tokens=48, max_new_tokens=60,
    )  # fmt: skip
    policy.build(data.training_texts())
    context, action = policy.encode_prompt(problem.prompt), policy.encode_completion(problem.solutions[0])
    found = columns(said)
    assert [id_ for _, id_, _ in found] == [*context, *action, policy.stop_id]
    assert [mask for *_, mask in found] == [0] * len(context) + [1] * (len(action) + 1)
    reward = re.search(r"log reward of the reference solution: ([-\d.]+)", said)
    assert reward is not None and float(reward[1]) == pytest.approx(len(problem.solutions[0]) / 10, abs=1e-3)


def test_time_of_a_step_is_extrapolated_where_the_whole_step_would_take_long(
    run: Run, workspace: Path, small: Callable[..., None], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_gfn.callbacks.dry_run import rehearsal

    small(ROLLOUTS)
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(rehearsal, "now", lambda device: float(next(clock)))
    monkeypatch.setattr(rehearsal, "SECONDS", 12.0)
    assert run("fit", "--dry_run", "--trainer.accumulate_grad_batches", "3") == 0
    said = capsys.readouterr().out
    assert "optimiser step: 30 s (extrapolated in proportion from 2 of 4 examples, which took 5 s)" in said


def test_several_updates_on_a_rollout_stay_together(
    run: Run, workspace: Path, small: Callable[..., None], capsys: Capture
) -> None:
    small(ROLLOUTS + "    updates: {num_epochs: 2, num_minibatches: 2}\n")
    assert run("fit", "--dry_run") == 0
    assert "for 6 rows of at most" in capsys.readouterr().out, "4 problems, 3 samples, half of them a loss"


def test_two_devices_are_tried_on_one(run: Run, workspace: Path, small: Callable[..., None], capsys: Capture) -> None:
    small(SFT)
    assert run("fit", "--dry_run", "--trainer.devices", "2", "--trainer.strategy", "ddp") == 0
    said = capsys.readouterr().out
    assert "devices: '2'" in said and "for 2 rows of at most" in said, "4 problems on 2 devices"


def test_a_module_of_ones_own_is_measured(run: Run, workspace: Path, capsys: Capture) -> None:
    assert run("fit", "--dry_run") == 0
    said = capsys.readouterr().out
    assert "NoisyModule has no language model of this suite: only its step is measured" in said
    assert "optimiser step:" in said and left(workspace) == {"base.yaml"}


def test_a_folder_in_use_is_said_and_left_alone(run: Run, workspace: Path, capsys: Capture) -> None:
    Path("run/samples").mkdir(parents=True)
    assert run("fit", "--dry_run") == 0
    assert "the run itself would be refused: run_dir run already holds a run" in capsys.readouterr().out
    assert left(workspace / "run") == {"samples"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--trainer.max_stepz", "3"), "max_steps"),
        (("--data.init_args.batch_size", "0"), "data.batch_size must be at least 1, got 0"),
        (("--model.init_args.policy.init_args.budget.max_tokens_per_pass", "0"), "budget.max_tokens_per_pass is 0"),
        (("--model.init_args.updates.num_minibatches", "30"), "too few for every optimiser step"),
    ],
)
def test_errors_come_before_a_model_is_built(
    run: Run, workspace: Path, small: Callable[..., None], capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, str], expected: str,
) -> None:  # fmt: skip
    from lightning_gfn.policies.language_model import LanguageModel

    small(ROLLOUTS)
    monkeypatch.setattr(LanguageModel, "build", lambda self, texts: pytest.fail("a model was built"))
    assert run("fit", "--dry_run", *arguments) == 2
    said = capsys.readouterr().err
    assert (
        expected in said
        and "Traceback" not in said.split("lightning-gfn fit:")[-1]
        and not (workspace / "run").exists()
    )


def test_a_reward_that_fails_is_the_users_error(
    run: Run, workspace: Path, small: Callable[..., None], capsys: Capture
) -> None:
    small(ROLLOUTS)
    (workspace / "own.py").write_text("def letters(completions, **columns):\n    return [1 / 0]\n")
    assert run("fit", "--dry_run") == 2
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said and "own.py" in said and "Traceback" not in said.split("lightning-gfn fit:")[-1]
    assert left(workspace) == {"base.yaml", "own.py"}


def test_it_is_asked_for_on_the_command_line_alone(run: Run, workspace: Path, capsys: Capture) -> None:
    (workspace / "overlay.yaml").write_text("dry_run: true\n")
    assert run("fit", "--config", "overlay.yaml") == 2
    assert "dry_run is no setting of a run: remove it from the YAML file and give --dry_run" in capsys.readouterr().err
    assert run("validate", "--dry_run") == 2, "only fitting can be tried out"
    assert not (workspace / "run").exists()
    assert run("fit", "--trainer.max_steps", "1") == 0
    assert "dry_run" not in (workspace / "run" / "config.yaml").read_text()
