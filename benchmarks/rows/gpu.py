"""On a CUDA device: sampling and training of Llama models of published sizes, beside transformers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.frame.device_floors import moving_floor, product_floor
from benchmarks.frame.row import Contest, Options, Row, Target, Way
from benchmarks.peers.generate import generate_ways
from benchmarks.peers.transformers_passes import token_log_probs
from benchmarks.rows.sampling import bytes_read
from benchmarks.subjects.gpu_models import LLAMA_1B, LLAMA_8B, made, needs_cuda, random_prompts, wait
from benchmarks.subjects.training import lora_settings
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM

SAMPLING = {"prompts": 4, "rows": 64, "prompt_tokens": 64, "new_tokens": 256}
TRAINING = {"rows": 16, "prompt_tokens": 64, "new_tokens": 448}


def sampling(
    config: dict[str, Any], lora: bool, options: Options, *, device: str = "cuda", shape: dict[str, int] = SAMPLING
) -> Contest:
    """Prompts with several samples each, every sample of the same length."""
    rows, new_tokens = shape["rows"], shape["new_tokens"]
    policy = made(
        config, device, shape["prompt_tokens"], new_tokens,
        min_new_tokens=new_tokens, dtype="bfloat16", decoder="continuous", **lora_settings(lora),
    ).eval()  # fmt: skip
    prompts = random_prompts(config, shape["prompts"], shape["prompt_tokens"])
    contexts = [prompt for prompt in prompts for _ in range(rows // shape["prompts"])]

    def ours() -> None:
        sampled = policy.sample(contexts, torch.rand(rows, new_tokens + 1))
        if int(sampled.action_mask_NT.sum()) != rows * new_tokens:
            raise RuntimeError("we made another number of tokens: the comparison is void")

    network = policy.hugging_face
    return Contest(
        ours=lambda: Way(ours),
        peers=generate_ways(network, torch.tensor(contexts, device=device), new_tokens, compiled=device == "cuda"),
        amount=rows * new_tokens,
        unit="tok",
        floor=lambda: moving_floor(bytes_read(network, rows, new_tokens), device),
    )


def trained(config: dict[str, Any], lora: bool, device: str, shape: dict[str, int], **settings: Any) -> CausalLM:
    """A policy for training: with an adapter on a frozen bfloat16 base, or float32 weights under autocast."""
    dtype = "bfloat16" if lora else "float32"
    settings = {"dtype": dtype, "gradient_checkpointing": lora, **lora_settings(lora), **settings}
    return made(config, device, shape["prompt_tokens"], shape["new_tokens"], **settings).train()


def our_pass(policy: CausalLM, ids: list[list[int]], prompt_tokens: int, device: str) -> Way:
    """Score given actions and go back through the mean; gradients are dropped."""
    steps = pad_steps([row[:prompt_tokens] for row in ids], [row[prompt_tokens:] for row in ids], device)

    def run() -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            (-policy.score(steps, stop=False).log_pf_NT.mean()).backward()
        policy.zero_grad(set_to_none=True)
        wait(device)

    return Way(run)


def their_pass(policy: CausalLM, ids: list[list[int]], num_last: int, device: str) -> Way:
    """The forward pass of transformers with the same weights, and full logits of the actions."""
    ids_BS = torch.tensor(ids, device=device)

    def run() -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = -token_log_probs(policy.hugging_face, ids_BS, torch.ones_like(ids_BS), num_last).mean()
        loss.backward()
        policy.zero_grad(set_to_none=True)
        wait(device)

    return Way(run)


def training(
    config: dict[str, Any], lora: bool, options: Options, *, device: str = "cuda", shape: dict[str, int] = TRAINING
) -> Contest:
    """Rows of which most is scored."""
    policy = trained(config, lora, device, shape)
    ids = random_prompts(config, shape["rows"], shape["prompt_tokens"] + shape["new_tokens"])
    tokens = shape["rows"] * len(ids[0])
    return Contest(
        ours=lambda: our_pass(policy, ids, shape["prompt_tokens"], device),
        peers={"transformers, bf16, sdpa": lambda: their_pass(policy, ids, shape["new_tokens"], device)},
        amount=tokens,
        unit="tok",
        floor=lambda: product_floor(policy.hugging_face, tokens, device, frozen=lora),
    )


def compilation(
    config: dict[str, Any], options: Options, *, device: str = "cuda", shape: dict[str, int] = TRAINING
) -> Contest:
    """Our training pass with layers that are compiled, beside layers that are not."""
    ids = random_prompts(config, shape["rows"], shape["prompt_tokens"] + shape["new_tokens"])

    def way(compiled: bool) -> Way:
        policy = trained(config, False, device, shape, compile_layers=compiled)
        return our_pass(policy, ids, shape["prompt_tokens"], device)

    return Contest(
        ours=partial(way, True),
        peers={"ours, not compiled": partial(way, False)},
        amount=shape["rows"] * len(ids[0]),
        unit="tok",
    )


ROWS = (
    [
        Row(
            name=f"gpu_sampling_{size}",
            what=f"sampling, random Llama-{what}, 64 rows of 4 prompts, 256 new tokens, bf16",
            build=partial(sampling, config, lora),
            target=Target(ratio=3.0, share=0.6),
            meter="wall_seconds",
            needs=[needs_cuda],
        )
        for size, what, config, lora in (("1b", "3.2-1B", LLAMA_1B, False), ("8b_lora", "8B with LoRA", LLAMA_8B, True))
    ]
    + [
        Row(
            name=f"gpu_{kind}_{size}",
            what=f"forward + backward, random Llama-{what}, 16 rows of 512 tokens{note}",
            build=partial(training, config, lora),
            target=target,
            meter=meter,
            needs=[needs_cuda],
        )
        for size, what, config, lora in (("1b", "3.2-1B", LLAMA_1B, False), ("8b_lora", "8B with LoRA", LLAMA_8B, True))
        for kind, note, target, meter in (
            ("training", "", Target(share=0.45), "wall_seconds"),
            ("memory", ", peak memory", Target(), "device_bytes"),
        )
    ]
    + [
        Row(
            name="gpu_compiled_1b",
            what="forward + backward, random Llama-3.2-1B: compile_layers",
            build=partial(compilation, LLAMA_1B),
            target=Target(ratio=1.0),
            meter="wall_seconds",
            needs=[needs_cuda],
        )
    ]
)
