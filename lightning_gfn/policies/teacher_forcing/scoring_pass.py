"""Which teacher-forced pass scores actions: the fused one of dense models, or the model's own."""

from __future__ import annotations

from typing import Any, Literal

import torch

from lightning_gfn.padding import unpadded
from lightning_gfn.policies.decoder_factory import MAX_WORKING_COPY_BYTES
from lightning_gfn.policies.fused.families import T5_STACKS, stacks_of, unsupported_reason
from lightning_gfn.policies.fused.layer_copies import LayerCopies, compute_dtype
from lightning_gfn.policies.fused.layers import copy_bytes
from lightning_gfn.policies.models.adapters import has_adapters
from lightning_gfn.policies.models.architectures import Architecture
from lightning_gfn.policies.models.forward_pass import ForwardPass
from lightning_gfn.policies.passes.beginnings import shared_beginning
from lightning_gfn.policies.teacher_forcing.packed_pass import read_packed
from lightning_gfn.policies.teacher_forcing.seq2seq_pass import read_seq2seq
from lightning_gfn.types import StepBatch

PassName = Literal["auto", "hugging_face", "fused"]
MAX_POSITIONS = 512
"""``auto`` leaves longer rows to the attention of the library, which keeps no scores of all pairs.

Of rows that share no prompt, a small float32 model reads 256, 512 and 1,024 positions in 1.1, 1.2 and 1.6 times the
library's time on one core (bfloat16: 0.9, 1.1, 1.1); a prompt shared by several rows weighs more than that. What all
contexts begin with counts from as many positions on.
"""
LEAST_SAVED = 0.1
"""Of batches with a smaller share of shared prompts and padding ``auto`` leaves some to the library.

Whole float32 models are read in 1.1 to 1.2 times its time there, Gemma 2 and T5 in 1.0 to 1.1 times also in bfloat16;
with an adapter the fused pass stays faster.
"""
LEFT_UNLESS_SAVED = ("Gemma2Model", "T5Stack", "MT5Stack")


def different_contexts(steps: StepBatch) -> list[tuple[int, ...]]:
    """The tokens of each context that is not another one's."""
    return list(dict.fromkeys(unpadded(steps.context_ids_NC, steps.context_mask_NC)))


def saved_share(steps: StepBatch, *, encodes: bool) -> float:
    """Share of a padded batch's positions that the fused pass does not read.

    Args:
        steps: contexts and actions.
        encodes: contexts are encoded apart, by the library as well once for each different one.
    """
    rows, padded = steps.action_ids_NT.shape
    read = int(steps.action_mask_NT.sum())
    if not encodes:
        padded += steps.context_ids_NC.shape[1]
        contexts = different_contexts(steps)
        read += sum(map(len, contexts)) - shared_beginning(contexts) * (len(contexts) - 1)
    return 1.0 - read / max(1, rows * padded)


class ScoringPass:
    """Runs teacher-forced passes of a model, its reference and its teacher, or of a critic or reward model.

    Args:
        name: ``fused``, ``hugging_face`` or ``auto``.
        copies: working copies of the fused pass.
        own_attention: the attention of the model was chosen by name, so that ``auto`` has to use it.
    """

    def __init__(self, name: PassName, copies: LayerCopies, *, own_attention: bool = False) -> None:
        self.name, self.copies, self.own_attention = name, copies, own_attention

    def for_another(self) -> ScoringPass:
        """The same choice for another model, with working copies of its own."""
        return ScoringPass(self.name, LayerCopies(), own_attention=self.own_attention)

    def settled(self, architecture: Architecture, backbone: Any, steps: StepBatch) -> ScoringPass:
        """What reads batches like this one, whatever else it is given; with the same working copies."""
        name: PassName = "fused" if self.is_fused(architecture, backbone, steps) else "hugging_face"
        return ScoringPass(name, self.copies, own_attention=self.own_attention)

    def read(self, architecture: Architecture, backbone: Any, steps: StepBatch, pad_id: int) -> ForwardPass:
        """One teacher-forced pass.

        Args:
            architecture: kind of the model.
            backbone: the model without its output layer, as the architecture gives it.
            steps: contexts and actions, on the model's device.
            pad_id: filler.

        Raises:
            ValueError: if the fused pass is asked for and cannot run this model.
        """
        if self.is_fused(architecture, backbone, steps):
            *before, last = stacks_of(backbone)
            layers = self.copies.of(backbone, compute_dtype(last))
            return read_seq2seq(layers, steps) if before else read_packed(layers, steps)
        return architecture.read(backbone, steps, pad_id=pad_id)

    def is_fused(self, architecture: Architecture, backbone: Any, steps: StepBatch) -> bool:
        """True if the fused pass reads these steps.

        Raises:
            ValueError: if it is asked for and cannot run this model.
        """
        if self.name == "hugging_face":
            return False
        reason = unsupported_reason(backbone)
        if self.name == "fused":
            if reason is not None:
                raise ValueError(f"the fused scoring pass cannot run this model: {reason}; set scoring: hugging_face")
            return True
        last = stacks_of(backbone)[-1]
        widths = steps.context_ids_NC.shape[1], steps.action_ids_NT.shape[1]
        return (
            reason is None
            and not self.own_attention
            and last.device.type == "cpu"
            and self.is_short(last, architecture.positions_needed(*widths), steps)
            and copy_bytes(backbone, compute_dtype(last)) <= MAX_WORKING_COPY_BYTES
            and self.is_worth_it(last, steps)
        )

    @staticmethod
    def is_short(last: Any, positions: int, steps: StepBatch) -> bool:
        """True if rows have few positions, or not many more than they all begin with.

        Args:
            last: the model, or its decoder.
            positions: of the longest row.
            steps: contexts and actions.
        """
        if positions <= MAX_POSITIONS or positions > 2 * MAX_POSITIONS or type(last).__name__ in T5_STACKS:
            return positions <= MAX_POSITIONS
        return positions - shared_beginning(different_contexts(steps)) <= MAX_POSITIONS

    @staticmethod
    def is_worth_it(last: Any, steps: StepBatch) -> bool:
        """False for passes that the library makes faster, unless enough is saved.

        Args:
            last: the model, or its decoder.
            steps: contexts and actions.
        """
        name = type(last).__name__
        slower = name in LEFT_UNLESS_SAVED or compute_dtype(last) == torch.float32
        if not slower or has_adapters(last):
            return True
        return saved_share(steps, encodes=name in T5_STACKS) >= LEAST_SAVED
