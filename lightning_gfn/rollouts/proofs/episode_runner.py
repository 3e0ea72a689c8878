"""Whole proofs, tactic by tactic: the policy samples for all attempts that are ready while the others wait for Lean."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

import torch

from lightning_gfn.interfaces import Policy
from lightning_gfn.lean_types import LeanError, ProofFinished, StepResult
from lightning_gfn.rollouts.evaluation import Completion, described
from lightning_gfn.rollouts.keyed_sampling import KeyedDraw
from lightning_gfn.rollouts.proofs.attempt import ProofAttempt, TacticStep
from lightning_gfn.rollouts.proofs.proving import Proving

Ready = tuple[ProofAttempt, tuple[int, ...]]


class EpisodeRunner:
    """Plays attempts to their ends.

    All attempts whose state is known are sampled together; their tactics go to the environment at once, equal ones of
    equal states as one; the next call to the policy takes whatever has come back by then. Random numbers are keyed by
    problem, sample and turn, so what is sampled does not depend on which answers came first.

    Args:
        policy: samples tactics.
        proving: environment, prompt, and when a call to the policy is worth it.
        draw: the keyed calls to the policy.
        device: where the random numbers shall lie.
        max_steps: the most tactics of an attempt.
        max_rows: attempts in one call to the policy; None for all.
        entropy: report the entropy of every tactic.
    """

    def __init__(
        self,
        policy: Policy,
        proving: Proving,
        draw: KeyedDraw,
        device: torch.device | str,
        *,
        max_steps: int,
        max_rows: int | None = None,
        entropy: bool = False,
    ) -> None:
        self.policy, self.proving, self.draw, self.device = policy, proving, draw, device
        self.max_steps, self.max_rows, self.entropy = max_steps, max_rows, entropy
        self.asked: dict[tuple[int, tuple[str, ...]], Future[StepResult]] = {}
        self.waiting: dict[Future[StepResult], list[ProofAttempt]] = {}
        self.seconds: dict[Future[StepResult], float] = {}
        self.ready: list[Ready] = []
        self.place: dict[int, int] = {}

    def run(self, attempts: Sequence[ProofAttempt]) -> None:
        """Play every attempt that has not ended; afterwards all have an episode.

        One whose theorem could not be stated, or whose first state is too long for the policy, ends without a tactic.
        """
        self.place = {id(attempt): place for place, attempt in enumerate(attempts)}
        for attempt in attempts:
            if not attempt.is_finished:
                self._ask(attempt) if attempt.refusal is None else self._proceed(attempt)
        while self.ready or self.waiting:
            self._gather()
            if self.ready:
                self._sample()

    # ---------------------------------------------------------------- the environment

    def _ask(self, attempt: ProofAttempt) -> None:
        """Ask for the state after the attempt's tactics; its first one if there are none."""
        script = tuple(attempt.tactics)
        if attempt.refusal is not None:
            self._continue(attempt, attempt.refusal)
            return
        future = self.asked.get((attempt.problem, script))
        if future is None:
            environment = self.proving.environment
            since = time.monotonic()
            if script:
                future = environment.run_tac(attempt.theorem, script[:-1], script[-1])
            else:
                future = environment.start(attempt.theorem)  # type: ignore[assignment]
            assert future is not None
            future.add_done_callback(lambda done: self.seconds.setdefault(done, time.monotonic() - since))
            self.asked[attempt.problem, script] = future
        self.waiting.setdefault(future, []).append(attempt)

    def _gather(self) -> None:
        """Take in what has come back, and wait a little for more if there is too little for a call to the policy."""
        started = time.monotonic()
        patience = self.proving.max_wait
        while self.waiting:
            enough = len(self.ready) >= self.proving.min_rows
            timeout = None
            if enough:
                timeout = 0.0
            elif self.ready and patience is not None:
                timeout = max(0.0, started + patience - time.monotonic())
            done, _ = wait(self.waiting, timeout, FIRST_COMPLETED)
            for future in done:
                for attempt in self.waiting.pop(future):
                    attempt.seconds += self.seconds.get(future, 0.0)
                    self._continue(attempt, future.result())
            if enough or not done:
                return

    def _continue(self, attempt: ProofAttempt, result: StepResult) -> None:
        """What follows from an answer of the environment."""
        if isinstance(result, ProofFinished):
            attempt.end("proved", axioms=result.axioms)
        elif isinstance(result, LeanError):
            if attempt.script is not None and attempt.tactics:
                self._restart(attempt)
            else:
                attempt.end("error", result.message, kind=result.kind)
        elif attempt.script is not None and len(attempt.tactics) >= len(attempt.script):
            self._restart(attempt)
        elif len(attempt.tactics) >= self.max_steps:
            attempt.end("unfinished", final_state=result.text)
        else:
            attempt.states.append(result.text)
            self._proceed(attempt)

    def _restart(self, attempt: ProofAttempt) -> None:
        attempt.restart_on_policy()
        self._proceed(attempt)

    # ---------------------------------------------------------------- the policy

    def _proceed(self, attempt: ProofAttempt) -> None:
        """Play the next given tactic, or make ready for sampling one."""
        text = self.proving.proof_prompt(attempt.states[-1], attempt.tactics)
        try:
            context = tuple(self.policy.encode_prompt(text))
        except ValueError as error:  # longer than the policy takes, although ProofPrompt cut it
            attempt.end("error", f"the state is too long for the policy: {error}", kind="forbidden")
            return
        if attempt.script is None:
            self.ready.append((attempt, context))
            return
        tactic = attempt.script[len(attempt.tactics)]
        attempt.moves.append(TacticStep(context, tuple(self.policy.encode_completion(tactic))))
        attempt.tactics.append(tactic)
        self._ask(attempt)

    def _sample(self) -> None:
        """One call to the policy for attempts that are ready, in their order."""
        self.ready.sort(key=lambda item: self.place[id(item[0])])
        rows, self.ready = self.ready[: self.max_rows], self.ready[len(self.ready[: self.max_rows]) :]
        calls = [attempt.call(context) for attempt, context in rows]
        for chosen, sampled in self.draw(self.policy, calls, self.device):
            contexts = [rows[n][1] for n in chosen]
            found = described(self.policy, contexts, sampled, entropy=self.entropy)
            log_pf, log_pstop = sampled.behaviour_log_pf_NT.tolist(), sampled.behaviour_log_pstop_N.tolist()
            for n, completion, tokens, stop in zip(chosen, found, log_pf, log_pstop, strict=True):
                self._play(*rows[n], completion, (*tokens[: len(completion.action)], stop))

    def _play(
        self, attempt: ProofAttempt, context: tuple[int, ...], found: Completion, behaviour: tuple[float, ...]
    ) -> None:
        attempt.moves.append(
            TacticStep(
                context,
                found.action,
                behaviour[:-1],
                behaviour[-1],
                found.log_prob,
                found.entropy,
                found.forced,
            )
        )
        attempt.tactics.append(found.text)
        self._ask(attempt)
