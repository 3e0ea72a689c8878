"""Small random-weight policies of several architectures, and plain forward passes to compare them with."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.language_policy import LanguagePolicy
from lightning_gfn.policies.models.evaluation_mode import no_dropout_and_gradient
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.types import StepBatch

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}
GPT2 = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.1}
T5 = {"d_model": 48, "d_kv": 12, "d_ff": 80, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
BART = {
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 80,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 64,
    "init_std": 0.2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SIZES},
    "llama3_rope": {
        "model_type": "llama",
        **SIZES,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
    "llama_biases_tied": {
        "model_type": "llama",
        **SIZES,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    },
    "qwen2": {"model_type": "qwen2", **SIZES},
    "qwen3": {"model_type": "qwen3", **SIZES, "head_dim": 16},
    "mistral": {"model_type": "mistral", **SIZES, "head_dim": 12, "sliding_window": None},
    "mistral_window": {"model_type": "mistral", **SIZES, "head_dim": 12, "sliding_window": 6},
    "gpt2": {"model_type": "gpt2", **GPT2},
    "gemma": {"model_type": "gemma", **SIZES, "head_dim": 12},
    "gemma2_soft_cap": {
        "model_type": "gemma2",
        **SIZES,
        "head_dim": 12,
        "sliding_window": 6,
        "final_logit_softcapping": 2.0,
        "attn_logit_softcapping": 1.5,
        "query_pre_attn_scalar": 7,
    },
    "cohere_logit_scale": {"model_type": "cohere", **SIZES, "logit_scale": 0.25},
    # At a factor of 1, T5's unscaled attention is so steep that a plain float32 pass errs by 5e-5 nats itself.
    "t5": {"model_type": "t5", **T5, "initializer_factor": 0.7},
    "t5_silu": {"model_type": "t5", **T5, "feed_forward_proj": "gated-silu", "relative_attention_num_buckets": 8},
    "byt5": {
        "model_type": "t5",
        **T5,
        "num_decoder_layers": 1,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "initializer_factor": 0.25,
    },
    "mt5": {"model_type": "mt5", **T5, "initializer_factor": 0.1},
    "umt5": {"model_type": "umt5", **T5},
    "bart": {"model_type": "bart", **BART},
}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
EXPERTS = {
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
TEXT = {**SIZES, "vocab_size": 259}
CONFIGS |= {
    "gemma3_text": {
        "model_type": "gemma3_text",
        **SIZES,
        "head_dim": 12,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gemma3": {
        "model_type": "gemma3",
        "text_config": {**TEXT, "head_dim": 12, "sliding_window": 6, "query_pre_attn_scalar": 12},
        "vision_config": VISION,
        "mm_tokens_per_image": 4,
        "initializer_range": 0.1,
    },
    "gemma3n_text": {
        "model_type": "gemma3n_text",
        **TEXT,
        "head_dim": 12,
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 6,
        "vocab_size_per_layer_input": 259,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
        "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "llama4_text": {
        "model_type": "llama4_text",
        **SIZES,
        "head_dim": 12,
        "intermediate_size_mlp": 48,
        "num_local_experts": 2,
        "attention_chunk_size": 8,
    },
    "qwen3_next": {"model_type": "qwen3_next", **SIZES, "head_dim": 12, **LINEAR, **EXPERTS},
    "qwen3_5_text": {"model_type": "qwen3_5_text", **SIZES, "head_dim": 12, **LINEAR},
    "qwen3_5": {"model_type": "qwen3_5", "text_config": {**TEXT, "head_dim": 12, **LINEAR}},
    "lfm2": {"model_type": "lfm2", **SIZES, "layer_types": ["conv", "full_attention"]},
}
ENCODER_DECODER = ("t5", "t5_silu", "byt5", "mt5", "umt5", "bart")
TEXTS = ("what is 12 + 3", "what is 12 + 3", "no", "a longer prompt", "no")


def randomise(policy: LanguagePolicy, scale: float = 0.1) -> None:
    """Give every weight that starts as a constant (norms, biases, adapters) a random part."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.std() == 0:
                parameter += scale * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def make_policy() -> Callable[..., LanguagePolicy]:
    """Build a byte-level policy with random weights: ``make_policy("llama", lora=…, config={…}, …)``."""

    def make(name: str = "llama", *, config: dict[str, Any] | None = None, **settings: Any) -> LanguagePolicy:
        block = {**CONFIGS[name], **(config if config is not None else {})}
        options = {"max_prompt_tokens": 24, "max_new_tokens": 10, **settings}
        policy_class = Seq2SeqLM if name in ENCODER_DECODER else CausalLM
        policy = policy_class(config=block, **{"tokenizer": TokenizerSettings(), **options})
        torch.manual_seed(0)
        policy.build([])
        randomise(policy)
        return policy.eval()

    return make


