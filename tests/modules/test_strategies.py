"""Every device holds the whole model; strategies that cut it are refused before it is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)

from lightning_gfn.modules.base import check_strategy
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.reward_model import RewardModelModule
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rewards.answer_match import AnswerMatch


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


SHARDED = [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy]


@pytest.mark.parametrize("kind", SHARDED)
def test_sharded_strategies_are_refused(kind: type[Strategy]) -> None:
    strategy = kind.__new__(kind)  # DeepSpeed is not installed, and FSDP wants a GPU
    with pytest.raises(ValueError, match=f"trainer.strategy is {kind.__name__}.*set trainer.strategy to ddp"):
        check_strategy(strategy)


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy("cpu"), DDPStrategy()])
def test_whole_copies_are_allowed(strategy: Strategy) -> None:
    check_strategy(strategy)


@pytest.mark.parametrize("kind", ["sft", "rollout", "reward_model"])
def test_no_model_is_loaded_before(kind, make_policy, make_trainer) -> None:
    if kind == "reward_model":
        config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
                  "num_attention_heads": 2}  # fmt: skip
        module = RewardModelModule(LanguageRewardNetwork(config=config, tokenizer=TokenizerSettings(kind="byte")))
    elif kind == "sft":
        module = SFTModule(make_policy())
    else:
        module = PolicyGradientModule(make_policy(), GRPO(), AnswerMatch())
    with pytest.raises(ValueError, match="trainer.strategy is ModelParallelStrategy"):
        make_trainer(1, strategy=ModelParallelStrategy()).fit(module, [[]])
    assert not module.is_built
