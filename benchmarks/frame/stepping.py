"""Training loops that can be taken step by step, so that two of them take turns inside one process."""

from __future__ import annotations

import threading
from collections.abc import Callable

from benchmarks.frame.row import Way

LONGEST_STEP = 1800.0


class Stopped(BaseException):
    """Ends a loop from its callback; no ``Exception``, so that no trainer catches it as an error of the user."""


class Stepper:
    """Runs a loop in a thread of its own and lets it go on for one step at a time.

    The loop calls ``mark`` at the end of each step. While one side steps, the other one waits, so that the processor
    time of the process is that of the step.

    Args:
        loop: trains, and calls the function that it is given after each step.
        threads: of PyTorch, for the new thread.
    """

    def __init__(self, loop: Callable[[Callable[[], None]], object], threads: int = 1) -> None:
        self.loop, self.threads = loop, threads
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.error: BaseException | None = None
        self.stopping = self.ended = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        import torch

        torch.set_num_threads(self.threads)
        self.go.acquire()
        try:
            if not self.stopping:
                self.loop(self.mark)
                self.error = RuntimeError("the training loop ended before it was told to: give it more steps")
        except Stopped:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self.done.release()

    def mark(self) -> None:
        """Called by the loop after each step: wait until the next one is asked for."""
        self.done.release()
        self.go.acquire()
        if self.stopping:
            raise Stopped

    def step(self) -> None:
        """One more step; the first one sets the loop up as well.

        Raises:
            RuntimeError: the loop failed or ended.
        """
        if not self.ended:
            self.go.release()
            if not self.done.acquire(timeout=LONGEST_STEP):
                raise RuntimeError(f"a step took longer than {LONGEST_STEP:.0f} s")
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """End the loop."""
        self.stopping = True
        if not self.ended:
            self.go.release()
            self.thread.join(timeout=60)


def stepped(loop: Callable[[Callable[[], None]], object], threads: int = 1) -> Way:
    """A way whose turn is one step of a training loop."""
    stepper = Stepper(loop, threads)
    return Way(stepper.step, stepper.close)
