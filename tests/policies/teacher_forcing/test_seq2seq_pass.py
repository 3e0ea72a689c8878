"""The fused pass of T5 models against transformers, and planted errors in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from packed_rows import random_rows
from readings import compare, outputs, with_gradients
from transformers import AutoModelForSeq2SeqLM, MT5Config, PreTrainedConfig, T5Config

from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.fused.families import unsupported_reason
from lightning_gfn.policies.fused.seq2seq_layers import Seq2SeqLayers
from lightning_gfn.policies.models.adapters import LoraSettings, attach_lora, without_trained_adapter
from lightning_gfn.policies.models.encoder_decoder import EncoderDecoder
from lightning_gfn.policies.models.forward_pass import ForwardPass
from lightning_gfn.policies.teacher_forcing import seq2seq_packing, seq2seq_pass
from lightning_gfn.policies.teacher_forcing.seq2seq_packing import pack_seq2seq
from lightning_gfn.policies.teacher_forcing.seq2seq_pass import read_seq2seq
from lightning_gfn.types import StepBatch

SIZES: dict[str, Any] = {
    "vocab_size": 97, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4,
    "decoder_start_token_id": 5, "dropout_rate": 0.0, "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}  # fmt: skip
CONFIGS: dict[str, PreTrainedConfig] = {
    "t5": T5Config(**SIZES),
    "t5 gated": T5Config(**SIZES, feed_forward_proj="gated-gelu"),
    "mt5": MT5Config(**SIZES, tie_word_embeddings=False),
}
LORA = LoraSettings(rank=3, alpha=3.0)


def rows(seed: int = 0) -> StepBatch:
    return pad_steps(*random_rows(seed, contexts=3, rows=9, longest=33), "cpu")


def make(name: str, lora: LoraSettings | None = None, dtype: torch.dtype = torch.float64) -> Any:
    """A model whose weights, norms and adapters are all of consequence, and the model that has parameters."""
    torch.manual_seed(3)
    model = AutoModelForSeq2SeqLM.from_config(CONFIGS[name])
    whole = model if lora is None else attach_lora(model, lora, "SEQ_2_SEQ_LM")
    for label, parameter in whole.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter.data, std=1.0 if "relative_attention" in label else 0.2)
        else:
            torch.nn.init.uniform_(parameter.data, 0.5, 1.5)
    return EncoderDecoder().backbone(model.to(dtype)), whole.to(dtype)


def own(backbone: Any, steps: StepBatch) -> ForwardPass:
    return EncoderDecoder().read(backbone, steps, pad_id=0)


def fused(backbone: Any, steps: StepBatch, dtype: torch.dtype = torch.float64) -> ForwardPass:
    return read_seq2seq(Seq2SeqLayers(backbone, dtype), steps)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_states_and_gradients_are_those_of_transformers(name: str, lora: LoraSettings | None) -> None:
    backbone, whole = make(name, lora)
    assert unsupported_reason(backbone) is None
    steps = rows()
    # The norms of transformers are computed in float32 whatever the type.
    exact = with_gradients(own(backbone, steps), steps, whole)
    compare(exact, with_gradients(fused(backbone, steps), steps, whole), 5e-5)
    assert any("relative_attention_bias" in label for label in exact[1]) == (lora is None)


@pytest.mark.parametrize("seed", range(4))
def test_every_layout_of_rows_gives_the_same_states(seed: int) -> None:
    backbone, _ = make("t5")
    contexts, actions = random_rows(seed, contexts=1 + 3 * seed, rows=12, longest=(3, 70, 20, 33)[seed])
    steps = pad_steps(contexts, actions, "cpu")
    with torch.no_grad():
        found, wanted = outputs(fused(backbone, steps), steps), outputs(own(backbone, steps), steps)
    assert (found - wanted).abs().max() < 2e-5 * wanted.abs().max()


def test_each_context_is_read_once_and_nothing_is_padding() -> None:
    packing = pack_seq2seq(pad_steps([[1, 2, 3], [4], [1, 2, 3]], [[5, 6], [], [7]], "cpu"), start_id=9)
    assert sorted(packing.context_ids_E.tolist()) == [1, 2, 3, 4]
    assert sorted(packing.ids_S.tolist()) == [5, 6, 7, 9, 9, 9]
    assert packing.ids_S[packing.flat_NT1[:, 0]].tolist() == [9, 9, 9]


def test_the_reference_is_the_model_without_its_trained_adapter() -> None:
    backbone, whole = make("t5", LORA)
    steps = rows()
    layers = Seq2SeqLayers(backbone, torch.float64)
    with torch.no_grad():
        with without_trained_adapter(whole):
            found, wanted = (outputs(x, steps) for x in (read_seq2seq(layers, steps), own(backbone, steps)))
        adapted = outputs(read_seq2seq(layers, steps), steps)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max() < (found - adapted).abs().max()


def test_checkpointing_recomputes_the_same_gradients() -> None:
    backbone, whole = make("t5 gated")
    steps = rows()
    plain = with_gradients(fused(backbone, steps), steps, whole)
    whole.train()
    whole.gradient_checkpointing_enable({"use_reentrant": False})
    compare(plain, with_gradients(fused(backbone, steps), steps, whole), 1e-12)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_bfloat16_is_a_rounding_of_float32(lora: LoraSettings | None) -> None:
    backbone, whole = make("t5 gated", lora, torch.float32)
    for parameter in whole.parameters():  # attention without a scale is steep, and rounding then weighs more
        parameter.data *= 0.5 if parameter.dim() > 1 else 1.0
    steps = rows()
    exact = with_gradients(fused(backbone, steps, torch.float32), steps, whole)
    rounded = with_gradients(fused(backbone, steps, torch.bfloat16), steps, whole)
    assert exact[1].keys() == rounded[1].keys()
    for one, other in [(exact[0], rounded[0]), *((exact[1][n], rounded[1][n]) for n in exact[1])]:
        assert (one - other).norm() < 0.1 * one.norm()


def test_what_it_does_not_know_it_says() -> None:
    backbone, whole = make("t5")
    backbone.decoder.block[1].layer[1].EncDecAttention.dropout = 0.1
    whole.train()
    assert "attention dropout 0.1" in str(unsupported_reason(backbone))


position_bias, seeing_itself = seq2seq_pass.position_bias, seq2seq_packing.seeing_itself
PLANTED = {
    "no bias": (seq2seq_pass, "position_bias", lambda layers, length: 0 * position_bias(layers, length)),
    "late bias": (seq2seq_pass, "position_bias", lambda layers, length: position_bias(layers, length + 1)[:, 1:, :-1]),
    "all is seen": (seq2seq_packing, "seeing_itself", lambda block: seq2seq_packing.seeing_all(seeing_itself(block))),
    "causal encoder": (seq2seq_packing, "seeing_all", lambda block: block),
}


@pytest.mark.parametrize("case", PLANTED.values(), ids=PLANTED)
def test_planted_errors_are_seen(monkeypatch: pytest.MonkeyPatch, case: Any) -> None:
    backbone, _ = make("t5")
    steps = rows()
    monkeypatch.setattr(*case)
    with torch.no_grad():
        found, wanted = outputs(fused(backbone, steps), steps), outputs(own(backbone, steps), steps)
    assert (found - wanted).abs().max() > 5e-5 * wanted.abs().max()
