"""Seconds per GRPO training step (sample, reward, loss, update) of this suite beside TRL's GRPOTrainer at its defaults.

Both train the same randomly initialised 4-layer, hidden-256 Llama (vocabulary 4096) on 4 prompts of 32 tokens with 4
completions each, of exactly 64 or 128 tokens (the end token is barred). They take turns inside one process on one
thread, so that the ratio does not depend on the machine's mood.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py --rounds 3 --steps 6

Needs ``pip install -e .[bench]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from lightning_gfn.policies.decoder_factory import cpu_has_bfloat16
from lightning_gfn.types import Problem

PROMPTS, SAMPLES, PROMPT_TOKENS, VOCABULARY = 4, 4, 32, 4096


def reward(completions: list[str], **columns: Any) -> list[float]:
    """A reward that varies within a group and costs nothing."""
    return [float(len(set(text.split())) % 7) for text in completions]


def write_model(folder: Path, max_positions: int) -> None:
    """Save the model and a tokenizer whose words are single tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=max_positions, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def prompts() -> list[str]:
    """Four prompts of exactly 32 tokens."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCABULARY, (PROMPTS, PROMPT_TOKENS), generator=generator)
    return [" ".join(f"w{i}" for i in row) for row in ids.tolist()]


def trl_step_seconds(folder: Path, new_tokens: int, steps: int, settings: dict[str, Any]) -> list[float]:
    """Seconds of each optimiser step of TRL's GRPOTrainer, the first one dropped."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Clock(TrainerCallback):
        marks: list[float] = []

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.marks.append(time.perf_counter())

    clock = Clock()
    clock.marks = []
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=PROMPTS * SAMPLES, num_generations=SAMPLES,
        max_completion_length=new_tokens, generation_kwargs={"min_new_tokens": new_tokens}, max_steps=steps,
        report_to="none",
        save_strategy="no", use_cpu=not torch.cuda.is_available(), disable_tqdm=True, **settings,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=str(folder), reward_funcs=reward, args=config, train_dataset=Dataset.from_dict({"prompt": prompts()}),
        processing_class=AutoTokenizer.from_pretrained(folder), callbacks=[clock],
    )  # fmt: skip
    trainer.train()
    return [b - a for a, b in zip(clock.marks, clock.marks[1:], strict=False)]


def our_step_seconds(folder: Path, new_tokens: int, steps: int, precision: str) -> list[float]:
    """Seconds of each optimiser step of this suite under the Lightning Trainer, the first one dropped."""
    import lightning as L

    from lightning_gfn.modules.policy_gradient import PolicyGradientModule
    from lightning_gfn.modules.settings import OptimizerSettings
    from lightning_gfn.objectives.grpo import GRPO
    from lightning_gfn.policies.causal_lm import CausalLM
    from lightning_gfn.rewards.function import FunctionReward

    class Clock(L.Callback):
        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            self.marks.append(time.perf_counter())

    clock = Clock()
    module = PolicyGradientModule(
        policy=CausalLM(
            pretrained=str(folder), max_prompt_tokens=PROMPT_TOKENS, max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
        ),
        objective=GRPO(),
        reward=FunctionReward(function=f"{__file__}:reward"),
        num_samples=SAMPLES,
        optimizer=OptimizerSettings(lr=1e-6),
        log_entropy=False,
    )  # fmt: skip
    problems = [Problem(id=str(i), prompt=text) for i, text in enumerate(prompts())]
    loader = torch.utils.data.DataLoader(problems * steps, batch_size=PROMPTS, collate_fn=list)
    trainer = L.Trainer(
        max_steps=steps, precision=precision, gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[clock], use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    return [b - a for a, b in zip(clock.marks, clock.marks[1:], strict=False)]


TRL_FP32 = {"bf16": False, "gradient_checkpointing": False}


def pairs() -> dict[str, tuple[dict[str, Any], str]]:
    """TRL's settings and our precision, by name: defaults (ours is the faster one here), then equal ones."""
    best = "bf16-mixed" if torch.cuda.is_available() or cpu_has_bfloat16() else "32-true"
    return {
        f"defaults (ours {best})": ({}, best),
        "both fp32": (TRL_FP32, "32-true"),
        "both bf16 autocast": ({"gradient_checkpointing": False}, "bf16-mixed"),
    }


def compare(folder: Path, new_tokens: int, name: str, rounds: int, steps: int) -> dict[str, Any]:
    """Alternate the two over some rounds; medians over all steps and the ratio of each round."""
    settings, precision = pairs()[name]
    theirs: list[float] = []
    ours: list[float] = []
    ratios = []
    for _ in range(rounds):
        a = trl_step_seconds(folder, new_tokens, steps, settings)
        b = our_step_seconds(folder, new_tokens, steps, precision)
        theirs += a
        ours += b
        ratios.append(statistics.median(a) / statistics.median(b))
    return {
        "precision": name, "new_tokens": new_tokens, "trl_ms": 1e3 * statistics.median(theirs),
        "ours_ms": 1e3 * statistics.median(ours), "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }  # fmt: skip


def main() -> None:
    """Print the table and, last, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--new_tokens", type=int, nargs="+", default=[64, 128])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    folder = Path(tempfile.mkdtemp())
    write_model(folder, PROMPT_TOKENS + max(options.new_tokens) + 1)
    rows = [
        compare(folder, new_tokens, name, options.rounds, options.steps)
        for name in pairs()
        for new_tokens in options.new_tokens
    ]
    print(
        f"\ntorch {torch.__version__}, {torch.get_num_threads()} thread(s), "
        f"{options.rounds} rounds of {options.steps} steps"
    )
    print(f"{'precision':30}{'new tokens':>11}{'TRL ms':>9}{'ours ms':>9}{'ratio':>7}  range")
    for row in rows:
        low, high = row["ratio_range"]
        print(
            f"{row['precision']:30}{row['new_tokens']:11d}{row['trl_ms']:9.0f}{row['ours_ms']:9.0f}"
            f"{row['ratio']:7.2f}  {low:.2f}-{high:.2f}"
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
