"""What a state of a proof is worth to a tree search, from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from lightning_gfn.interfaces import Policy, RewardNetwork
from lightning_gfn.padding import pad_steps
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rollouts.search.search_tree import Leaf, LeafValue
from lightning_gfn.rollouts.search.tactic_generator import context_of
from lightning_gfn.types import Problem

if TYPE_CHECKING:
    from torch import nn

Squash = Literal["exp", "sigmoid", "identity"]


@dataclass(frozen=True)
class ConstantValue(LeafValue):
    """The same for every state: the search follows the prior alone.

    Args:
        value: 0 to 1.
    """

    value: float = 0.0

    def __call__(self, policy: Policy, problems: Sequence[Problem], leaves: Sequence[Leaf]) -> list[float]:
        """The constant."""
        return [self.value] * len(leaves)


@dataclass(frozen=True)
class LogProbValue(LeafValue):
    """The geometric mean of the probabilities of the tactics so far: exp(log q / tactics); 1 at the root."""

    def __call__(self, policy: Policy, problems: Sequence[Problem], leaves: Sequence[Leaf]) -> list[float]:
        """One value a state."""
        return [math.exp(leaf.log_prob / max(1, leaf.depth)) for leaf in leaves]


class RewardNetworkValue(LeafValue):
    """What a reward network says of the tactics so far: the sigmoid of its score of the last one; 0.5 at the root.

    Args:
        network: judges prompt and steps; a step is one tactic, its line break included.
        device: where it works.
    """

    def __init__(self, network: RewardNetwork, device: str = "cpu") -> None:
        self.network, self.device = network, device

    def __call__(self, policy: Policy, problems: Sequence[Problem], leaves: Sequence[Leaf]) -> list[float]:
        """One value a state."""
        judged = [n for n, leaf in enumerate(leaves) if leaf.script]
        values = [0.5] * len(leaves)
        if not judged:
            return values
        steps = [[f"{tactic}\n" for tactic in leaves[n].script] for n in judged]
        scores = self.network.score_steps([problems[n].prompt for n in judged], steps, self.device)
        for n, row in zip(judged, scores, strict=True):
            values[n] = squashed(row[-1], "sigmoid")
        return values


class HeadValue(LeafValue):
    """The value head that was trained beside the policy, read where the policy is about to propose a tactic.

        value = squash(f(h(prompt)))

    Args:
        squash: brings the head's units to 0 to 1: ``exp`` for log rewards of which 0 is a proof, ``sigmoid`` for
            logits, ``identity`` for rewards between 0 and 1; all are cut off to [0, 1].
        max_rows: states scored at once. A state that is too long for the policy has no tactics, and any value.
    """

    def __init__(self, *, squash: Squash = "exp", max_rows: int = 64) -> None:
        if squash not in ("exp", "sigmoid", "identity") or max_rows < 1:
            raise ValueError(
                f"value.squash={squash!r} must be exp, sigmoid or identity, max_rows={max_rows} at least 1"
            )
        self.squash: Squash = squash
        self.max_rows = max_rows
        self.network: nn.Module | None = None
        self.prompt: ProofPrompt = ProofPrompt()

    def bind(self, head: object, prompt: ProofPrompt) -> None:
        """Use this head (``policies.heads.ValueHead``) and these prompts.

        Raises:
            ValueError: the module has no value head.
        """
        if "value_BT1" not in getattr(head, "provides", ()):
            raise ValueError("HeadValue needs a module with a value head (PPO): take LogProbValue instead")
        self.network, self.prompt = head.network, prompt  # type: ignore[attr-defined]

    @torch.no_grad()
    def __call__(self, policy: Policy, problems: Sequence[Problem], leaves: Sequence[Leaf]) -> list[float]:
        """One value a state.

        Raises:
            RuntimeError: no head was bound.
        """
        if self.network is None:
            raise RuntimeError("HeadValue has no head yet: call bind")
        values: list[float] = []
        for start in range(0, len(leaves), self.max_rows):
            chunk = leaves[start : start + self.max_rows]
            contexts = [context_of(policy, self.prompt(leaf.state.text, leaf.script)) or [0] for leaf in chunk]
            device = next(self.network.parameters()).device
            steps = pad_steps(contexts, [()] * len(chunk), device)
            scores = policy.score(steps, stop=False, hidden=True)
            assert scores.hidden_NT1H is not None, "Policy.score(hidden=True) returned no hidden states"
            found = self.network(scores.hidden_NT1H[:, 0].float()).squeeze(-1)
            values += [squashed(value, self.squash) for value in found.tolist()]
        return values


def squashed(value: float, squash: Squash) -> float:
    """A number from 0 to 1."""
    if squash == "exp":
        return math.exp(min(0.0, value))
    if squash == "sigmoid":
        return 1.0 / (1.0 + math.exp(-value)) if value >= 0 else math.exp(value) / (1.0 + math.exp(value))
    return min(1.0, max(0.0, value))
