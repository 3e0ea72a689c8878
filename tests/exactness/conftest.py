"""An enumerable toy task: every string over four letters up to a maximum length, with a fixed reward of each.

Strings are the nodes of a four-ary heap: the root is 0 and the child of s by letter a is 4 s + 1 + a. A policy may
stop at every node and must stop at the maximum length. Policies are trained from sampled trajectories and judged by
exact enumeration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective

LETTERS = 4
Behaviour = Literal["on_policy", "tempered", "replay"]


@dataclass
class ToyTree:
    """The task: 341 strings at maximum length 4, 1,365 at 5.

    Args:
        max_length: letters of the longest string.
        seed: of the rewards.
    """

    max_length: int
    seed: int = 0
    log_reward_S: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.starts = [(LETTERS**n - 1) // (LETTERS - 1) for n in range(self.max_length + 2)]
        generator = torch.Generator().manual_seed(self.seed)
        self.log_reward_S = 1.5 * torch.randn(self.num_strings, generator=generator)

    @property
    def num_strings(self) -> int:
        """S."""
        return self.starts[self.max_length + 1]

    @property
    def num_inner(self) -> int:
        """Strings that a letter can follow; they come first."""
        return self.starts[self.max_length]

    @property
    def log_z(self) -> float:
        """log Σ R."""
        return self.log_reward_S.double().logsumexp(0).item()

    def total_variation(self, log_action_IA: Tensor) -> float:
        """Total variation between the policy's exact distribution over strings and R / Z.

        Args:
            log_action_IA: log-probabilities of four letters and stop at each inner string.
        """
        log_action_IA = log_action_IA.detach().double()
        log_reach_S = torch.zeros(self.num_strings, dtype=torch.float64)
        for n in range(self.max_length):
            parents = slice(self.starts[n], self.starts[n + 1])
            children = slice(self.starts[n + 1], self.starts[n + 2])
            log_reach_S[children] = (log_reach_S[parents].unsqueeze(1) + log_action_IA[parents, :LETTERS]).flatten()
        log_q_S = log_reach_S.clone()
        log_q_S[: self.num_inner] += log_action_IA[:, LETTERS]
        q_S = log_q_S.exp()
        assert abs(q_S.sum().item() - 1.0) < 1e-6
        return 0.5 * (q_S - (self.log_reward_S.double() - self.log_z).exp()).abs().sum().item()

    def sample(self, log_action_IA: Tensor, num_samples: int, temperature: float, generator: torch.Generator) -> Tensor:
        """Strings drawn letter by letter, as heap indices, (B,)."""
        probabilities_IA = (log_action_IA.detach() / temperature).softmax(1)
        node_B = torch.zeros(num_samples, dtype=torch.int64)
        going_B = torch.ones(num_samples, dtype=torch.bool)
        for _ in range(self.max_length):
            row_BA = probabilities_IA[torch.where(going_B, node_B, 0)]
            action_B = torch.multinomial(row_BA, 1, generator=generator).squeeze(1)
            going_B = going_B & (action_B < LETTERS)
            node_B = torch.where(going_B, LETTERS * node_B + 1 + action_B, node_B)
        return node_B

    def columns(self, node_B: Tensor, log_action_IA: Tensor, log_f_S: Tensor, log_z: Tensor) -> dict[str, Tensor]:
        """Every column that a GFlowNet objective may read, for these strings."""
        B, T = node_B.shape[0], self.max_length
        length_B = torch.bucketize(node_B, torch.tensor(self.starts[1:]), right=True)
        path_BT1 = torch.zeros(B, T + 1, dtype=torch.int64)
        action_BT = torch.zeros(B, T, dtype=torch.int64)
        node_B = node_B.clone()
        for t in range(T, 0, -1):
            here_B = length_B >= t
            path_BT1[:, t] = torch.where(here_B, node_B, 0)
            action_BT[:, t - 1] = torch.where(here_B, (node_B - 1) % LETTERS, 0)
            node_B = torch.where(here_B, (node_B - 1) // LETTERS, node_B)
        mask_BT = torch.arange(T) < length_B.unsqueeze(1)
        last_B1 = length_B.unsqueeze(1)
        forced = log_action_IA.new_zeros(self.num_strings - self.num_inner)
        log_pstop_BT1 = torch.cat([log_action_IA[:, LETTERS], forced])[path_BT1]
        log_pf_BT = log_action_IA[path_BT1[:, :-1].clamp_max(self.num_inner - 1), action_BT]
        stop_B = log_pstop_BT1.gather(1, last_B1).squeeze(1)
        log_reward_BT1 = self.log_reward_S[path_BT1]
        return {
            "log_pf_BT": log_pf_BT,
            "log_pstop_BT1": log_pstop_BT1,
            "log_f_BT1": log_f_S[path_BT1],
            "log_z_B": log_z.expand(B),
            "log_pf_B": torch.where(mask_BT, log_pf_BT, 0.0).sum(1) + stop_B,
            "log_reward_B": log_reward_BT1.gather(1, last_B1).squeeze(1),
            "log_reward_BT1": log_reward_BT1,
            "mask_BT": mask_BT,
            "stop_mask_BT1": torch.ones_like(path_BT1, dtype=torch.bool),
            "step_mask_BT1": torch.ones_like(path_BT1, dtype=torch.bool),
            "group_B": torch.zeros(B, dtype=torch.int64),
        }


def train(
    tree: ToyTree,
    objective: Objective,
    behaviour: Behaviour,
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    corrupt: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] = lambda columns: columns,
    seed: int = 0,
) -> float:
    """Total variation after training a tabular policy, log Z and flows from zero by Adam with a linear decay.

    ``tempered`` samples at a temperature U[0.75, 2] of its own in each step; ``replay`` draws half of each batch from
    the last 4,096 trajectories and the rest on-policy. ``corrupt`` plants an error in the columns.
    """
    generator = torch.Generator().manual_seed(seed)
    logits_IA = torch.zeros(tree.num_inner, LETTERS + 1, requires_grad=True)
    log_f_S = torch.zeros(tree.num_strings, requires_grad=True)
    log_z = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([logits_IA, log_f_S, log_z], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, num_steps)
    past_B = torch.zeros(0, dtype=torch.int64)
    for _ in range(num_steps):
        log_action_IA = logits_IA.log_softmax(1)
        temperature = 0.75 + 1.25 * torch.rand((), generator=generator).item() if behaviour == "tempered" else 1.0
        num_old = batch_size // 2 if behaviour == "replay" and len(past_B) >= batch_size else 0
        fresh_B = tree.sample(log_action_IA, batch_size - num_old, temperature, generator)
        old_B = past_B[torch.randint(max(1, len(past_B)), (num_old,), generator=generator)]
        past_B = torch.cat([past_B, fresh_B])[-4096:]
        columns = corrupt(tree.columns(torch.cat([fresh_B, old_B]), log_action_IA, log_f_S, log_z))
        optimizer.zero_grad()
        objective({name: columns[name] for name in objective.requires}).loss.backward()
        optimizer.step()
        schedule.step()
    return tree.total_variation(logits_IA.log_softmax(1))


@pytest.fixture
def toy_tree() -> type[ToyTree]:
    """The task, by maximum length."""
    return ToyTree


@pytest.fixture
def train_toy() -> Callable[..., float]:
    """Training from sampled trajectories, judged by enumeration."""
    return train
