"""Samplers, their Lean workers and a search on one Ray cluster of two local nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import pytest
import torch

from datamodules.common.order import TrainLoader
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.lean_types import Theorem
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.heads import LogZScalar
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rewards.proof import ProofReward
from lightning_gfn.rollouts.asynchronous.settings import AsynchronousSettings
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.rollouts.search.search_behaviour import SearchBehaviour
from lightning_gfn.rollouts.search.search_result import SearchBudget
from lightning_gfn.types import Problem

STATEMENTS = {
    "or": ("(p q : Prop) (h : p) : p ∨ q", ("left", "exact h")),
    "id": ("(p : Prop) (h : p) : p", ("exact h",)),
    "and": ("(p q : Prop) (a : p) (b : q) : p ∧ q", ("constructor", "exact a", "exact b")),
}
THEOREMS = [
    Problem(name, "", theorem=Theorem(name, statement, proofs=(proof,)))
    for name, (statement, proof) in STATEMENTS.items()
]

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of two processors."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    made.add_node(num_cpus=2)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


class Nodes(L.Callback):
    """On which nodes actors of each class live after a step."""

    def __init__(self) -> None:
        self.seen: dict[str, set[str]] = {}
        self.steps: list[tuple[float, dict[str, float]]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, *others: Any) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.steps.append((float(outputs["loss"]), logged))
        if pl_module.source.__class__.__name__ == "FromActors":
            from ray._private import state

            for actor in state.actors().values():
                if actor["State"] == "ALIVE":
                    self.seen.setdefault(actor["ActorClassName"], set()).add(actor["Address"]["NodeID"])


def train(make_trainer: Any, asynchronous: AsynchronousSettings | None) -> Nodes:
    torch.manual_seed(0)
    policy = CausalLM(
        config={
            "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 256,
        },
        tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=200, max_new_tokens=12, min_new_tokens=1,
    )  # fmt: skip
    search = SearchBehaviour(budget=SearchBudget(nodes=3), branching=3)
    module = GFlowNetModule(
        policy, TrajectoryBalance(), ProofReward(base=3.0), head=LogZScalar(), num_samples=3,
        behaviour=BehaviourMix(on_policy=0.5, search=0.5, always_reference=True), optimizer=OptimizerSettings(lr=1e-3),
        proving=Proving(LeanPool(FakeLean(), ray=asynchronous is not None), search=search), asynchronous=asynchronous,
    )  # fmt: skip
    nodes = Nodes()
    make_trainer(4, callbacks=[nodes]).fit(module, TrainLoader(THEOREMS, batch_size=2, seed=0))
    return nodes


def test_workers_and_search_on_two_nodes_train_as_one_process(cluster: Any, make_trainer: Any) -> None:
    """Three Lean workers of one processor (the trainer's own, one of each sampler) fill more than a node."""
    settings = AsynchronousSettings(num_samplers=2, max_staleness=0, num_cpus=0.0, address=cluster.address)
    beside = train(make_trainer, settings)
    alone = train(make_trainer, None)
    assert [loss for loss, _ in beside.steps] == [loss for loss, _ in alone.steps]
    assert sum(logged["train/share_reference"] > 0.0 for _, logged in beside.steps) == 4
    workers = next(nodes for name, nodes in beside.seen.items() if name.endswith("_Host"))
    assert len(workers) == 2, beside.seen
    asked = [sum(logged["train/env_steps"] for _, logged in run.steps) for run in (alone, beside)]
    assert asked[0] == asked[1] > 20
