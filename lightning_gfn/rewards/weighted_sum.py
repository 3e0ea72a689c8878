"""Several rewards as one: a weighted, tempered sum in log space, with schedules over optimiser steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.schedules import Schedule, as_schedule
from lightning_gfn.types import LogReward, Rollouts

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeightedReward:
    """One summand of a ``SumReward``.

    Args:
        reward: gives the log reward of this summand.
        weight: factor in front of it: a number or a schedule.
        temperature: divisor under it, above 0: a number or a schedule.
    """

    reward: Reward
    weight: Schedule | float = 1.0
    temperature: Schedule | float = 1.0

    def __post_init__(self) -> None:
        self.factor(0)

    def factor(self, optimizer_step: int) -> float:
        """``weight / temperature`` at an optimiser step.

        Raises:
            ValueError: if the temperature is not positive at this step.
        """
        temperature = as_schedule(self.temperature)(optimizer_step)
        if temperature <= 0.0:
            raise ValueError(f"temperature {temperature} at optimiser step {optimizer_step} must be above 0")
        return as_schedule(self.weight)(optimizer_step) / temperature


class SumReward(Reward):
    """A sum of log rewards, each with its own weight and temperature.

        log R = Σ_k weight_k(step) · log R_k / temperature_k(step)        (nats)

    The sum gives prefix values if every summand does, and keeps a reference policy if any needs it. Terms of summand
    ``k`` are stored as ``k/<term>``.

    Args:
        terms: the summands by a name of your choice.

    Raises:
        ValueError: if there are no summands, or two judge steps that end differently.
    """

    def __init__(self, terms: dict[str, WeightedReward]) -> None:
        if not terms:
            raise ValueError("SumReward: 'terms' is empty; name at least one reward")
        self.summands = dict(terms)
        self.provides = frozenset.intersection(*(frozenset(part.reward.provides) for part in terms.values()))
        self.needs_reference = any(part.reward.needs_reference for part in terms.values())
        self.learns = any(part.reward.learns for part in terms.values())
        self.is_log_weight = all(part.reward.is_log_weight for part in terms.values())
        separators = {name: own for name, part in terms.items() if (own := part.reward.separator) is not None}
        if len(set(separators.values())) > 1:
            raise ValueError(f"SumReward: terms judge steps that end differently: {separators}; give all one separator")
        self.separator = next(iter(separators.values()), None)

    def parts(self) -> tuple[Reward, ...]:
        """The rewards of all summands."""
        return tuple(part for summand in self.summands.values() for part in summand.reward.parts())

    def begin(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> None:
        """Start every summand that others need not wait for."""
        for part in self.summands.values():
            part.reward.begin(rollouts, policy, prefixes=prefixes)

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """The terms of every summand, and the verdicts of the first one that checks answers.

        Args:
            rollouts: B trajectories.
            policy: handed to every summand.
            prefixes: ask for (B, T + 1) instead of (B,).

        Returns:
            Terms named ``summand/term``, and ``correct_B`` or None.

        Raises:
            ValueError: if prefixes are asked of a summand that gives none.
        """
        self.begin(rollouts, policy, prefixes=prefixes)
        collected: dict[str, Tensor] = {}
        correct_B: Tensor | None = None
        for name, part in self.summands.items():
            if prefixes and "log_reward_BT1" not in part.reward.provides:
                raise ValueError(
                    f"SumReward: the term '{name}' ({type(part.reward).__name__}) gives no prefix values; "
                    "choose an objective on terminal rewards (TB, VarGrad, GRPO) or another reward"
                )
            own, verdicts_B = part.reward.terms(rollouts, policy, prefixes=prefixes)
            collected.update({f"{name}/{term}": values for term, values in own.items()})
            correct_B = correct_B if correct_B is not None else verdicts_B
        return collected, correct_B

    def schedule_values(self, optimizer_step: int) -> tuple[float, ...]:
        """The factors of all summands, and what the summands themselves depend on."""
        own = (part.factor(optimizer_step) for part in self.summands.values())
        nested = (part.reward.schedule_values(optimizer_step) for part in self.summands.values())
        return (*own, *(value for values in nested for value in values))

    def observations(self, terms: Mapping[str, Tensor], rollouts: Rollouts) -> list[Any]:
        """What the summands want to remember, each under its name."""
        return [
            (name, observation)
            for name, part in self.summands.items()
            for observation in part.reward.observations(terms_of(terms, name), rollouts)
        ]

    def learn(self, observations: list[Any]) -> None:
        """Hand every summand its own."""
        for name, part in self.summands.items():
            part.reward.learn([observation for own, observation in observations if own == name])

    def state_dict(self) -> dict[str, Any]:
        """Of the summands that have learned something."""
        return {name: state for name, part in self.summands.items() if (state := part.reward.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        for name, part in self.summands.items():
            part.reward.load_state_dict(state.get(name, {}))

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """Weighted, tempered sum at an optimiser step; prefix values if every summand has them."""
        terminal: list[Tensor] = []
        prefix: list[Tensor] = []
        for name, part in self.summands.items():
            log_reward = part.reward.combine(terms_of(terms, name), rollouts, optimizer_step)
            terminal.append(part.factor(optimizer_step) * log_reward.terminal_B)
            if log_reward.prefix_BT1 is not None:
                prefix.append(part.factor(optimizer_step) * log_reward.prefix_BT1)
        prefix_BT1 = sum(prefix[1:], start=prefix[0]) if len(prefix) == len(terminal) else None
        return LogReward(terminal_B=sum(terminal[1:], start=terminal[0]), prefix_BT1=prefix_BT1)


def terms_of(terms: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The terms of one summand under their own names."""
    start = f"{name}/"
    return {term.removeprefix(start): values for term, values in terms.items() if term.startswith(start)}
