"""Runs through the command line whose samples come from a server process, whole models and adapters."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from small_models import write_small_model
from vllm_process import ServerProcess

STEPS = 4
COMMON = """
trainer:
  max_steps: 4
  val_check_interval: 2
  check_val_every_n_epoch: null
  callbacks:
    - class_path: lightning_gfn.callbacks.evaluation.Evaluation
      init_args: {ks: [1, 2], majority_ks: [2]}
data:
  class_path: datamodules.synthetic.SyntheticWordProblems
  init_args: {levels: {1: 1.0}, num_train: 12, num_val: 2, num_test: 2, batch_size: 4}
model:
  init_args:
    reward: {class_path: lightning_gfn.rewards.likelihood.ReferenceLikelihood}
    num_samples: 3
    optimizer: {lr: 1.0e-2}
    evaluation: {num_samples: 2, temperatures: [0.7]}
"""
POLICY = {"config": None, "tokenizer": None, "max_prompt_tokens": 400, "max_new_tokens": 8}
METHODS = {
    "vargrad": {
        "class_path": "lightning_gfn.modules.gflownet.GFlowNetModule",
        "init_args": {"objective": {"class_path": "lightning_gfn.objectives.vargrad.VarGrad"}},
    },
    "grpo": {
        "class_path": "lightning_gfn.modules.policy_gradient.PolicyGradientModule",
        "init_args": {
            "objective": {
                "class_path": "lightning_gfn.objectives.grpo.GRPO",
                "init_args": {"importance": {"level": "token", "cap": 2.0}},
            }
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_small_model(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def process(folder: str) -> Iterator[ServerProcess]:
    found = ServerProcess(folder)
    yield found
    found.close()


@pytest.fixture
def write_run(
    process: ServerProcess, folder: str, workspace: Path, write_small_run: Callable[[str], None]
) -> Callable[..., None]:
    """Write ``base.yaml`` of a method for a server that was just started."""

    def write(method: str, *, adapted: bool) -> None:
        process.start_anew(folder, max_model_len=512)
        write_small_run(COMMON)
        config = yaml.safe_load((workspace / "base.yaml").read_text())
        model = config["model"]
        model["class_path"] = METHODS[method]["class_path"]
        model["init_args"] |= METHODS[method]["init_args"]
        policy = model["init_args"]["policy"]["init_args"]
        policy |= {**POLICY, "pretrained": folder, "vllm": {"url": process.url, "folder": str(workspace / "pushed")}}
        if adapted:
            policy["lora"] = {"rank": 4}
        (workspace / "base.yaml").write_text(yaml.safe_dump(config))

    return write


def logged(run_dir: Path, key: str) -> list[float]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [float(row[key]) for row in csv.DictReader(file) if row.get(key)]


@pytest.mark.parametrize(("method", "adapted"), [("vargrad", False), ("grpo", True), ("grpo", False)])
def test_a_run_trains_on_samples_of_the_server(run, write_run, process, workspace, method, adapted) -> None:
    write_run(method, adapted=adapted)
    assert run("fit") == 0
    mismatch = logged(workspace / "run", "train/sampling_mismatch_max")
    assert len(mismatch) == STEPS and max(mismatch) < 1e-4
    counts = process.counts()
    pushes = counts["/v1/load_lora_adapter"] - 1 if adapted else counts["/collective_rpc"]
    assert pushes == STEPS + 1  # before each step, and for the validation after the last
    assert logged(workspace / "run", "val/pass_at_1")
    if method == "grpo":
        assert max(map(abs, logged(workspace / "run", "train/importance_log_mean"))) < 1e-4


def test_a_trained_model_is_tested_and_a_run_tried_out_through_the_server(run, write_run, process, workspace) -> None:
    write_run("vargrad", adapted=True)
    assert run("fit", "--dry_run") == 0
    assert run("fit", "--trainer.max_steps", "1") == 0
    process.start_anew(process.folder, max_model_len=512)
    assert run("test") == 0
    assert process.counts()["/v1/load_lora_adapter"] - 1 == 1
    assert logged(workspace / "run", "test/pass_at_1")


def test_a_server_behind_shows_in_the_metrics(run, write_run, process, workspace) -> None:
    """The test above can fail: it does when updates reach the server one push late."""
    write_run("grpo", adapted=True)
    process.set(lag=1)
    assert run("fit") == 0
    assert max(logged(workspace / "run", "train/sampling_mismatch_max")) > 1e-3
    assert max(map(abs, logged(workspace / "run", "train/importance_log_mean"))) > 1e-5


def test_no_server_is_one_line(run, write_run, workspace, capsys) -> None:
    write_run("vargrad", adapted=False)
    assert run("fit", "--model.init_args.policy.init_args.vllm.url", "http://127.0.0.1:9") != 0
    error = capsys.readouterr().err
    assert "policy.vllm.url http://127.0.0.1:9: no vLLM server answers there" in error and "Traceback" not in error


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_push_each_version_once(run_apart, write_run, process, workspace) -> None:
    write_run("vargrad", adapted=True)
    run_apart("--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert max(logged(workspace / "run", "train/sampling_mismatch_max")) < 1e-4
    assert process.counts()["/v1/load_lora_adapter"] - 2 == STEPS + 1
