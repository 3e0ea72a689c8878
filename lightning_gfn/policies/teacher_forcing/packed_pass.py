"""A teacher-forced pass of a dense decoder-only model from working copies of its layers."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from lightning_gfn.policies.fused.layers import DenseLayers
from lightning_gfn.policies.models.forward_pass import ForwardPass
from lightning_gfn.policies.teacher_forcing.attention import Scene
from lightning_gfn.policies.teacher_forcing.layer import run_layer
from lightning_gfn.policies.teacher_forcing.packing import pack
from lightning_gfn.policies.teacher_forcing.windows import within_window
from lightning_gfn.types import StepBatch


def read_packed(layers: DenseLayers, steps: StepBatch) -> ForwardPass:
    """One teacher-forced pass; equal contexts are read once, and nothing is padding.

    Args:
        layers: working copies, with their active adapters.
        steps: contexts and actions, on the device of the model.
    """
    backbone = layers.backbone
    packing = pack(steps)
    with torch.autocast(packing.ids_S.device.type, enabled=False):
        rotations = {
            name: None if table is None else table[packing.position_S]
            for name, table in layers.rotations(packing.num_positions).items()
        }
        forms = {weights.form for weights in layers.layers}
        scenes = {form: Scene(within_window(packing, form.window), form) for form in forms}
        x_SH = layers.embed(packing.ids_S, packing.position_S)
        again = backbone.gradient_checkpointing and backbone.training and torch.is_grad_enabled()
        for weights in layers.active():
            form = weights.form
            arguments = (x_SH, rotations[form.rotation], scenes[form], weights, layers.shape)
            x_SH = checkpoint(run_layer, *arguments, use_reentrant=False) if again else run_layer(*arguments)
        hidden_SH = layers.final_norm(x_SH)
    return ForwardPass(
        hidden_SH=hidden_SH,
        flat_NT1=packing.flat_NT1,
        context_PCH=hidden_SH[packing.context_PC],
        context_mask_PC=packing.context_mask_PC,
        passage_N=packing.passage_N,
    )
