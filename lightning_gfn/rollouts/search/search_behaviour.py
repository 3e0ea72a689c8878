"""A search as a behaviour policy in training: whole trajectories that it walked, proofs first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from lightning_gfn.interfaces import Policy
from lightning_gfn.lean_types import Episode, LeanError, ProofFinished
from lightning_gfn.rollouts.proofs.proving import Found, FoundEpisode, ProofBehaviour, Proving
from lightning_gfn.rollouts.search.mcts import MCTS
from lightning_gfn.rollouts.search.proof_search import SearchSettings, search_proofs
from lightning_gfn.rollouts.search.search_result import SearchBudget, SearchResult
from lightning_gfn.rollouts.search.search_tree import TacticResult, TreeSearch
from lightning_gfn.rollouts.search.tactic_generator import SampledTactics, TacticProposals
from lightning_gfn.types import Problem


@dataclass(frozen=True)
class SearchBehaviour(ProofBehaviour):
    """Searches a problem's theorem and gives the trajectories that the search went through.

    Of each problem come first its proofs, in the order in which they were found, then failures: whole ways from the
    first state to a tactic that failed, or to the last tactic that an attempt may have. The most probable failures are
    taken, so that they are those that the policy itself is likely to make. The search draws random numbers of its own,
    keyed by (seed, rollout step, problem, tactics so far).

    Args:
        algorithm: of the search.
        proposals: how tactics are proposed.
        branching: most tactics tried in a state.
        budget: of each theorem; ``proofs`` above 1 looks for further proofs.
        failures: also give failures, if there are fewer proofs than trajectories wanted.
        overlap: see ``SearchSettings``.

    Source: Proof Flow, arXiv:2410.13224 (off-policy trajectories); Silver et al. 2017 (search as teacher).
    """

    algorithm: TreeSearch = field(default_factory=MCTS)
    proposals: TacticProposals = field(default_factory=SampledTactics)
    branching: int = 8
    budget: SearchBudget = field(default_factory=lambda: SearchBudget(nodes=16, proofs=4))
    failures: bool = True
    overlap: bool = True

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
        """Search the theorems; proofs and failures are at most ``proving.max_steps`` tactics long.

        Args:
            policy: proposes.
            problems: with theorems.
            num_samples: trajectories wanted of each.
            proving: environment and prompt.
            seed: of the run.
            rollout_step: rollout batch counter.
        """
        settings = SearchSettings(
            algorithm=self.algorithm,
            proposals=self.proposals,
            branching=self.branching,
            max_depth=proving.max_steps,
            budget=replace(self.budget, proofs=max(1, min(num_samples, self.budget.proofs))),
            seed=seed,
            concurrent=max(1, len(problems)),
            overlap=self.overlap,
        )
        results = search_proofs(
            policy,
            proving.environment,
            proving.proof_prompt,
            problems,
            settings,
            rollout_step=rollout_step,
            keep_tried=True,
        )
        costs = {
            "generated_tokens": sum(result.generated_tokens for result in results),
            "environment_steps": sum(result.environment_steps for result in results),
        }
        chosen = [self._episodes(result, num_samples, proving.max_steps) for result in results]
        return Found(tuple(tuple(map(FoundEpisode, episodes)) for episodes in chosen), costs)

    def _episodes(self, result: SearchResult, num: int, max_steps: int) -> list[Episode]:
        proofs = [found for found in result.tried if found.is_proof]
        chosen = proofs[:num]
        if self.failures:
            chosen += sorted(dead_ends(result.tried, max_steps), key=lambda found: -found.log_prob)[: num - len(chosen)]
        seconds = result.environment_seconds / max(1, len(chosen))
        return [replace(episode_of(found), seconds=seconds) for found in chosen]


def dead_ends(tried: Iterable[TacticResult], max_steps: int) -> list[TacticResult]:
    """Tactics that failed, and the last tactics of attempts of full length, in the order in which they were tried."""
    return [one for one in tried if not one.is_proof and (one.state is None or len(one.script) >= max_steps)]


def episode_of(tried: TacticResult) -> Episode:
    """The way from the theorem's first state to the end of a tactic, as an episode; its seconds are not known."""
    states, tactics = (*tried.leaf.states, tried.leaf.state.text), tried.script
    if tried.is_proof:
        assert tried.check is not None
        return Episode(states, tactics, "proved", axioms=tried.check.axioms)
    if isinstance(tried.result, LeanError):
        return Episode(states, tactics, "error", message=tried.result.message, error_kind=tried.result.kind)
    if isinstance(tried.result, ProofFinished):
        message = tried.check.message if tried.check is not None else ""
        return Episode(states, tactics, "error", message=message, error_kind="unsound")
    return Episode(states, tactics, "unfinished", final_state=tried.result.text)
