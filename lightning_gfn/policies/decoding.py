"""The definition of q: which actions exist at a prefix, and how a behaviour distribution is derived from q."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ActionSpace(nn.Module):
    """The actions of a policy: every allowed token, and one stop action that merges all end tokens.

        q(a | prefix) = exp(l_a) / Σ_b exp(l_b),    l_stop = log Σ_{e in end tokens} exp(logit_e)

    The sum runs over allowed tokens and stop; prefixes shorter than ``min_new_tokens`` leave stop out. At
    ``max_new_tokens`` stop is forced: q(stop) = 1. Everywhere in this package stop takes the column ``stop_id`` of the
    vocabulary (the first end token), so that an action is one token id.

    Args:
        vocab_size: columns of the logits.
        allowed_ids: token ids that may be produced; end tokens among them count as end tokens only.
        end_ids: token ids that mean stop, at least one.
        min_new_tokens: length of the shortest complete action, tokens.
        max_new_tokens: length of the longest action, tokens.

    Raises:
        ValueError: if there is no end token, no token to produce, or the lengths contradict each other.
    """

    forbidden_ids: Tensor
    end_ids: Tensor
    allowed_V: Tensor

    def __init__(
        self,
        *,
        vocab_size: int,
        allowed_ids: Sequence[int],
        end_ids: Sequence[int],
        min_new_tokens: int,
        max_new_tokens: int,
    ) -> None:
        super().__init__()
        if not end_ids:
            raise ValueError("end_tokens is empty and the tokenizer has no end token: name at least one in end_tokens")
        if not 0 <= min_new_tokens <= max_new_tokens or max_new_tokens < 1:
            raise ValueError(
                f"min_new_tokens={min_new_tokens}, max_new_tokens={max_new_tokens}: 0 <= min <= max, max >= 1 must hold"
            )
        ends = sorted(set(end_ids))
        tokens = sorted(set(allowed_ids) - set(ends))
        if not tokens:
            raise ValueError("allowed_tokens leaves no token to produce: allow at least one that is no end token")
        allowed_V = torch.zeros(vocab_size, dtype=torch.bool)
        allowed_V[tokens] = True
        forbidden_V = ~allowed_V
        forbidden_V[ends] = False
        self.register_buffer("allowed_V", allowed_V, persistent=False)
        self.register_buffer("forbidden_ids", forbidden_V.nonzero().squeeze(1), persistent=False)
        self.register_buffer("end_ids", torch.tensor(ends), persistent=False)
        self.stop_id = ends[0]
        self.num_end_tokens = len(ends)
        self.num_forbidden = int(forbidden_V.sum())
        self.min_new_tokens = min_new_tokens
        self.max_new_tokens = max_new_tokens

    def restrict_(self, logits_MV: Tensor, may_stop_M: Tensor | bool) -> Tensor:
        """Turn vocabulary logits into action logits, in place.

        Args:
            logits_MV: logits of the language model; overwritten.
            may_stop_M: bool, or (M,) bool: whether each prefix may stop.

        Returns:
            ``logits_MV``, with stop in column ``stop_id`` and -inf in every column that is no action.
        """
        if self.num_end_tokens > 1:
            stop_M = logits_MV.index_select(1, self.end_ids).logsumexp(1)
            logits_MV.index_fill_(1, self.end_ids, -torch.inf)
            logits_MV[:, self.stop_id] = stop_M
        if self.num_forbidden:
            logits_MV.index_fill_(1, self.forbidden_ids, -torch.inf)
        if isinstance(may_stop_M, Tensor):
            logits_MV[:, self.stop_id].masked_fill_(~may_stop_M, -torch.inf)
        elif not may_stop_M:
            logits_MV[:, self.stop_id] = -torch.inf
        return logits_MV

    def stop_mask(self, lengths_N: Tensor, num_prefixes: int) -> Tensor:
        """Prefixes that exist and may stop.

        Args:
            lengths_N: tokens of each action.
            num_prefixes: T + 1.

        Returns:
            (N, T + 1) bool.
        """
        prefix_T1 = torch.arange(num_prefixes, device=lengths_N.device)
        return (prefix_T1 <= lengths_N[:, None]) & (prefix_T1 >= self.min_new_tokens)


def check_behaviour(temperature_N: Tensor | None, top_k: int | None, top_p: float | None) -> None:
    """Refuse behaviour settings that define no distribution.

    Raises:
        ValueError: naming the setting and what to use instead.
    """
    if temperature_N is not None and not bool((temperature_N > 0).all()):
        raise ValueError("temperature must be above 0; for greedy decoding use top_k=1")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1; leave it out to keep every action")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must lie in (0, 1]; leave it out to keep every action")


def behaviour_logits(
    action_logits_RV: Tensor, temperature_R1: Tensor | None, top_k: int | None, top_p: float | None
) -> Tensor:
    """Logits of the behaviour distribution: q sharpened by a temperature, then cut to top-k, then to top-p.

    Top-k keeps every action that ties with the k-th; top-p keeps the smallest set of most probable actions whose mass
    reaches p. Stop counts as one action.

    Args:
        action_logits_RV: logits of q as ``ActionSpace.restrict_`` leaves them.
        temperature_R1: (R, 1), above 0; None for 1.
        top_k: number of actions to keep.
        top_p: probability mass to keep.

    Returns:
        (R, V) logits, -inf at actions that are cut.
    """
    logits_RV = action_logits_RV if temperature_R1 is None else action_logits_RV / temperature_R1
    if top_k is not None and top_k < logits_RV.shape[1]:
        kth_R1 = logits_RV.topk(top_k, dim=1).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < kth_R1, -torch.inf)
    if top_p is not None and top_p < 1:
        sorted_RV, order_RV = logits_RV.sort(dim=1, descending=True, stable=True)
        probability_RV = sorted_RV.softmax(1, dtype=torch.float64)
        cut_RV = probability_RV.cumsum(1) - probability_RV >= top_p
        logits_RV = logits_RV.masked_fill(torch.zeros_like(cut_RV).scatter_(1, order_RV, cut_RV), -torch.inf)
    return logits_RV
