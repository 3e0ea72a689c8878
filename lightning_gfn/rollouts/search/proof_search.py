"""Search for proofs of many theorems at once: the policy proposes for some while Lean works on others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from lightning_gfn.interfaces import Policy
from lightning_gfn.lean_interfaces import ProofEnvironment
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, StepResult, TacticState
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rollouts.search.best_first import BestFirst
from lightning_gfn.rollouts.search.search_result import FoundProof, SearchBudget, SearchResult, Status
from lightning_gfn.rollouts.search.search_tree import Leaf, SearchTree, TacticResult, TreeSearch
from lightning_gfn.rollouts.search.tactic_generator import Proposal, ProposalRequest, SampledTactics, TacticProposals
from lightning_gfn.types import Problem

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class SearchSettings:
    """How proofs are searched.

    Args:
        algorithm: which state is expanded next: ``BestFirst`` or ``MCTS``.
        proposals: how the policy proposes tactics: ``SampledTactics`` or ``BeamTactics``.
        branching: most tactics tried in a state.
        max_depth: most tactics of a proof.
        budget: of each theorem.
        seed: key of the random numbers.
        concurrent: theorems searched at once; their policy calls are batched.
        overlap: call the policy as soon as half of the theorems wait for it, while Lean works for the others. Off, all
            theorems go in step, so that batches, and with them the last bits of log-probabilities, are repeatable.

    Raises:
        ValueError: if a number is below 1.
    """

    algorithm: TreeSearch = field(default_factory=BestFirst)
    proposals: TacticProposals = field(default_factory=SampledTactics)
    branching: int = 8
    max_depth: int = 16
    budget: SearchBudget = field(default_factory=SearchBudget)
    seed: int = 0
    concurrent: int = 64
    overlap: bool = True

    def __post_init__(self) -> None:
        for name in ("branching", "max_depth", "concurrent"):
            if getattr(self, name) < 1:
                raise ValueError(f"search.{name}={getattr(self, name)} must be at least 1")


@torch.no_grad()
def search_proofs(
    policy: Policy,
    environment: ProofEnvironment,
    prompt: ProofPrompt,
    problems: Sequence[Problem],
    settings: SearchSettings,
    *,
    rollout_step: int = 0,
    keep_tried: bool = False,
) -> list[SearchResult]:
    """Search proofs of theorems.

    What is tried for a theorem depends on the policy, the theorem and the settings; it depends neither on the other
    theorems nor on who answers first, unless seconds are limited.

    Args:
        policy: proposes.
        environment: runs the tactics and checks the proofs.
        prompt: what the policy reads of a state.
        problems: with theorems.
        settings: of the search.
        rollout_step: key of the random numbers, beside the seed.
        keep_tried: return every tactic that was run, too.

    Returns:
        One result a problem, in order.

    Raises:
        ValueError: a problem has no theorem.
    """
    missing = [problem.id for problem in problems if problem.theorem is None]
    if missing:
        raise ValueError(f"problem {missing[0]!r} has no theorem: proofs are searched for theorems only")
    waiting = deque(enumerate(problems))
    active: dict[int, _Run] = {}
    results: dict[int, SearchResult] = {}
    while waiting or active:
        while waiting and len(active) < settings.concurrent:
            index, problem = waiting.popleft()
            active[index] = _Run(problem, environment, settings, keep_tried)
        for index, run in list(active.items()):
            run.take_answers()
            if run.status is not None:
                results[index] = run.result()
                del active[index]
        ready = [run for run in active.values() if run.is_ready]
        enough = (len(active) + 1) // 2 if settings.overlap else len(active)
        if ready and len(ready) >= enough:
            _expand(policy, prompt, ready, settings, rollout_step)
        else:
            wait([future for run in active.values() if (future := run.awaited()) is not None], None, FIRST_COMPLETED)
    return [results[index] for index in range(len(problems))]


def _expand(
    policy: Policy, prompt: ProofPrompt, runs: Sequence[_Run], settings: SearchSettings, rollout_step: int
) -> None:
    """One call to the policy for all states that these theorems want to expand."""
    chosen = [(run, leaf) for run in runs for leaf in run.select()]
    if not chosen:
        return
    start = time.monotonic()
    requests = [
        ProposalRequest(prompt(leaf.state.text, leaf.script), "\n".join((run.problem.id, *leaf.script)))
        for run, leaf in chosen
    ]
    proposals = settings.proposals.propose(
        policy, requests, settings.branching, seed=settings.seed, rollout_step=rollout_step
    )
    values = [0.0] * len(chosen)
    if settings.algorithm.value is not None:
        values = settings.algorithm.value(policy, [run.problem for run, _ in chosen], [leaf for _, leaf in chosen])
    seconds = (time.monotonic() - start) / len(chosen)
    for (run, leaf), proposed, value in zip(chosen, proposals, values, strict=True):
        run.policy_seconds += seconds
        run.generated_tokens += proposed.generated_tokens
        run.too_long += proposed.too_long
        run.try_tactics(leaf, proposed.tactics, value)


@dataclass(eq=False)
class _Expansion:
    """A state under expansion: its tactics, and Lean's answers to come."""

    leaf: Leaf
    value: float
    proposals: list[Proposal]
    answers: list[Future[StepResult]]
    checks: dict[int, Future[CheckResult]] = field(default_factory=dict)

    def tried(self) -> list[TacticResult]:
        """The tactics with Lean's answers."""
        return [
            TacticResult(self.leaf, proposal, answer.result(), self.checks[n].result() if n in self.checks else None)
            for n, (proposal, answer) in enumerate(zip(self.proposals, self.answers, strict=True))
        ]


