"""One decoder layer over packed positions: what comes before attention, what comes after, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.policies.fused.layers import LayerWeights, Shape, norm_heads
from lightning_gfn.policies.fused.seq2seq_layers import CrossWeights
from lightning_gfn.policies.fused.working_linear import WorkingLinear
from lightning_gfn.policies.numerics.outer_sum import wider
from lightning_gfn.policies.teacher_forcing.attention import Scene, cross_attention, packed_attention
from lightning_gfn.policies.teacher_forcing.feed_forward import activate, activation_gradient
from lightning_gfn.policies.teacher_forcing.layer_norms import PostNorm, add_and_normalise, add_norm_gradient


class _Projections(torch.autograd.Function):
    """Norm, projections and rotation: x (S, H) → queries and keys (S, heads + key heads, D), and values."""

    @staticmethod
    def forward(
        ctx: Any, x_SH: Tensor, rotation_S1D: Tensor | None, linear: WorkingLinear, shape: Shape, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        inputs_SK = linear.new_inputs(x_SH)
        _, factor_S1 = add_and_normalise(x_SH, None, shape, inputs_SK[:, : linear.num_inputs])
        states_SGD = linear.forward(inputs_SK).view(x_SH.shape[0], -1, shape.head_width)
        turned = shape.num_heads + shape.num_kv_heads
        qk_SGD = states_SGD[:, :turned].to(wider(states_SGD.dtype), copy=True, memory_format=torch.contiguous_format)
        if rotation_S1D is not None:
            as_complex(qk_SGD).mul_(rotation_S1D)
        ctx.linear, ctx.centred = linear, shape.centred
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
        normed_SH = inputs_SK[:, : linear.num_inputs]
        grad_x = add_norm_gradient(grad_normed, normed_SH, factor_S1, None, centred=ctx.centred)
        return grad_x, None, None, None, *linear.gradients(grad_SO, grad_SR, inputs_SK, ctx.needs_input_grad[4:])


class _OutputAndMLP(torch.autograd.Function):
    """x + post₁(W o), then x + post₂(MLP(norm(x))): residual stream (S, H) and mixed values → residual stream."""

    @staticmethod
    def forward(
        ctx: Any, x_SH: Tensor, mixed_SA: Tensor, weights: LayerWeights, shape: Shape, *parameters: Tensor
    ) -> Tensor:
        out, up, down = weights.out, weights.up, weights.down
        ctx.posts = [PostNorm(norm, shape) for norm in weights.post_norms]
        mixed_SK = with_room(out, mixed_SA)
        inputs_SK = up.new_inputs(x_SH)
        update_SH, of_first = ctx.posts[0].forward(out.forward(mixed_SK))
        x_SH, factor_S1 = add_and_normalise(x_SH, update_SH, shape, inputs_SK[:, : up.num_inputs])
        states_SF = up.forward(inputs_SK)
        active_SK = down.new_inputs(x_SH)
        activate(states_SF, active_SK[:, : down.num_inputs], shape)
        update_SH, of_second = ctx.posts[1].forward(down.forward(active_SK))
        x_SH += update_SH
        low_SR = active_SK[:, down.num_inputs :].clone()
        ctx.linears, ctx.shape = (out, up, down), shape
        ctx.save_for_backward(mixed_SK, inputs_SK, factor_S1, states_SF, low_SR, *of_first, *of_second)
        return x_SH

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad_x,) = grad_outputs
        mixed_SK, inputs_SK, factor_S1, states_SF, low_SR, *kept = ctx.saved_tensors
        out, up, down = ctx.linears
        needed = Needed(ctx.needs_input_grad[4:])
        need_out, need_up, need_down = (needed.take(len(linear.parameters)) for linear in ctx.linears)
        grad_SH, of_second = ctx.posts[1].backward(grad_x, kept[2:], down.dtype)
        grad_active, grad_low = down.input_gradient(grad_SH)
        active_SK = down.new_inputs(states_SF)
        active_SK[:, down.num_inputs :] = low_SR
        grad_SF = activation_gradient(states_SF, grad_active, active_SK[:, : down.num_inputs], ctx.shape)
        of_down = down.gradients(grad_SH, grad_low, active_SK, need_down)
        grad_normed, grad_low = up.input_gradient(grad_SF)
        of_up = up.gradients(grad_SF, grad_low, inputs_SK, need_up)
        normed_SH = inputs_SK[:, : up.num_inputs]
        grad_x = add_norm_gradient(grad_normed, normed_SH, factor_S1, grad_x, centred=ctx.shape.centred)
        grad_SH, of_first = ctx.posts[0].backward(grad_x, kept[:2], out.dtype)
        grad_mixed, grad_low = out.input_gradient(grad_SH)
        of_out = out.gradients(grad_SH, grad_low, mixed_SK, need_out)
        of_posts = [grad for post, grad in zip(ctx.posts, (of_first, of_second), strict=True) if post.norm is not None]
        return grad_x, grad_mixed, None, None, *of_out, *of_up, *of_down, *of_posts


class _Outputs(torch.autograd.Function):
    """Outputs (M, O) of layers side by side, of inputs as they are."""

    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, linear: WorkingLinear, *parameters: Tensor) -> Tensor:
        inputs_MK = with_room(linear, x_MI)
        out_MO = linear.forward(inputs_MK)
        ctx.linear = linear
        ctx.save_for_backward(inputs_MK)
        return out_MO

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad_MO,) = grad_outputs
        (inputs_MK,) = ctx.saved_tensors
        grad_x, grad_MR = ctx.linear.input_gradient(grad_MO)
        return grad_x, None, *ctx.linear.gradients(grad_MO, grad_MR, inputs_MK, ctx.needs_input_grad[2:])


class Needed:
    """Which parameters want a gradient, taken part by part.

    Args:
        flags: of all parameters.
    """

    def __init__(self, flags: Sequence[bool]) -> None:
        self.rest = list(flags)

    def take(self, count: int) -> list[bool]:
        """The next ones."""
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken


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


def attention_outputs(
    x_SH: Tensor, rotation_S1D: Tensor | None, scene: Scene, weights: LayerWeights, shape: Shape
) -> Tensor:
    """Mixed values of one layer's attention to packed positions, (S, heads · D); arguments as in ``run_layer``."""
    early = rotation_S1D if weights.qk_norms is None else None
    qk_SGD, v_SJD = _Projections.apply(x_SH, early, weights.qkv, shape, *weights.qkv.parameters)
    if weights.qk_norms is not None:
        qk_SGD = norm_heads(qk_SGD, weights.qk_norms, shape)
        if rotation_S1D is not None:
            qk_SGD = torch.view_as_real(as_complex(qk_SGD) * rotation_S1D).flatten(2)
    return packed_attention(qk_SGD, v_SJD, scene).flatten(1)


