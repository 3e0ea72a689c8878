"""The fused pass against transformers, against finite differences, and against itself cut otherwise."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from packed_rows import alike_rows, begun_alike_rows, random_rows
from readings import compare, outputs, with_gradients
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.fused import layers
from lightning_gfn.policies.fused.families import family_of, part, unsupported_reason
from lightning_gfn.policies.fused.layers import DenseLayers
from lightning_gfn.policies.fused.working_linear import WorkingLinear
from lightning_gfn.policies.models.adapters import LoraSettings, attach_lora, without_trained_adapter
from lightning_gfn.policies.models.architectures import DecoderOnly
from lightning_gfn.policies.numerics.processor import cpu_has_bfloat16
from lightning_gfn.policies.teacher_forcing import layer
from lightning_gfn.policies.teacher_forcing.attention import Scene
from lightning_gfn.policies.teacher_forcing.feed_forward import activation_gradient
from lightning_gfn.policies.teacher_forcing.layer_norms import add_norm_gradient
from lightning_gfn.policies.teacher_forcing.packed_pass import read_packed
from lightning_gfn.policies.teacher_forcing.packing import pack
from lightning_gfn.types import StepBatch

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "llama biases tied": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "mistral window": MistralConfig(**SIZES, sliding_window=7),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "yarn": LlamaConfig(
        **SIZES,
        rope_parameters={
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 1e4,
        },
    ),
    "gemma": GemmaConfig(**SIZES, head_dim=8),
    "gemma2": Gemma2Config(
        **SIZES, head_dim=8, sliding_window=7, attn_logit_softcapping=1.5, query_pre_attn_scalar=5,
        final_logit_softcapping=None, initializer_range=0.1,
    ),
    "gemma3": Gemma3TextConfig(
        **SIZES, head_dim=8, sliding_window=7, layer_types=["sliding_attention", "full_attention"],
    ),
    "gpt2": GPT2Config(
        vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=128, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    ),
}  # fmt: skip


def rows(seed: int = 0) -> StepBatch:
    return pad_steps(*random_rows(seed, contexts=3, rows=9, longest=33), "cpu")


def make(name: str, lora: LoraSettings | None = None, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """A model whose weights, biases, norms and adapters are all of consequence, and the model that has parameters."""
    torch.manual_seed(3)
    config = copy.deepcopy(CONFIGS[name])
    for key, value in changes.items():
        setattr(config, key, value)
    model = AutoModelForCausalLM.from_config(config)
    whole = model if lora is None else attach_lora(model, lora, "CAUSAL_LM")
    for parameter in whole.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter.data, std=0.2)
        else:
            torch.nn.init.uniform_(parameter.data, 0.5, 1.5)
    return model.to(dtype), whole.to(dtype)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3, alpha=3.0)], ids=["full", "lora"])
@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("kind", ["rows", "trees", "beginnings"])
def test_states_and_gradients_are_those_of_transformers(name: str, lora: LoraSettings | None, kind: str) -> None:
    model, whole = make(name, lora)
    assert unsupported_reason(model.base_model) is None
    drawn = {
        "rows": random_rows(0, contexts=3, rows=9, longest=33),
        "trees": alike_rows(0, contexts=2, rows=14, longest=8),
        "beginnings": begun_alike_rows(0, contexts=3, rows=9, longest=33),
    }
    steps = pad_steps(*drawn[kind], "cpu")
    own = DecoderOnly().read(DecoderOnly().backbone(model), steps, pad_id=0)
    # The norms of transformers are computed in float32 whatever the type.
    compare(
        with_gradients(own, steps, whole),
        with_gradients(read_packed(DenseLayers(model.base_model, torch.float64), steps), steps, whole),
        5e-5,
    )


def changed_norm(**changes: Any) -> Any:
    return lambda module, offset: replace(norm_of(module, offset), **changes)


def changed_form(**changes: Any) -> Any:
    return lambda self, attention: replace(form_of(self, attention), **changes)


norm_of, form_of, embed = layers.norm_of, DenseLayers.form_of, DenseLayers.embed
PLANTED = {
    "epsilon": ("llama", layers, "norm_of", changed_norm(epsilon=1e-3)),
    "scale": ("llama", DenseLayers, "form_of", changed_form(scale=0.3)),
    "window": ("mistral window", DenseLayers, "form_of", changed_form(window=6)),
    "offset": ("gemma", layers, "norm_of", changed_norm(offset=0.0)),
    "post norm": ("gemma2", layer.PostNorm, "forward", lambda self, update: (update, (None, None))),
    "cap": ("gemma2", DenseLayers, "form_of", changed_form(cap=None)),
    "rotation": ("gemma3", DenseLayers, "form_of", changed_form(rotation="full_attention")),
    "bias": ("gpt2", layers, "norm_of", changed_norm(bias_I=None)),
    "mean": ("gpt2", layers, "norm_of", changed_norm(centred=False)),
    "position": ("gpt2", DenseLayers, "embed", lambda self, ids, positions: embed(self, ids, positions + 1)),
}


@pytest.mark.parametrize("case", PLANTED.values(), ids=PLANTED)
def test_planted_errors_are_seen(monkeypatch: pytest.MonkeyPatch, case: Any) -> None:
    name, holder, attribute, wrong = case
    model, _ = make(name)
    steps = rows()
    with torch.no_grad():
        own = outputs(DecoderOnly().read(model.base_model, steps, pad_id=0), steps)
        right = outputs(read_packed(DenseLayers(model.base_model, torch.float64), steps), steps)
        monkeypatch.setattr(holder, attribute, wrong)
        found = outputs(read_packed(DenseLayers(model.base_model, torch.float64), steps), steps)
    assert (right - own).abs().max() < 5e-5 * own.abs().max() < (found - own).abs().max()


PLANTED_IN_GRADIENTS = {
    "cap": ("gemma2", torch.ops.aten, "tanh_backward", lambda grad, bounded: grad.clone()),
    "mean": ("gpt2", layer, "add_norm_gradient", lambda *given, centred: add_norm_gradient(*given, centred=False)),
    "bias": ("gpt2", WorkingLinear, "sum_of", lambda self, source, grad: torch.zeros_like(grad[0])),
    "activation": ("gpt2", layer, "activation_gradient", lambda *given: activation_gradient(*given) * 1.001),
}


@pytest.mark.parametrize("case", PLANTED_IN_GRADIENTS.values(), ids=PLANTED_IN_GRADIENTS)
def test_planted_errors_of_gradients_are_seen(monkeypatch: pytest.MonkeyPatch, case: Any) -> None:
    name, holder, attribute, wrong = case
    model, whole = make(name)
    steps = rows()
    exact = with_gradients(DecoderOnly().read(model.base_model, steps, pad_id=0), steps, whole)
    monkeypatch.setattr(holder, attribute, wrong)
    with pytest.raises(AssertionError):
        compare(
            exact, with_gradients(read_packed(DenseLayers(model.base_model, torch.float64), steps), steps, whole), 5e-5
        )


def test_frozen_parts_get_no_gradient_and_change_nothing() -> None:
    model, whole = make("llama biases tied")
    steps = rows()
    _, wanted = with_gradients(read_packed(DenseLayers(model.base_model, torch.float64), steps), steps, whole)
    for name, parameter in whole.named_parameters():
        parameter.requires_grad_("norm" in name or name.endswith("v_proj.bias") or "layers.1.mlp.up" in name)
    _, found = with_gradients(read_packed(DenseLayers(model.base_model, torch.float64), steps), steps, whole)
    assert 0 < len(found) < len(wanted)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name])


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2, alpha=1.0)], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["llama biases tied", "qwen3", "gemma2", "gpt2"])
def test_gradients_of_a_layer_are_finite_differences(name: str, lora: LoraSettings | None) -> None:
    model, whole = make(name, lora)
    packing = pack(pad_steps([[1, 2, 3], [4], [1, 2, 3]], [[5, 6], [7, 8, 9], []], "cpu"))
    first = part(model.base_model, family_of(model.base_model).layers)[0]
    x_SH = torch.randn(len(packing.ids_S), 32, dtype=torch.float64, requires_grad=True)
    trained = [p for p in first.parameters() if p.requires_grad]

    def output(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        fused = DenseLayers(model.base_model, torch.float64)
        rotation = fused.rotations(packing.num_positions)[None]
        rotation = None if rotation is None else rotation[packing.position_S]
        return layer.run_layer(x, rotation, Scene(packing.blocks, fused.layers[0].form), fused.layers[0], fused.shape)

    assert torch.autograd.gradcheck(output, (x_SH, *trained), fast_mode=True, atol=1e-6)


def test_the_reference_is_the_model_without_its_trained_adapter() -> None:
    model, whole = make("llama", LoraSettings(rank=3))
    steps, fused = rows(), DenseLayers(model.base_model, torch.float64)
    with torch.no_grad():
        with without_trained_adapter(whole):
            found, wanted = read_packed(fused, steps), DecoderOnly().read(model.base_model, steps, pad_id=0)
        adapted = outputs(read_packed(fused, steps), steps)
    assert (outputs(found, steps) - outputs(wanted, steps)).abs().max() < 1e-5
    assert (outputs(found, steps) - adapted).abs().max() > 0.1


def test_checkpointing_recomputes_the_same_gradients() -> None:
    model, whole = make("llama", LoraSettings(rank=3))
    steps = rows()
    plain = with_gradients(read_packed(DenseLayers(model.base_model, torch.float64), steps), steps, whole)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    compare(
        plain, with_gradients(read_packed(DenseLayers(model.base_model, torch.float64), steps), steps, whole), 1e-12
    )


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2"])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3, alpha=3.0)], ids=["full", "lora"])
def test_bfloat16_is_a_rounding_of_float32(name: str, lora: LoraSettings | None) -> None:
    steps = rows()
    model, whole = make(name, lora, torch.float32)
    exact = with_gradients(read_packed(DenseLayers(model.base_model, torch.float32), steps), steps, whole)
    rounded = with_gradients(read_packed(DenseLayers(model.base_model, torch.bfloat16), steps), steps, whole)
    assert exact[1].keys() == rounded[1].keys()
    for one, other in [(exact[0], rounded[0]), *((exact[1][n], rounded[1][n]) for n in exact[1])]:
        assert (one - other).norm() < 0.1 * one.norm()


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="the matrix units of processors with bfloat16 do so")
def test_memory_that_held_nan_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix units read a few numbers beyond a row, times 0: what lies there must be finite."""
    model, _ = make("llama", LoraSettings(rank=3), torch.float32, intermediate_size=80)
    steps = pad_steps(*random_rows(0, contexts=30, rows=90, longest=33), "cpu")
    fused, new_empty = DenseLayers(model.base_model, torch.bfloat16), torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *given, **how: new_empty(*given, **how).fill_(torch.nan))
    assert torch.isfinite(read_packed(fused, steps).hidden_SH).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model.base_model.layers[1].mlp.register_forward_hook(lambda *given: None), "forward hook"),
        (lambda model: setattr(model.base_model.layers[0].self_attn, "attention_dropout", 0.1), "attention dropout"),
        (lambda model: setattr(model.base_model.layers[0].mlp, "up_proj", torch.nn.Bilinear(2, 2, 2)), "Bilinear"),
    ],
)
def test_what_it_does_not_know_it_says(change: Any, reason: str) -> None:
    model, _ = make("llama")
    change(model.train())
    assert reason in str(unsupported_reason(model.base_model))


def test_dropout_of_an_adapter_in_training_is_not_known() -> None:
    model, whole = make("llama", LoraSettings(rank=3, dropout=0.1))
    whole.train()
    assert "dropout 0.1" in str(unsupported_reason(model.base_model))
    whole.eval()
    assert unsupported_reason(model.base_model) is None
