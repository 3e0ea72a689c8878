"""Plain data that has methods: padded steps, rollouts that hold them, scores."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from lightning_gfn.policies.padding import pad_steps
from lightning_gfn.types import Problem, Rollouts

CONTEXTS = [[5], [6, 7, 8], [9, 1]]
ACTIONS = [[3, 4], [], [2, 2, 2]]
STEPS = pad_steps(CONTEXTS, ACTIONS, "cpu")


def test_steps_are_padded_on_their_sides() -> None:
    assert STEPS.num_steps == 3 and STEPS.lengths_N.tolist() == [2, 0, 3]
    assert STEPS.context_ids_NC.tolist() == [[0, 0, 5], [6, 7, 8], [0, 9, 1]]
    assert STEPS.action_ids_NT.tolist() == [[3, 4, 0], [0, 0, 0], [2, 2, 2]]
    for ids_NS, mask_NS, rows in (
        (STEPS.context_ids_NC, STEPS.context_mask_NC, CONTEXTS),
        (STEPS.action_ids_NT, STEPS.action_mask_NT, ACTIONS),
    ):
        assert [ids[mask].tolist() for ids, mask in zip(ids_NS, mask_NS, strict=True)] == rows


def test_no_steps_and_empty_actions_have_their_shapes() -> None:
    none = pad_steps([], [], "cpu")
    assert none.num_steps == 0 and none.action_ids_NT.shape == (0, 0) and none.context_mask_NC.shape == (0, 0)
    assert pad_steps([[1], [2]], [(), ()], "cpu").action_mask_NT.shape == (2, 0)


def test_steps_are_selected_in_order_in_every_field() -> None:
    chosen = STEPS.select(torch.tensor([2, 0, 2]))
    for name, values in vars(chosen).items():
        assert torch.equal(values, getattr(STEPS, name)[[2, 0, 2]]), name


def test_steps_move_to_a_device_in_every_field() -> None:
    assert {values.device.type for values in vars(STEPS.to("meta")).values()} == {"meta"}


def test_rollouts_show_their_steps_and_change_them_as_one() -> None:
    rollouts = Rollouts(
        problems=(Problem("p", ""),),
        problem_index_B=torch.zeros(3, dtype=torch.int64),
        trajectory_index_N=torch.arange(3),
        steps=STEPS,
        completions=("",) * 3,
        sources=("on_policy",) * 3,
    )
    for name, values in vars(STEPS).items():
        assert getattr(rollouts, name) is values, name
    assert rollouts.action_lists() == ACTIONS
    with pytest.raises(TypeError, match="action_ids_NT"):
        replace(rollouts, action_ids_NT=STEPS.action_ids_NT)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        rollouts.action_ids_NT = STEPS.action_ids_NT  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        STEPS.action_ids_NT = STEPS.action_ids_NT  # type: ignore[misc]
