"""Low-rank adapters whose small updates survive narrow weights."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from lightning_gfn.policies.numerics.processor import asked_dtype
from lightning_gfn.policies.numerics.wide_linear import NARROW, wide_linear


class WideLoraLinear(Linear):
    """An adapted linear layer that adds W x and the adapter's output in float32 and rounds their sum once.

    W x rounded first lies on the grid of bfloat16, and an update below half a step of it would change nothing, in
    whatever direction; the sum of unrounded numbers crosses to the next step as often as the update says.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output in the type that the layer computes in."""
        narrow = self.narrow_type(x)
        if narrow is None or args or kwargs or self.disable_adapters or self.merged or self.lora_variant:
            return super().forward(x, *args, **kwargs)
        return self.in_float32(x).to(narrow)

    def narrow_type(self, x: Tensor) -> torch.dtype | None:
        """The type below float32 that the layer computes in: its weights' or the surrounding autocast's."""
        dtype = asked_dtype(x.device, self.weight.dtype)
        return dtype if dtype in NARROW else None

    def in_float32(self, x: Tensor) -> Tensor:
        """The layer's output before it is rounded."""
        narrow, base = self.narrow_type(x), self.get_base_layer()
        weight = base.weight.t() if self.fan_in_fan_out else base.weight
        own = (x, weight) if narrow is None else (x.to(narrow), weight.to(narrow))
        out = wide_linear(*own, base.bias)
        names = () if self.disable_adapters or self.merged else self.active_adapters
        with torch.autocast(x.device.type, enabled=False):
            for name in names:
                if name in self.lora_A:
                    inner = nn.functional.linear(self.lora_dropout[name](x.float()), self.lora_A[name].weight.float())
                    update = nn.functional.linear(inner, self.lora_B[name].weight.float())
                    out = out + update * self.scaling[name]
        return out


def widen_adapters(model: nn.Module) -> None:
    """Let every adapted linear layer of a model compute so."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = WideLoraLinear
