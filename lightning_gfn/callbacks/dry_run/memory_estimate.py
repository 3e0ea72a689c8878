"""What a training step will hold in memory: weights, gradients, moments, activations of a pass, keys and values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.policies.models.evaluation_mode import no_dropout_and_gradient
from lightning_gfn.policies.teacher_forcing.scoring_pass import ScoringPass
from lightning_gfn.types import StepBatch

PROBED_TOKENS = 256
"""The longest row whose activations are looked at; longer ones are taken to need as much a token."""
PROBED_GROUP = 64
"""The most rows of one context that are looked at to know which pass reads a batch."""
LOGIT_TABLES = 3
"""Tables of the size of the logits, float32, that a backward pass through them holds: softmax, gradient, one more."""
SAMPLER_BYTES = 16
"""Bytes a row and vocabulary entry of a sampling step: logits in float32, cumulative sums in float64 and one copy."""


@dataclass(frozen=True)
class StepSize:
    """A training step of one process.

    Args:
        sampled_rows: rows that are sampled at once, before any cut.
        gradient_rows: rows of one loss.
        context: tokens of the longest context.
        action: tokens of the longest action.
        group: rows that share a context.
    """

    sampled_rows: int
    gradient_rows: int
    context: int
    action: int
    group: int = 1

    def rows_of_pass(self, rows: int, max_rows: int | None, max_tokens: int | None) -> int:
        """So many of these rows share a pass at most."""
        fitting = rows if max_tokens is None else max(1, max_tokens // (self.context + self.action))
        return min(rows, fitting, rows if max_rows is None else max_rows)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Every tensor inside an object of plain attributes, lists and dictionaries; of modules none."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from tensors_of(inner)
    elif not isinstance(value, (nn.Module, str)):
        for inner in (value if isinstance(value, dict) else getattr(value, "__dict__", {})).values():
            yield from tensors_of(inner)


def storage_bytes(tensors: Iterator[Tensor], apart_from: set[int]) -> int:
    """Memory of tensors, each storage once.

    Args:
        tensors: any, some of which may share memory.
        apart_from: addresses of memory that is counted elsewhere; grows.
    """
    total = 0
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in apart_from:
            apart_from.add(storage.data_ptr())
            total += storage.nbytes()
    return total


def working_copies(model: LanguageModel) -> Iterator[Tensor]:
    """What sampling and scoring keep of the weights in layouts of their own."""
    return tensors_of([model.scoring.copies, model.decoders])


def kept_bytes(run: Callable[[], Any], module: nn.Module) -> int:
    """What the graph of a computation keeps for its backward pass, but for weights and their working copies.

    Args:
        run: the computation.
        module: whose weights and buffers do not count.
    """
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> None:
        kept.append(tensor.detach())  # with its graph it would hold itself for ever

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda nothing: nothing):
        run()
    copies = working_copies(module) if isinstance(module, LanguageModel) else ()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers(), *copies)}
    return storage_bytes(iter(kept), own)


def read(model: LanguageModel, steps: StepBatch, scoring: ScoringPass | None = None) -> Any:
    """One teacher-forced pass, as a policy or a reward network makes it.

    Args:
        model: policy or reward network.
        steps: contexts and actions.
        scoring: which pass; the model's own if None.
    """
    chosen = scoring if scoring is not None else model.scoring
    architecture = model.architecture
    return chosen.read(architecture, architecture.backbone(model.hugging_face), steps, model.pad_id)


def activation_bytes(model: LanguageModel, rows: int, context: int, action: int, *, contexts: int) -> int:
    """Activations of a training pass without its logits, from what small passes keep.

    Passes over one row of the longest length, at most 256 tokens, and over two with one context or with two, give what
    a row keeps, what it keeps if it shares its context, and what does not depend on rows. Under gradient checkpointing
    the inputs of all layers and the activations of one are held.

    Args:
        model: policy or reward network.
        rows: of the pass.
        context: tokens of its longest context.
        action: tokens of its longest action.
        contexts: different ones in the pass.
    """
    hugging_face, length = model.hugging_face, context + action
    probed = min(length, PROBED_TOKENS)
    inputs = max(1, probed * context // length)
    token = int(model.space.allowed_V.nonzero()[0])

    def probe(*firsts: int) -> StepBatch:
        told = [[first] * inputs for first in firsts]
        return pad_steps(told, [[token] * (probed - inputs)] * len(firsts), model.device)

    # The pass of the whole batch, which may share contexts where small ones do not.
    alike = probe(*[0] * min(PROBED_GROUP, -(-rows // contexts)))
    scoring = model.scoring.settled(model.architecture, model.architecture.backbone(hugging_face), alike)

    def passed(*firsts: int) -> int:
        return kept_bytes(lambda: read(model, probe(*firsts), scoring), model)

    recomputes = model.gradient_checkpointing
    if recomputes:
        hugging_face.gradient_checkpointing_disable()
    one = passed(0)
    of_row, of_sharing = passed(0, 1) - one, passed(0, 0) - one
    fixed = max(0, one - of_row)
    total = contexts * of_row + (rows - contexts) * of_sharing
    if recomputes:
        hugging_face.gradient_checkpointing_enable({"use_reentrant": False})
        config = hugging_face.config.get_text_config()
        layers = int(config.num_hidden_layers)
        inputs_of_layers = layers * int(config.hidden_size) * hugging_face.dtype.itemsize
        total = total // layers + rows * probed * inputs_of_layers
        fixed //= layers
    return fixed + math.ceil(total * length / probed)


def key_value_bytes(model: LanguageModel, rows: int, positions: int, itemsize: int) -> int:
    """Keys and values of all layers at all positions; layers with a window or a recurrent state need less."""
    config = model.hugging_face.config.get_text_config(decoder=True)

    def first_of(*names: str) -> int | None:
        return next((int(value) for name in names if (value := getattr(config, name, None)) is not None), None)

    heads = first_of("num_attention_heads", "num_heads") or 1
    width = first_of("head_dim", "d_kv") or int(config.hidden_size) // heads
    layers = first_of("num_decoder_layers", "num_hidden_layers", "num_layers") or 1
    return 2 * rows * positions * layers * (first_of("num_key_value_heads") or heads) * width * itemsize


def estimated_memory(module: nn.Module, model: LanguageModel, size: StepSize, *, samples: bool) -> dict[str, int]:
    """Parts of the peak memory of a training step, bytes.

    Args:
        module: all that is trained, with references and averages.
        model: its policy or reward network.
        size: of the step.
        samples: the step samples; on another machine or GPU if a server does.

    Returns:
        ``weights``, ``gradients``, ``optimiser`` and ``working copy`` stay; of ``activations`` with ``logits`` and
        ``keys and values`` with ``sampler`` only one pair is held at a time.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    samples = samples and model.engine is None
    own: set[int] = set()
    weights = storage_bytes(iter([*module.parameters(), *module.buffers()]), own)
    gradients = sum(parameter.nbytes for parameter in trained)
    parts = {"weights": weights, "gradients": gradients, "optimiser": 2 * gradients}
    budget, vocabulary = model.budget, model.vocab_size
    rows = size.rows_of_pass(size.gradient_rows, budget.max_rows_per_pass, budget.max_tokens_per_pass)
    # Passes of a cut batch take rows by their length, which may all be of different contexts.
    contexts = -(-rows // size.group) if rows == size.gradient_rows else rows
    activations = activation_bytes(model, rows, size.context, size.action, contexts=contexts)
    copy = None
    if samples:
        with no_dropout_and_gradient(model.hugging_face):
            copy = model.decoders.fused_weights(model.hugging_face)
    parts["working copy"] = storage_bytes(working_copies(model), own)
    if samples:
        dtype = getattr(copy, "dtype", None) or model.hugging_face.dtype
        limit = budget.max_sampling_tokens or budget.max_tokens_per_pass
        rows = size.rows_of_pass(size.sampled_rows, budget.max_rows_per_pass, limit)
        positions = size.context + size.action
        parts["keys and values"] = key_value_bytes(model, rows, positions, dtype.itemsize)
        parts["sampler"] = rows * vocabulary * SAMPLER_BYTES
        rows = size.rows_of_pass(size.gradient_rows, budget.max_rows_per_pass, budget.max_tokens_per_pass)
    parts["activations"] = activations
    if hasattr(module, "policy"):
        logits = min(rows * (size.action + 1) * vocabulary, max(model.max_logits, vocabulary))
        parts["logits"] = LOGIT_TABLES * 4 * logits
    return parts


def peak_of(parts: dict[str, int], program: int) -> int:
    """The largest sum of what is held at one time.

    Args:
        parts: as ``estimated_memory`` gives them.
        program: memory of the program itself, bytes.
    """
    stays = sum(parts.get(name, 0) for name in ("weights", "gradients", "optimiser", "working copy"))
    training = parts.get("activations", 0) + parts.get("logits", 0)
    return program + stays + max(training, parts.get("keys and values", 0) + parts.get("sampler", 0))
