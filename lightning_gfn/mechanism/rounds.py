"""Rounds of a principal: it proposes incentives, agents learn under them, and it is told what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.learning import Outcome, run_round
from lightning_gfn.mechanism.principals.base import Principal, Proposal
from lightning_gfn.mechanism.world import World

CONTEXTS, AGENTS, TEST = 0, 1, 2
"""Streams of random numbers: principals of equal seeds see equal contexts and equally lucky agents."""


@dataclass(frozen=True)
class Round:
    """One round as a file keeps it.

    Args:
        round: its number, from 0.
        context: what the principal was told.
        incentives: by name, in the world's order.
        welfare: social welfare of an episode of the trained agents.
        paid: incentives paid in an episode.
        environment_steps: steps of all agents so far.
        facts: figures of the world, means over episodes.
        answers: what a language model wrote, unusable answers first.
        failures: why each unusable answer could not be used.
    """

    round: int
    context: str
    incentives: Mapping[str, float]
    welfare: float
    paid: float
    environment_steps: int
    facts: Mapping[str, float] = field(default_factory=dict)
    answers: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The form of ``rounds.jsonl``."""
        return asdict(self)


def generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """Random numbers of one purpose in one round."""
    return np.random.default_rng([seed, stream, number])


def play_rounds(
    world: World, agents: AgentSettings, principal: Principal, *, rounds: int, populations: int, seed: int
) -> Iterator[Round]:
    """Play rounds, one after the other.

    Args:
        world: the game.
        agents: how they learn.
        principal: decides; it has been set up.
        rounds: how many.
        populations: that learn side by side in a round, whose mean welfare the principal is told.
        seed: of contexts and agents.
    """
    steps = 0
    for number in range(rounds):
        context = int(generator(seed, CONTEXTS, number).integers(len(world.space.contexts)))
        proposal = principal.propose(context)
        outcome = outcome_of(
            world, agents, proposal, context, populations, generator(seed, AGENTS, number), principal.needs_gradient
        )
        principal.observe(context, proposal, outcome)
        steps += outcome.environment_steps
        yield Round(
            round=number,
            context=world.space.contexts[context],
            incentives=dict(zip(world.space.names, proposal.incentives, strict=True)),
            welfare=outcome.welfare,
            paid=float(outcome.paid_P.mean()),
            environment_steps=steps,
            facts=outcome.facts,
            answers=proposal.answers,
            failures=proposal.failures,
        )


def outcome_of(
    world: World,
    agents: AgentSettings,
    proposal: Proposal,
    context: int,
    populations: int,
    rng: np.random.Generator,
    gradient: bool = False,
) -> Outcome:
    """What comes of a proposal with fresh populations.

    Args:
        world: the game.
        agents: how they learn.
        proposal: the incentives.
        context: index of the context.
        populations: how many learn.
        rng: draws everything.
        gradient: also estimate how welfare depends on the incentives.
    """
    incentives = np.tile(np.array(proposal.incentives), (populations, 1))
    return run_round(world, agents, incentives, np.full(populations, context), rng, gradient=gradient)


def recommended(
    world: World, agents: AgentSettings, principal: Principal, *, populations: int, seed: int
) -> list[tuple[Proposal, Outcome]]:
    """What the principal recommends at the end, with new populations, for each context.

    Args:
        world: the game.
        agents: how they learn.
        principal: after its rounds.
        populations: that learn anew in each context.
        seed: of the agents.
    """
    found = []
    for context in range(len(world.space.contexts)):
        proposal = principal.recommend(context)
        rng = generator(seed, TEST, context)
        found.append((proposal, outcome_of(world, agents, proposal, context, populations, rng)))
    return found
