"""The whole methods in one command: which stages run, in which order, at whose cost; killed ones go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_gfn import cli
from lightning_gfn.studies import pipeline
from lightning_gfn.studies.pipeline import BUDGETS, with_prior
from lightning_gfn.studies.worker import Worker

CONFIG: dict[str, Any] = {
    "trainer": {"callbacks": [{"class_path": "a.B"}, {"class_path": BUDGETS[0], "init_args": {"max_reward_calls": 9}}]},
    "model": {"class_path": "m.M"},
}
Calls = list[dict[str, Any]]


def settings_of(arguments: list[str]) -> dict[str, str]:
    """The values of the options of a command line."""
    return {key.lstrip("-"): value for key, value in zip(arguments[1::2], arguments[2::2], strict=True)}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Commands are recorded and leave the files that real ones leave; ``fail`` on the list makes one of them fail."""
    recorded: Calls = []

    def run(self: Worker, label: str, arguments: list[str], log_path: Path) -> int:
        options = settings_of(arguments)
        folder = Path(options["run_dir"])
        config = yaml.safe_load(Path(options["config"]).read_text())
        if failing and failing[0] in str(folder) + arguments[0]:
            return 7
        recorded.append({**options, "command": arguments[0], "folder": folder, "config": config})
        if arguments[0] == "predict":
            write_predictions(folder / "predictions", "data.init_args.retry_path" in options)
        else:
            assert Path(options["data.init_args.path"]).is_file()
            (folder / "model").mkdir(parents=True)
            (folder / "results").mkdir()
            (folder / "results" / "test_metrics.json").touch()
            (folder / "budget.json").touch()
        return 0

    failing: list[str] = []
    recorded_failures[:] = [failing]
    monkeypatch.setattr(Worker, "run", run)
    monkeypatch.setattr(pipeline, "resolved_config", lambda configs, overrides: {**CONFIG, "overrides": overrides})
    return recorded


recorded_failures: list[list[str]] = []


