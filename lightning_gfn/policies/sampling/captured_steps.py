"""CUDA graphs of sampling steps: one launch a token in place of one a kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch


class CapturedSteps:
    """Runs a step whose tensors stay where they are; on a CUDA device it is captured once and replayed from then on.

    The first run with given arguments is an ordinary one, which also sets up what libraries set up at their first use;
    the second is captured. All graphs share one pool of memory, since only one runs at a time.

    Args:
        device: on which the step runs.
        enabled: False for steps that wait for the device.
    """

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.enabled = enabled and device.type == "cuda"
        self.forget()

    def forget(self) -> None:
        """Drop all graphs, because tensors have moved."""
        self.graphs: dict[tuple[int, ...], torch.cuda.CUDAGraph | None] = {}

    def run(self, step: Callable[[int], None], num_slots: int, window: int) -> None:
        """Run ``step(window)``.

        Args:
            step: reads and writes tensors that stay where they are, and waits for nothing.
            num_slots: of which there are as many as the last time these were the arguments.
            window: argument of the step.
        """
        key = (num_slots, window)
        if not self.enabled:
            step(window)
        elif key not in self.graphs:
            step(window)
            self.graphs[key] = None
        else:
            if (graph := self.graphs[key]) is None:
                graph = self.graphs[key] = self.capture(step, window)
            graph.replay()

    def capture(self, step: Callable[[int], None], window: int) -> torch.cuda.CUDAGraph:
        """Record the kernels of one step without running them."""
        graph = torch.cuda.CUDAGraph()
        pool = next((known.pool() for known in self.graphs.values() if known is not None), None)
        with torch.cuda.graph(graph, pool=pool):
            step(window)
        return graph
