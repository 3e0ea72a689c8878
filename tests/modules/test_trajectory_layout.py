"""Trajectories of several steps as one sequence of actions, against written loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightning_gfn.modules.settings import UpdateSettings
from lightning_gfn.modules.training_batch.columns import live_columns, trajectory_log_prob
from lightning_gfn.modules.training_batch.rollout_window import RolloutWindow
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.objectives.detailed_balance import DetailedBalance
from lightning_gfn.objectives.subtb import SubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.types import Problem, Rollouts, Scores, StepBatch

LENGTHS = ([2, 3, 1], [4], [0, 2], [1, 1, 1])
"""Tokens of each step of four trajectories, of two problems."""


def make_rollouts(lengths=LENGTHS) -> Rollouts:
    steps = [(b, length) for b, row in enumerate(lengths) for length in row]
    width = max(length for _, length in steps)
    mask = torch.tensor([[t < length for t in range(width)] for _, length in steps])
    return Rollouts(
        problems=(Problem("a", "A"), Problem("b", "B")),
        problem_index_B=torch.tensor([0, 0, 1, 1][: len(lengths)]),
        trajectory_index_N=torch.tensor([b for b, _ in steps]),
        steps=StepBatch(
            torch.ones(len(steps), 2, dtype=torch.int64),
            torch.ones(len(steps), 2, dtype=torch.bool),
            mask.long(),
            mask,
        ),
        completions=("",) * len(lengths),
        sources=("on_policy",) * len(lengths),
    )


def make_scores(rollouts: Rollouts, seed: int = 0) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    mask = rollouts.action_mask_NT
    length_N1 = mask.sum(1, keepdim=True)
    prefix_NT1 = torch.arange(mask.shape[1] + 1) <= length_N1
    log_pf = -torch.rand(mask.shape, generator=generator, dtype=torch.float64)
    log_pstop = -torch.rand(prefix_NT1.shape, generator=generator, dtype=torch.float64)
    return Scores(
        log_pf_NT=torch.where(mask, log_pf, 0.0).requires_grad_(),
        log_pstop_NT1=torch.where(prefix_NT1, log_pstop, 0.0).requires_grad_(),
        stop_mask_NT1=prefix_NT1,
        entropy_NT1=torch.where(prefix_NT1, -log_pstop, 0.0),
    )


def written(rollouts: Rollouts, values_NT1: torch.Tensor) -> list[list[float]]:
    """Values of the prefixes of each trajectory, by a loop."""
    rows: list[list[float]] = [[] for _ in range(rollouts.num_trajectories)]
    for n, b in enumerate(rollouts.trajectory_index_N.tolist()):
        rows[b] += values_NT1[n, : int(rollouts.action_mask_NT[n].sum()) + 1].tolist()
    return rows


def written_actions(rollouts: Rollouts, scores: Scores) -> tuple[list[list[float]], list[float]]:
    """Log-probabilities of the actions of each trajectory, and of its last stop, by a loop."""
    rows: list[list[float]] = [[] for _ in range(rollouts.num_trajectories)]
    for n, b in enumerate(rollouts.trajectory_index_N.tolist()):
        length = int(rollouts.action_mask_NT[n].sum())
        rows[b] += [*scores.log_pf_NT[n, :length].tolist(), scores.log_pstop_NT1[n, length].item()]
    return [row[:-1] for row in rows], [row[-1] for row in rows]


def padded(rows: list[list[float]], width: int) -> torch.Tensor:
    return torch.tensor([row + [0.0] * (width - len(row)) for row in rows], dtype=torch.float64)


def test_columns_are_those_of_a_written_loop() -> None:
    rollouts, scores = make_rollouts(), make_scores(make_rollouts())
    columns = live_columns(rollouts, JoinedLayout(rollouts), scores)
    actions, stops = written_actions(rollouts, scores)
    layout = JoinedLayout(rollouts)
    width = max(map(len, actions))
    assert torch.equal(columns["log_pf_BT"], padded(actions, width))
    assert layout.mask_BT.sum(1).tolist() == [len(row) for row in actions]
    assert columns["log_pstop_BT1"].sum(1).tolist() == pytest.approx(stops)
    assert torch.equal(columns["entropy_BT1"], padded(written(rollouts, scores.entropy_NT1), width + 1))
    assert layout.is_last_prefix().nonzero()[:, 1].tolist() == [len(row) for row in actions]
    starts = [[0, 3, 7], [0], [0, 1], [0, 2, 4]]
    assert [row.nonzero().squeeze(1).tolist() for row in layout.starts_step_BT1] == starts
    assert layout.last_step_B.tolist() == [2, 3, 5, 8]


def test_joined_actions_have_the_probability_of_the_trajectory() -> None:
    rollouts, scores = make_rollouts(), make_scores(make_rollouts())
    columns = live_columns(rollouts, JoinedLayout(rollouts), scores)
    joined_B = columns["log_pf_BT"].sum(1) + columns["log_pstop_BT1"].sum(1)
    assert torch.allclose(joined_B, trajectory_log_prob(scores, rollouts))
    joined_B.sum().backward()
    assert scores.log_pf_NT.grad is not None
    assert torch.equal(scores.log_pf_NT.grad, rollouts.action_mask_NT.double())


def test_a_forgotten_stop_is_seen() -> None:
    rollouts, scores = make_rollouts(), make_scores(make_rollouts())
    silent = replace(scores, log_pstop_NT1=torch.zeros_like(scores.log_pstop_NT1))
    actions, _ = written_actions(rollouts, scores)
    assert not torch.allclose(JoinedLayout(rollouts).log_pf(silent), padded(actions, max(map(len, actions))))


def test_single_steps_keep_their_layout() -> None:
    rollouts = make_rollouts(([2], [4], [0], [1]))
    scores = make_scores(rollouts)
    columns = live_columns(rollouts, JoinedLayout(rollouts), scores)
    assert columns["log_pf_BT"] is scores.log_pf_NT and columns["log_pstop_BT1"] is scores.log_pstop_NT1


def flow_columns(rollouts: Rollouts, scores: Scores) -> dict[str, torch.Tensor]:
    layout = JoinedLayout(rollouts)
    generator = torch.Generator().manual_seed(5)
    flow_NT1 = torch.randn(scores.log_pstop_NT1.shape, generator=generator, dtype=torch.float64)
    return {
        **live_columns(rollouts, layout, scores),
        "mask_BT": layout.mask_BT,
        "step_mask_BT1": layout.starts_step_BT1,
        "log_f_BT1": layout.prefixes(flow_NT1),
        "log_reward_B": torch.tensor([0.0, -3.0, -1.0, -2.0], dtype=torch.float64),
        "flow_NT1": flow_NT1,
    }


def written_states(columns, rollouts: Rollouts, scores: Scores) -> list[tuple[list[float], list[float]]]:
    """log q of each step and log F before each of them and at the end (log R), by a loop."""
    steps: list[tuple[list[float], list[float]]] = [([], []) for _ in range(rollouts.num_trajectories)]
    for n, b in enumerate(rollouts.trajectory_index_N.tolist()):
        length = int(rollouts.action_mask_NT[n].sum())
        steps[b][0].append((scores.log_pf_NT[n, :length].sum() + scores.log_pstop_NT1[n, length]).item())
        steps[b][1].append(float(columns["flow_NT1"][n, 0]))
    for b, (_, flows) in enumerate(steps):
        flows.append(float(columns["log_reward_B"][b]))
    return steps


def test_step_level_flows_balance_whole_tactics() -> None:
    rollouts, scores = make_rollouts(), make_scores(make_rollouts())
    columns = flow_columns(rollouts, scores)
    squares, pairs, weights = [], [], []
    for row, (log_q, flows) in zip(LENGTHS, written_states(columns, rollouts, scores), strict=True):
        place = [sum(length + 1 for length in row[:i]) for i in range(len(row) + 1)]
        squares += [(flows[i] + log_q[i] - flows[i + 1]) ** 2 for i in range(len(log_q))]
        for i in range(len(flows)):
            for j in range(i + 1, len(flows)):
                weight = 0.5 ** (place[j] - place[i] - 1)
                pairs.append(weight * (flows[i] + sum(log_q[i:j]) - flows[j]) ** 2)
                weights.append(weight)
    assert float(DetailedBalance(level="step")(columns).loss) == pytest.approx(sum(squares) / len(squares))
    assert float(SubTB(level="step", lam=0.5)(columns).loss) == pytest.approx(sum(pairs) / sum(weights))
    assert float(SubTB(lam=0.5)(columns).loss) != pytest.approx(sum(pairs) / sum(weights))


def test_trajectory_balance_sums_over_all_tactics() -> None:
    rollouts, scores = make_rollouts(), make_scores(make_rollouts())
    columns = flow_columns(rollouts, scores) | {"log_z_B": torch.full((4,), 0.7, dtype=torch.float64)}
    expected = [(0.7 + sum(log_q) - flows[-1]) ** 2 for log_q, flows in written_states(columns, rollouts, scores)]
    assert float(TrajectoryBalance()(columns).loss) == pytest.approx(sum(expected) / 4)


def test_minibatches_of_a_window_carry_their_own_rows() -> None:
    rollouts, scores = make_rollouts(), make_scores(make_rollouts())
    layout = JoinedLayout(rollouts)
    constants = {
        "old_log_pf_BT": layout.log_pf(scores).detach(),
        "old_log_pstop_BT1": layout.log_pstop(scores).detach(),
        "log_reward_B": torch.arange(4.0),
        "max_length": torch.tensor(14),
    }
    window = RolloutWindow(0, ("a", "b"), rollouts, layout, constants, {})
    updates = UpdateSettings(num_epochs=1, num_minibatches=2)
    actions, _ = written_actions(rollouts, scores)
    seen = []
    for part in range(2):
        window.num_done = part
        chosen, given, columns = window.minibatch(rollouts.problems, updates, seed=0, whole_groups=False)
        rows = [int(b) for b in columns["log_reward_B"]]
        own = JoinedLayout(chosen).mask_BT
        width = own.shape[1]
        assert torch.equal(given.mask_BT, own) and torch.equal(given.index_BT1, JoinedLayout(chosen).index_BT1)
        assert columns["old_log_pf_BT"].shape == (2, width) and columns["old_log_pstop_BT1"].shape == (2, width + 1)
        assert torch.equal(torch.where(own, columns["old_log_pf_BT"], 0.0), padded([actions[b] for b in rows], width))
        seen += rows
    assert sorted(seen) == [0, 1, 2, 3]
