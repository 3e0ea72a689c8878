"""What vLLM's completions say of the actions of q and of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.types import SampledActions, Scores

LOWEST_LOG_PROB = -9999.0
"""What vLLM writes for a log-probability of -inf, which JSON lacks."""


class ReplyError(ValueError):
    """A completion that cannot come from q."""


@dataclass(frozen=True)
class Completion:
    """One sampled action as the server's behaviour drew it.

    Args:
        action: token ids, without the end token.
        log_pf: log-probability of each token, nats.
        log_pstop: log-probability of all end tokens together, after each prefix that was followed by a token or a stop.
    """

    action: tuple[int, ...]
    log_pf: tuple[float, ...]
    log_pstop: tuple[float, ...]


def read_completion(choice: Mapping[str, Any], ends: Collection[int], max_new_tokens: int) -> Completion:
    """One choice of a reply.

    Args:
        choice: with ``token_ids`` and ``logprobs``.
        ends: ids of the end tokens.
        max_new_tokens: length at which the stop is forced.

    Raises:
        ReplyError: if it lacks a field, or ended where q does not end.
    """
    try:
        ids = [int(token) for token in choice["token_ids"]]
        log_probs = [float(value) for value in choice["logprobs"]["token_logprobs"]]
        tops = choice["logprobs"]["top_logprobs"]
        stops = [_log_sum([float(top[f"token_id:{end}"]) for end in ends]) for top in tops]
    except (KeyError, TypeError, ValueError) as error:
        raise ReplyError(
            f"the reply lacks token ids or log-probabilities ({type(error).__name__}: {error}): it needs vLLM 0.28 or "
            "later"
        ) from None
    if not len(ids) == len(log_probs) == len(stops):
        raise ReplyError(f"the reply has {len(ids)} tokens and {len(log_probs)} log-probabilities")
    stopped = bool(ids) and ids[-1] in ends
    if not stopped and len(ids) != max_new_tokens:
        raise ReplyError(_cut_short(choice, ids))
    length = len(ids) - stopped
    if any(token in ends for token in ids[:length]):
        raise ReplyError("the server went on after an end token")
    return Completion(tuple(ids[:length]), tuple(map(_finite, log_probs[:length])), tuple(stops))


def _cut_short(choice: Mapping[str, Any], ids: Sequence[int]) -> str:
    reason = choice.get("finish_reason")
    if reason == "stop" and ids:
        return (
            f"the server stopped at token {ids[-1]}, which is no end token of the policy: start it with "
            "--generation-config vllm, or name the token in end_tokens"
        )
    if reason == "length":
        return f"the server cut a completion after {len(ids)} tokens: raise its --max-model-len"
    return f"the server gave up a completion after {len(ids)} tokens ({reason})"


def _finite(log_prob: float) -> float:
    return log_prob if log_prob > LOWEST_LOG_PROB else -math.inf


def _log_sum(log_probs: Sequence[float]) -> float:
    largest = max(map(_finite, log_probs))
    if largest == -math.inf:
        return largest
    return largest + math.log(sum(math.exp(value - largest) for value in map(_finite, log_probs)))


def assemble(
    completions: Sequence[Completion], space: ActionSpace, *, pad_id: int, device: torch.device
) -> SampledActions:
    """Rows of completions as tensors; the scores are those of the server's behaviour.

    Args:
        completions: N of them.
        space: the actions of q.
        pad_id: filler.
        device: of the result.

    Raises:
        ReplyError: if a token is no action of q.
    """
    width = max(1, *(len(completion.action) for completion in completions))
    lengths_N = torch.tensor([len(completion.action) for completion in completions])
    mask_NT = torch.arange(width) < lengths_N[:, None]
    ids_NT = _padded([completion.action for completion in completions], width, pad_id, torch.int64)
    log_pf_NT = _padded([completion.log_pf for completion in completions], width, 0.0, torch.float32)
    stops_NT1 = _padded([completion.log_pstop for completion in completions], width + 1, 0.0, torch.float32)
    outside = ~space.allowed_V.cpu()[ids_NT.clamp(0, len(space.allowed_V) - 1)] & mask_NT
    if bool(outside.any()):
        raise ReplyError(f"the server sampled token {int(ids_NT[outside][0])}, which allowed_tokens leaves out")
    stop_mask_NT1 = space.stop_mask(lengths_N, width + 1)
    scores = Scores(
        log_pf_NT=log_pf_NT.to(device),
        log_pstop_NT1=torch.where(stop_mask_NT1, stops_NT1, 0.0).to(device),
        stop_mask_NT1=stop_mask_NT1.to(device),
    )
    last_N = stops_NT1.gather(1, lengths_N[:, None]).squeeze(1)
    return SampledActions(
        action_ids_NT=ids_NT.to(device),
        action_mask_NT=mask_NT.to(device),
        scores=scores,
        behaviour_log_pf_NT=log_pf_NT.to(device),
        behaviour_log_pstop_N=torch.where(lengths_N == space.max_new_tokens, 0.0, last_N).to(device),
    )


def _padded(rows: Sequence[Sequence[float]], width: int, filler: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], dtype=dtype)
