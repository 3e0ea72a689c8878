"""Tactic steps per second of Lean: two workers against one, the pool against the backend, the cache, single calls.

Seconds are those on the wall: the work is done in other processes. Start-up is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.frame.row import Contest, Options, Row, Target, Way
from benchmarks.subjects.proof_attempts import attempts_of, by_loop, by_pool, run
from lightning_gfn.environments.embedded import EmbeddedLean
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import TRIAL, LeanPool
from lightning_gfn.lean_interfaces import LeanBackend
from lightning_gfn.lean_types import TacticState, Theorem

CACHE, FAKE_LATENCY = 50_000, 0.001
LOGIC = Theorem("logic", "(p q r : Prop) (hp : p) (hq : q) : (p ∧ q) ∨ r")
NATURAL = Theorem("nat", "(a b c : Nat) : a + b + c = c + b + a")
LISTS = Theorem("lists", "(xs ys : List Nat) : (xs ++ ys).length = ys.length + xs.length")
PROOF = ["left", "constructor", "exact hp", "exact hq"]
STEPS: tuple[tuple[str, str, Theorem, str], ...] = (
    ("left", "a step like intro (left)", LOGIC, "left"),
    ("term", "a proof by a term, checked", LOGIC, "exact Or.inl ⟨hp, hq⟩"),
    ("type_error", "a type error", LOGIC, "exact hp"),
    ("parse_error", "a parse error", LOGIC, "exact ⟨hp,"),
    ("rw", "rw", NATURAL, "rw [Nat.add_comm a b]"),
    ("induction", "induction", NATURAL, "induction a"),
    ("simp", "simp on lists", LISTS, "simp only [List.length_append]"),
    ("omega", "omega, checked", NATURAL, "omega"),
)
CALLS = 40


def no_lean() -> str | None:
    """A need of a row: the embedded Lean."""
    return EmbeddedLean.unavailable()


@dataclass
class Attempts:
    """A turn of random attempts with new workers.

    Args:
        embedded: the real Lean, else one that waits a millisecond for each step.
        workers: of the pool; 0 asks the backend in a loop.
        cache: keep answers.
        per_theorem: attempts at each theorem.
    """

    embedded: bool
    workers: int
    cache: bool
    per_theorem: int
    backend: LeanBackend | None = None
    pool: LeanPool | None = None

    def start(self) -> None:
        """New workers, each busy with a first request before the clock starts."""
        self.close()
        self.backend = EmbeddedLean() if self.embedded else FakeLean(latency=FAKE_LATENCY)
        if self.workers == 0:
            self.backend.start(TRIAL)
            return
        self.pool = LeanPool(self.backend, num_workers=self.workers, cache_size=CACHE * self.cache)
        for future in [self.pool.check(TRIAL, ["exact hp"] + ["skip"] * n) for n in range(4 * self.workers)]:
            future.result()

    def run(self) -> None:
        """All attempts."""
        assert self.backend is not None
        ask = by_pool(self.pool) if self.pool is not None else by_loop(self.backend)
        run(ask, attempts_of(self.embedded, self.per_theorem))

    def close(self) -> None:
        """End the workers."""
        for part in (self.pool, self.backend):
            if part is not None:
                part.close()
        self.pool = self.backend = None


def way(embedded: bool, workers: int, cache: bool, per_theorem: int) -> Way:
    """As ``Attempts``."""
    attempts = Attempts(embedded, workers, cache, per_theorem)
    return Way(attempts.run, attempts.close, attempts.start)


def pools(embedded: bool, ours: tuple[int, bool], peer: tuple[int, bool], peer_name: str, options: Options) -> Contest:
    """Two pools, each given as workers and cache; the steps are those of a loop over the false Lean or the real one."""
    per_theorem = 16 if options.full else 4
    steps = run(by_loop(backend := EmbeddedLean() if embedded else FakeLean()), attempts_of(embedded, per_theorem))
    backend.close()
    return Contest(
        ours=lambda: way(embedded, *ours, per_theorem),
        peers={peer_name: lambda: way(embedded, *peer, per_theorem)},
        amount=steps,
        unit="steps",
    )


def stepping(lean: EmbeddedLean, theorem: Theorem, tactic: str) -> Callable[[], None]:
    """Run the tactic on the theorem's first state; what it leads to is released."""
    first = lean.start(theorem)
    assert isinstance(first, TacticState), first

    def work() -> None:
        result = lean.run_tac(first, tactic)
        if isinstance(result, TacticState):
            lean.release([result])

    return work


def single(make: Callable[[EmbeddedLean], Callable[[], object]], each: int, unit: str, options: Options) -> Contest:
    """Calls of one process, one after the other, each of so many units; a figure without a peer."""
    lean = EmbeddedLean(timeout=120)
    work = make(lean)

    def calls() -> None:
        for _ in range(CALLS):
            work()

    return Contest(ours=lambda: Way(calls, lean.close), amount=CALLS * each, unit=unit)


def proof_check(lean: EmbeddedLean) -> Callable[[], object]:
    """Check a whole proof of four tactics."""
    return lambda: lean.check(LOGIC, PROOF)


def mixed(lean: EmbeddedLean) -> Callable[[], object]:
    """All of ``STEPS`` in turn."""
    works = [stepping(lean, theorem, tactic) for _, _, theorem, tactic in STEPS]
    return lambda: [work() for work in works]


REAL, FALSE = (True, [no_lean]), (False, [])
POOLS: tuple[tuple[str, str, tuple[bool, list[Callable[[], str | None]]], tuple[int, bool], tuple[int, bool], str], ...]
POOLS = (
    ("lean_workers_2", "two workers, no cache", REAL, (2, False), (1, False), "one worker"),
    ("lean_workers_2_waiting", "that only waits 1 ms, two workers, no cache", FALSE, (2, False), (1, False), "one"),
    ("lean_pool", "one worker, no cache", REAL, (1, False), (0, False), "the backend in a loop"),
    ("lean_cache", "one worker, with the cache", REAL, (1, True), (1, False), "no cache"),
)
POOL_ROWS = [
    Row(
        name=name,
        what=f"tactic steps of a Lean {what}" if kind is FALSE else f"tactic steps of Lean, {what}",
        build=partial(pools, kind[0], ours, peer, peer_name),
        target=Target(ratio=1.7) if ours[0] == 2 else Target(),
        meter="wall_seconds",
        rounds=2,
        needs=kind[1],
        by_name_only=ours[0] != 2,
    )
    for name, what, kind, ours, peer, peer_name in POOLS
]
ROWS = [
    *POOL_ROWS,
    Row(
        name="lean_proofs_checked",
        what="whole proofs of four tactics checked, one process",
        build=partial(single, proof_check, 1, "proofs"),
        meter="wall_seconds",
        needs=[no_lean],
    ),
    Row(
        name="lean_steps",
        what="tactic steps of eight kinds, one process",
        build=partial(single, mixed, len(STEPS), "steps"),
        meter="wall_seconds",
        needs=[no_lean],
    ),
    *(
        Row(
            name=f"lean_step_{name}",
            what=f"Lean, one process: {what}",
            build=partial(single, partial(stepping, theorem=theorem, tactic=tactic), 1, "steps"),
            meter="wall_seconds",
            needs=[no_lean],
            by_name_only=True,
        )
        for name, what, theorem, tactic in STEPS
    ),
]