class _Run:
    """The search for one theorem; it waits for Lean, or is ready for the policy, or has a status and is over."""

    def __init__(
        self, problem: Problem, environment: ProofEnvironment, settings: SearchSettings, keep_tried: bool
    ) -> None:
        assert problem.theorem is not None
        self.problem, self.theorem = problem, problem.theorem
        self.environment, self.settings = environment, settings
        self.status: Status | None = None
        self.message = ""
        self.tree: SearchTree | None = None
        self.proofs: list[FoundProof] = []
        self.nodes = self.environment_steps = self.errors = self.unsound = self.generated_tokens = self.too_long = 0
        self.policy_seconds = self.environment_seconds = 0.0
        self._kept: list[TacticResult] | None = [] if keep_tried else None
        self._expansions: list[_Expansion] = []
        self._begun = self._asked = self._answered = time.monotonic()
        self._first: Future[TacticState | LeanError] = self._ask(environment.start(self.theorem))

    @property
    def is_ready(self) -> bool:
        """The policy may propose."""
        return self.status is None and self.tree is not None and not self._expansions

    def awaited(self) -> Future[Any] | None:
        """One answer that is still to come."""
        if self.tree is None:
            return self._first
        for expansion in reversed(self._expansions):
            futures: list[Future[Any]] = [*expansion.checks.values(), *reversed(expansion.answers)]
            for future in futures:
                if not future.done():
                    return future
        return None

    def select(self) -> list[Leaf]:
        """States to expand; none ends the search."""
        assert self.tree is not None
        budget = self.settings.budget
        over_time = budget.seconds is not None and time.monotonic() - self._begun >= budget.seconds
        over_steps = budget.environment_steps is not None and self.environment_steps >= budget.environment_steps
        is_over = self.nodes >= budget.nodes or over_time or over_steps
        leaves = self.tree.select(1 if is_over else budget.nodes - self.nodes)
        if leaves and not is_over:
            return leaves
        self._end("budget" if leaves else "exhausted")
        return []

    def try_tactics(self, leaf: Leaf, proposals: Sequence[Proposal], value: float) -> None:
        """Ask Lean about the tactics of a state, most probable first, as far as the budget goes."""
        limit = self.settings.budget.environment_steps
        under_way = sum(len(expansion.answers) for expansion in self._expansions)
        tried = list(proposals if limit is None else proposals[: max(0, limit - self.environment_steps - under_way)])
        if not self._expansions:
            self._asked = self._answered = time.monotonic()
        answers = [
            self._ask(self.environment.run_tac(self.theorem, leaf.script, proposal.tactic)) for proposal in tried
        ]
        self._expansions.append(_Expansion(leaf, value, tried, answers))

    def take_answers(self) -> None:
        """Go on as far as Lean's answers allow."""
        if self.status is not None:
            return
        if self.tree is None:
            if self._first.done():
                self._start(self._first.result())
        elif self._expansions and self._all_answered() and not self._ask_for_checks():
            self.environment_seconds += self._answered - self._asked
            expansions, self._expansions = self._expansions, []
            for expansion in expansions:
                self._absorb(expansion)
            if len(self.proofs) >= self.settings.budget.proofs:
                self._end("proved")

    def result(self) -> SearchResult:
        """What was found."""
        assert self.status is not None
        return SearchResult(
            problem=self.problem,
            status=self.status,
            proofs=tuple(self.proofs),
            nodes=self.nodes,
            environment_steps=self.environment_steps,
            errors=self.errors,
            unsound=self.unsound,
            generated_tokens=self.generated_tokens,
            too_long=self.too_long,
            states=len(self.tree.seen) if self.tree is not None else 0,
            policy_seconds=self.policy_seconds,
            environment_seconds=self.environment_seconds,
            seconds=time.monotonic() - self._begun,
            message=self.message,
            tried=tuple(self._kept or ()),
        )

    def _start(self, state: TacticState | LeanError) -> None:
        self.environment_seconds += self._answered - self._asked
        if isinstance(state, LeanError):
            self.status, self.message = "statement", state.message
        else:
            self.tree = self.settings.algorithm.tree(Leaf(state), self.settings.max_depth)

    def _all_answered(self) -> bool:
        return self.awaited() is None

    def _ask_for_checks(self) -> bool:
        """Have finished proofs checked from their statement; False if there is nothing (more) to check."""
        asked = False
        for expansion in self._expansions:
            for n, answer in enumerate(expansion.answers):
                if n not in expansion.checks and isinstance(answer.result(), ProofFinished):
                    script = (*expansion.leaf.script, expansion.proposals[n].tactic)
                    expansion.checks[n] = self._ask(self.environment.check(self.theorem, script))
                    asked = True
        return asked

    def _absorb(self, expansion: _Expansion) -> None:
        assert self.tree is not None
        tried = expansion.tried()
        self.nodes += 1
        self.environment_steps += len(tried)
        for found in tried:
            finished = isinstance(found.result, ProofFinished)
            self.errors += isinstance(found.result, LeanError) or (finished and not found.is_proof)
            self.unsound += finished and not found.is_proof
            if found.is_proof:
                assert found.check is not None
                seconds = time.monotonic() - self._begun
                spent = (self.nodes, self.environment_steps, seconds)
                self.proofs.append(FoundProof(found.script, found.log_prob, *spent, found.check.axioms))
        if self._kept is not None:
            self._kept += tried
        self.tree.absorb(expansion.leaf, tried, expansion.value)

    def _end(self, status: Status) -> None:
        self.status = "proved" if self.proofs else status

    def _ask(self, future: Future[_Answer]) -> Future[_Answer]:
        future.add_done_callback(lambda _: self._stamp())
        return future

    def _stamp(self) -> None:
        self._answered = time.monotonic()
