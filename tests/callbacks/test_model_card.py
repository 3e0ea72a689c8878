"""The model card says what the run folder says, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_gfn.callbacks.common.card_origin import front_matter
from lightning_gfn.callbacks.common.model_card import CARD, Training, code, model_card, plain, read_training

CONFIG: dict[str, Any] = {
    "seed_everything": 3,
    "trainer": {"max_steps": 20, "precision": "32-true"},
    "model": {
        "class_path": "lightning_gfn.modules.gflownet.GFlowNetModule",
        "init_args": {
            "policy": {"class_path": "lightning_gfn.policies.causal_lm.CausalLM", "init_args": {"pretrained": None}},
            "objective": {"class_path": "lightning_gfn.objectives.vargrad.VarGrad"},
            "feedback": {"class_path": "x.HttpChat", "init_args": {"api_key": "hidden", "max_new_tokens": 5}},
            "buffer": None,
        },
    },
    "data": {
        "class_path": "datamodules.gsm8k.GSM8K",
        "init_args": {"path": "openai/gsm8k", "test_path": "/home/someone/data/own.jsonl"},
    },
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of twenty steps that was tested."""
    folder = tmp_path / "vargrad|seed0"
    (folder / "results").mkdir(parents=True)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "run.json").write_text(
        json.dumps({"git_revision": "ab12", "git_dirty": True, "versions": {"torch": "2"}})
    )
    (folder / "budget.json").write_text(json.dumps({"own": {"reward_calls": 1280, "environment_steps": 0}}))
    result = {
        "stage": "test",
        "step": 20,
        "decoding": {"num_samples": 8, "temperatures": [1.0, 0.6]},
        "problems": {"count": 1319},
        "metrics": {"solve_rate": {"value": 0.25, "ci95": [0.2, 0.3]}, "entropy_mean": {"value": 1.0, "ci95": None}},
    }
    (folder / "results" / "test_metrics.json").write_text(json.dumps(result))
    write_config(folder)
    return folder


def write_config(folder: Path, pretrained: str | None = None) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["model"]["init_args"]["policy"]["init_args"]["pretrained"] = pretrained
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def card_of(run: Path, step: int = 20) -> tuple[str, dict[str, Any]]:
    """The card and its head."""
    text = model_card(run, run / "model", Training("vargrad", step, {"train": 7473}))
    (run / "model" / CARD).write_text(text)
    return text, front_matter(run / "model" / CARD)


def test_the_card_is_filled(run: Path) -> None:
    text, head = card_of(run)
    assert head["library_name"] == "transformers" and head["pipeline_tag"] == "text-generation"
    assert head["datasets"] == ["openai/gsm8k"] and head["tags"] == ["lightning-gfn", "vargrad"]
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"] == {"type": "openai/gsm8k", "name": "openai/gsm8k", "split": "test"}
    assert result["metrics"] == [{"type": "solve_rate", "name": "solve_rate", "value": 0.25}]
    for said in (
        "# vargrad\\|seed0",
        "Problems: 7,473 training, 1,319 test.",
        "Test: 1,319 problems, 8 samples each, temperature 1, 0.6.",
        "| solve_rate | 0.25 | 0.2 to 0.3 |",
        "objective: VarGrad",
        "seed: 3",
        "max_new_tokens: 5",
        "Git revision `ab12`, with changes that were not committed.",
        "torch 2",
        "1,280 reward calls",
        "data/own.jsonl",
        "AutoModelForCausalLM.from_pretrained",
    ):
        assert said in text, said
    assert "hidden" not in text and "/home/someone" not in text
    assert read_training(run / "model") == Training("vargrad", 20, {"train": 7473})


def test_what_is_not_known_is_not_said(run: Path, tmp_path: Path) -> None:
    text, head = card_of(run, step=30)  # the test was of other weights
    assert "model-index" not in head and "0.25" not in text and "have not been evaluated" in text
    assert "license" not in head and "base_model" not in head and "Its licence is not known here" in text
    assert "without pretrained weights" in text
    (tmp_path / "model").mkdir()
    text, head = card_of(tmp_path, step=0)
    assert head.keys() == {"library_name", "tags", "lightning_gfn"}
    assert "A model, after 0 optimiser steps" in text and "Problems: 7,473 training." in text
    assert read_training(run) is None


def test_the_base_is_that_of_the_first_stage(run: Path, tmp_path: Path) -> None:
    write_config(run, "smollm2-135m")
    _, head = card_of(run)
    assert (head["base_model"], head["license"]) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
    second = tmp_path / "second"
    (second / "model").mkdir(parents=True)
    write_config(second, str(run / "model"))
    adapter = {"task_type": "CAUSAL_LM", "base_model_name_or_path": str(run / "model")}
    (second / "model" / "adapter_config.json").write_text(json.dumps(adapter))
    text, head = card_of(second)
    assert (head["base_model"], head["license"]) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
    assert head["library_name"] == "peft" and "A LoRA adapter on `" in text and "AutoPeftModelForCausalLM" in text
    assert str(tmp_path) not in text
    write_config(second, "owner/model")
    assert card_of(second)[1]["base_model"] == "owner/model"


def test_names_mean_themselves() -> None:
    assert plain("a|b <i>_x_\nc_d") == "a\\|b \\<i\\>\\_x\\_ c_d"
    assert code("plain") == "`plain`" and code("a`b``c") == "``` a`b``c ```"
    hostile = "x'\n---\nlicense: mit # `"
    text = model_card(Path("none"), Path("none"), Training(hostile, 1))
    assert yaml.safe_load(text.split("\n---\n\n")[0].removeprefix("---"))["tags"] == ["lightning-gfn", hostile]
