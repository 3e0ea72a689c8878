"""Rewards of proof attempts: what Lean said of them, and how promising an unfinished one is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from lightning_gfn.interfaces import Policy, Reward, RewardNetwork
from lightning_gfn.lean_types import Episode
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rewards.terms import log_reward_of_term
from lightning_gfn.types import LogReward, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

TERM = "proof"
SUCCESS = "proved"
MARGIN = 4


def episodes_of(rollouts: Rollouts, reward: str) -> list[Episode]:
    """What the environment said of each trajectory.

    Raises:
        ValueError: a trajectory has no episode; names the reward.
    """
    episodes = [episode for episode in rollouts.episodes or () if episode is not None]
    if len(episodes) != rollouts.num_trajectories:
        raise ValueError(f"{reward} judges attempts at theorems, but there are none: set model.proving.environment")
    return episodes


def verdicts(episodes: Sequence[Episode], rollouts: Rollouts) -> Tensor:
    """True where an attempt is a proof, (B,)."""
    proved = [episode.outcome == "proved" for episode in episodes]
    return torch.tensor(proved, dtype=torch.bool, device=rollouts.problem_index_B.device)


class ProofReward(Reward):
    """Proof Flow's log reward.

        log R = 0                                       proved
        log R = -base + slope · ln((c - l) / c)         error; l: mean length of the tactics (tokens)
        log R = max(floor, agg_k s(t_k | s_k))          unfinished

    c is the policy's maximum length + 4. The partial reward of an unfinished attempt puts together one value for each
    of its tactics by mean or sum: under the frozen reference policy the log-probability of an action of the tactic,

        s(t | s) = (Σ_i log p(t_i | s, t_<i) + log p(stop | s, t)) / number of actions        (nats)

    where a stop that the maximum length forced is no action; with a trained reward network s = log σ(score of the
    tactic). The paper states a sum of length-normalised probabilities; its code takes logarithms and the mean over
    tactics, clamped at -30, which is the default here.

    Args:
        base: the log reward of an error is at most the negative of this.
        slope: how strongly long tactics that fail are punished.
        scale: c in tokens; the policy's maximum length + 4 if None.
        aggregate: of the values of an unfinished attempt's tactics.
        floor: least partial reward, nats.
        partial_weight: factor of the partial reward, before the floor; above 1 it moves unfinished attempts away from
            proofs.
        binary: an unfinished attempt is worth as much as an error of its tactics.
        network: judges tactics instead of the reference policy; its prompts are those of ``prompt``.
        prompt: what the network reads of a state; what the policy reads (``model.proving.prompt``) if None.

    Raises:
        ValueError: a number is out of range; names it.

    Source: Proof Flow, arXiv:2410.13224, appendix A and code (base 15, slope 8, c = 88).
    """

    is_constant = True
    provides = frozenset({"log_reward_B"})

    def __init__(
        self,
        *,
        base: float = 15.0,
        slope: float = 8.0,
        scale: float | None = None,
        aggregate: Literal["mean", "sum"] = "mean",
        floor: float = -30.0,
        partial_weight: float = 1.0,
        binary: bool = False,
        network: RewardNetwork | None = None,
        prompt: ProofPrompt | None = None,
    ) -> None:
        for name, value in (("base", base), ("slope", slope), ("floor", floor), ("partial_weight", partial_weight)):
            if not math.isfinite(value) or (name != "floor" and value < 0.0):
                raise ValueError(f"{name} is {value}, expected a finite number{'' if name == 'floor' else ' >= 0'}")
        if scale is not None and scale <= 0.0:
            raise ValueError(f"scale is {scale} tokens, expected a number above 0")
        if aggregate not in ("mean", "sum"):
            raise ValueError(f"aggregate is {aggregate!r}, expected mean or sum")
        if binary and network is not None:
            raise ValueError("binary gives no partial reward: remove reward.network, or set binary to false")
        self.base, self.slope, self.scale, self.floor = base, slope, scale, floor
        self.aggregate, self.partial_weight, self.binary = aggregate, partial_weight, binary
        self.network = network
        self.prompt = prompt
        self.needs_reference = not binary and network is None

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Judge every attempt once.

        Args:
            rollouts: B attempts with episodes.
            policy: holds the frozen reference and the maximum length.
            prefixes: must be False.

        Returns:
            ``{"proof": …}`` in nats, and which attempts are proofs.

        Raises:
            ValueError: if prefixes are asked for, or a trajectory has no episode.
        """
        if prefixes:
            raise ValueError("ProofReward judges whole attempts; use an objective on terminal rewards (TB, VarGrad)")
        episodes = episodes_of(rollouts, type(self).__name__)
        lengths: list[list[int]] = [[] for _ in episodes]
        for b, length in zip(
            rollouts.trajectory_index_N.tolist(), rollouts.action_mask_NT.sum(1).tolist(), strict=True
        ):
            lengths[b].append(length)
        scale = self.scale if self.scale is not None else policy.max_new_tokens + MARGIN
        partial = self.partial_rewards(rollouts, episodes, policy)
        values = [
            0.0 if episode.outcome == "proved" else partial.get(b, self.of_error(lengths[b], scale))
            for b, episode in enumerate(episodes)
        ]
        device = rollouts.problem_index_B.device
        return {TERM: torch.tensor(values, dtype=torch.float32, device=device)}, verdicts(episodes, rollouts)

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The term itself (weight 1, temperature 1)."""
        return log_reward_of_term(terms, TERM, rollouts)

    def of_error(self, lengths: Sequence[int], scale: float) -> float:
        """Log reward of a failed attempt whose tactics have these lengths; at least one token of ``scale`` is left."""
        mean = sum(lengths) / len(lengths)
        return -self.base + self.slope * math.log(max(scale - mean, 1.0) / scale)

    def partial_rewards(self, rollouts: Rollouts, episodes: Sequence[Episode], policy: Policy) -> dict[int, float]:
        """Log rewards of the unfinished attempts by trajectory; none with ``binary``."""
        unfinished = {b for b, episode in enumerate(episodes) if episode.outcome == "unfinished"}
        if self.binary or not unfinished:
            return {}
        if self.network is not None:
            values = self.network_values(episodes, unfinished, rollouts)
        else:
            values = reference_values(rollouts, unfinished, policy)
        found = {}
        for b, row in values.items():
            total = math.fsum(row) / (len(row) if self.aggregate == "mean" else 1)
            found[b] = max(self.floor, self.partial_weight * total)
        return found

    def network_values(
        self, episodes: Sequence[Episode], chosen: set[int], rollouts: Rollouts
    ) -> dict[int, list[float]]:
        """log σ of the reward network's score of each tactic of the chosen attempts."""
        assert self.network is not None
        prompt = self.prompt if self.prompt is not None else ProofPrompt()
        rows = [
            (b, prompt(state, episodes[b].tactics[:k]), tactic)
            for b in sorted(chosen)
            for k, (state, tactic) in enumerate(zip(episodes[b].states, episodes[b].tactics, strict=True))
        ]
        prompts, tactics = [prompt for _, prompt, _ in rows], [tactic for *_, tactic in rows]
        found = verifier_values(self.network, prompts, tactics, rollouts.problem_index_B.device)
        values: dict[int, list[float]] = {b: [] for b in chosen}
        for (b, _, _), value in zip(rows, found, strict=True):
            values[b].append(value)
        return values


