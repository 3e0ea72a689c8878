"""Settings of rollout modules: listed, checked and defaulted by the command line, or refused by the module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.lightning_cli import main as lightning_cli
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.rollout import RolloutModule
from lightning_gfn.modules.settings import KLControl
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.dynamic_sampling import ResampleSettings

REQUIRED = {"policy": "required, type: <class 'Policy'>", "objective": "required, type: <class 'Objective'>",
            "reward": "required, type: <class 'Reward'>"}  # fmt: skip
SHARED = {
    **REQUIRED,
    "num_samples": "type: int, default: 8", "head": "type: Head | null, default: null",
    "optimizer": "type: OptimizerSettings | null, default: null",
    "evaluation": "type: EvaluationSettings | null, default: null", "seed": "type: int, default: 0",
    "log_entropy": "type: bool, default: True", "method": "type: str | null, default: null",
    "updates": "type: UpdateSettings | null, default: null", "proving": "type: Proving | null, default: null",
    "asynchronous": "type: AsynchronousSettings | null, default: null",
}  # fmt: skip
OF_FLOWS = {
    "behaviour": "type: BehaviourMix | null, default: null",
    "buffer": "type: Buffer | null, default: null",
    "seed_buffer": "type: bool, default: False",
    "selection": "type: ProblemSelection | null, default: null",
    "separator": "type: str | null, default: null",
}
OF_GRADIENTS = {
    "kl": "type: KLControl | null, default: null",
    "entropy": "type: EntropyControl | null, default: null",
    "solution_classes": "type: SolutionClasses | null, default: null",
    "resample": "type: ResampleSettings | null, default: null",
}
MODULES = [(GFlowNetModule, OF_FLOWS), (PolicyGradientModule, OF_GRADIENTS)]


def path_of(module: type) -> str:
    return f"{module.__module__}.{module.__qualname__}"


def run(*args: str) -> Any:
    with pytest.raises(SystemExit) as stopped:
        lightning_cli.main(["fit", *args])
    return stopped.value.code


def described(help_text: str) -> dict[str, str]:
    """The help of each argument, by name."""
    parts = re.split(r" --model\.(\w+) [A-Z{]", re.sub(r"\s+", " ", help_text.split("Help for", 1)[1]))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("module", "own"), MODULES, ids=lambda value: getattr(value, "__name__", ""))
def test_the_command_line_lists_every_setting(
    module: type, own: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model.help", path_of(module)) == 0
    found = described(capsys.readouterr().out)
    assert found.keys() == SHARED.keys() | own.keys()
    for name, expected in {**SHARED, **own}.items():
        assert f"({expected}" in found[name], (name, found[name])


@pytest.mark.parametrize(
    ("module", "argument", "value"),
    [
        (GFlowNetModule, "kl", "{coefficient: 0.1}"), (GFlowNetModule, "resample", "{max_rounds: 2}"),
        (PolicyGradientModule, "behaviour", "{on_policy: 1.0}"),
        (PolicyGradientModule, "buffer", "lightning_gfn.buffers.replay.ReplayBuffer"),
        (GFlowNetModule, "num_sample", "4"), (PolicyGradientModule, "num_samples", "many"),
    ],
)  # fmt: skip
def test_the_command_line_refuses(
    module: type, argument: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a module cannot serve, names that nobody knows, values of the wrong type."""
    config = {
        "class_path": path_of(module),
        "init_args": {
            "policy": {"class_path": "lightning_gfn.policies.causal_lm.CausalLM", "init_args": {"pretrained": "x"}},
            "objective": "lightning_gfn.objectives.grpo.GRPO",
            "reward": "lightning_gfn.rewards.answer_match.AnswerMatch",
            argument: yaml.safe_load(value),
        },
    }
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump({"model": config, "run_dir": str(tmp_path / "run")}))
    assert run("--config", str(file)) == 2
    message = capsys.readouterr().err
    assert argument in message and len(message) < 2000
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (GFlowNetModule, {"kl": KLControl()}, "GFlowNetModule takes no kl: .* or use PolicyGradientModule"),
        (GFlowNetModule, {"resample": ResampleSettings()}, "GFlowNetModule takes no resample"),
        (PolicyGradientModule, {"behaviour": BehaviourMix(), "buffer": ReplayBuffer()},
         "PolicyGradientModule takes no behaviour and no buffer: .* or use GFlowNetModule"),
        (PolicyGradientModule, {"separator": "."}, "PolicyGradientModule takes no separator"),
        (PolicyGradientModule, {"num_sample": 4}, "unexpected keyword argument 'num_sample'"),
    ],
)  # fmt: skip
def test_python_refuses(make_policy: Any, module: type[RolloutModule], settings: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        module(make_policy(), GRPO(), AnswerMatch(), **settings)


def test_defaults(make_policy: Any) -> None:
    """Without settings both modules draw eight samples from the present policy, once."""
    for module in (GFlowNetModule(make_policy(), VarGrad(), AnswerMatch()),
                   PolicyGradientModule(make_policy(), GRPO(), AnswerMatch())):  # fmt: skip
        assert module.sampler.num_samples == 8 and module.sampler.behaviour == BehaviourMix()
        assert module.sampler.seed == 0 and module.with_entropy and module.updates_per_rollout == 1
        assert module.buffer is module.head is module.collector.resample is module.proving is None
        assert module.weights.values == {} and module.solution_classes is None
