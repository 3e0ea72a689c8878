"""Every device holds the whole model; strategies that cut it are refused before it is loaded."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
    StrategyRegistry,
)

from lightning_gfn.modules.base import check_strategy
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.reward_model import RewardModelModule
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.heads import LogZScalar
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rollouts.asynchronous.settings import AsynchronousSettings
from lightning_gfn.sharding.strategy import ShardedStrategy, check_name


@pytest.fixture(autouse=True)
def no_process_group_is_left() -> Iterator[None]:
    """The trainer opens a process group and names its port in the environment, for all tests to come."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


OTHERS = [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy]
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_sharded_strategies_are_refused(kind: type[Strategy]) -> None:
    strategy = kind.__new__(kind)  # DeepSpeed is not installed, and FSDP wants a GPU
    with pytest.raises(ValueError, match=f"trainer.strategy is {kind.__name__}.*set trainer.strategy to fsdp2"):
        check_strategy(strategy)


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy("cpu"), DDPStrategy(), ShardedStrategy()])
def test_known_strategies_are_allowed(strategy: Strategy) -> None:
    check_strategy(strategy)


def test_a_gradient_scaler_is_refused_with_shards() -> None:
    """Each process would see other overflows, and scale by another factor."""
    strategy = ShardedStrategy()
    strategy.precision_plugin = MixedPrecision("16-mixed", "cuda")
    with pytest.raises(ValueError, match="16-mixed does not work with fsdp2: set trainer.precision to bf16-mixed"):
        check_strategy(strategy)


@pytest.mark.parametrize("name", ["fsdp", "fsdp_cpu_offload", "deepspeed_stage_3", "a.b.DeepSpeedStrategy",
                                  Namespace(class_path="lightning.pytorch.strategies.FSDPStrategy")])  # fmt: skip
def test_settings_of_a_trainer_are_refused_by_name(name: Any) -> None:
    with pytest.raises(ValueError, match="is not supported: set trainer.strategy to fsdp2"):
        check_name(name)


@pytest.mark.parametrize("name", ["fsdp2", "ddp", "auto", DDPStrategy(), ShardedStrategy()])
def test_other_settings_of_a_trainer_pass(name: Any) -> None:
    check_name(name)


def test_the_short_name_is_known() -> None:
    assert isinstance(StrategyRegistry.get("fsdp2"), ShardedStrategy)


@pytest.mark.parametrize("kind", ["sft", "rollout", "reward_model"])
def test_no_model_is_loaded_before(kind, make_policy, make_trainer) -> None:
    if kind == "reward_model":
        module = RewardModelModule(LanguageRewardNetwork(config=LLAMA, tokenizer=TokenizerSettings(kind="byte")))
    elif kind == "sft":
        module = SFTModule(make_policy())
    else:
        module = PolicyGradientModule(make_policy(), GRPO(), AnswerMatch())
    with pytest.raises(ValueError, match="trainer.strategy is ModelParallelStrategy"):
        make_trainer(1, strategy=ModelParallelStrategy()).fit(module, [[]])
    assert not module.is_built


def test_a_single_number_is_refused_with_shards(make_policy, make_trainer) -> None:
    module = GFlowNetModule(make_policy(), TrajectoryBalance(), AnswerMatch(), head=LogZScalar())
    with pytest.raises(ValueError, match=r"model.head LogZScalar is a single number.*LogZHead"):
        make_trainer(1, strategy="fsdp2").fit(module, [[]])
    assert not module.is_built


def test_the_fused_pass_is_refused_with_shards(make_policy, make_trainer) -> None:
    module = SFTModule(make_policy(scoring="fused"))
    with pytest.raises(ValueError, match=r"model.policy.scoring fused .* set it to auto or hugging_face"):
        make_trainer(1, strategy="fsdp2").fit(module, [[]])
    assert not module.is_built


def test_actors_are_refused_with_shards(make_policy, make_trainer) -> None:
    module = PolicyGradientModule(make_policy(), GRPO(), AnswerMatch(), asynchronous=AsynchronousSettings())
    with pytest.raises(ValueError, match=r"model.asynchronous .* set model.asynchronous to null, or trainer.strategy"):
        make_trainer(1, strategy="fsdp2").fit(module, [[]])
    assert not module.is_built


def test_a_device_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"config.device_map is not supported.*set trainer.strategy to fsdp2"):
        CausalLM(config={**LLAMA, "device_map": "auto"})
