"""What every objective promises: the columns it reads, errors that name the argument, construction from YAML."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser

from lightning_gfn.interfaces import COLUMNS, Objective
from lightning_gfn.objectives.advantage_rules.pass_at_k import PassAtK
from lightning_gfn.objectives.advantage_rules.uniqueness import Uniqueness
from lightning_gfn.objectives.advantage_rules.unlikely import UniformCorrect, Unlikeliness
from lightning_gfn.objectives.detailed_balance import DetailedBalance, ModifiedDetailedBalance
from lightning_gfn.objectives.flowrl import FlowRL
from lightning_gfn.objectives.functional.advantages import group_advantages
from lightning_gfn.objectives.functional.importance import ImportanceSettings
from lightning_gfn.objectives.gflowrl import GFlowRL
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.likelihood import Likelihood
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.objectives.subtb import ModifiedSubTB, SubTB, modified_subtb_loss
from lightning_gfn.objectives.surrogates.cispo import Cispo
from lightning_gfn.objectives.surrogates.covariance import ClipCov, KLCov
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance, tb_loss
from lightning_gfn.objectives.vargrad import VarGrad, vargrad_loss
from lightning_gfn.types import LossOutput

Maker = Callable[..., SimpleNamespace]
OBJECTIVES = [
    Likelihood(),
    TrajectoryBalance(),
    DetailedBalance(),
    ModifiedDetailedBalance(),
    ModifiedDetailedBalance(level="step"),
    SubTB(),
    ModifiedSubTB(),
    ModifiedSubTB(level="step"),
    VarGrad(),
    GRPO(),
    GRPO(advantage_scale="none", aggregation="constant"),
    GRPO(clip_high=0.28, aggregation="token", drop_equal_groups=True, drop_truncated=True, overlong_share=0.2),
    GRPO(ratio="sequence", kl="k3"),
    GRPO(ratio="none", baseline="leave_one_out", advantage_scale="none", aggregation="sum", kl="reward"),
    GRPO(advantage_scale="none", advantage=PassAtK(2)),
    GRPO(advantage=Uniqueness(), entropy_bonus=True),
    GRPO(advantage=Unlikeliness(), kl="k3", entropy_bonus=True),
    GRPO(advantage=UniformCorrect(), surrogate=Cispo(), clip_low=1.0, clip_high=4.0),
    GRPO(surrogate=ClipCov(share=0.1, low=0.1)),
    GRPO(surrogate=KLCov(share=0.1), importance=ImportanceSettings()),
    PPO(),
    PPO(kl="none", entropy_coefficient=0.01, value_clip=None, whiten=False),
    FlowRL(),
    FlowRL(log_z="vargrad", length_normalise=False),
    FlowRL(log_z="noise", reward_scale="none"),
    FlowRL(prior="old", reward_scale="none"),
    GFlowRL(),
    GRPO(ratio="none", importance=ImportanceSettings()),
    GRPO(importance=ImportanceSettings(level="sequence", bound="mask", cap=1.2, reject="mean")),
    PPO(kl="none", importance=ImportanceSettings(reject="max", reject_cap=1.5)),
    FlowRL(importance=ImportanceSettings(level="sequence")),
    GFlowRL(log_z="vargrad", importance=ImportanceSettings(level="none", reject="max")),
]


class Recorder(dict[str, torch.Tensor]):
    """Columns that remember which of them were read."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> torch.Tensor:
        self.read.add(name)
        return super().__getitem__(name)


def all_columns(b: SimpleNamespace) -> dict[str, torch.Tensor]:
    n_B1 = b.mask_BT.sum(1, keepdim=True)
    stop_B = b.log_pstop_BT1.gather(1, n_B1).squeeze(1)
    return {
        **{name: value for name, value in vars(b).items() if name in COLUMNS},
        "stop_mask_BT1": torch.ones_like(b.prefix_mask_BT1),
        "step_mask_BT1": b.prefix_mask_BT1,
        "log_pf_B": torch.where(b.mask_BT, b.log_pf_BT, 0.0).sum(1) + stop_B,
        "old_log_pf_BT": b.log_pf_BT.detach(),
        "old_log_pstop_BT1": b.log_pstop_BT1.detach(),
        "behaviour_log_pf_BT": b.log_pf_BT.detach() - 0.01,
        "behaviour_log_pstop_BT1": b.log_pstop_BT1.detach() + 0.01,
        "ref_log_pf_BT": b.log_pf_BT.detach() - 0.1,
        "ref_log_pstop_BT1": b.log_pstop_BT1.detach() - 0.1,
        "value_BT1": b.log_f_BT1,
        "old_value_BT1": b.log_f_BT1.detach() + 0.05,
        "entropy_BT1": -b.log_pstop_BT1,
        "kl_coefficient": torch.tensor(0.1),
        "entropy_coefficient": torch.tensor(0.1),
        "class_B": torch.arange(len(b.lengths)) % 4 - 1,
        "max_length": torch.tensor(8),
    }


