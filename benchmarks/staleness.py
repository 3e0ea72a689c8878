"""Total variation from the target on an enumerable task, at several ages of the weights that sample.

``python -m benchmarks.staleness`` trains a small Llama over the 85 texts of at most three letters of four, with a fixed
reward of each, and compares q with its target by enumeration, not from draws. Balance objectives have the target R / Z;
GRPO with a KL penalty of weight 1 in its reward has p_ref · R / Z.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning as L
import torch

from benchmarks.subjects.old_weights import OldWeights
from datamodules.common.order import TrainLoader
from lightning_gfn.interfaces import Objective
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.rollout import RolloutModule
from lightning_gfn.modules.settings import KLControl, OptimizerSettings
from lightning_gfn.objectives.functional.importance import ImportanceSettings
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.heads import LogZHead
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rollouts.asynchronous.settings import AsynchronousSettings
from lightning_gfn.types import Problem, StepBatch

LETTERS, LONGEST, SAMPLES = "abcd", 3, 64
AGES = (0, 1, 4, 16)
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
PLAIN = partial(GRPO, kl="reward", advantage_scale="none", aggregation="sum")


@dataclass(frozen=True)
class Method:
    """An objective and how it is trained.

    Args:
        objective: makes it.
        steps: optimiser steps.
        lr: peak learning rate.
        has_head: learns log Z.
    """

    objective: Callable[[], Objective]
    steps: int = 150
    lr: float = 3e-3
    has_head: bool = False

    @property
    def maximises(self) -> bool:
        """True for a policy gradient."""
        return isinstance(self.objective(), GRPO)


METHODS = {
    "VarGrad": Method(VarGrad),
    "TB": Method(TrajectoryBalance, has_head=True),
    "SubTB (modified)": Method(ModifiedSubTB),
    "GRPO, no correction": Method(partial(PLAIN, ratio="none")),
    "GRPO, ratio to the sampler": Method(PLAIN),
    "GRPO, importance weights": Method(
        partial(PLAIN, ratio="none", importance=ImportanceSettings(level="sequence", cap=10.0))
    ),
}


def log_reward(text: str) -> float:
    """A fixed log reward in [-1.5, 1.5] that no simple rule predicts."""
    return 3.0 * int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64 - 1.5


def rewards(completions: list[str], **columns: Any) -> list[float]:
    """``log_reward`` of each."""
    return [log_reward(text) for text in completions]


def log_probs(policy: CausalLM, texts: list[str], *, reference: bool = False) -> torch.Tensor:
    """log q of each text, or log p_ref."""
    actions = [policy.encode_completion(text) for text in texts]
    ids = torch.tensor([action + [0] * (LONGEST - len(action)) for action in actions])
    mask = torch.tensor([[t < len(action) for t in range(LONGEST)] for action in actions])
    context = torch.tensor([policy.encode_prompt("x")] * len(texts))
    steps = StepBatch(context, torch.ones_like(context, dtype=torch.bool), ids, mask)
    with torch.no_grad():
        return policy.score(steps, reference=reference).log_prob_N(mask, dtype=torch.float64)


def total_variation(policy: CausalLM, *, tilted: bool) -> float:
    """Half the L1 distance of q and its target over all texts."""
    texts = ["".join(part) for n in range(LONGEST + 1) for part in itertools.product(LETTERS, repeat=n)]
    target = torch.tensor(rewards(texts), dtype=torch.float64)
    if tilted:
        target = target + log_probs(policy, texts, reference=True)
    return 0.5 * float((log_probs(policy, texts).exp() - target.softmax(0)).abs().sum())


def make(method: Method, age: int, seed: int) -> RolloutModule:
    """The module; by its seed the first weights and all samples."""
    torch.manual_seed(seed)
    objective = method.objective()
    policy = CausalLM(
        config=LLAMA, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=8, max_new_tokens=LONGEST,
        allowed_tokens=list(LETTERS),
    )  # fmt: skip
    reward = FunctionReward(function="benchmarks.staleness.rewards", prefixes="log_reward_BT1" in objective.requires)
    kind = PolicyGradientModule if method.maximises else GFlowNetModule
    return kind(
        policy, objective, reward, num_samples=SAMPLES, seed=seed, log_entropy=False,
        head=LogZHead() if method.has_head else None,
        **({"kl": KLControl(1.0)} if method.maximises else {}),
        optimizer=OptimizerSettings(
            lr=method.lr, head_lr=3e-2, warmup_steps=20, schedule="cosine", betas=(0.9, 0.98)
        ),
        asynchronous=AsynchronousSettings(max_staleness=age, reproducible=True),
    )  # fmt: skip


def trained(method: Method, age: int, seed: int, *, actors: bool) -> float:
    """Total variation after training with samples of weights that are ``age`` optimiser steps old.

    Args:
        method: how to train.
        age: optimiser steps.
        seed: of weights and samples.
        actors: sample in Ray actors; False samples in the step, with the same numbers.
    """
    module = make(method, age, seed)
    if not actors:
        module.source = OldWeights(age)
    trainer = L.Trainer(
        max_steps=method.steps, max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", devices=1, use_distributed_sampler=False,
        gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(module, TrainLoader([Problem(id="only", prompt="x")], batch_size=1, seed=0))
    assert isinstance(module.policy, CausalLM)
    return total_variation(module.policy, tilted=method.maximises)


def table(chosen: list[str], ages: list[int], seeds: int, *, actors: bool) -> Iterator[str]:
    """Rows of Markdown: mean over seeds, and the smallest and the largest."""
    yield f"| method \\ staleness | {' | '.join(map(str, ages))} |"
    yield f"|{'---|' * (len(ages) + 1)}"
    for name in chosen:
        cells = []
        for age in ages:
            found = [trained(METHODS[name], age, seed, actors=actors) for seed in range(seeds)]
            cells.append(f"{statistics.mean(found):.3f} ({min(found):.3f}–{max(found):.3f})")
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--staleness", nargs="+", type=int, default=list(AGES), help="ages of the weights that sample")
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each cell")
    parser.add_argument("--actors", action="store_true", help="sample in Ray actors: slower, the same numbers")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    for row in table(asked.methods, asked.staleness, asked.seeds, actors=asked.actors):
        print(row, flush=True)


if __name__ == "__main__":
    main()
