"""Carry out the stages of a study: side by side, each after those that it needs, none twice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from lightning_gfn.stop_requests import is_interruption
from lightning_gfn.studies.stages import Choice, Stage, Study, StudyError
from lightning_gfn.studies.worker import Worker, say
from lightning_gfn.tracking.archive import MARK


def mark_of(stage: Stage) -> Path:
    """The file that says with which fingerprint a stage has ended."""
    return stage.run_dir.with_name(f"{stage.run_dir.name}{MARK}")


def chosen_arguments(choice: Choice, stages: Mapping[str, Stage]) -> tuple[str, ...]:
    """The arguments of the candidate with the best validation metric; the first of equal ones.

    Raises:
        StudyError: a candidate has no such metric.
    """
    scores: list[float] = []
    for key, _ in choice.candidates:
        path = stages[key].run_dir / "results" / "val_metrics.json"
        try:
            scores.append(float(json.loads(path.read_text(encoding="utf-8"))["metrics"][choice.metric]["value"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(
                f"the search needs {choice.metric!r} in {path} ({error!r}): "
                "set search.set so that candidates are validated at their last step"
            ) from error
    best = max(scores) if choice.largest else min(scores)
    return choice.candidates[scores.index(best)][1]


class Runner:
    """Runs the stages of a study on several workers.

    Args:
        study: the stages.
        jobs: workers side by side.
        only: keys of the stages to run; None for all.
    """

    def __init__(self, study: Study, *, jobs: int, only: set[str] | None = None) -> None:
        self.study = study
        self.jobs = jobs
        self.waiting = {key: stage for key, stage in study.stages.items() if only is None or key in only}
        self.total = len(self.waiting)
        self.ended: dict[str, str] = {}
        """Fingerprint of every stage that has ended well."""
        self.failed: dict[str, str] = {}
        self.changed = threading.Condition()

    def run(self) -> dict[str, str]:
        """Run everything that can run.

        Returns:
            the reason of each stage that could not, by key; empty if all went well.
        """
        workers = [Worker() for _ in range(self.jobs)]
        threads = [threading.Thread(target=self.work, args=(worker,), daemon=True) for worker in workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(timeout=0.5)
        except SystemExit:
            say("study", "interrupted: its runs save what they have; the same command goes on from here")
            self.waiting.clear()
            for worker in workers:
                worker.close()
            raise
        for key in self.waiting:
            self.failed.setdefault(key, "needs a stage that failed")
        return self.failed

    def work(self, worker: Worker) -> None:
        """Take stages until none is left that could still run."""
        try:
            while (stage := self.take()) is not None:
                try:
                    outcome = self.carry_out(stage, worker)
                except Exception as error:  # whatever stops one stage must not stop the others
                    outcome = str(error) if isinstance(error, StudyError) else repr(error)
                self.note(stage, outcome)
        finally:
            worker.close()

    def take(self) -> Stage | None:
        """The first stage whose needs have ended; waits for one; None if none can come any more."""
        with self.changed:
            while True:
                for key, stage in self.waiting.items():
                    if all(need in self.ended for need in stage.needs):
                        return self.waiting.pop(key)
                running = self.total - len(self.waiting) - len(self.ended) - len(self.failed)
                if not running:
                    return None
                self.changed.wait()

    def note(self, stage: Stage, outcome: str) -> None:
        """Record how a stage ended; ``outcome`` is the reason if it failed, else empty."""
        with self.changed:
            if outcome:
                self.failed[stage.key] = outcome
                say(stage.key, f"FAILED: {outcome}")
            self.changed.notify_all()

    def carry_out(self, stage: Stage, worker: Worker) -> str:
        """Run one stage unless it has ended before; returns why it failed, or nothing.

        Raises:
            StudyError: it has ended with other settings.
        """
        chosen = chosen_arguments(stage.choice, self.study.stages) if stage.choice is not None else ()
        fingerprint = stage.fingerprint(chosen, [self.ended[need] for need in stage.needs])
        mark = mark_of(stage)
        if mark.is_file():
            known = json.loads(mark.read_text(encoding="utf-8"))["fingerprint"]
            if known != fingerprint:
                raise StudyError(
                    f"{stage.run_dir} was made with other settings or from other stages: delete {mark.name} and that "
                    "folder to make it again, or move the whole study aside with --if_exists fresh"
                )
        else:
            start = time.monotonic()
            say(stage.key, f"starts ({len(self.ended) + 1} of {self.total})" + (f", {' '.join(chosen)}" * bool(chosen)))
            log_path = stage.run_dir.with_name(f"{stage.run_dir.name}.log")
            for command in stage.command_lines(chosen):
                status = worker.run(stage.key, command, log_path)
                if status != 0:
                    how = "was interrupted" if is_interruption(status) else f"exit status {status}"
                    return f"{command[0]}: {how}; its output is in {log_path}"
            seconds = time.monotonic() - start
            record = {"fingerprint": fingerprint, "seconds": round(seconds, 1), "chosen": list(chosen)}
            mark.write_text(json.dumps(record) + "\n", encoding="utf-8")
            say(stage.key, f"finished in {seconds:.0f} s")
        with self.changed:
            self.ended[stage.key] = fingerprint
        return ""
