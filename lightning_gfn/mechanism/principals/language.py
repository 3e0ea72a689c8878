"""A language model as principal: it reads earlier rounds as text and answers with incentives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.learning import Outcome
from lightning_gfn.mechanism.principals.base import Principal, Proposal
from lightning_gfn.mechanism.principals.writers import Writer
from lightning_gfn.mechanism.world import World
from lightning_gfn.prompts.incentives import UnusableAnswer, incentive_prompt, read_incentives

Order = Literal["best_last", "recent"]


@dataclass(frozen=True)
class Remembered:
    """An earlier round of a context.

    Args:
        incentives: that were set.
        welfare: that followed.
        facts: figures of the world.
    """

    incentives: tuple[float, ...]
    welfare: float
    facts: Mapping[str, float]


class LanguagePrincipal(Principal):
    """Asks a language model in every round.

    An unusable answer is counted by its reason and asked for again, up to ``tries`` times; then the last usable
    incentives of the context hold once more, and before there are any the smallest ones.

    Args:
        writer: answers prompts.
        history: most earlier rounds of the context that a prompt tells.
        order: ``best_last`` tells the best ones, the best at the end; ``recent`` the latest.
        facts: names of figures of the world that a prompt also tells of each round.
        tries: most answers that are asked for in a round.
        recommend_best: at the end, the best incentives so far instead of a further answer.
        seed: of the model's sampling, beside the run's.

    Raises:
        ValueError: a number is too small, or ``order`` is unknown.
    """

    def __init__(
        self,
        writer: Writer,
        history: int = 8,
        order: Order = "best_last",
        facts: tuple[str, ...] | list[str] = (),
        tries: int = 2,
        recommend_best: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if history < 0 or tries < 1:
            raise ValueError(f"principal.history={history} must be at least 0 and principal.tries={tries} at least 1")
        if order not in get_args(Order):
            raise ValueError(f"principal.order is {order!r}, expected one of {', '.join(get_args(Order))}")
        self.writer, self.history, self.order = writer, history, order
        self.facts, self.tries, self.recommend_best, self.seed = tuple(facts), tries, recommend_best, seed

    def setup(self, world: World, agents: AgentSettings, rng: np.random.Generator) -> None:
        """Start with an empty memory.

        Raises:
            ValueError: a fact is none of the world's.
        """
        super().setup(world, agents, rng)
        if unknown := [name for name in self.facts if name not in world.facts]:
            raise ValueError(f"principal.facts has {unknown[0]!r}; the world tells {', '.join(world.facts)}")
        contexts = range(len(self.space.contexts))
        self.memory: list[list[Remembered]] = [[] for _ in contexts]
        self.latest = [(self.space.low,) * self.space.size for _ in contexts]
        self.run_key = int(rng.integers(2**31))

    def prompt(self, context: int) -> str:
        """What the model reads."""
        known = self.memory[context]
        chosen = known[len(known) - min(self.history, len(known)) :]
        if self.order == "best_last":
            ranked = sorted(known, key=lambda entry: entry.welfare)
            chosen = ranked[len(ranked) - min(self.history, len(ranked)) :]
        entries = [
            (entry.incentives, entry.welfare, {name: entry.facts[name] for name in self.facts}) for entry in chosen
        ]
        context_name = self.space.contexts[context] if len(self.space.contexts) > 1 else ""
        bounds = (self.space.low, self.space.high)
        return incentive_prompt(self.world.rules, context_name, self.space.names, bounds, entries)

    def propose(self, context: int) -> Proposal:
        prompt, answers, failures = self.prompt(context), [], []
        for _ in range(self.tries):
            written = self.writer.write(prompt, key=f"{self.run_key}/{self.counts['calls']}", seed=self.seed)
            self.counts["calls"] += 1
            self.counts["generated_tokens"] += written.tokens
            answers.append(written.text)
            try:
                found = read_incentives(written.text, self.space.names, (self.space.low, self.space.high))
            except UnusableAnswer as error:
                failures.append(str(error))
                self.counts[f"unusable: {error}"] += 1
                continue
            self.counts["usable"] += 1
            self.latest[context] = found
            return Proposal(found, tuple(answers), tuple(failures))
        self.counts["fallbacks"] += 1
        return Proposal(self.latest[context], tuple(answers), tuple(failures))

    def observe(self, context: int, proposal: Proposal, outcome: Outcome) -> None:
        self.memory[context].append(Remembered(proposal.incentives, outcome.welfare, outcome.facts))

    def recommend(self, context: int) -> Proposal:
        if self.recommend_best and self.memory[context]:
            return Proposal(max(self.memory[context], key=lambda entry: entry.welfare).incentives)
        return self.propose(context)
