"""The command that labels steps: what it calls, and a small run from start to file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_gfn import cli
from lightning_gfn.commands.self_training.step_labels import build_parser, predict_arguments

YAML = """
run_dir: run
seed_everything: 0
trainer: {accelerator: cpu, devices: 1, logger: false, enable_progress_bar: false, enable_model_summary: false}
data:
  class_path: datamodules.synthetic.SyntheticWordProblems
  init_args: {levels: {1: 1.0}, num_train: 6, num_val: 2, num_test: 2}
model:
  class_path: lightning_gfn.modules.sft.SFTModule
  init_args:
    policy:
      class_path: lightning_gfn.policies.causal_lm.CausalLM
      init_args:
        config: {model_type: llama, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2}
        tokenizer: {kind: byte}
        max_prompt_tokens: 80
        max_new_tokens: 12
        allowed_tokens: ["1", "2", "=", "\\n"]
    evaluation: {num_samples: 3}
"""


def arguments(*given: str) -> list[str]:
    return predict_arguments(*build_parser().parse_known_args([*given]))


def test_what_is_called() -> None:
    found = arguments("runs/sft", "--completions", "4", "--label_seed", "3", "--data.init_args.predict_split", "train")
    assert found[:5] == ["predict", "--config", "runs/sft/config.yaml", "--run_dir", "runs/sft"]
    assert found[-2:] == ["--data.init_args.predict_split", "train"]
    writer = json.loads(found[found.index("--trainer.callbacks+") + 1])
    assert writer["init_args"]["labeller"] == {
        "class_path": "lightning_gfn.rollouts.step_labels.Completions",
        "init_args": {"num_completions": 4, "temperature": 1.0, "seed": 3},
    }
    assert writer["init_args"]["separator"] == "\n"
    exact = json.loads(arguments("runs/sft", "--exact", "arithmetic", "--separator", ". ")[6])
    assert exact["init_args"]["labeller"]["class_path"].endswith("ExactArithmetic")
    assert exact["init_args"]["separator"] == ". "


def test_what_cannot_be_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["step_labels", str(tmp_path), "--exact", "solutions"]) == 2
    assert "config.yaml does not exist" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("")
    assert cli.main(["step_labels", str(tmp_path), "--completions", "0"]) == 2
    assert "--completions is 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["step_labels", str(tmp_path), "--completions", "2", "--exact", "solutions"])


@pytest.mark.slow
@pytest.mark.parametrize("how", [("--exact", "solutions"), ("--completions", "2")], ids=["exact", "completions"])
def test_a_small_run(how: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(YAML)
    assert cli.main(["step_labels", str(run), *how, "--data.init_args.predict_split", "train"]) == 0
    rows = [json.loads(line) for line in (run / "step_labels" / "step_labels.jsonl").read_text().splitlines()]
    assert 1 < len(rows) <= 18 and len({row["problem_id"] for row in rows}) > 1
    assert all(len(row["completions"]) == len(row["labels"]) == len(row["soft_labels"]) for row in rows)
    assert (run / "step_labels" / "budget.json").is_file()