def add_output_and_mlp(x_SH: Tensor, mixed_SA: Tensor, weights: LayerWeights, shape: Shape) -> Tensor:
    """The residual stream behind the output projection of attention and the feed-forward network."""
    parameters = [parameter for linear in weights.linears()[1:] for parameter in linear.parameters]
    posts = [norm.weight_I for norm in weights.post_norms if norm is not None]
    return _OutputAndMLP.apply(x_SH, mixed_SA, weights, shape, *parameters, *posts)


def run_layer(x_SH: Tensor, rotation_S1D: Tensor | None, scene: Scene, weights: LayerWeights, shape: Shape) -> Tensor:
    """Run one layer over the residual stream; see ``Family``.

    Args:
        x_SH: residual stream, float32 or wider.
        rotation_S1D: complex factors of each position's pairs; None if nothing is rotated.
        scene: what attends to what.
        weights: of the layer.
        shape: of the model.

    Returns:
        the residual stream behind the layer.
    """
    mixed_SA = attention_outputs(x_SH, rotation_S1D, scene, weights, shape)
    return add_output_and_mlp(x_SH, mixed_SA, weights, shape)


def run_decoder_layer(
    x_SH: Tensor,
    states_EH: Tensor,
    scenes: tuple[Scene, Scene],
    weights: tuple[LayerWeights, CrossWeights],
    shape: Shape,
) -> Tensor:
    """Run one decoder layer of an encoder-decoder model over the residual stream.

    Args:
        x_SH: residual stream, float32 or wider.
        states_EH: states of contexts, in the type that products are computed in.
        scenes: of attention to actions, and to contexts.
        weights: of the layer, and of its cross-attention.
        shape: of the model.

    Returns:
        the residual stream behind the layer.
    """
    own, cross = weights
    mixed_SA = attention_outputs(x_SH, None, scenes[0], own, shape)
    x_SH = x_SH + _Outputs.apply(mixed_SA, own.out, *own.out.parameters)
    query_SHD, _ = _Projections.apply(x_SH, None, cross.query, shape, *cross.query.parameters)
    states_EGD = _Outputs.apply(states_EH, cross.key_value, *cross.key_value.parameters)
    key_EHD, v_EHD = states_EGD.unflatten(1, (-1, shape.head_width)).chunk(2, dim=1)
    mixed_SA = cross_attention(query_SHD, key_EHD.to(query_SHD.dtype), v_EHD.contiguous(), scenes[1]).flatten(1)
    return add_output_and_mlp(x_SH, mixed_SA, replace(own, out=cross.out), shape)
