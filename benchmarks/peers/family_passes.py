"""Training passes of transformers over rows of several lengths, decoder-only and encoder-decoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.frame.row import Way
from benchmarks.peers.transformers_passes import ATTENTIONS, autocast
from lightning_gfn.types import StepBatch


def action_logits(network: Any, steps: StepBatch) -> Tensor:
    """Logits before each token of the actions, (N, T, V); contexts of one length, actions padded on the right."""
    width = steps.action_ids_NT.shape[1]
    if network.config.is_encoder_decoder:
        start = network.config.decoder_start_token_id
        given_NT = functional.pad(steps.action_ids_NT, (1, 0), value=start)[:, :-1]
        return network(input_ids=steps.context_ids_NC, decoder_input_ids=given_NT, use_cache=False).logits
    ids_NL = torch.cat([steps.context_ids_NC, steps.action_ids_NT], 1)
    mask_NL = torch.cat([steps.context_mask_NC, steps.action_mask_NT], 1).long()
    output = network(input_ids=ids_NL, attention_mask=mask_NL, logits_to_keep=width + 1, use_cache=False)
    return output.logits[:, :-1]


def pass_way(network: Any, steps: StepBatch, precision: str, attention: str) -> Way:
    """Forward and backward over the mean log-probability of the actions' tokens; gradients are dropped."""
    network = copy.deepcopy(network).train()
    network.set_attn_implementation(attention)

    def run() -> None:
        with autocast(precision):
            logits_NTV = action_logits(network, steps)
        log_p_NTV = logits_NTV[steps.action_mask_NT].float().log_softmax(-1)
        log_p = log_p_NTV.gather(-1, steps.action_ids_NT[steps.action_mask_NT][:, None])
        (-log_p.mean()).backward()
        network.zero_grad(set_to_none=True)

    return Way(run)


def pass_ways(network: Any, steps: StepBatch, precisions: tuple[str, ...]) -> dict[str, Callable[[], Way]]:
    """Every precision asked for, with each attention that the model has."""
    attentions = [name for name in ATTENTIONS if name != "sdpa" or network._supports_sdpa]

    def build(precision: str, attention: str) -> Callable[[], Way]:
        return lambda: pass_way(network, steps, precision, attention)

    return {f"transformers, {p}, {a}": build(p, a) for p in precisions for a in attentions}
