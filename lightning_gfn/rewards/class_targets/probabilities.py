"""How probable each class of solutions is under the reference: known exactly, or estimated while training runs."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from lightning_gfn.interfaces import Policy
from lightning_gfn.padding import pad_steps
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

NO_CLASS = 0
"""Key of completions that are wrong, or belong to no class."""
NUM_KEYS = 2**24
"""Keys are whole numbers that float32 holds exactly, since buffers keep them as reward terms."""


def class_key(label: str | None) -> int:
    """A number that stands for the label of a class in reward terms; ``NO_CLASS`` for None."""
    if label is None:
        return NO_CLASS
    digest = hashlib.blake2b(label.encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % (NUM_KEYS - 1)


class Observation(NamedTuple):
    """A trajectory of the trained policy, as an estimate of the reference sees it.

    Args:
        problem_id: its problem.
        key: its class.
        log_weight: log p_ref(z) - log q(z), q being the policy that sampled it, nats.
    """

    problem_id: str
    key: int
    log_weight: float


class ClassProbabilities(ABC):
    """P̂_ref(κ | x): the probability that the reference solves a problem by a class of solutions.

    One term of a trajectory is kept in replay: what ``values`` gives for each right completion or prefix. ``log_probs``
    turns it into nats whenever a log reward is asked for, so that an estimate that improves is used at once.
    """

    term: str
    """Name of the term."""
    learns: bool = False
    """True if it estimates from the trajectories of the run."""

    def prepare(self, problems: Iterable[Problem], policy: Policy, classes: SolutionClasses, device: Any) -> None:
        """Work out what is needed of these problems; nothing by default.

        Args:
            problems: those whose completions are judged next.
            policy: holds the frozen reference.
            classes: tells the classes of texts.
            device: of the policy.
        """
        return

    def try_on(self, problem: Problem) -> None:
        """Refuse data that do not fit before a model is loaded; nothing by default."""
        return

    @abstractmethod
    def values(self, problem: Problem, labels: Sequence[str | None]) -> list[float]:
        """The term of completions of a problem that are right, by their classes; 0 for those of none."""

    @abstractmethod
    def log_probs(self, values: Tensor, rollouts: Rollouts) -> Tensor:
        """log P̂_ref (nats) of terms, in their shape, (B,) or (B, T + 1); -inf where the reference never comes, 0 where
        nothing is known or there is no class."""

    def learn(self, observations: Iterable[Observation]) -> None:
        """Take in new trajectories; nothing by default."""
        return

    def version(self) -> float:
        """A number that changes when ``log_probs`` of old terms do."""
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; nothing by default."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        return


class KnownProbabilities(ClassProbabilities):
    """Exact: the reference scores every known solution of a problem once.

        P_ref(κ | x) = Σ_{z known, κ(z) = κ} p_ref(z, stop | x)

    For data whose problems know all of their solutions. Known solutions that the policy cannot produce count as
    impossible.

    Args:
        max_rows: solutions that are scored at once.
    """

    term = "log_p_class"

    def __init__(self, max_rows: int = 64) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows is {max_rows}, expected at least 1")
        self.max_rows = max_rows
        self.table: dict[str, dict[str, float]] = {}

    @torch.no_grad()
    def prepare(self, problems: Iterable[Problem], policy: Policy, classes: SolutionClasses, device: Any) -> None:
        """Score the known solutions of problems that were not scored yet.

        Raises:
            ValueError: a problem does not know its solutions.
        """
        for problem in problems:
            if problem.id in self.table:
                continue
            self.try_on(problem)
            texts = list(problem.solution_set or ())
            found: dict[str, list[float]] = {}
            labels = classes.labels(problem, texts)
            for label, log_p in zip(labels, self.scores(problem, texts, policy, device), strict=True):
                if label is not None:
                    found.setdefault(label, []).append(log_p)
            self.table[problem.id] = {label: float(np.logaddexp.reduce(values)) for label, values in found.items()}

    def try_on(self, problem: Problem) -> None:
        """Refuse a problem that does not know its solutions."""
        if problem.solution_set is None:
            raise ValueError(
                f"problem {problem.id!r} does not know its solutions, which KnownProbabilities scores: set "
                "reward.probabilities to CountedProbabilities or RunningProbabilities"
            )

    def scores(self, problem: Problem, texts: Sequence[str], policy: Policy, device: Any) -> list[float]:
        """log p_ref(z, stop | x) of each text; -inf where the policy cannot produce it."""
        context, actions = policy.encode_prompt(problem.prompt), [policy.encode_action(text)[0] for text in texts]
        possible = [n for n, action in enumerate(actions) if policy.can_produce(action)]
        values = [-math.inf] * len(texts)
        for start in range(0, len(possible), self.max_rows):
            rows = possible[start : start + self.max_rows]
            steps = pad_steps([context] * len(rows), [actions[n] for n in rows], device)
            log_p_N = policy.score(steps, reference=True).log_prob_N(steps.action_mask_NT, dtype=torch.float64)
            for n, log_p in zip(rows, log_p_N.tolist(), strict=True):
                values[n] = log_p
        return values

    def values(self, problem: Problem, labels: Sequence[str | None]) -> list[float]:
        """log P_ref of each class; a class without a known solution holds the least of all numbers."""
        table = self.table[problem.id]
        return [finite(table.get(label, -math.inf)) if label is not None else 0.0 for label in labels]

    def log_probs(self, values: Tensor, rollouts: Rollouts) -> Tensor:
        """The term itself."""
        return values


ALL = ""
"""Stands for all problems together where a problem id is asked for."""


class RunningProbabilities(ClassProbabilities):
    """Estimated from all trajectories that the policy has sampled so far, weighted as if the reference had.

        P̂_ref(κ | x) = (Σ_{i of x: κ(z_i) = κ} w_i + m P̂_all(κ)) / (Σ_{i of x} w_i + m)
        P̂_all(κ)     = Σ_{i: κ(z_i) = κ} w_i / Σ_i w_i             (i of all problems)
        w_i          = p_ref(z_i) / q_i(z_i)

    q_i is the policy that sampled z_i, its temperature included; wrong trajectories count below the line. It needs no
    other run, improves with training, and is kept in the checkpoint. m trajectories of all problems stand beside those
    of the problem itself, which training often meets once or twice: that helps where labels mean the same in every
    problem (``KnownPaths``, ``SkeletonClasses``). Set m to 0 where each problem has labels of its own
    (``EquationClasses``); a problem without a trajectory then has no estimate, and its class term is 0, so that it
    takes several passes over the data.

    Args:
        pooling: m, at least 0.

    Raises:
        ValueError: ``pooling`` is negative or not finite.

    Source: self-normalised importance sampling, Owen 2013, Monte Carlo theory, methods and examples, chapter 9.2;
    m as in a Dirichlet prior.
    """

    term = "class_key"
    learns = True

    def __init__(self, pooling: float = 8.0) -> None:
        if not (math.isfinite(pooling) and pooling >= 0.0):
            raise ValueError(f"reward.probabilities.pooling is {pooling}, expected a number of at least 0")
        self.pooling = pooling
        self.totals: dict[str, float] = {}
        self.sums: dict[str, dict[int, float]] = {}
        self.count = 0

    def values(self, problem: Problem, labels: Sequence[str | None]) -> list[float]:
        """The keys of the classes."""
        return [float(class_key(label)) for label in labels]

    def log_probs(self, values: Tensor, rollouts: Rollouts) -> Tensor:
        """The present estimate of each class."""
        ids = [rollouts.problems[p].id for p in rollouts.problem_index_B.tolist()]
        rows: list[Any] = values.long().tolist()
        if values.dim() == 1:
            found: Any = [self.log_prob(id, key) for id, key in zip(ids, rows, strict=True)]
        else:
            found = [[self.log_prob(id, key) for key in row] for id, row in zip(ids, rows, strict=True)]
        return torch.tensor(found, dtype=torch.float32, device=values.device).reshape(values.shape)

    def log_prob(self, problem_id: str, key: int) -> float:
        """log P̂_ref of one class."""
        whole, own = self.totals.get(problem_id, -math.inf), self.log_sum_of(problem_id, key)
        if self.pooling and self.count:
            m = math.log(self.pooling)
            whole, own = log_add(whole, m), log_add(own, m + self.log_sum_of(ALL, key) - self.totals[ALL])
        return 0.0 if key == NO_CLASS or whole == -math.inf else own - whole

    def log_sum_of(self, problem_id: str, key: int) -> float:
        """log of the weights of a class; -inf if it was never seen."""
        return self.sums.get(problem_id, {}).get(key, -math.inf)

    def learn(self, observations: Iterable[Observation]) -> None:
        """Add trajectories to the sums."""
        for problem_id, key, log_weight in observations:
            for name in (problem_id, ALL):
                self.totals[name] = log_add(self.totals.get(name, -math.inf), log_weight)
                if key != NO_CLASS:
                    own = self.sums.setdefault(name, {})
                    own[key] = log_add(own.get(key, -math.inf), log_weight)
            self.count += 1

    def version(self) -> float:
        """Trajectories seen."""
        return float(self.count)

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {"totals": self.totals, "sums": self.sums, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        self.totals = dict(state["totals"])
        self.sums = {problem_id: dict(own) for problem_id, own in state["sums"].items()}
        self.count = int(state["count"])


def log_add(first: float, second: float) -> float:
    """log(exp a + exp b)."""
    return float(np.logaddexp(first, second))


def finite(log_p: float) -> float:
    """The value, or for -inf a number that is below every floor and that buffers keep."""
    return max(log_p, -1e30)