def pad_rows(contexts: list[list[int]], actions: list[list[int]], *, extra: int = 0) -> StepBatch:
    """Contexts padded on the left and actions on the right, each by ``extra`` more than needed."""
    c = max(map(len, contexts)) + extra
    t = max(1, max(map(len, actions))) + extra
    return StepBatch(
        torch.tensor([[0] * (c - len(x)) + list(x) for x in contexts]),
        torch.tensor([[False] * (c - len(x)) + [True] * len(x) for x in contexts]),
        torch.tensor([list(x) + [0] * (t - len(x)) for x in actions]),
        torch.tensor([[True] * len(x) + [False] * (t - len(x)) for x in actions]),
    )


def rows_of(policy: LanguagePolicy, sampled: Any, texts: tuple[str, ...] = TEXTS) -> StepBatch:
    """The rows of a sampled batch."""
    contexts = [policy.encode_prompt(text) for text in texts]
    actions = [ids[mask].tolist() for ids, mask in zip(sampled.action_ids_NT, sampled.action_mask_NT, strict=True)]
    return pad_rows(contexts, actions)


def plain_logits(policy: LanguagePolicy, context: list[int], action: list[int]) -> Tensor:
    """Logits at each prefix of an action, (T + 1, V), by one unpadded Hugging Face forward pass."""
    model = policy.hugging_face
    with no_dropout_and_gradient(model):
        if not model.config.is_encoder_decoder:
            return model(torch.tensor([context + action])).logits[0, len(context) - 1 :].double()
        start = model.config.decoder_start_token_id
        return (
            model(input_ids=torch.tensor([context]), decoder_input_ids=torch.tensor([[start, *action]]))
            .logits[0]
            .double()
        )


def plain_log_probs(policy: LanguagePolicy, rows: StepBatch) -> list[tuple[list[float], list[float]]]:
    """log q of tokens and of stop by one plain forward pass a row and a written loop over prefixes."""
    space = policy.space
    allowed = set(space.allowed_V.nonzero().squeeze(1).tolist())
    ends = space.end_ids.tolist()
    result = []
    for c_ids, c_mask, a_ids, a_mask in zip(*list(vars(rows).values())[:4], strict=True):
        action = a_ids[a_mask].tolist()
        logits = plain_logits(policy, c_ids[c_mask].tolist(), action)
        tokens, stops = [], []
        for t in range(len(action) + 1):
            if t == policy.max_new_tokens:
                stops.append(0.0)
                break
            here = logits[t]
            may_stop = t >= policy.min_new_tokens
            weight = {i: here[i].exp().item() for i in allowed}
            stop_weight = sum(here[i].exp().item() for i in ends) if may_stop else 0.0
            total = torch.tensor(sum(weight.values()) + stop_weight).log().item()
            stops.append(torch.tensor(stop_weight).log().item() - total if may_stop else 0.0)
            if t < len(action):
                tokens.append(here[action[t]].item() - total)
        result.append((tokens, stops))
    return result


def largest_difference(scores: Any, plain: list[tuple[list[float], list[float]]]) -> float:
    """Largest absolute difference, nats, and a check that everything beyond a row is 0."""
    worst = 0.0
    for row, (tokens, stops) in enumerate(plain):
        token_row, stop_row = scores.log_pf_NT[row].tolist(), scores.log_pstop_NT1[row].tolist()
        worst = max([worst, *(abs(a - b) for a, b in zip(token_row, tokens, strict=False))])
        worst = max([worst, *(abs(a - b) for a, b in zip(stop_row, stops, strict=False))])
        assert not any(token_row[len(tokens) :]) and not any(stop_row[len(stops) :])
    return worst


@pytest.fixture
def kit() -> SimpleNamespace:
    """The helpers of this file."""
    return SimpleNamespace(
        CONFIGS=CONFIGS,
        TEXTS=TEXTS,
        pad_rows=pad_rows,
        rows_of=rows_of,
        plain_logits=plain_logits,
        plain_log_probs=plain_log_probs,
        largest_difference=largest_difference,
        randomise=randomise,
    )
