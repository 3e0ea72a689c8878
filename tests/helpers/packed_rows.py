"""Random contexts and actions: different ones, or such that some are equal and many begin alike."""

from __future__ import annotations

import torch


def random_rows(seed: int, *, contexts: int, rows: int, longest: int) -> tuple[list[list[int]], list[list[int]]]:
    generator = torch.Generator().manual_seed(seed)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high + 1, (1,), generator=generator))
        return torch.randint(1, 90, (length,), generator=generator).tolist()

    distinct = [tokens(1, longest) for _ in range(contexts)]
    chosen = torch.randint(0, contexts, (rows,), generator=generator).tolist()
    return [distinct[i] for i in chosen], [tokens(0, longest) for _ in range(rows)]


def alike_rows(seed: int, *, contexts: int, rows: int, longest: int) -> tuple[list[list[int]], list[list[int]]]:
    """Actions of two different tokens, so that they make trees; the last row is the first one again."""
    found, _ = random_rows(seed, contexts=contexts, rows=rows, longest=9)
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (rows,), generator=generator).tolist()
    actions = [torch.randint(5, 7, (length,), generator=generator).tolist() for length in lengths]
    return [*found[:-1], found[0]], [*actions[:-1], actions[0]]


def begun_alike_rows(seed: int, *, contexts: int, rows: int, longest: int) -> tuple[list[list[int]], list[list[int]]]:
    """Contexts behind a common beginning of 16 to 24 tokens."""
    found, actions = random_rows(seed, contexts=contexts, rows=rows, longest=longest)
    beginning = [95, *range(20, 35 + seed % 9)]
    return [beginning + context for context in found], actions