def write_predictions(folder: Path, hinted: bool) -> None:
    """Two samples of each problem: p is solved, q is solved with a hint, r never."""
    folder.mkdir(parents=True)
    (folder / "budget.json").touch()
    verdicts = {"p": True, "q": False, "r": False} if not hinted else {"q": True, "r": False}
    rows = [
        {"problem_id": id_, "prompt": "hint " * hinted + id_, "completion": f"{id_} {n}", "correct": good and n == 0}
        for id_, good in verdicts.items()
        for n in range(2)
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def prior_of(call: dict[str, Any]) -> list[str]:
    return call["config"]["trainer"]["callbacks"][1]["init_args"]["prior"]


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_prior_costs_enter_the_budget_and_nothing_else() -> None:
    changed = with_prior(CONFIG, [Path("x/budget.json")])
    assert changed["trainer"]["callbacks"][1]["init_args"] == {"max_reward_calls": 9, "prior": ["x/budget.json"]}
    assert "prior" not in CONFIG["trainer"]["callbacks"][1]["init_args"]
    changed["trainer"]["callbacks"][1]["init_args"].pop("prior")
    assert changed == CONFIG
    assert with_prior({"trainer": {"callbacks": None}}, [])["trainer"] == {"callbacks": []}


@pytest.mark.parametrize("name", ["rft", "pairs"])
def test_sample_make_train(name: str, calls: Calls, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    more = ["--model.seed", "3"] if name == "rft" else ["--unpaired", "--model.seed", "3"]
    command = [name, "--config", "c.yaml", "--run_dir", str(run_dir), "--num_samples", "2", "--sample_seed", "5", *more]
    assert cli.main(command) == 0
    sampling, training = calls
    assert sampling["command"] == "predict" and training["command"] == "run"
    assert sampling["folder"] == run_dir / name / "sample" and training["folder"] == run_dir
    assert sampling["data.init_args.predict_split"] == "train"
    assert sampling["model.init_args.evaluation.num_samples"] == "2"
    assert sampling["model.init_args.evaluation.seed"] == "5"
    assert training["if_exists"] == "resume" and training["config"]["overrides"] == ["--model.seed", "3"]
    assert prior_of(training) == [str(run_dir / name / "sample" / "predictions" / "budget.json")]
    rows = read_rows(Path(training["data.init_args.path"]))
    assert rows[0] == (
        {"problem_id": "p", "prompt": "p", "completions": ["p 0"]}
        if name == "rft"
        else {"problem_id": "p", "prompt": "p", "completion": "p 0", "label": True}
    )
    assert cli.main(command) == 0 and len(calls) == 2, "nothing is done twice"


def test_given_predictions_are_not_sampled_and_a_missing_cost_is_said(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_predictions(tmp_path / "mine", False)
    given = tmp_path / "mine" / "predictions.jsonl"
    command = ["pairs", "--config", "c.yaml", "--predictions", str(given)]
    assert cli.main([*command, "--run_dir", str(tmp_path / "a")]) == 0
    assert [call["command"] for call in calls] == ["run"]
    assert prior_of(calls[0]) == [str(given.with_name("budget.json"))]
    given.with_name("budget.json").unlink()
    assert cli.main([*command, "--run_dir", str(tmp_path / "b")]) == 0
    assert prior_of(calls[1]) == [] and "leaves out what that stage cost" in capsys.readouterr().out


def test_a_failed_stage_is_named_and_the_same_command_goes_on(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    command = ["rft", "--config", "c.yaml", "--run_dir", str(run_dir)]
    failing = recorded_failures[0]
    failing.append("runrun")
    assert cli.main(command) == 1
    assert "rft train failed with exit status 7" in (error := capsys.readouterr().err)
    assert str(run_dir / "rft" / "log.txt") in error
    failing.clear()
    assert cli.main(command) == 0
    assert [call["command"] for call in calls] == ["predict", "run"]
    assert cli.main([*command, "--distinct", "none"]) == 2
    assert "made with other settings" in capsys.readouterr().err
    assert cli.main([*command, "--model.x", "1"]) == 2


def test_star_retries_with_a_hint_and_retrains_from_the_base(calls: Calls, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    command = ["star", "--config", "c.yaml", "--run_dir", str(run_dir), "--rounds", "2", "--sample_seed", "10"]
    recorded_failures[0].append("round2/hinted")
    assert cli.main(command) == 1
    recorded_failures[0].clear()
    assert cli.main(command) == 0
    first, second = run_dir / "star" / "round1", run_dir / "star" / "round2"
    assert [(call["command"], call["folder"]) for call in calls] == [
        ("predict", first / "sample"),
        ("predict", first / "hinted"),
        ("run", first / "train"),
        ("predict", second / "sample"),
        ("predict", second / "hinted"),
        ("run", run_dir),
    ]
    pretrained = "model.init_args.policy.init_args.pretrained"
    assert [call.get(pretrained) for call in calls] == [None] * 3 + [str(first / "train" / "model")] * 2 + [None]
    seeds = [call["model.init_args.evaluation.seed"] for call in calls if call["command"] == "predict"]
    assert seeds == ["10", "11", "12", "13"]
    for folder in (first, second):
        assert read_rows(folder / "retry.jsonl") == [{"problem_id": "q"}, {"problem_id": "r"}]
        assert read_rows(folder / "solutions.jsonl") == [
            {"problem_id": "p", "prompt": "p", "completions": ["p 0"]},
            {"problem_id": "q", "prompt": "q", "completions": ["q 0"]},
        ]
    sampled = [folder / part for folder in (first, second) for part in ("sample", "hinted")]
    costs = [str(folder / "predictions" / "budget.json") for folder in sampled]
    assert prior_of(calls[2]) == costs[:2]
    assert prior_of(calls[5]) == [str(first / "train" / "budget.json"), *costs[2:]]


BASE_YAML = """
trainer:
  accelerator: cpu
  devices: 1
  max_steps: 60
  limit_val_batches: 0
  enable_progress_bar: false
  enable_model_summary: false
  logger: false
  callbacks:
    - class_path: lightning_gfn.callbacks.evaluation.Evaluation
      init_args: {ks: [1, 2], majority_ks: [2]}
    - class_path: lightning_gfn.callbacks.budget.Budget
    - class_path: lightning_gfn.callbacks.export.ExportModel
    - class_path: lightning_gfn.callbacks.predictions.PredictionWriter
data:
  class_path: datamodules.gsm8k.GSM8K
  init_args: {path: coins, prompt_template: "{question}", batch_size: 8, val_fraction: 0.0}
model:
  class_path: lightning_gfn.modules.sft.SFTModule
  init_args:
    policy:
      class_path: lightning_gfn.policies.causal_lm.CausalLM
      init_args:
        config: {model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
                 num_attention_heads: 2, max_position_embeddings: 96, initializer_range: 0.1}
        tokenizer: {kind: byte}
        max_prompt_tokens: 60
        max_new_tokens: 16
        allowed_tokens: ["#", " ", "0", "1", "h", "t"]
    optimizer: {lr: 2.0e-2}
    evaluation: {num_samples: 2}
"""


@pytest.fixture
def coins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A model that guesses the answer of each problem, 0 or 1, and the command line of a method on top of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    folder = tmp_path / "coins"
    folder.mkdir()
    for split, count in (("train", 16), ("test", 4)):
        answers = [f"{'ht'[i % 3 > 0]} #### {i * 7 % 5 % 2}" for i in range(count)]
        rows = [{"question": f"{split} {i}: ", "answer": answer} for i, answer in enumerate(answers)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "base.yaml").write_text(BASE_YAML)
    assert cli.main(["run", "--config", "base.yaml", "--run_dir", "base"]) == 0

    def command(name: str, data: str, method: dict[str, Any], *more: str) -> list[str]:
        config = yaml.safe_load(BASE_YAML)
        config["trainer"]["max_steps"] = 3
        policy = config["model"]["init_args"]["policy"]["init_args"]
        del policy["config"], policy["tokenizer"]
        policy["pretrained"] = "base/model"
        settings = {"policy": config["model"]["init_args"]["policy"], "evaluation": {"num_samples": 2}}
        config["model"] = {"class_path": method.pop("class_path"), "init_args": {**settings, **method}}
        config["data"] = {"class_path": data, "init_args": {"problems": config["data"], "batch_size": 4}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        return [*more, "--config", f"{name}.yaml", "--run_dir", name, "--num_samples", "4"]

    return command


SFT = {"class_path": "lightning_gfn.modules.sft.SFTModule"}
MODULE = "lightning_gfn.modules.preference.PreferenceModule"


def spent(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_text())


@pytest.mark.slow
def test_rft_and_dpo_from_start_to_figures(coins: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]) -> None:
    rft = coins("rft", "datamodules.samples.SampledSolutions", {**SFT}, "rft")
    assert cli.main(rft) == 0, capfd.readouterr().err
    assert Path("rft/results/test_metrics.json").is_file() and Path("rft/model/config.json").is_file()
    sampled, total = spent("rft/rft/sample/predictions/budget.json"), spent("rft/budget.json")
    assert total["reward_calls"] == sampled["reward_calls"] == 64 and total["optimizer_steps"] == 3
    assert total["generated_tokens"] == sampled["generated_tokens"] > 0 == total["own"]["generated_tokens"]
    samples = read_rows(Path("rft/rft/sample/predictions/predictions.jsonl"))
    right = {(r["problem_id"], r["completion"]) for r in samples if r["correct"]}
    kept = {(r["problem_id"], text) for r in read_rows(Path("rft/rft/solutions.jsonl")) for text in r["completions"]}
    assert kept and kept <= right
    dpo = {"class_path": MODULE, "objective": {"class_path": "lightning_gfn.objectives.preference.DPO"}}
    given = ["--predictions", "rft/rft/sample/predictions/predictions.jsonl"]
    pairs = coins("dpo", "datamodules.preference.PreferenceDataModule", dpo, "pairs", *given)
    assert cli.main(pairs) == 0, capfd.readouterr().err
    losses = [row["train/loss"] for row in read_rows(Path("dpo/metrics.jsonl")) if "train/loss" in row]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3) and len(losses) == 3
    assert spent("dpo/budget.json")["reward_calls"] == 64


@pytest.mark.slow
def test_star_from_start_to_figures(coins: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]) -> None:
    star = coins("star", "datamodules.samples.SampledSolutions", {**SFT}, "star", "--rounds", "1")
    assert cli.main(star) == 0, capfd.readouterr().err
    prompts = {r["prompt"] for r in read_rows(Path("star/star/round1/hinted/predictions/predictions.jsonl"))}
    assert prompts and all(prompt.startswith("Hint: the answer is ") for prompt in prompts)
    assert all(r["prompt"].startswith("train") for r in read_rows(Path("star/star/round1/solutions.jsonl")))
    assert spent("star/budget.json")["reward_calls"] > 64
