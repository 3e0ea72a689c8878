"""Training on samples of a server that is one update behind: importance weights against a written loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from vllm_process import ServerProcess

from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.functional.importance import ImportanceSettings
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.vllm.settings import VllmSettings
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.types import Problem, SampledActions

REWARD = f"{__file__.replace('test_vllm_training', 'conftest')}:hashed_reward"
NUM_SAMPLES = 6


class Recording(CausalLM):
    """Keeps what the last call sampled."""

    contexts: list[list[int]]
    sampled: SampledActions

    def sample(self, contexts: Any, *args: Any, **settings: Any) -> SampledActions:
        self.contexts = [list(context) for context in contexts]
        self.sampled = super().sample(contexts, *args, **settings)
        return self.sampled


class Watch(L.Callback):
    """The weights before each step, and the gradient of the last."""

    def __init__(self) -> None:
        self.before: list[dict[str, Tensor]] = []
        self.gradient: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        self.before.append(copy.deepcopy(module.policy.hugging_face.state_dict()))

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        named = module.policy.hugging_face.named_parameters()
        self.gradient = {name: weight.grad.clone() for name, weight in named if weight.grad is not None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
              "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.15}  # fmt: skip
    policy = CausalLM(config=config, max_prompt_tokens=8, max_new_tokens=4)
    policy.build(())
    found = tmp_path_factory.mktemp("served")
    policy.save_pretrained(found)
    return str(found)


@pytest.fixture(scope="module")
def process(folder: str) -> Iterator[ServerProcess]:
    found = ServerProcess(folder)
    yield found
    found.close()


@pytest.fixture
def make_policy(process: ServerProcess, folder: str, tmp_path: Path) -> Callable[[int], Recording]:
    """Builder of a policy whose server is so many updates behind."""

    def make(lag: int) -> Recording:
        process.start_anew(folder, lag=lag)
        vllm = VllmSettings(url=process.url, folder=str(tmp_path / f"lag{lag}"), max_mismatch=100.0)
        return Recording(
            pretrained=folder, max_prompt_tokens=8, max_new_tokens=4, allowed_tokens=list("abcd"),
            end_tokens=["<eos>", "z"], vllm=vllm,
        )  # fmt: skip

    return make


def written_log_probs(policy: CausalLM, context: list[int], action: list[int]) -> Tensor:
    """log q of each token and of the stop, unless it is forced, by one plain pass over single tokens."""
    logits = policy.hugging_face(torch.tensor([context + action])).logits[0, len(context) - 1 :]
    allowed = policy.space.allowed_V.nonzero()[:, 0].tolist()
    ends = policy.space.end_ids.tolist()
    found = []
    for t in range(len(action) + (len(action) < policy.max_new_tokens)):
        total = logits[t][allowed + ends].logsumexp(0)
        chosen = logits[t][action[t]] if t < len(action) else logits[t][ends].logsumexp(0)
        found.append(chosen - total)
    return torch.stack(found)


def written_gradient(
    policy: Recording, watch: Watch, log_reward: Callable[[str], float], importance: ImportanceSettings | None
) -> tuple[dict[str, Tensor], list[float]]:
    """-1/B Σ_b A_b / n_b Σ_t w_bt ∇ log q(a_bt): q of the weights before the last step, w over those one step older."""
    model, sampled = policy.hugging_face, policy.sampled
    actions = [ids[mask].tolist() for ids, mask in zip(sampled.action_ids_NT, sampled.action_mask_NT, strict=True)]
    rewards = torch.tensor([log_reward(policy.decode(action)) for action in actions])
    groups = rewards.view(-1, NUM_SAMPLES)
    advantages = ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)).flatten()
    model.load_state_dict(watch.before[-2])
    with torch.no_grad():
        drawn_by = [written_log_probs(policy, *row) for row in zip(policy.contexts, actions, strict=True)]
    model.load_state_dict(watch.before[-1])
    model.zero_grad()
    weights: list[float] = []
    for context, action, advantage, behaviour in zip(policy.contexts, actions, advantages, drawn_by, strict=True):
        own = written_log_probs(policy, context, action)
        ratios = (own.detach() - behaviour).exp().tolist()
        if importance is None:
            ratios = [1.0] * len(ratios)
        elif importance.level == "sequence":
            product = float((own.detach() - behaviour).sum().exp())
            ratios = [product] * len(ratios)
        if importance is not None and importance.bound == "mask":
            ratios = [ratio if 1 / importance.cap <= ratio <= importance.cap else 0.0 for ratio in ratios]
        elif importance is not None:
            ratios = [min(ratio, importance.cap) for ratio in ratios]
        weights += ratios
        for log_q, weight in zip(own, ratios, strict=True):
            (-weight * advantage * log_q / len(ratios) / len(actions)).backward(retain_graph=True)
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return found, weights


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    "importance",
    [
        ImportanceSettings(cap=1.1),
        ImportanceSettings(level="sequence", cap=1.1),
        ImportanceSettings(level="sequence", bound="mask", cap=1.2),
    ],
    ids=str,
)
def test_the_weighted_gradient_is_that_of_a_written_loop(
    make_policy, make_trainer, letters: list[Problem], log_reward, importance
) -> None:
    policy, watch = make_policy(1), Watch()
    module = PolicyGradientModule(
        policy, GRPO(importance=importance), FunctionReward(function=REWARD), num_samples=NUM_SAMPLES,
        optimizer=OptimizerSettings(lr=0.02),
    )  # fmt: skip
    trainer = make_trainer(3, callbacks=[watch])
    trainer.fit(module, DataLoader([letters] * 3, batch_size=None, collate_fn=list))  # type: ignore[arg-type]
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["train/sampling_mismatch_max"] > 1e-2
    expected, weights = written_gradient(policy, watch, log_reward, importance)
    assert largest_difference(watch.gradient, expected) < 1e-5
    assert min(weights) < 0.95 and (importance.bound == "mask" or max(weights) == importance.cap)
    unweighted, _ = written_gradient(policy, watch, log_reward, None)
    assert largest_difference(watch.gradient, unweighted) > 1e-3


def test_a_server_that_is_up_to_date_needs_no_weights(make_policy, make_trainer, letters, log_reward) -> None:
    policy, watch = make_policy(0), Watch()
    module = PolicyGradientModule(
        policy, GRPO(importance=ImportanceSettings(cap=1.1)), FunctionReward(function=REWARD),
        num_samples=NUM_SAMPLES, optimizer=OptimizerSettings(lr=0.02),
    )  # fmt: skip
    trainer = make_trainer(3, callbacks=[watch])
    trainer.fit(module, DataLoader([letters] * 3, batch_size=None, collate_fn=list))  # type: ignore[arg-type]
    assert float(trainer.callback_metrics["train/sampling_mismatch_max"]) < 1e-5
    expected, _ = written_gradient(policy, watch, log_reward, None)
    assert largest_difference(watch.gradient, expected) < 1e-5
