"""Preference training: the reference is scored once and rightly, before and after a resume; both ways to fine-tune."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader

from datamodules.common.order import TrainLoader
from lightning_gfn.modules.preference import PreferenceModule, rows_of
from lightning_gfn.modules.reference_scores import ReferenceScores, completion_key, weights_digest
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.preference import DPO, IPO, KTO
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.preference_types import LabelledCompletion, Preference
from lightning_gfn.rollouts.reference import text_rollouts

PAIRS = [
    Preference("a", "x", "ab", "ba"),
    Preference("b", "yy", "abc", "d"),
    Preference("c", "z", "dcba", "a"),
    Preference("d", "zz", "", "abcdab"),
]
SINGLE = [
    LabelledCompletion("a", "x", "ab", True, "d"),
    LabelledCompletion("b", "yy", "d", False, "dcba"),
    LabelledCompletion("c", "z", "dcba", True, "ab"),
    LabelledCompletion("d", "zz", "abc", False, "ab"),
]
LORA = LoraSettings(rank=2, alpha=4, target_modules=["q_proj", "down_proj"])
Make = Callable[..., PreferenceModule]


def batches(examples: list[Any], repeats: int, size: int = 2) -> DataLoader:
    return DataLoader(examples * repeats, batch_size=size, collate_fn=list)


@pytest.fixture
def make(make_policy: Callable[..., Any]) -> Make:
    """Builder of a module, of full or of adapter training."""

    def build(objective: Any = None, *, lora: bool = False, **changes: Any) -> PreferenceModule:
        policy = make_policy(lora=LORA if lora else None, **changes)
        return PreferenceModule(
            policy, objective if objective is not None else DPO(), optimizer=OptimizerSettings(lr=1e-2)
        )

    return build


def exact_reference(module: PreferenceModule, examples: list[Any]) -> dict[str, float]:
    """log q_ref of every completion, recomputed alone, one row a pass."""
    found = {}
    for example in examples:
        problems, index, texts, _ = rows_of([example])
        for p, text in zip(index, texts, strict=True):
            score = module.reference.score(module.policy, problems, [p], [text], module.device)
            found[completion_key(example.prompt, text)] = score.item()
    return found


class Losses(Callback):
    """Remembers the loss of each step and saves after one of them."""

    def __init__(self, path: Path | None = None, at: int = 0) -> None:
        self.path, self.at, self.values = path, at, list[float]()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.values.append(float(outputs["loss"]))
        if trainer.global_step == self.at and self.path is not None:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_cached_is_recomputed_after_training(make: Make, make_trainer: Any, lora: bool) -> None:
    module = make(lora=lora)
    make_trainer(6).fit(module, batches(PAIRS, 3))
    assert module.reference.num_scored == 8, "each completion is scored once, in six batches over three epochs"
    exact = exact_reference(module, PAIRS)
    assert exact == pytest.approx(module.reference.known, abs=1e-5)
    problems, index, texts, _ = rows_of(PAIRS)
    rollouts, _ = text_rollouts(module.policy, problems, index, texts, module.device)
    present = module.log_pf(rollouts).tolist()
    keys = [completion_key(problems[p].prompt, text) for p, text in zip(index, texts, strict=True)]
    assert max(abs(exact[key] - value) for key, value in zip(keys, present, strict=True)) > 1e-2, "the policy moved"


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("objective", "first"), [(DPO(beta=0.5), math.log(2.0)), (IPO(), 25.0), (KTO(beta=0.5), 0.5)], ids=repr
)
def test_training_starts_at_the_reference_and_learns(
    make: Make, make_trainer: Any, lora: bool, objective: Any, first: float
) -> None:
    examples = SINGLE if isinstance(objective, KTO) else PAIRS
    losses = Losses()
    make_trainer(20, callbacks=[losses]).fit(make(objective, lora=lora), batches(examples, 20, size=4))
    rows = 4.0  # the loss returned is a sum over pairs or completions
    assert losses.values[0] / rows == pytest.approx(first, rel=1e-4)
    assert losses.values[-1] < 0.97 * losses.values[0]


@pytest.mark.parametrize("objective", [DPO(), KTO()], ids=repr)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_resumed_run_is_the_uninterrupted_one_and_scores_nothing_again(
    make: Make, make_trainer: Any, tmp_path: Path, lora: bool, objective: Any
) -> None:
    examples = SINGLE if isinstance(objective, KTO) else PAIRS
    path, runs = tmp_path / "at5.ckpt", []
    for losses, start in ((Losses(path, 5), None), (Losses(), path)):
        module = make(objective, lora=lora)
        loader = TrainLoader(examples, batch_size=2, seed=0)
        make_trainer(8, callbacks=[losses]).fit(module, loader, ckpt_path=start, weights_only=start is not None)
        runs.append((module, losses.values))
    (first, whole), (second, rest) = runs
    assert len(whole) == 8 and whole[:5] + rest == whole
    assert second.reference.num_scored == 0 and second.reference.known == first.reference.known
    for (name, p), (_, q) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(p, q), name


def test_scores_of_another_reference_are_dropped(make: Make, make_trainer: Any) -> None:
    module = make()
    make_trainer(2).fit(module, batches(PAIRS, 1))
    state = module.extra_state()
    assert all(isinstance(key, str) for key in state["reference_scores"]["keys"])
    other = make()
    make_trainer(1).fit(other, batches(PAIRS[:1], 1))
    with torch.no_grad():
        next(iter(other.policy.reference.parameters())).add_(0.1)
    other.load_extra_state(state)
    other.reference_log_pf(*rows_of(PAIRS)[:3])
    assert other.reference.num_scored == 2 + 8, "nothing of the other reference was used"
    assert other.reference.known == pytest.approx(exact_reference(other, PAIRS), abs=1e-5)
    same = ReferenceScores()
    same.load_state(state["reference_scores"])
    same.bind(str(state["reference_scores"]["identity"]))
    assert same.known == module.reference.known


def test_the_digest_sees_every_weight_and_the_key_every_text(make: Make) -> None:
    module = make()
    module.policy.build(())
    weights = {name: p.detach().clone() for name, p in module.named_parameters()}
    digest = weights_digest(weights.items())
    assert digest == weights_digest(reversed(list(weights.items())))
    for name, weight in weights.items():
        assert weights_digest({**weights, name: weight + 1e-3}.items()) != digest
    assert len({completion_key(*pair) for pair in (("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"))}) == 4


def test_the_budget_counts_prompts_and_completions_and_cut_ones_are_logged(make: Make, make_trainer: Any) -> None:
    module = make(max_new_tokens=5)
    seen: list[dict[str, Any]] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
            seen.append({**outputs, "cut": float(trainer.callback_metrics["train/truncated_completions"])})
            assert float(trainer.callback_metrics["train/truncated_share"]) == seen[-1]["cut"] / 4

    make_trainer(1, callbacks=[Watch()]).fit(module, batches(PAIRS[2:], 1))
    assert seen[0]["generated_tokens"] == seen[0]["reward_calls"] == 0
    # four prompts with a begin token each, and four completions
    assert seen[0]["gradient_tokens"] == (4 + 2 * 1 + 2 * 2) + (4 + 1 + 0 + 5) and seen[0]["cut"] == 1.0


def test_objectives_and_data_that_do_not_fit_are_refused(make: Make, make_trainer: Any, make_policy: Any) -> None:
    with pytest.raises(ValueError, match=r"ModifiedSubTB cannot train in PreferenceModule.*GFlowNetModule"):
        make(ModifiedSubTB())

    class Data:
        examples: list[Any] = []

    class Holder:
        datamodule, strategy = Data(), SingleDeviceStrategy("cpu")

    for objective, examples, message in (
        (DPO(), SINGLE, "DPO compares two completions"),
        (IPO(), SINGLE, "IPO compares two completions"),
        (KTO(), PAIRS, r"KTO reads single labelled.*data\.unpair"),
    ):
        module = make(objective)
        Data.examples = examples
        module._trainer = Holder()  # type: ignore[assignment]
        with pytest.raises(ValueError, match=message):
            module.setup("fit")
        module.setup("test")
        assert not module.is_built
    with pytest.raises(ValueError, match="no completion of another prompt"):
        make_trainer(1).fit(make(KTO()), batches([LabelledCompletion("a", "x", "ab", True)], 1))
