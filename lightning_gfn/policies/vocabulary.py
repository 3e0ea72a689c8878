"""From the names of tokens in a configuration to the action space of a policy."""

from __future__ import annotations

from collections.abc import Iterable

from lightning_gfn.policies.decoding import ActionSpace
from lightning_gfn.policies.tokenizers import TextCodec


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
