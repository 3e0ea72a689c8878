"""The definition of q: which actions exist at a prefix, and how a behaviour distribution is derived from q."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from lightning_gfn.policies.text.tokenizers import TextCodec

NARROW_SHARE = 4
"""A vocabulary at least this many times as large as the action space is cut down to the actions."""


class ActionSpace(nn.Module):
    """The actions of a policy: every allowed token, and one stop action that merges all end tokens.

        q(a | prefix) = exp(l_a) / Σ_b exp(l_b),    l_stop = log Σ_{e in end tokens} exp(logit_e)

    The sum runs over allowed tokens and stop; prefixes shorter than ``min_new_tokens`` leave stop out. At
    ``max_new_tokens`` stop is forced: q(stop) = 1. Everywhere in this package stop takes the column ``stop_id`` of the
    vocabulary (the first end token), so that an action is one token id. Where few tokens are actions, ``narrow`` is the
    same space over the columns ``action_ids_K`` alone.

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
    action_ids_K: Tensor
    place_V: Tensor

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
        action_ids_K = (~forbidden_V).nonzero().squeeze(1)
        place_V = torch.zeros(vocab_size, dtype=torch.int64)
        place_V[action_ids_K] = torch.arange(len(action_ids_K))
        self.register_buffer("action_ids_K", action_ids_K, persistent=False)
        self.register_buffer("place_V", place_V, persistent=False)
        self.narrow: ActionSpace | None = None
        if NARROW_SHARE * len(action_ids_K) <= vocab_size:
            self.narrow = ActionSpace(
                vocab_size=len(action_ids_K),
                allowed_ids=place_V[tokens].tolist(),
                end_ids=place_V[ends].tolist(),
                min_new_tokens=min_new_tokens,
                max_new_tokens=max_new_tokens,
            )

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


@lru_cache(maxsize=4)
def every_token(vocab_size: int, end_id: int, device: torch.device) -> ActionSpace:
    """The action space of a plain language model: every token is an action, at any length.

    Args:
        vocab_size: columns of the logits.
        end_id: the token that ends a text.
        device: where the logits are.
    """
    return ActionSpace(
        vocab_size=vocab_size,
        allowed_ids=range(vocab_size),
        end_ids=[end_id],
        min_new_tokens=0,
        max_new_tokens=sys.maxsize,
    ).to(device)


def make_action_space(
    codec: TextCodec,
    *,
    vocab_size: int,
    default_end_ids: Iterable[int],
    allowed_tokens: list[str] | None,
    end_tokens: list[str] | None,
    min_new_tokens: int,
    max_new_tokens: int,
) -> ActionSpace:
    """The action space that a configuration describes.

    Args:
        codec: of the tokenizer.
        vocab_size: columns of the model's logits; those without a token are no actions.
        default_end_ids: used if ``end_tokens`` is None.
        allowed_tokens: tokens that may be produced; None for all but special ones.
        end_tokens: tokens that mean stop.
        min_new_tokens: shortest complete action, tokens.
        max_new_tokens: longest action, tokens.

    Returns:
        the action space.

    Raises:
        ValueError: naming the argument and the token, if one is not a single token or may not be produced.
    """
    special = codec.special_ids()
    if end_tokens is None:
        end_ids = sorted(default_end_ids)
    else:
        end_ids = [codec.token_id(token, "end_tokens") for token in end_tokens]
    if allowed_tokens is None:
        allowed_ids = [index for index in range(len(codec.tokenizer)) if index not in special]
    else:
        allowed_ids = [codec.token_id(token, "allowed_tokens") for token in allowed_tokens]
        for token, index in zip(allowed_tokens, allowed_ids, strict=True):
            if index in special and index not in end_ids:
                raise ValueError(
                    f"allowed_tokens: {token!r} is a special token; drop it, or list it in end_tokens if it means stop"
                )
    return ActionSpace(
        vocab_size=vocab_size,
        allowed_ids=allowed_ids,
        end_ids=end_ids,
        min_new_tokens=min_new_tokens,
        max_new_tokens=max_new_tokens,
    )