def verifier_values(
    network: RewardNetwork, prompts: Sequence[str], tactics: Sequence[str], device: torch.device
) -> list[float]:
    """log σ of a verifier's score of each tactic, nats; 0 for an empty tactic, which has nothing to judge.

    Args:
        network: judges a tactic as a solution of one step.
        prompts: what it reads of the state before each tactic.
        tactics: texts.
        device: where it works.
    """
    scores = network.score_steps(prompts, [[tactic] if tactic.strip() else [] for tactic in tactics], device)
    values = torch.tensor([row[-1] if row else math.inf for row in scores])
    return list(torch.nn.functional.logsigmoid(values).tolist())


@torch.no_grad()
def reference_values(rollouts: Rollouts, chosen: set[int], policy: Policy) -> dict[int, list[float]]:
    """Log-probability of an action of each tactic of the chosen trajectories under the frozen reference, nats."""
    rows = [n for n, b in enumerate(rollouts.trajectory_index_N.tolist()) if b in chosen]
    index = torch.tensor(rows, dtype=torch.int64, device=rollouts.trajectory_index_N.device)
    steps = rollouts.steps.select(index)
    log_p_N = policy.score(steps, reference=True).log_prob_N(steps.action_mask_NT)
    actions_N = steps.lengths_N + (steps.lengths_N < policy.max_new_tokens)
    values: dict[int, list[float]] = {b: [] for b in chosen}
    for b, value in zip(rollouts.trajectory_index_N[index].tolist(), (log_p_N / actions_N).tolist(), strict=True):
        values[b].append(value)
    return values


class ProofSuccess(Reward):
    """1 for a proof, a constant for an attempt that Lean did not refuse, else 0: for reward-maximising methods.

        r = 1[proved] + unfinished · 1[unfinished]

    Args:
        unfinished: reward of an attempt that ran out of tactics without an error.

    Raises:
        ValueError: ``unfinished`` is outside [0, 1].
    """

    is_constant = True
    provides = frozenset({"log_reward_B"})

    def __init__(self, *, unfinished: float = 0.0) -> None:
        if not 0.0 <= unfinished <= 1.0:
            raise ValueError(f"unfinished is {unfinished}, expected 0 (an error) to 1 (a proof)")
        self.unfinished = unfinished

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Read the outcomes.

        Args:
            rollouts: B attempts with episodes.
            policy: not asked.
            prefixes: must be False.

        Returns:
            ``{"proved": …}``, and which attempts are proofs.

        Raises:
            ValueError: if prefixes are asked for, or a trajectory has no episode.
        """
        if prefixes:
            raise ValueError("ProofSuccess judges whole attempts; use an objective on terminal rewards (PPO, GRPO, TB)")
        episodes = episodes_of(rollouts, type(self).__name__)
        worth = {"proved": 1.0, "unfinished": self.unfinished, "error": 0.0}
        values = [worth[episode.outcome] for episode in episodes]
        device = rollouts.problem_index_B.device
        return {SUCCESS: torch.tensor(values, dtype=torch.float32, device=device)}, verdicts(episodes, rollouts)

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The term itself (weight 1, temperature 1)."""
        return log_reward_of_term(terms, SUCCESS, rollouts)
