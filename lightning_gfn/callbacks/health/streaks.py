"""How long rules have held: counted on the device, read only where somebody asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed
from torch import Tensor

from lightning_gfn.callbacks.health.rules import Rule


class Streaks:
    """Counts for each rule the fresh observations in a row in which it held; nothing leaves the device meanwhile.

    Args:
        rules: what is watched.
        device: where the metrics are.
    """

    def __init__(self, rules: Sequence[Rule], device: torch.device) -> None:
        self.rules = rules
        self.device = device
        self.observed = [0] * len(rules)
        self._held_R = torch.zeros(len(rules), dtype=torch.int64, device=device)
        self._last: list[Tensor | None] = [None] * len(rules)

    def observe(self, metrics: Mapping[str, Tensor]) -> None:
        """Take in the metrics after a training batch; those that were not logged anew count as not observed."""
        for r, rule in enumerate(self.rules):
            values = [metrics[name] for name in rule.metrics if name in metrics]
            needless = any(name in metrics for name in rule.without)
            if len(values) < len(rule.metrics) or needless or values[-1] is self._last[r]:
                continue
            self._last[r] = values[-1]
            self.observed[r] += 1
            held = rule.holds([value.detach() for value in values]).to(self.device)
            self._held_R[r] = torch.where(held, self._held_R[r] + 1, 0)

    def read(self) -> list[int]:
        """Observations in a row of each rule, the fewest of all ranks; all ranks must ask."""
        held_R = self._held_R.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(held_R, op=torch.distributed.ReduceOp.MIN)
        return [int(count) for count in held_R.tolist()]
