"""The installed SmolLM2-135M-Instruct: weights, tokenizer, and the policy made of it. Needs it: make models."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from lightning_gfn.padding import pad_contexts, pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TextCodec, load_tokenizer
from lightning_gfn.types import StepBatch

pytestmark = pytest.mark.pretrained

TEXTS = [
    "Question: What is 12 + 3?\n\nAnswer:\n  12 + 3 = 15\n\n\n#### 15",
    "def f(x):\n\tif x  >  10:\n        return {'a': [1, 2.50]}\n",
    "naïve café, 数学 ∑ ≤ π 😀 \u200b\u00a0end",
    "  two  spaces,\ttabs\r\nand trailing   ",
    "theorem t (p q : Prop) (h : p ∧ q) : q ∧ p := by exact ⟨h.2, h.1⟩",
]
WEIGHTS_SHA256 = "785e20b3e653276b0579b744214a1186d730ba80af04f397f642d6432e5e0154"
"""Of names and float32 bytes of all tensors, as transformers reads them from the published file."""


def test_weights_are_exactly_those_of_the_published_file(smollm2_folder: Path) -> None:
    from safetensors import safe_open

    digest, count = hashlib.sha256(), 0
    with safe_open(smollm2_folder / "model.safetensors", "pt") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            assert tensor.dtype == torch.float32
            digest.update(name.encode() + tensor.numpy().tobytes())
            count += tensor.numel()
    assert count == 134_515_008 and digest.hexdigest() == WEIGHTS_SHA256


def test_configuration(smollm2_folder: Path) -> None:
    config = json.loads((smollm2_folder / "config.json").read_text())
    expected = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 30,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    assert {name: config[name] for name in expected} == expected and "quantization_config" not in config
    assert config["rope_parameters"]["rope_theta"] == 100000.0 and config["rms_norm_eps"] == pytest.approx(1e-5)
    generation = json.loads((smollm2_folder / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"], generation["pad_token_id"]) == (1, 2, 2)


def test_special_tokens(smollm2_folder: Path) -> None:
    tokenizer = load_tokenizer(str(smollm2_folder))
    special = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token)
    assert special == ("<|im_start|>", "<|im_end|>", "<|im_end|>", "<|endoftext|>")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    assert len(tokenizer) == 49152 and tokenizer.model_max_length == 8192
    assert TextCodec(tokenizer).special_ids() == set(range(17))


def test_tokens_are_those_of_the_original(smollm2_folder: Path) -> None:
    """Digits stand alone and white space before them stays whole, as GPT-2's rule would not keep it."""
    tokenizer = load_tokenizer(str(smollm2_folder))
    assert tokenizer("hello")["input_ids"] == [28120], "no begin or end token unasked"
    assert tokenizer.tokenize("x  12\n\n3 apples") == ["x", "ĠĠ", "1", "2", "ĊĊ", "3", "Ġapples"]
    assert tokenizer.encode("<|im_start|>user\n<|im_end|>")[::3] == [1, 2]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(smollm2_folder: Path, text: str) -> None:
    codec = TextCodec(load_tokenizer(str(smollm2_folder)))
    for ids in (codec.encode_completion(text), codec.encode_prompt(text)):
        assert codec.decode(ids) == text and not set(ids) & codec.special_ids()


def test_both_ways_of_loading_give_one_tokenizer(smollm2_folder: Path) -> None:
    from transformers import AutoTokenizer

    automatic, ours = AutoTokenizer.from_pretrained(smollm2_folder), load_tokenizer("smollm2-135m")
    assert [automatic.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]


def test_chat_template(smollm2_folder: Path) -> None:
    tokenizer = load_tokenizer(str(smollm2_folder))
    messages = [{"role": "user", "content": "What is 2 + 2?"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_it_knows_some_english_and_arithmetic(smollm2: CausalLM) -> None:
    """Permuted heads or another vocabulary would give noise: a right continuation is far likelier than a wrong one."""

    def log_prob(prompt: str, continuation: str) -> float:
        contexts, actions = [smollm2.encode_prompt(prompt)], [smollm2.encode_completion(continuation)]
        with torch.no_grad():
            scores = smollm2.score(pad_steps(contexts, actions, smollm2.device))
        return float(scores.log_pf_NT.sum())

    assert log_prob("The capital of France is", " Paris") > log_prob("The capital of France is", " London") + 2
    assert log_prob("1, 2, 3, 4, 5, 6,", " 7") > log_prob("1, 2, 3, 4, 5, 6,", " 3") + 2
    assert log_prob("The capital of France is", " Paris") > -2


def test_sampled_log_probs_are_the_scored_ones(smollm2: CausalLM) -> None:
    """By the working copy with its cache, and by one teacher-forced pass of the model."""
    contexts = [smollm2.encode_prompt(text) for text in ("Question: What is 12 + 3?\nAnswer:\n", "Once upon a time")]
    rows = [context for context in contexts for _ in range(2)]
    uniforms = torch.rand(len(rows), smollm2.max_new_tokens + 1, generator=torch.Generator().manual_seed(0))
    sampled = smollm2.sample(rows, uniforms)
    with torch.no_grad():
        context_ids, context_mask = pad_contexts(rows, smollm2.device)
        scored = smollm2.score(StepBatch(context_ids, context_mask, sampled.action_ids_NT, sampled.action_mask_NT))
    mask = sampled.action_mask_NT
    assert int(mask.sum()) > 40
    difference = (sampled.scores.log_pf_NT - scored.log_pf_NT).masked_fill(~mask, 0.0)
    assert float(difference.abs().max()) < 1e-4 and float(difference.sum(1).abs().max()) < 2e-4


def test_greedy_decoding_agrees_with_transformers(smollm2: CausalLM) -> None:
    ids = smollm2.encode_prompt("Question: What is 12 + 3?\nAnswer:\n")
    ours = smollm2.sample([ids], torch.full((1, smollm2.max_new_tokens + 1), 0.5), top_k=1)
    peer = smollm2.hugging_face.generate(  # type: ignore[operator]
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False, max_new_tokens=16
    )[0, len(ids) :]
    made = ours.action_ids_NT[0][ours.action_mask_NT[0]][:16].tolist()
    assert made == [token for token in peer.tolist() if token != 2][: len(made)] and len(made) > 2
