"""Train from preferences, step labels, an own teacher and proofs on two processes: ``python two_ranks.py FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from lightning_gfn.interfaces import Policy
from lightning_gfn.lean_types import Theorem
from lightning_gfn.modules.distillation import DistillationModule, TeacherSettings
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.preference import PreferenceModule
from lightning_gfn.modules.reward_model import RewardModelModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.preference import DPO, KTO
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.heads import LogZHead
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.preference_types import JudgedSolution, LabelledCompletion, Preference
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.class_targets.class_target import ClassTarget
from lightning_gfn.rewards.class_targets.probabilities import RunningProbabilities
from lightning_gfn.rewards.proof import ProofReward
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.teacher_interfaces import FeedbackSource
from lightning_gfn.types import Feedback, Problem, Rollouts

OPTIMIZER = OptimizerSettings(lr=0.1, eps=1.0)  # large, so that a step is proportional to its gradient
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.4,
}  # fmt: skip
PAIRS = [
    [Preference("a", "x", "ab", "ba"), Preference("b", "yy", "abc", "d"), Preference("c", "z", "dcba", "a")],
    [Preference("d", "zz", "", "abcd")],
    [Preference("e", "xy", "aab", "bb")],
    [Preference("a", "x", "ab", "ba"), Preference("d", "zz", "", "abcd")],
]
SINGLE = [
    [LabelledCompletion("a", "x", "ab", True, "d"), LabelledCompletion("b", "yy", "d", False, "dcba")],
    [LabelledCompletion("c", "z", "dcba", True, "ab")],
    [LabelledCompletion("d", "zz", "abc", False, "ab")],
    [LabelledCompletion("e", "xy", "a", False, "abc"), LabelledCompletion("a", "x", "ab", True, "d")],
]
LABELS = [
    [JudgedSolution("a", "x\n", ("1\n", "2\n", "3"), (1.0, None, 0.0)), JudgedSolution("b", "y\n", ("45",), (1.0,))],
    [JudgedSolution("c", "z\n", ("6\n", "7"), (0.25, 1.0))],
    [JudgedSolution("d", "z\n", ("8",), (0.0,))],
    [JudgedSolution("e", "xy\n", ("1\n", "4\n", "9"), (1.0, 1.0, 0.0))],
]
PROBLEMS = [
    [Problem(id=f"p{2 * i + j}", prompt="xyz"[i % 3] * (1 + j), answer="1") for j in range(2)] for i in range(4)
]
QUIET = ("p2", "p3", "p5")
"""Problems without feedback: the second process has none at all in the first step."""
THEOREMS = [
    [Problem(f"t{i}", "", theorem=Theorem(f"t{i}", "s", proofs=(("a",),))) for i in names]
    for names in ("01", "2", "3", "45")
]
RIGHT = {"".join(word) + "a": word[0] for n in (1, 2, 3) for word in product("abcd", repeat=n)} | {"a": "alone"}
"""All strings of up to four letters that end in a; their class is the first letter."""
CLASSES = [
    [Problem(f"c{i}", prompt="xyz"[i], answer="a", answer_style="(.)$", solution_set=RIGHT) for i in pair]
    for pair in ((0, 1), (2,), (1, 0), (2,))
]
EXAMPLES: dict[str, list[list[Any]]] = {
    "preference": PAIRS, "single": SINGLE, "reward_model": LABELS, "distillation": PROBLEMS, "proofs": THEOREMS,
    "classes": CLASSES,
}  # fmt: skip
CUT = " in passes"
"""Ends the names of the same examples under a budget: the second process has fewer rows, and so fewer passes."""
EXAMPLES |= {f"{name}{CUT}": batches for name, batches in EXAMPLES.items()}


class TeacherOfSome(FeedbackSource):
    """The same words about every attempt at a problem that is not quiet."""

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        """Words or None for each trajectory."""
        return Feedback(tuple(None if rollouts.problem_of(b).id in QUIET else "zzz" for b in chosen))


def make_policy(budget: PassBudget | None) -> CausalLM:
    """A policy over four letters."""
    return CausalLM(
        config=LLAMA, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=8, max_new_tokens=4,
        allowed_tokens=list("abcd"), budget=budget,
    )  # fmt: skip


def make_prover(budget: PassBudget | None) -> GFlowNetModule:
    """Trajectory balance on attempts of up to three one-letter tactics in a random world."""
    policy = CausalLM(
        config={**LLAMA, "max_position_embeddings": 128}, tokenizer=TokenizerSettings(kind="byte"),
        max_prompt_tokens=40, max_new_tokens=1, min_new_tokens=1, allowed_tokens=list("abcdefgh"),
        budget=budget,
    )  # fmt: skip
    return GFlowNetModule(
        policy, TrajectoryBalance(), ProofReward(base=3.0), head=LogZHead(pool=True), num_samples=4,
        behaviour=BehaviourMix(on_policy=0.5, tempered=0.5, always_reference=True), optimizer=OPTIMIZER,
        proving=Proving(worlds().random_world(3, errors=0.3, proofs=0.2), max_steps=3),
    )  # fmt: skip


def worlds() -> ModuleType:
    """tests/helpers/proof_worlds.py."""
    spec = spec_from_file_location(
        "tests_helper_proof_worlds", Path(__file__).parents[1] / "helpers" / "proof_worlds.py"
    )
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make_module(name: str) -> L.LightningModule:
    """The module that trains on ``EXAMPLES[name]``."""
    budget = PassBudget(max_tokens_per_pass=8, max_rows_per_pass=2) if name.endswith(CUT) else None
    name = name.removesuffix(CUT)
    if name == "proofs":
        return make_prover(budget)
    if name == "classes":
        reward = ClassTarget(probabilities=RunningProbabilities(pooling=2.0), epsilon=0.01)
        return GFlowNetModule(make_policy(budget), VarGrad(), reward, num_samples=6, optimizer=OPTIMIZER)
    if name == "preference":
        return PreferenceModule(make_policy(budget), DPO(beta=0.5), optimizer=OPTIMIZER)
    if name == "single":
        return PreferenceModule(make_policy(budget), KTO(beta=0.5), optimizer=OPTIMIZER)
    if name == "reward_model":
        tokenizer = TokenizerSettings(kind="byte")
        network = LanguageRewardNetwork(
            config=LLAMA,
            tokenizer=tokenizer,
            max_prompt_tokens=16,
            max_completion_tokens=32,
            budget=budget,
        )
        return RewardModelModule(network, optimizer=OPTIMIZER)
    teacher = TeacherSettings(decay=0.5, every=1, template="{feedback}{prompt}", max_prompt_tokens=12)
    return DistillationModule(
        make_policy(budget), TeacherOfSome(), AnswerMatch(), teacher=teacher, num_samples=3, optimizer=OPTIMIZER
    )


def train(name: str, batches: list[list[Any]], **settings: Any) -> L.LightningModule:
    """The module after one pass over the batches."""
    torch.manual_seed(0)
    module = make_module(name)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", use_distributed_sampler=False, log_every_n_steps=1, **quiet, **settings
    )
    trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))  # type: ignore[arg-type]
    return module


def main(folder: Path) -> None:
    """Two steps of each module; every process writes what it ends with."""
    for name, batches in EXAMPLES.items():
        rank = L.fabric.plugins.environments.LightningEnvironment().local_rank()
        module = train(name, batches[rank::2], devices=2, strategy="ddp")
        report: dict[str, Any] = {
            "world_size": torch.distributed.get_world_size(),
            "backend": torch.distributed.get_backend(),
            "steps": module.trainer.global_step,
            "weights": module.state_dict(),
        }
        if name.removesuffix(CUT) == "classes":
            report["learned"] = module.reward.state_dict()  # type: ignore[operator, union-attr]
        if isinstance(module, PreferenceModule):
            report |= {"known": module.reference.known, "num_scored": module.reference.num_scored}
        torch.save(report, folder / f"{name}{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
