"""Log-probabilities of several texts that may follow a stem: what they share is read once, logits where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.policies.scoring.score_actions import PrefixStates

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class ChoiceLayout:
    """The rows that a model has to read, and the tokens that are looked up at their prefixes.

    Args:
        owners: which stem each row belongs to.
        actions: token ids of each row: a stem, and all but the last token of a choice.
        wanted_NT1: bool, True on prefixes at which tokens are looked up.
        tokens_NT1K: int64, the tokens; 0 where there are fewer than K.
        summands_M4: int64, (place of the choice, row, prefix, k) of each number that a choice adds up.
        sizes: choices of each stem.
    """

    owners: list[int]
    actions: list[Tokens]
    wanted_NT1: Tensor
    tokens_NT1K: Tensor
    summands_M4: Tensor
    sizes: list[int]

    def summed(self, log_p_NT1K: Tensor) -> list[list[float]]:
        """The log-probability of each choice of each stem, nats.

        Args:
            log_p_NT1K: of the tokens.
        """
        place_M, *index = self.summands_M4.unbind(1)
        values_M = log_p_NT1K.cpu()[tuple(index)].double()
        totals = torch.zeros(sum(self.sizes), dtype=torch.float64).index_add(0, place_M, values_M)
        return [part.tolist() for part in totals.split(self.sizes)]


def lay_out(stems: Sequence[Sequence[int]], choices: Sequence[Sequence[Sequence[int]]]) -> ChoiceLayout:
    """Plan what is read: each stem once with every path that choices branch from.

    Args:
        stems: token ids of N stems.
        choices: token ids of two choices or more for each of them.

    Raises:
        ValueError: a stem has fewer than two choices, or a choice begins another one.
    """
    owners: list[int] = []
    actions: list[Tokens] = []
    summands: list[tuple[int, int, int, int]] = []
    looked_up: dict[tuple[int, int], list[int]] = {}
    place = 0
    for n, (stem, given) in enumerate(zip(stems, choices, strict=True)):
        texts = [tuple(choice) for choice in given]
        check_choices(texts)
        paths = branches(texts)
        first = len(actions)
        owners += [n] * len(paths)
        actions += [(*stem, *path) for path in paths]
        start = shared_length(texts)
        for text in texts:
            for t in range(start, len(text)):
                row = first + next(r for r, path in enumerate(paths) if path[:t] == text[:t])
                found = looked_up.setdefault((row, len(stem) + t), [])
                if text[t] not in found:
                    found.append(text[t])
                summands.append((place, row, len(stem) + t, found.index(text[t])))
            place += 1
    width = 1 + max(map(len, actions), default=0)
    wanted_NT1 = torch.zeros(len(actions), width, dtype=torch.bool)
    tokens_NT1K = torch.zeros(len(actions), width, max(map(len, looked_up.values()), default=0), dtype=torch.int64)
    for (row, prefix), tokens in looked_up.items():
        wanted_NT1[row, prefix] = True
        tokens_NT1K[row, prefix, : len(tokens)] = torch.tensor(tokens)
    return ChoiceLayout(owners, actions, wanted_NT1, tokens_NT1K, torch.tensor(summands).reshape(-1, 4),
                        [len(given) for given in choices])  # fmt: skip


def check_choices(texts: Sequence[Tokens]) -> None:
    """Refuse choices that cannot be told apart by what they begin with.

    Raises:
        ValueError: there is one alone, or one begins another; gives the token ids.
    """
    if len(texts) < 2:
        raise ValueError(f"choices: expected two texts or more behind a stem, got {len(texts)}")
    for i, text in enumerate(texts):
        for j, other in enumerate(texts):
            if i != j and other[: len(text)] == text:
                raise ValueError(
                    f"choices: the tokens {list(text)} begin {list(other)}, so that the first text is never ruled out: "
                    "end both with a full stop, or word them differently"
                )


def shared_length(texts: Sequence[Tokens]) -> int:
    """How many tokens all texts begin with alike."""
    alike = 0
    while len({text[: alike + 1] for text in texts}) == 1:
        alike += 1
    return alike


def branches(texts: Sequence[Tokens]) -> list[Tokens]:
    """The texts without their last token, each once; those that others begin with are left out."""
    paths = list(dict.fromkeys(text[:-1] for text in texts))
    return [path for path in paths if not any(other != path and other[: len(path)] == path for other in paths)]


def token_log_probs(
    states: PrefixStates,
    output_layer: OutputLayer,
    wanted_NT1: Tensor,
    tokens_NT1K: Tensor,
    *,
    vocab_size: int,
    max_logits: int,
) -> Tensor:
    """log p of given tokens at chosen prefixes, all tokens being possible, (N, T + 1, K), nats; 0 elsewhere.

    Args:
        states: hidden states of N rows.
        output_layer: hidden states to logits.
        wanted_NT1: bool, True on the prefixes.
        tokens_NT1K: int64, the tokens.
        vocab_size: V.
        max_logits: the most logits to hold at a time.
    """
    chosen = replace(states, index_M=wanted_NT1.reshape(-1).nonzero().squeeze(1))
    tokens_MK = tokens_NT1K.flatten(0, 1)[chosen.index_M]
    rows = max(1, max_logits // vocab_size)
    parts = []
    for hidden, tokens in zip(chosen.decided_MH().split(rows), tokens_MK.split(rows), strict=True):
        logits = output_layer(hidden).float()
        parts.append(logits.gather(1, tokens) - logits.logsumexp(1, keepdim=True))
    return chosen.spread(torch.cat(parts))
