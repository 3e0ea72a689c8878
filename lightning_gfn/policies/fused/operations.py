"""Operations of fused decoders that write into memory of their own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def linear_(out_MO: Tensor, x_MI: Tensor, weight_IO: Tensor, bias_O: Tensor | None) -> None:
    """out = x W + b."""
    if bias_O is None:
        torch.mm(x_MI, weight_IO, out=out_MO)
    else:
        torch.addmm(bias_O, x_MI, weight_IO, out=out_MO)


def add_linear_(y_MO: Tensor, x_MI: Tensor, weight_IO: Tensor, bias_O: Tensor | None) -> None:
    """y += x W + b."""
    y_MO.addmm_(x_MI, weight_IO)
    if bias_O is not None:
        y_MO += bias_O


class Normaliser:
    """Norms of M positions, without weights.

    Args:
        like: gives dtype and device.
        width: H.
        num_rows: M.
        epsilon: added to the mean square.
        centred: subtract means.
    """

    def __init__(self, like: Tensor, width: int, num_rows: int, epsilon: float, *, centred: bool = False) -> None:
        self.inverse_H, self.epsilon, self.centred = 1 / width, epsilon, centred
        self.epsilon_1 = like.new_empty(1, dtype=torch.float32).fill_(epsilon)
        self.scale_M1 = like.new_empty(num_rows, 1, dtype=torch.float32)
        self.normed_MH = like.new_empty(num_rows, width)

    def normalise(self, x_MH: Tensor) -> Tensor:
        """x / sqrt(mean(x²) + ε), of x less its mean if centred. The library's RMS norm is six operations on CPU."""
        if self.centred:
            return functional.layer_norm(x_MH, x_MH.shape[1:], eps=self.epsilon)
        torch.linalg.vector_norm(x_MH, dim=1, keepdim=True, dtype=torch.float32, out=self.scale_M1)
        scale_M1 = torch.addcmul(self.epsilon_1, self.scale_M1, self.scale_M1, value=self.inverse_H).rsqrt_()
        if x_MH.dtype == torch.float32:
            return torch.mul(x_MH, scale_M1, out=self.normed_MH)
        return self.normed_MH.copy_(x_MH * scale_M1)

    def normalise_wide(self, x_MH: Tensor) -> Tensor:
        """The same in float32."""
        if x_MH.dtype == torch.float32:
            return self.normalise(x_MH)
        norm = functional.layer_norm if self.centred else functional.rms_norm
        return norm(x_MH.float(), x_MH.shape[1:], eps=self.epsilon)
