"""The middle of a feed-forward network, by rows that stay in the cache, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.policies.fused.layers import Shape
from lightning_gfn.policies.numerics.processor import cached_rows


def activate(states_MF: Tensor, out_MI: Tensor, shape: Shape) -> None:
    """Write act(gate) · up, or act(up) of a network without gate, into ``out``."""
    act = shape.activation.forward
    for rows in cached_rows(states_MF.shape[0], 2 * states_MF[0].nbytes, states_MF.device):
        if shape.is_gated:
            gate, up = states_MF[rows].chunk(2, dim=1)
            torch.mul(act(gate), up, out=out_MI[rows])
        else:
            out_MI[rows] = act(states_MF[rows])


def activation_gradient(states_MF: Tensor, grad_MI: Tensor, active_MI: Tensor, shape: Shape) -> Tensor:
    """Gradient of gate and up side by side, or of up alone; writes the outputs of ``activate`` into ``active``."""
    grad_MF = torch.empty_like(states_MF)
    act, act_backward = shape.activation.forward, shape.activation.backward
    for rows in cached_rows(states_MF.shape[0], 4 * states_MF[0].nbytes, states_MF.device):
        states, grad = states_MF[rows], grad_MI[rows]
        if not shape.is_gated:
            active_MI[rows] = act(states)
            grad_MF[rows] = act_backward(grad, states)
            continue
        gate, up = states.chunk(2, dim=1)
        grad_gate, grad_up = grad_MF[rows].chunk(2, dim=1)
        active = act(gate)
        torch.mul(active, up, out=active_MI[rows])
        torch.mul(grad, active, out=grad_up)
        grad_gate.copy_(act_backward(grad * up, gate))
    return grad_MF
