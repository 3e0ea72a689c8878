"""Worlds of proofs small enough to search by hand: states with names, tactics of one letter, a policy over letters."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.interfaces import Policy
from lightning_gfn.lean_interfaces import ProofEnvironment
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, StepResult, TacticState, Theorem
from lightning_gfn.types import CandidateScores, Problem, SampledActions, Scores, StepBatch

LETTERS = "abcdefgh"
STOP = len(LETTERS)


def uniform(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def random_world(seed: int, *, states: int = 40, errors: float = 0.35, proofs: float = 0.02) -> World:
    """States s0, s1, … in which every letter fails, proves or leads to another state, as the seed says."""

    def rule(theorem: str, state: str, tactic: str) -> str | None:
        chance = uniform(seed, theorem, state, tactic)
        if chance < errors:
            return None
        if chance < errors + proofs:
            return "proved"
        return f"s{int(uniform(seed, 'to', theorem, state, tactic) * states)}"

    return World(rule)


class World(ProofEnvironment):
    """An environment whose answers a rule gives: a state's name, ``proved`` or None for an error.

    Args:
        rule: of theorem, state and tactic.
        delay: longest time that an answer takes, seconds; answers then come from threads and in any order.
        unsound: last tactics that close the goals without a proof.
    """

    def __init__(
        self, rule: Callable[[str, str, str], str | None], *, delay: float = 0.0, unsound: Sequence[str] = ()
    ) -> None:
        self.rule, self.delay, self.unsound = rule, delay, tuple(unsound)
        self.threads = ThreadPoolExecutor(4) if delay else None
        self.asked: list[tuple[str, tuple[str, ...], str]] = []
        self.checked: list[tuple[str, tuple[str, ...]]] = []

    @classmethod
    def of(cls, table: Mapping[str, Mapping[str, str]], **options: Any) -> World:
        """A world of one table for every theorem: state → tactic → state; what is missing is an error."""
        return cls(lambda theorem, state, tactic: table.get(state, {}).get(tactic), **options)

    def setup(self) -> None:
        pass

    def walk(self, theorem: Theorem, script: Sequence[str]) -> str | None:
        """The state after a script."""
        state: str | None = "s0"
        for tactic in script:
            state = self.rule(theorem.name, state, tactic) if state not in (None, "proved") else None
        return state

    def answer(self, work: Callable[[], Any]) -> Future[Any]:
        if self.threads is not None:
            pause = random.random() * self.delay
            return self.threads.submit(lambda: (time.sleep(pause), work())[1])
        future: Future[Any] = Future()
        future.set_result(work())
        return future

    def start(self, theorem: Theorem) -> Future[TacticState | LeanError]:
        if theorem.statement == "bad":
            return self.answer(lambda: LeanError("unknown identifier", "statement"))
        return self.answer(lambda: TacticState(("s0",)))

    def run_tac(self, theorem: Theorem, script: Sequence[str], tactic: str) -> Future[StepResult]:
        before = self.walk(theorem, script)
        assert before not in (None, "proved"), f"the script {script} leads nowhere"
        self.asked.append((theorem.name, tuple(script), tactic))
        after = self.rule(theorem.name, before, tactic)
        if after is None:
            return self.answer(lambda: LeanError(f"{tactic} failed", "tactic"))
        if after == "proved":
            return self.answer(lambda: ProofFinished(("propext",)))
        return self.answer(lambda: TacticState((after,)))

    def check(self, theorem: Theorem, script: Sequence[str]) -> Future[CheckResult]:
        self.checked.append((theorem.name, tuple(script)))
        if script[-1] in self.unsound:
            return self.answer(lambda: CheckResult(False, "kernel says no"))
        good = self.walk(theorem, script) == "proved"
        return self.answer(lambda: CheckResult(good, "" if good else "no proof", ("propext",) if good else ()))

    def counters(self) -> Mapping[str, float]:
        return {"steps": float(len(self.asked))}

    def describe(self) -> Mapping[str, str]:
        return {"backend": "world", "version": "1"}

    def close(self) -> None:
        pass


class LetterPolicy(Policy):
    """Writes one letter; its probabilities depend on the prompt.

    Args:
        weights: of the letters after a prompt.
    """

    max_new_tokens = 1
    min_new_tokens = 1
    hidden_size = 1
    base_is_reloadable = False
    vocab_size = len(LETTERS) + 1
    stop_id = len(LETTERS)
    num_positions = None

    def __init__(self, weights: Callable[[str], Sequence[float]] | None = None) -> None:
        self.weights = weights if weights is not None else lambda text: [uniform(text, x) ** 2 for x in LETTERS]
        self.calls: list[int] = []

    def tokenizer_state(self) -> str:
        return ""

    def load_tokenizer_state(self, state: str) -> None:
        pass

    def build(self, texts: Iterable[str]) -> None:
        pass

    def freeze_reference(self) -> None:
        pass

    def encode_prompt(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def encode_context(self, text: str) -> list[int]:
        return self.encode_prompt(text)

    def encode_completion(self, text: str) -> list[int]:
        return [LETTERS.index(character) for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(LETTERS[token] for token in ids)

    def log_q(self, context: Sequence[int]) -> Tensor:
        weights = torch.tensor(list(self.weights("".join(map(chr, context)))), dtype=torch.float64)
        return (weights / weights.sum()).log()

    def sample(
        self,
        contexts: Sequence[Sequence[int]],
        uniforms_NT1: Tensor,
        *,
        temperature_N: Tensor | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        entropy: bool = False,
    ) -> SampledActions:
        self.calls.append(len(contexts))
        picks, log_pf = [], []
        for n, context in enumerate(contexts):
            log_q = self.log_q(context)
            behaviour = log_q if temperature_N is None else (log_q / temperature_N[n].double()).log_softmax(0)
            pick = int(torch.searchsorted(behaviour.exp().cumsum(0), uniforms_NT1[n, 0].double(), right=True))
            picks.append([min(pick, STOP - 1)])
            log_pf.append([float(log_q[picks[-1][0]])])
        ids = torch.tensor(picks).reshape(len(contexts), 1)
        log_pf_NT = torch.tensor(log_pf, dtype=torch.float64).reshape(len(contexts), 1)
        stops = torch.zeros(len(contexts), 2)
        scores = Scores(log_pf_NT, stops, torch.tensor([[False, True]]).expand(len(contexts), 2))
        return SampledActions(ids, torch.ones_like(ids).bool(), scores, log_pf_NT, stops[:, 1])

    def score(self, *args: Any, **options: Any) -> Scores:
        raise AssertionError("not part of these tests")

    def candidate_scores(self, steps: StepBatch, candidates_NT1K: Tensor) -> CandidateScores:
        raise AssertionError("not part of these tests")

    def save_pretrained(self, folder: Path) -> None:
        raise AssertionError("not part of these tests")


def make_problem(name: str, statement: str = ": True") -> Problem:
    """A problem with a theorem."""
    return Problem(name, f"prove {name}", theorem=Theorem(name, statement))
