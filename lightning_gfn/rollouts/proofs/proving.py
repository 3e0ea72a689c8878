"""How theorems are attempted: the environment, the prompt, how long an attempt is, and a search beside sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.lean_interfaces import ProofEnvironment
from lightning_gfn.lean_types import Episode
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rewards.proof import ProofReward
from lightning_gfn.types import Problem


@dataclass(frozen=True)
class FoundEpisode:
    """An attempt that somebody else than the sampler made.

    Args:
        episode: states, tactics and outcome, as the environment gave them.
        actions: tokens of each tactic as the policy wrote them; None to encode the tactics.
    """

    episode: Episode
    actions: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class Found:
    """What a ``ProofBehaviour`` found and what it cost.

    Args:
        episodes: for each problem at most so many as were asked for, possibly none.
        costs: ``generated_tokens`` and ``environment_steps`` of the whole search.
    """

    episodes: tuple[tuple[FoundEpisode, ...], ...]
    costs: Mapping[str, int] = field(default_factory=dict)


class ProofBehaviour(ABC):
    """Makes attempts at theorems by other means than sampling them tactic by tactic: the source ``search``."""

    @abstractmethod
    def find(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        num_samples: int,
        proving: Proving,
        *,
        seed: int,
        rollout_step: int,
    ) -> Found:
        """Attempts at these theorems.

        What sampling could not have made is not used: longer than ``proving.max_steps``, left unfinished before, or
        with a tactic that the policy cannot produce.

        Args:
            policy: may propose tactics.
            problems: those whose source in this rollout batch is ``search``; each has a theorem.
            num_samples: the most attempts of each that are taken.
            proving: environment and prompt.
            seed: of the run; random numbers are keyed by it,
            rollout_step: and by the rollout batch counter.
        """


@dataclass(frozen=True)
class Proving:
    """How a policy attempts theorems.

    A policy is called on all attempts whose state is known. Before a call the sampler waits for ``min_rows`` of them,
    but not longer than ``max_wait``: so no attempt waits for a slow theorem, and the policy is not called row by row.

    Args:
        environment: runs tactics.
        prompt: what the policy reads; the default one if None.
        max_steps: the most tactics of an attempt.
        evaluation_max_steps: the same in validation, test and prediction; ``max_steps`` if None.
        search: makes attempts for ``behaviour.search``.
        min_rows: attempts that are worth a call to the policy at once.
        max_wait: seconds to wait for further ones; None waits for all that are under way, up to ``min_rows``.

    Raises:
        ValueError: a number is out of range; names it.
    """

    environment: ProofEnvironment
    prompt: ProofPrompt | None = None
    max_steps: int = 3
    evaluation_max_steps: int | None = None
    search: ProofBehaviour | None = None
    min_rows: int = 8
    max_wait: float | None = 0.05

    def __post_init__(self) -> None:
        for name in ("max_steps", "evaluation_max_steps", "min_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"proving.{name} is {value}, expected at least 1")
        if self.max_wait is not None and self.max_wait < 0.0:
            raise ValueError(f"proving.max_wait is {self.max_wait} seconds, expected at least 0, or null to wait")

    @property
    def proof_prompt(self) -> ProofPrompt:
        """What the policy reads."""
        return self.prompt if self.prompt is not None else ProofPrompt()

    @property
    def steps_in_evaluation(self) -> int:
        """The most tactics of an attempt in validation, test and prediction."""
        return self.evaluation_max_steps if self.evaluation_max_steps is not None else self.max_steps


def check_reward_prompt(proving: Proving, reward: Reward) -> None:
    """Let reward networks read what the policy reads.

    Args:
        proving: says what the policy reads.
        reward: its ``ProofReward`` gets this prompt if it has none.

    Raises:
        ValueError: it has another one.
    """
    for part in reward.parts():
        if not isinstance(part, ProofReward) or part.network is None:
            continue
        if part.prompt is None:
            part.prompt = proving.proof_prompt
        if part.prompt != proving.proof_prompt:
            raise ValueError(
                f"model.reward (ProofReward) has prompt {part.prompt}, but model.proving has {proving.proof_prompt}: "
                "the network would judge states that the policy did not see so. Remove the reward's prompt, or set "
                "both alike"
            )


def check_data_prompt(proving: Proving, data: object) -> None:
    """Refuse data of theorems whose prompts differ from those that the policy will be asked with.

    Args:
        proving: says what the policy reads.
        data: a datamodule; of theorems if it has a ``proof_prompt``.

    Raises:
        ValueError: the prompts differ.
    """
    written = getattr(data, "proof_prompt", None)
    if written is not None and written != proving.proof_prompt:
        raise ValueError(
            f"data.prompt ({type(data).__name__}) is {written}, but the policy will be asked with model.proving.prompt "
            f"{proving.proof_prompt}: set both alike, data.init_args.prompt and model.init_args.proving.prompt"
        )
