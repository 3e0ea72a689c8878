"""Random batches, written double loops and an enumerated tree that the objective tests share."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor


def random_batch(
    lengths: list[int], *, num_positions: int | None = None, seed: int = 0, dtype: torch.dtype = torch.float64
) -> SimpleNamespace:
    """Columns of trajectories with these lengths; values beyond the end are random too."""
    generator = torch.Generator().manual_seed(seed)
    T = num_positions if num_positions is not None else max(lengths)
    B = len(lengths)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    lengths_B1 = torch.tensor(lengths).unsqueeze(1)
    return SimpleNamespace(
        log_pf_BT=(-draw(B, T).abs()).requires_grad_(),
        log_pstop_BT1=(-draw(B, T + 1).abs()).requires_grad_(),
        log_f_BT1=draw(B, T + 1).requires_grad_(),
        log_reward_BT1=2 * draw(B, T + 1),
        log_reward_B=2 * draw(B),
        log_z_B=draw(B).requires_grad_(),
        mask_BT=torch.arange(T) < lengths_B1,
        prefix_mask_BT1=torch.rand(B, T + 1, generator=generator) < 0.6,
        group_B=torch.arange(B) % 3 + 7,
        forced_stop_B=torch.arange(B) % 4 == 3,
        lengths=lengths,
    )


def stop_balance(batch: SimpleNamespace, row: int) -> list[Tensor]:
    """g_0..g_n of one row, by explicit sums."""
    return [
        batch.log_pf_BT[row, :i].sum() + batch.log_pstop_BT1[row, i] - batch.log_reward_BT1[row, i]
        for i in range(batch.lengths[row] + 1)
    ]


def flow_balance(batch: SimpleNamespace, row: int) -> list[Tensor]:
    """h_0..h_{n+1} of one row, by explicit sums."""
    n = batch.lengths[row]
    states = [batch.log_pf_BT[row, :i].sum() - batch.log_f_BT1[row, i] for i in range(n + 1)]
    final = batch.log_pf_BT[row, :n].sum() + batch.log_pstop_BT1[row, n] - batch.log_reward_B[row]
    return [*states, final]


def pair_loop(rows: list[list[Tensor]], lam: float, kept: list[list[bool]], reduction: str) -> Tensor:
    """The written double loop over pairs of positions."""
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for values, keep in zip(rows, kept, strict=True):
        for i, j in itertools.combinations(range(len(values)), 2):
            if keep[i] and keep[j]:
                total = total + lam ** (j - i - 1) * (values[j] - values[i]) ** 2
                weight += lam ** (j - i - 1)
    return total / (weight if reduction == "mean" else len(rows))


@dataclass(frozen=True)
class Tree:
    """All strings over two letters up to length three, a reward of each, and the reward-proportional policy.

    Trajectories are every string once, so losses and gradients are those of the whole tree.
    """

    columns: dict[str, Tensor]
    leaves: dict[str, Tensor]
    log_z: float


def proportional_tree(seed: int = 0) -> Tree:
    """The exact reward-proportional policy by dynamic programming from the leaves; its log-probabilities are leaves."""
    generator = torch.Generator().manual_seed(seed)
    depth = 3
    strings = [s for n in range(depth + 1) for s in itertools.product((0, 1), repeat=n)]
    log_reward = {s: torch.randn((), generator=generator, dtype=torch.float64).item() for s in strings}
    log_flow: dict[tuple[int, ...], float] = {}
    for s in reversed(strings):
        below = [log_flow[(*s, letter)] for letter in (0, 1)] if len(s) < depth else []
        log_flow[s] = torch.logsumexp(torch.tensor([log_reward[s], *below], dtype=torch.float64), 0).item()
    B, T = len(strings), depth
    pf, pstop, flow = torch.zeros(B, T), torch.zeros(B, T + 1), torch.zeros(B, T + 1)
    reward, mask = torch.zeros(B, T + 1), torch.zeros(B, T, dtype=torch.bool)
    pf, pstop, flow, reward = (x.double() for x in (pf, pstop, flow, reward))
    for row, s in enumerate(strings):
        mask[row, : len(s)] = True
        for i in range(len(s) + 1):
            pstop[row, i] = log_reward[s[:i]] - log_flow[s[:i]]
            flow[row, i], reward[row, i] = log_flow[s[:i]], log_reward[s[:i]]
            if i < len(s):
                pf[row, i] = log_flow[s[: i + 1]] - log_flow[s[:i]]
    leaves = {"log_pf_BT": pf, "log_pstop_BT1": pstop, "log_f_BT1": flow, "log_z_B": flow[:, 0].clone()}
    leaves = {name: value.requires_grad_() for name, value in leaves.items()}
    n_B1 = mask.sum(1, keepdim=True)
    whole = torch.where(mask, leaves["log_pf_BT"], 0.0).sum(1) + leaves["log_pstop_BT1"].gather(1, n_B1).squeeze(1)
    everywhere = torch.ones(B, T + 1, dtype=torch.bool)
    columns = {
        **leaves,
        "mask_BT": mask,
        "stop_mask_BT1": everywhere,
        "step_mask_BT1": everywhere,
        "log_pf_B": whole,
        "log_reward_B": reward.gather(1, n_B1).squeeze(1),
        "log_reward_BT1": reward,
        "group_B": torch.zeros(B, dtype=torch.int64),
    }
    return Tree(columns, leaves, log_flow[()])


@pytest.fixture
def make_batch() -> Callable[..., SimpleNamespace]:
    """The random batch maker."""
    return random_batch


@pytest.fixture
def loops() -> SimpleNamespace:
    """The written loops."""
    return SimpleNamespace(stop_balance=stop_balance, flow_balance=flow_balance, pair_loop=pair_loop)


@pytest.fixture
def tree() -> Tree:
    """The enumerated tree under its exact policy."""
    return proportional_tree()


def execute_statements(file: Path, first: str, last: str, names: dict[str, Any]) -> dict[str, Any]:
    """What the names mean after some statements of another package's source, which stand in one block.

    Args:
        file: the source; its functions ``masked_…`` can be called.
        first: how the first statement begins, as ``ast.unparse`` writes it.
        last: how the last one begins.
        names: what the statements find.
    """
    tree = ast.parse(file.read_text())
    found = None
    for node in ast.walk(tree):
        block = getattr(node, "body", None)
        if not isinstance(block, list) or found is not None:
            continue
        texts = [ast.unparse(statement) for statement in block]
        starts = [i for i, text in enumerate(texts) if text.startswith(first)]
        ends = [i for i, text in enumerate(texts) if text.startswith(last)]
        if starts and ends and ends[0] > starts[0]:
            found = block[starts[0] : ends[0] + 1]
    assert found is not None, f"{file} has no statements from {first!r} to {last!r}"
    helpers = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("masked_")]
    scope = {"torch": torch, "F": torch.nn.functional, **names}
    exec(compile(ast.Module(body=[*helpers, *found], type_ignores=[]), str(file), "exec"), scope)
    return scope


@pytest.fixture
def execute() -> Callable[[Path, str, str, dict[str, Any]], dict[str, Any]]:
    """``execute_statements``."""
    return execute_statements
