"""What vLLM is asked for, so that it samples from q."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_gfn.policies.action_space import ActionSpace

MAX_LISTED_TOKENS = 1024
"""vLLM's newer model runner takes no longer list of allowed or biased tokens."""
MAX_END_TOKENS = 128
"""vLLM gives the log-probabilities of so many tokens at most."""
FORBIDDEN_BIAS = -100.0
"""The least that vLLM takes: exp(-100) is below the rounding of any probability in float32."""


@dataclass(frozen=True)
class Group:
    """Rows that share a request: those of one context at one temperature.

    Args:
        context: token ids.
        temperature: of the behaviour.
        seed: of the first row; the server counts up from it.
        rows: their indices, in order.
    """

    context: tuple[int, ...]
    temperature: float
    seed: int
    rows: tuple[int, ...]


def groups_of(contexts: Sequence[Sequence[int]], uniforms_NT1: Tensor, temperature_N: Tensor | None) -> list[Group]:
    """Which rows share a request, in the order of their first row.

    Args:
        contexts: N token id sequences.
        uniforms_NT1: the first number of a row seeds its request.
        temperature_N: behaviour temperature of each row; None for 1.
    """
    temperatures = [1.0] * len(contexts) if temperature_N is None else temperature_N.double().tolist()
    found: dict[tuple[tuple[int, ...], float], list[int]] = {}
    for n, (context, temperature) in enumerate(zip(contexts, temperatures, strict=True)):
        found.setdefault((tuple(context), temperature), []).append(n)
    first_N = uniforms_NT1[:, 0].double().tolist()
    return [
        Group(context, temperature, int(first_N[rows[0]] * 2**53), tuple(rows))
        for (context, temperature), rows in found.items()
    ]


def sampling_fields(space: ActionSpace, *, top_k: int | None, top_p: float | None) -> dict[str, Any]:
    """The fields that all requests of one call share.

    Every field that a server could fill from a model's generation settings is given.

    Args:
        space: the actions of q.
        top_k: tokens that the behaviour keeps.
        top_p: probability mass that the behaviour keeps.

    Raises:
        ValueError: if there are more end tokens than vLLM gives log-probabilities of.
    """
    ends = space.end_ids.tolist()
    if len(ends) > MAX_END_TOKENS:
        raise ValueError(f"end_tokens names {len(ends)} tokens, vLLM takes {MAX_END_TOKENS} at most")
    return {
        "max_tokens": space.max_new_tokens,
        "min_tokens": space.min_new_tokens,
        "stop_token_ids": ends,
        "ignore_eos": True,
        "logprobs": len(ends),
        "logprob_token_ids": ends,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "top_k": 0 if top_k is None else top_k,
        "top_p": 1.0 if top_p is None else top_p,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        **restriction(space),
    }


def restriction(space: ActionSpace) -> dict[str, Any]:
    """The field that bars all tokens that are no actions: whichever list is short."""
    if space.num_forbidden == 0:
        return {}
    num_allowed = len(space.allowed_V) - space.num_forbidden
    if num_allowed > MAX_LISTED_TOKENS and space.num_forbidden <= MAX_LISTED_TOKENS:
        return {"logit_bias": {str(token): FORBIDDEN_BIAS for token in space.forbidden_ids.tolist()}}
    allowed = set(space.allowed_V.nonzero().squeeze(1).tolist()) | set(space.end_ids.tolist())
    return {"allowed_token_ids": sorted(allowed)}


def request_of(group: Group, model: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The body of a request.

    Args:
        group: what it is for.
        model: name of the weights that shall sample.
        fields: of ``sampling_fields``.
    """
    return {
        "model": model,
        "prompt": list(group.context),
        "n": len(group.rows),
        "seed": group.seed,
        "temperature": group.temperature,
        **fields,
    }
