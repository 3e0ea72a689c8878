"""Memory that every layer of a fused decoder uses in turn, and how its queries attend."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.fused.decoder_weights import FusedWeights
from lightning_gfn.policies.fused.layers import AttentionForm, LayerWeights, norm_heads
from lightning_gfn.policies.fused.norms import Norm
from lightning_gfn.policies.fused.operations import Normaliser
from lightning_gfn.policies.fused.working_linear import WorkingLinear


class Activations(Normaliser):
    """Memory for the activations of M positions, used by every layer in turn, and the views that a layer needs of it.

    Allocating and slicing cost more than the arithmetic of a single token, so both are done once for a batch. Behind
    the inputs of each product is room for what adapters make of them.

    Args:
        weights: the working copy.
        num_rows: M.
    """

    def __init__(self, weights: FusedWeights, num_rows: int) -> None:
        query, key, width = weights.shape.num_heads, weights.shape.num_kv_heads, weights.shape.head_width
        empty = weights.embedding_VH.new_empty
        hidden, shape = weights.embedding_VH.shape[1], weights.shape
        super().__init__(weights.embedding_VH, hidden, num_rows, shape.epsilon, centred=shape.centred)
        self.num_rows = num_rows
        self.rooms: dict[int, Tensor] = {}
        self.states_MA = empty(num_rows, (query + 2 * key) * width)
        self.states_MGD = self.states_MA.view(num_rows, query + 2 * key, width)
        self.turned_MGD = self.states_MGD[:, : query + key]
        self.kept_MGD = self.states_MGD[:, query:]
        # Query heads that share a key head stand in the place of query positions.
        self.query_MKGD = self.states_MGD[:, :query].view(num_rows, key, query // key, width)
        self.complex_MGD: Tensor | None = None
        if weights.dtype == torch.float32 and width % 2 == 0:
            self.complex_MGD = torch.view_as_complex(self.turned_MGD.view(num_rows, query + key, width // 2, 2))
        self.inner_MF = empty(num_rows, weights.layers[0].up.weight_KO.shape[1])
        self.gate_MF, *self.rest = self.inner_MF.chunk(1 + shape.is_gated, dim=1)
        self.update_MH = empty(num_rows, hidden) if weights.layers[0].post_norms[0] is not None else None
        self.shape = shape

    def inputs(self, linear: WorkingLinear, x_MI: Tensor) -> Tensor:
        """x with room for what adapters make of it; x itself if there are none."""
        if not linear.adapters:
            return x_MI
        width = linear.weight_KO.shape[0]
        if (room := self.rooms.get(width)) is None:
            # Zeros: matrix units read a few numbers beyond a row, times 0, which may not be NaN.
            room = self.rooms[width] = x_MI.new_zeros(self.num_rows, width)
        room[:, : linear.num_inputs] = x_MI
        return room

    def project(self, layer: LayerWeights, x_MH: Tensor, rotation_M1D: Tensor | None) -> None:
        """Queries, keys and values of ``x_MH`` into ``states``, queries and keys turned to their positions."""
        layer.qkv.forward_(self.states_MA, self.inputs(layer.qkv, self.normalise(x_MH)))
        turned = self.turned_MGD
        if layer.qk_norms is not None:
            turned.copy_(norm_heads(turned, layer.qk_norms, self.shape))
        if rotation_M1D is None:
            return
        if self.complex_MGD is not None:
            self.complex_MGD.mul_(rotation_M1D)
        else:
            wide = torch.view_as_complex(turned.float().view(*turned.shape[:2], -1, 2)).mul_(rotation_M1D)
            turned.copy_(torch.view_as_real(wide).flatten(2))

    def add_attention_(self, layer: LayerWeights, x_MH: Tensor, mixed_MA: Tensor) -> None:
        """x += post₁(W_o mixed), in place."""
        self.add_(x_MH, layer.out, mixed_MA, layer.post_norms[0])

    def add_mlp_(self, layer: LayerWeights, x_MH: Tensor) -> None:
        """x += post₂(MLP(norm(x))), in place."""
        layer.up.forward_(self.inner_MF, self.inputs(layer.up, self.normalise(x_MH)))
        self.shape.activation.forward_(self.gate_MF)
        for up_MF in self.rest:
            self.gate_MF.mul_(up_MF)
        self.add_(x_MH, layer.down, self.gate_MF, layer.post_norms[1])

    def add_(self, x_MH: Tensor, linear: WorkingLinear, inputs_MI: Tensor, post_norm: Norm | None) -> None:
        """Add outputs of a layer, normalised if there is a norm, to x."""
        inputs_MK = self.inputs(linear, inputs_MI)
        if post_norm is None or self.update_MH is None:
            linear.add_(x_MH, inputs_MK)
        else:
            linear.forward_(self.update_MH, inputs_MK)
            x_MH += post_norm(self.update_MH.float()).to(x_MH.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, form: AttentionForm) -> Tensor:
    """softmax(c · tanh(scale · Q Kᵀ / c) + mask) V, without tanh if there is no bound.

    Args:
        query: (rows, heads, queries, D).
        key: (rows, heads, L, D).
        value: (rows, heads, L, D).
        mask: added to scores, or bool, True on what is seen; None to see everything.
        form: how the layer attends.
    """
    if form.cap is None:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=form.scale)
    scores = (query @ key.transpose(2, 3)).mul_(form.scale / form.cap).tanh_().mul_(form.cap)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores.add_(mask)
    return scores.softmax(-1) @ value


def turned_to(rotations: dict[str | None, Tensor | None], position_M: Tensor) -> dict[str | None, Tensor | None]:
    """Factors of each rotation at these positions."""
    return {name: None if table is None else table.index_select(0, position_M) for name, table in rotations.items()}
