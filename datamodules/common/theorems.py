"""The base class of data sets of theorems yields whole theorems to prove, or single tactics to learn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from datamodules.common.base import ProblemDataModule, Split
from datamodules.common.order import EvalLoader, keyed_hash
from datamodules.common.theorem_rows import Trace, TracedTactic, histories
from lightning_gfn.lean_types import Theorem
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.types import Problem

Regime = Literal["theorems", "tactics"]


@dataclass(frozen=True)
class TracedTheorem:
    """A theorem, and what is known of its proofs.

    Args:
        id: unique over all splits.
        theorem: what is to be proved; its ``proofs`` are those that are whole.
        traces: tactics with their states, also of proofs whose chain of states is broken.
        first_state: the goal that the theorem starts with, if it is known.
        solutions: texts of known proofs where they are not those of ``theorem.proofs``.
        metadata: further columns.
    """

    id: str
    theorem: Theorem
    traces: tuple[Trace, ...] = ()
    first_state: str | None = None
    solutions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


class TheoremDataModule(ProblemDataModule):
    """Theorems; a data set implements ``load_theorems`` and nothing else.

    For methods that attempt theorems (``theorems``) a problem is a theorem: its prompt is that of its first state where
    that is known, else its declaration, and its solutions are its known scripts. For supervised fine-tuning
    (``tactics``) a problem is one traced tactic: its prompt is what a policy reads in that state, its solution the
    tactic. Prediction always samples theorems.

    Args:
        train_on: what a training problem is.
        evaluate_on: what a problem of validation and testing is; ``tactics`` gives a loss where nothing can be checked.
        prompt: what a policy reads; must be the rollouts' own.
        broken_chains: a traced tactic whose state is not the one that the tactics before it reached has no history:
            train on it without one, or leave it out.
        max_train_theorems: use at most so many training theorems, chosen by their ids; ``max_train`` counts problems,
            which may be tactics.
        settings: arguments of ``ProblemDataModule``; ``prompt_template`` is not used.

    Raises:
        ValueError: an option makes no sense.
    """

    def __init__(
        self,
        *,
        train_on: Regime = "theorems",
        evaluate_on: Regime = "theorems",
        prompt: ProofPrompt | None = None,
        broken_chains: Literal["no_history", "drop"] = "no_history",
        max_train_theorems: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        for name, value, known in (
            ("train_on", train_on, ("theorems", "tactics")),
            ("evaluate_on", evaluate_on, ("theorems", "tactics")),
            ("broken_chains", broken_chains, ("no_history", "drop")),
        ):
            if value not in known:
                raise ValueError(f"data.{name} is {value!r}; it must be one of {', '.join(known)}")
        if max_train_theorems is not None and max_train_theorems < 1:
            raise ValueError(f"data.max_train_theorems is {max_train_theorems}: too small, use null for all theorems")
        self.train_on: Regime = train_on
        self.evaluate_on: Regime = evaluate_on
        self.proof_prompt: ProofPrompt = prompt if prompt is not None else ProofPrompt()
        self.broken_chains = broken_chains
        self.max_train_theorems = max_train_theorems
        self._theorems: dict[Split, list[TracedTheorem]] = {}

    @abstractmethod
    def load_theorems(self, split: Split) -> list[TracedTheorem]:
        """All theorems of a split; an empty list where there is no such split."""

    def theorems(self, split: Split) -> list[TracedTheorem]:
        """The theorems of a split, read once."""
        if split not in self._theorems:
            found = self.load_theorems(split)
            limit = self.max_train_theorems if split == "train" else None
            if limit is not None and limit < len(found):
                order = sorted((one.id for one in found), key=lambda id_: (keyed_hash("limit", id_), id_))
                chosen = set(order[:limit])
                found = [one for one in found if one.id in chosen]
            self._theorems[split] = found
        return self._theorems[split]

    def load_split(self, split: Split) -> list[Problem]:
        """Theorems or tactics of a split, as the regime of its use wants."""
        regime = self.train_on if split == "train" else self.evaluate_on
        if regime == "theorems":
            return [self.theorem_problem(one) for one in self.theorems(split)]
        return [problem for one in self.theorems(split) for problem in self.tactic_problems(one)]

    def theorem_problem(self, traced: TracedTheorem) -> Problem:
        """The theorem as a problem."""
        theorem = traced.theorem
        scripts = tuple("\n".join(proof) for proof in theorem.proofs)
        return Problem(
            id=traced.id,
            prompt=declaration(theorem) if traced.first_state is None else self.proof_prompt(traced.first_state),
            solutions=scripts if scripts else traced.solutions,
            metadata=traced.metadata,
            theorem=theorem,
        )

    def tactic_problems(self, traced: TracedTheorem) -> Iterator[Problem]:
        """Each traced tactic as a problem; what two proofs have in common counts once."""
        seen: set[tuple[str, str]] = set()
        for number, trace in enumerate(traced.traces):
            for place, (step, past) in enumerate(zip(trace, histories(trace), strict=True)):
                if past is None and self.broken_chains == "drop":
                    continue
                prompt = self.tactic_prompt(step, () if past is None else past)
                if (prompt, step.tactic) in seen:
                    continue
                seen.add((prompt, step.tactic))
                yield Problem(
                    id=f"{traced.id}/{number}/{place}",
                    prompt=prompt,
                    solutions=(step.tactic,),
                    metadata=traced.metadata,
                )

    def tactic_prompt(self, step: TracedTactic, past: tuple[str, ...]) -> str:
        """What a policy reads before a traced tactic; a data set may put more before it."""
        return self.proof_prompt(step.state_before, past)

    def setup(self, stage: str) -> None:
        """Load the splits of a stage."""
        if stage != "predict" or self.predict_split != "train":
            super().setup(stage)

    def predict_dataloader(self) -> EvalLoader:
        """Batches of the split to be sampled, always theorems."""
        regime = self.train_on if self.predict_split == "train" else self.evaluate_on
        if regime == "theorems":
            return super().predict_dataloader()
        rank, world_size = self._ranks()
        problems = [self.theorem_problem(one) for one in self.theorems(self.predict_split)]
        return EvalLoader(problems, batch_size=self.eval_batch_size, rank=rank, world_size=world_size)


def declaration(theorem: Theorem) -> str:
    """The statement as it stands in a file: context, then ``theorem name statement``."""
    return "\n".join([*theorem.context, f"theorem {theorem.name} {theorem.statement}".rstrip()]) + "\n"
