"""Random contexts and actions, two of which are equal."""

from __future__ import annotations

import torch


def random_rows(seed: int, *, contexts: int, rows: int, longest: int) -> tuple[list[list[int]], list[list[int]]]:
    generator = torch.Generator().manual_seed(seed)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high + 1, (1,), generator=generator))
        return torch.randint(1, 90, (length,), generator=generator).tolist()

    distinct = [tokens(1, longest) for _ in range(contexts)]
    chosen = torch.randint(0, contexts, (rows,), generator=generator).tolist()
    contexts_N, actions_N = [distinct[i] for i in chosen], [tokens(0, longest) for _ in range(rows)]
    contexts_N[-1], actions_N[-1] = contexts_N[0], actions_N[0] or [7]
    actions_N[0] = actions_N[-1]
    return contexts_N, actions_N
