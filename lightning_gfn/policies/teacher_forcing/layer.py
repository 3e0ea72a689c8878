"""One decoder layer over packed positions: what comes before attention, what comes after, and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.fused.llama_layers import LayerWeights, Shape, norm_heads
from lightning_gfn.policies.fused.working_linear import WorkingLinear, wider
from lightning_gfn.policies.numerics.processor import cached_rows
from lightning_gfn.policies.teacher_forcing.attention import packed_attention
from lightning_gfn.policies.teacher_forcing.packing import Block


def normalise(x_MI: Tensor, epsilon: float, out_MI: Tensor, factor_M1: Tensor) -> None:
    """Write x / sqrt(mean(x²) + ε) into ``out``, and 1 / sqrt(…) into ``factor``."""
    torch.linalg.vector_norm(x_MI, dim=1, keepdim=True, out=factor_M1)
    factor_M1.square_().div_(x_MI.shape[1]).add_(epsilon).rsqrt_()
    out_MI.copy_(x_MI * factor_M1)


def add_and_normalise(x_MI: Tensor, update_MI: Tensor | None, epsilon: float, out_MI: Tensor) -> tuple[Tensor, Tensor]:
    """x + update, whose norm is written into ``out``.

    Returns:
        the sum (x itself without an update), and the factors of the norm (M, 1).
    """
    total_MI = x_MI if update_MI is None else torch.empty_like(x_MI)
    factor_M1 = x_MI.new_empty(x_MI.shape[0], 1)
    for rows in cached_rows(x_MI.shape[0], 16 * x_MI.shape[1], x_MI.device):
        if update_MI is not None:
            torch.add(x_MI[rows], update_MI[rows].to(x_MI.dtype), out=total_MI[rows])
        normalise(total_MI[rows], epsilon, out_MI[rows], factor_M1[rows])
    return total_MI, factor_M1


def add_norm_gradient(grad_MI: Tensor, normed_MI: Tensor, factor_M1: Tensor, further_MI: Tensor | None) -> Tensor:
    """∂x = factor · (∂n - n · mean(n ∂n)), plus a further gradient, in the type of the factor."""
    out_MI = factor_M1.new_empty(normed_MI.shape)
    for rows in cached_rows(normed_MI.shape[0], 20 * normed_MI.shape[1], normed_MI.device):
        grad, normed = grad_MI[rows].to(factor_M1.dtype), normed_MI[rows].to(factor_M1.dtype)
        inner_M1 = torch.linalg.vecdot(grad, normed)[:, None].div_(-normed.shape[1])
        grad = torch.addcmul(grad, normed, inner_M1)
        if further_MI is None:
            torch.mul(grad, factor_M1[rows], out=out_MI[rows])
        else:
            torch.addcmul(further_MI[rows], grad, factor_M1[rows], out=out_MI[rows])
    return out_MI


def gated(states_MF: Tensor, out_MI: Tensor) -> None:
    """Write silu(gate) · up into ``out``."""
    for rows in cached_rows(states_MF.shape[0], 2 * states_MF[0].nbytes, states_MF.device):
        gate, up = states_MF[rows].chunk(2, dim=1)
        torch.mul(functional.silu(gate), up, out=out_MI[rows])


def gated_gradient(states_MF: Tensor, grad_MI: Tensor, active_MI: Tensor) -> Tensor:
    """Gradient of gate and up side by side; writes silu(gate) · up into ``active``."""
    grad_MF = torch.empty_like(states_MF)
    for rows in cached_rows(states_MF.shape[0], 4 * states_MF[0].nbytes, states_MF.device):
        gate, up = states_MF[rows].chunk(2, dim=1)
        grad_gate, grad_up = grad_MF[rows].chunk(2, dim=1)
        grad, silu = grad_MI[rows], functional.silu(gate)
        torch.mul(silu, up, out=active_MI[rows])
        torch.mul(grad, silu, out=grad_up)
        grad_gate.copy_(torch.ops.aten.silu_backward(grad * up, gate))
    return grad_MF


class _Projections(torch.autograd.Function):
    """Norm, projections and rotation: x (S, H) → queries and keys (S, heads + key heads, D), and values."""

    @staticmethod
    def forward(
        ctx: Any, x_SH: Tensor, rotation_S1D: Tensor | None, linear: WorkingLinear, shape: Shape, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        inputs_SK = linear.new_inputs(x_SH)
        _, factor_S1 = add_and_normalise(x_SH, None, shape.epsilon, inputs_SK[:, : linear.num_inputs])
        states_SGD = linear.forward(inputs_SK).view(x_SH.shape[0], -1, shape.head_width)
        turned = shape.num_heads + shape.num_kv_heads
        qk_SGD = states_SGD[:, :turned].to(wider(states_SGD.dtype), copy=True, memory_format=torch.contiguous_format)
        if rotation_S1D is not None:
            as_complex(qk_SGD).mul_(rotation_S1D)
        ctx.linear = linear
        ctx.save_for_backward(inputs_SK, factor_S1, rotation_S1D)
        return qk_SGD, states_SGD[:, turned:].contiguous()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        grad_qk_SGD, grad_v_SJD = grad_outputs
        inputs_SK, factor_S1, rotation_S1D = ctx.saved_tensors
        linear: WorkingLinear = ctx.linear
        if rotation_S1D is not None:
            grad_qk_SGD = torch.view_as_real(as_complex(grad_qk_SGD) * rotation_S1D.conj())
        grad_SO = inputs_SK.new_empty(inputs_SK.shape[0], linear.weight_KO.shape[1])
        split = linear.weight_KO.shape[1] - grad_v_SJD[0].numel()
        grad_SO[:, :split] = grad_qk_SGD.flatten(1)
        grad_SO[:, split:] = grad_v_SJD.flatten(1)
        grad_normed, grad_SR = linear.input_gradient(grad_SO)
        grad_x = add_norm_gradient(grad_normed, inputs_SK[:, : linear.num_inputs], factor_S1, None)
        return grad_x, None, None, None, *linear.gradients(grad_SO, grad_SR, inputs_SK, ctx.needs_input_grad[4:])


class _OutputAndMLP(torch.autograd.Function):
    """x + W o, then x + MLP(norm(x)): residual stream (S, H) and mixed values → residual stream."""

    @staticmethod
    def forward(
        ctx: Any, x_SH: Tensor, mixed_SA: Tensor, weights: LayerWeights, shape: Shape, *parameters: Tensor
    ) -> Tensor:
        out, gate_up, down = weights.out, weights.gate_up, weights.down
        mixed_SK = with_room(out, mixed_SA)
        inputs_SK = gate_up.new_inputs(x_SH)
        normed_SH = inputs_SK[:, : gate_up.num_inputs]
        x_SH, factor_S1 = add_and_normalise(x_SH, out.forward(mixed_SK), shape.epsilon, normed_SH)
        states_SF = gate_up.forward(inputs_SK)
        active_SK = down.new_inputs(x_SH)
        gated(states_SF, active_SK[:, : down.num_inputs])
        x_SH += down.forward(active_SK)
        low_SR = active_SK[:, down.num_inputs :].clone()
        ctx.linears = (out, gate_up, down)
        ctx.save_for_backward(mixed_SK, inputs_SK, factor_S1, states_SF, low_SR)
        return x_SH

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad_x,) = grad_outputs
        mixed_SK, inputs_SK, factor_S1, states_SF, low_SR = ctx.saved_tensors
        out, gate_up, down = ctx.linears
        counts = [len(linear.parameters) for linear in ctx.linears]
        need_out, need_gate_up, need_down = torch.tensor(ctx.needs_input_grad[4:]).split(counts)
        grad_SH = grad_x.to(down.dtype)
        grad_active, grad_low = down.input_gradient(grad_SH)
        active_SK = down.new_inputs(states_SF)
        active_SK[:, down.num_inputs :] = low_SR
        grad_SF = gated_gradient(states_SF, grad_active, active_SK[:, : down.num_inputs])
        of_down = down.gradients(grad_SH, grad_low, active_SK, need_down.tolist())
        grad_normed, grad_low = gate_up.input_gradient(grad_SF)
        of_gate_up = gate_up.gradients(grad_SF, grad_low, inputs_SK, need_gate_up.tolist())
        grad_x = add_norm_gradient(grad_normed, inputs_SK[:, : gate_up.num_inputs], factor_S1, grad_x)
        grad_SH = grad_x.to(out.dtype)
        grad_mixed, grad_low = out.input_gradient(grad_SH)
        of_out = out.gradients(grad_SH, grad_low, mixed_SK, need_out.tolist())
        return grad_x, grad_mixed, None, None, *of_out, *of_gate_up, *of_down


def as_complex(x_SGD: Tensor) -> Tensor:
    """Pairs (x_0, y_0), (x_1, y_1), … of each head as complex numbers."""
    return torch.view_as_complex(x_SGD.unflatten(2, (-1, 2)))


def with_room(linear: WorkingLinear, x_MI: Tensor) -> Tensor:
    """Inputs with room for what A makes of them; the same ones if there is no adapter."""
    if not linear.adapters:
        return x_MI
    inputs_MK = linear.new_inputs(x_MI)
    inputs_MK[:, : linear.num_inputs] = x_MI
    return inputs_MK


def run_layer(x_SH: Tensor, rotation_S1D: Tensor, blocks: list[Block], weights: LayerWeights, shape: Shape) -> Tensor:
    """Run one layer over the residual stream.

        x ← x + W_o attention(rotate(W_qk norm(x)), W_v norm(x)),    x ← x + W_d (silu(W_g norm(x)) · W_u norm(x))

    Args:
        x_SH: residual stream, float32 or wider.
        rotation_S1D: complex factors of each position's pairs.
        blocks: what attends to what.
        weights: of the layer.
        shape: of the model.

    Returns:
        the residual stream behind the layer.
    """
    normed = weights.qk_norms is not None
    parameters = weights.qkv.parameters
    rotation = None if normed else rotation_S1D
    qk_SGD, v_SJD = _Projections.apply(x_SH, rotation, weights.qkv, shape, *parameters)
    if weights.qk_norms is not None:
        qk_SGD = norm_heads(qk_SGD, weights.qk_norms, shape)
        qk_SGD = torch.view_as_real(as_complex(qk_SGD) * rotation_S1D).flatten(2)
    mixed_SA = packed_attention(qk_SGD, v_SJD, blocks).flatten(1)
    parameters = weights.out.parameters + weights.gate_up.parameters + weights.down.parameters
    return _OutputAndMLP.apply(x_SH, mixed_SA, weights, shape, *parameters)
