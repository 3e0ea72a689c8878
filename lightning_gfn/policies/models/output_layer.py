"""The output layer of a language model: hidden states to logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lightning_gfn.policies.numerics.processor import asked_dtype
from lightning_gfn.policies.numerics.wide_linear import NARROW, wide_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class OutputLayer:
    """Hidden states to vocabulary logits: ``cap · tanh(scale · head(h) / cap)``, without tanh if there is no cap.

    Logits are float32 whatever the model computes in: one of 20 is rounded by 0.06 in bfloat16.

    Args:
        head: the output embedding of the language model.
        scale: factor on the logits.
        cap: bound of the logits; None for no bound.
    """

    head: Callable[[Tensor], Tensor]
    scale: float = 1.0
    cap: float | None = None

    def of_rows(self, ids_K: Tensor) -> OutputLayer | None:
        """The layer that gives the logits of these tokens alone; None if the head is no plain linear one."""
        if type(self.head) is not nn.Linear:
            return None
        weight_VH, bias_V = self.head.weight, self.head.bias
        bias_K = None if bias_V is None else bias_V.index_select(0, ids_K)
        return replace(self, head=LinearRows(weight_VH.index_select(0, ids_K), bias_K))

    def __call__(self, hidden_MH: Tensor) -> Tensor:
        logits_MV = wide_logits(self.head, hidden_MH)
        if self.scale != 1.0:
            logits_MV = logits_MV * self.scale
        if self.cap is not None:
            logits_MV = torch.tanh(logits_MV / self.cap) * self.cap
        return logits_MV

    @property
    def keeps_logits(self) -> bool:
        """True if the backward pass of this layer may read the logits, so that nobody may overwrite them."""
        return self.scale != 1.0 or self.cap is not None or type(self.head) not in LINEAR


@dataclass(frozen=True)
class LinearRows:
    """A linear head of some tokens.

    Args:
        weight: (K, H).
        bias: (K,), or None.
    """

    weight: Tensor
    bias: Tensor | None

    def __call__(self, hidden_MH: Tensor) -> Tensor:
        return nn.functional.linear(hidden_MH, self.weight, self.bias)


LINEAR = (nn.Linear, LinearRows)
"""Heads whose backward pass does not read the logits."""


def wide_logits(head: Callable[[Tensor], Tensor], hidden_MH: Tensor) -> Tensor:
    """Outputs of the head in float32; one without weights of its own is called as it is."""
    weight = getattr(head, "weight", None)
    if weight is None:
        return head(hidden_MH).float()
    if hasattr(head, "in_float32") and (weight.dtype in NARROW or hidden_MH.dtype in NARROW):
        return head.in_float32(hidden_MH)
    asked, bias = asked_dtype(hidden_MH.device, weight.dtype), getattr(head, "bias", None)
    fast = hidden_MH.device.type == "cpu" and asked == torch.bfloat16
    if type(head) in LINEAR and (weight.dtype in NARROW or fast):
        return wide_linear(hidden_MH, weight, bias, asked)
    with torch.autocast(hidden_MH.device.type, enabled=False):
        return head(hidden_MH.to(weight.dtype)).float()


SCALED_BY_TIES = ("umt5", "switch_transformers")


def output_layer_of(model: PreTrainedModel) -> OutputLayer:
    """How the model turns hidden states into logits, by its configuration.

    Raises:
        ValueError: if the model has no output layer.
    """
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    if head is None:
        raise ValueError(
            f"{type(model).__name__} has no output embedding; a policy needs a model with an output layer over tokens"
        )
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)
    factor = (1.0 if scale is None else float(scale)) / (1.0 if divisor is None else float(divisor))
    scaled_by_ties = config.model_type in SCALED_BY_TIES and bool(config.tie_word_embeddings)
    if getattr(config, "scale_decoder_outputs", scaled_by_ties):
        factor *= float(config.d_model) ** -0.5
    return OutputLayer(head=head, scale=factor, cap=getattr(config, "final_logit_softcapping", None))