def loss_of(objective: Objective, columns: dict[str, torch.Tensor]) -> LossOutput:
    """The loss of a whole rollout batch: what ``prepare`` derives joins the columns."""
    return objective({**columns, **objective.prepare(columns)})


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_requires_is_what_is_read(objective: Objective, make_batch: Maker) -> None:
    columns = Recorder(all_columns(make_batch([4, 2, 6, 0, 3, 5])))
    derived = objective.prepare(columns)
    columns.update(derived)
    output = objective(columns)
    assert columns.read - set(derived) == objective.requires
    assert not any(value.requires_grad for value in derived.values())
    assert objective.requires <= set(COLUMNS)
    assert output.sum.ndim == output.weight.ndim == 0
    assert output.sum.requires_grad and not output.weight.requires_grad
    for name, value in output.diagnostics.items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert value.ndim == 0 and not value.requires_grad and torch.isfinite(value)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_every_input_with_gradient_is_used(objective: Objective, make_batch: Maker) -> None:
    b = make_batch([4, 2, 6, 0, 3, 5])
    learned = {"log_z_B": b.log_z_B, "log_f_BT1": b.log_f_BT1, "value_BT1": b.log_f_BT1}
    leaves = [b.log_pf_BT, b.log_pstop_BT1] + [leaf for name, leaf in learned.items() if name in objective.requires]
    for gradient in torch.autograd.grad(loss_of(objective, all_columns(b)).loss, leaves):
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_autocast_rounds_no_log_probability(objective: Objective, make_batch: Maker) -> None:
    found = []
    for enabled in (False, True):
        b = make_batch([4, 2, 6, 0, 3, 5], dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            output = loss_of(objective, all_columns(b))
        found.append((output.sum, *torch.autograd.grad(output.sum, [b.log_pf_BT, b.log_pstop_BT1])))
    for plain, under_autocast in zip(*found, strict=True):
        assert under_autocast.dtype == torch.float32 and torch.equal(plain, under_autocast)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_a_wrong_shape_names_its_argument(objective: Objective, make_batch: Maker) -> None:
    columns = all_columns(make_batch([4, 2, 6, 0, 3, 5]))
    named = 0
    shaped = sorted(name for name in objective.requires if columns[name].ndim)
    for name in shaped:
        with pytest.raises(ValueError, match=r"has shape") as caught:
            loss_of(objective, {**columns, name: columns[name][..., :-1]})
        named += name in str(caught.value)
    assert named >= len(shaped) // 2


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_objectives_are_frozen_and_built_from_a_class_path(objective: Objective) -> None:
    kind = type(objective)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective)
    settings = {field.name: getattr(objective, field.name) for field in dataclasses.fields(objective)}
    config = {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": settings}
    built = parser.instantiate(parser.parse_object({"objective": config})).objective
    assert built == objective
    for name in settings:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(objective, name, None)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: ModifiedSubTB(lam=0.0), "lam"),
        (lambda: ModifiedSubTB(lam=1.5), "lam"),
        (lambda: ModifiedSubTB(lam=0.9, pairs="problem"), "lam"),
        (lambda: ModifiedSubTB(level="sentence"), "level"),  # type: ignore[arg-type]
        (lambda: SubTB(reduction="max"), "reduction"),  # type: ignore[arg-type]
        (lambda: DetailedBalance(reduction="max"), "reduction"),  # type: ignore[arg-type]
        (lambda: ModifiedDetailedBalance(level="word"), "level"),  # type: ignore[arg-type]
        (lambda: GRPO(clip_low=2.0), "clip_low"),
        (lambda: GRPO(clip_high=-0.1), "clip_high"),
        (lambda: GRPO(aggregation="batch"), "aggregation"),  # type: ignore[arg-type]
        (lambda: GRPO(ratio="batch"), "ratio"),  # type: ignore[arg-type]
        (lambda: GRPO(baseline="none"), "baseline"),  # type: ignore[arg-type]
        (lambda: GRPO(kl="k4"), "kl"),  # type: ignore[arg-type]
        (lambda: GRPO(overlong_share=1.5), "overlong_share"),
        (lambda: PPO(lam=1.5), "lam"),
        (lambda: PPO(gamma=-0.1), "gamma"),
        (lambda: PPO(value_clip=0.0), "value_clip"),
        (lambda: PPO(kl="k3"), "kl"),  # type: ignore[arg-type]
        (lambda: group_advantages(torch.zeros(2), torch.zeros(2), scale="range"), "scale"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_setting_names_itself(build: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is "):
        build()


def test_masks_must_be_boolean_and_padded_on_the_right(make_batch: Maker) -> None:
    b = make_batch([3, 2])
    columns = (b.log_pf_BT, b.log_pstop_BT1, b.log_reward_BT1)
    with pytest.raises(ValueError, match=r"mask_BT has dtype torch.int64.*mask_BT.bool\(\)"):
        modified_subtb_loss(*columns, b.mask_BT.long())
    with pytest.raises(ValueError, match="prefix_mask_BT1 has dtype"):
        modified_subtb_loss(*columns, b.mask_BT, prefix_mask_BT1=b.prefix_mask_BT1.float())
    with pytest.raises(ValueError, match="mask_BT is not padded on the right in row 1"):
        modified_subtb_loss(*columns, b.mask_BT & torch.tensor([[True, True, True], [False, True, True]]))


def test_public_functions_take_vectors() -> None:
    square = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="log_pf_B has shape"):
        tb_loss(square, square, square)
    with pytest.raises(ValueError, match="log_pf_B has shape"):
        vargrad_loss(square, square, square)
