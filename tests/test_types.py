"""Plain data that has methods: padded steps, rollouts that hold them, scores."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from lightning_gfn.padding import pad_steps
from lightning_gfn.types import Problem, Rollouts, Scores

CONTEXTS = [[5], [6, 7, 8], [9, 1]]
ACTIONS = [[3, 4], [], [2, 2, 2]]
STEPS = pad_steps(CONTEXTS, ACTIONS, "cpu", inserted=[[1], [], [0, 2]])


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
    for name in ("context_ids_NC", "context_mask_NC", "action_ids_NT", "action_mask_NT"):
        assert getattr(rollouts, name) is getattr(STEPS, name), name
    assert rollouts.action_lists() == ACTIONS and rollouts.inserted_lists() == [[1], [], [0, 2]]
    with pytest.raises(TypeError, match="action_ids_NT"):
        replace(rollouts, action_ids_NT=STEPS.action_ids_NT)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        rollouts.action_ids_NT = STEPS.action_ids_NT  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        STEPS.action_ids_NT = STEPS.action_ids_NT  # type: ignore[misc]


def scores_of(lengths_N: torch.Tensor, width: int, *, forced: int) -> Scores:
    """Random log-probabilities; what lies under no mask is -inf, as an objective may meet it."""
    generator = torch.Generator().manual_seed(0)
    position_T1 = torch.arange(width + 1)
    log_pf_NT = -torch.rand(len(lengths_N), width, generator=generator).mul(9)
    log_pstop_NT1 = -torch.rand(len(lengths_N), width + 1, generator=generator).mul(9)
    return Scores(
        log_pf_NT=torch.where(position_T1[:-1] < lengths_N[:, None], log_pf_NT, -torch.inf).requires_grad_(),
        log_pstop_NT1=torch.where(position_T1 < forced, log_pstop_NT1, 0.0).requires_grad_(),
        stop_mask_NT1=position_T1 <= lengths_N[:, None],
    )


def test_log_prob_of_a_step_is_the_sum_over_its_tokens_and_its_stop() -> None:
    lengths_N, width = torch.tensor([0, 1, 30, 47, 60]), 60
    mask_NT = torch.arange(width) < lengths_N[:, None]
    scores = scores_of(lengths_N, width, forced=width)
    exact = [
        math.fsum([*scores.log_pf_NT[n, :length].tolist(), scores.log_pstop_NT1[n, length].item()])
        for n, length in enumerate(lengths_N.tolist())
    ]
    assert exact[4] == math.fsum(scores.log_pf_NT[4].tolist()), "a stop that the maximum length forces costs nothing"
    single_N, double_N = scores.log_prob_N(mask_NT), scores.log_prob_N(mask_NT, dtype=torch.float64)
    assert single_N.dtype == torch.float32 and double_N.dtype == torch.float64
    torch.testing.assert_close(single_N.double(), torch.tensor(exact, dtype=torch.float64), rtol=1e-6, atol=0)
    assert double_N.tolist() == exact, "float32 numbers of this size have an exact sum in float64"
    single_N.sum().backward()
    stop_NT1 = torch.zeros(5, width + 1).scatter(1, lengths_N[:, None], 1.0)
    assert torch.equal(scores.log_pf_NT.grad, mask_NT.float())
    assert torch.equal(scores.log_pstop_NT1.grad, stop_NT1)  # type: ignore[union-attr]


def test_log_prob_of_every_prefix_is_that_of_the_step_cut_there() -> None:
    lengths_N, width = torch.tensor([0, 3, 7]), 7
    scores = scores_of(lengths_N, width, forced=width)
    log_prob_NT1 = scores.log_prob_NT1()
    for n, length in enumerate(lengths_N.tolist()):
        for end in range(length + 1):
            cut_NT = (torch.arange(width) < end).expand(3, -1)
            torch.testing.assert_close(log_prob_NT1[n, end], scores.log_prob_N(cut_NT)[n], rtol=1e-6, atol=0)


def test_scores_without_stops_have_no_log_prob_of_steps() -> None:
    scores = replace(scores_of(torch.tensor([2]), 3, forced=3), log_pstop_NT1=None)
    with pytest.raises(ValueError, match="stop=True"):
        scores.log_prob_N(torch.ones(1, 3).bool())
    with pytest.raises(ValueError, match="stop=True"):
        scores.log_prob_NT1()
