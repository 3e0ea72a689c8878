"""Two training steps on few examples: what is said before them, and the time that they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_gfn.callbacks.common.costs import peak_memory_mib, reset_peak_memory
from lightning_gfn.callbacks.dry_run.first_example import example_lines, reward_lines
from lightning_gfn.callbacks.dry_run.memory_estimate import (
    StepSize,
    estimated_memory,
    peak_of,
    storage_bytes,
    working_copies,
)
from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.preference_types import Preference

SECONDS = 20.0
"""What the measured step may take, judged by the one before it."""
MEASURED_TEXTS = 2000
"""Training texts whose lengths are looked at."""
MIB = 2**20


class Rehearsal(Callback):
    """Describes the first example and the memory of a step, then measures a step on as many examples as 20 s allow.

    The first step takes one example and only warms up. Batches of a rollout that serves several updates stay together.

    Args:
        say: takes the lines of the report.
        num_devices: processes of the run that is tried out.
    """

    def __init__(self, say: Callable[[str], None], num_devices: int = 1) -> None:
        self.say, self.num_devices = say, num_devices
        self.batch_size = self.taken = 1
        self.seconds = [0.0, 0.0]
        self.is_described = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the module see the first examples of each batch alone."""
        step: Callable[..., Any] = pl_module.training_step

        def shortened(batch: Any, batch_idx: int) -> Any:
            return step(batch[: self.taken] if isinstance(batch, list) else batch, batch_idx)

        pl_module.training_step = shortened  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Describe the first batch before anything is computed with it; start the clock."""
        if not self.is_described:
            self.is_described = True
            self.batch_size = len(batch) if isinstance(batch, list) else 1
            for line in self.described(trainer, pl_module, batch):
                self.say(line)
            reset_peak_memory(pl_module.device)
        self.started = now(pl_module.device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Add up the seconds of the batches of a rollout."""
        self.seconds[trainer.current_epoch] += now(pl_module.device) - self.started

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the size of the measured step by the first one, and report at the end."""
        if trainer.current_epoch == 0:
            self.taken = max(1, min(self.share, int(SECONDS / max(self.seconds[0], 1e-6))))
            return
        for line in self.measured(trainer, pl_module):
            self.say(line)

    @property
    def share(self) -> int:
        """Examples of a training batch that one process gets."""
        return -(-self.batch_size // self.num_devices)

    # ---------------------------------------------------------------- report

    def described(self, trainer: Trainer, module: Any, batch: Any) -> Iterator[str]:
        """First example, reward and memory."""
        model = getattr(module, "policy", None) or getattr(module, "network", None)
        if not isinstance(batch, list) or not isinstance(model, LanguageModel):
            yield f"{type(module).__name__} has no language model of this suite: only its step is measured"
            return
        yield "first example"
        yield from (f"  {line}" for line in example_lines(batch[0], model, scored=not hasattr(module, "policy")))
        yield from (f"  {line}" for line in reward_lines(batch[0], module))
        yield from self.memory_lines(trainer, module, model, batch)

    def memory_lines(self, trainer: Trainer, module: Any, model: LanguageModel, batch: list[Any]) -> Iterator[str]:
        """Parts of the peak, and how they were found."""
        size = self.step_size(trainer, module, model, batch)
        known = storage_bytes(chain(module.parameters(), module.buffers(), working_copies(model)), set())
        program = max(0, resident_bytes() - known) if model.device.type == "cpu" else 0
        with trainer.precision_plugin.forward_context():
            parts = estimated_memory(module, model, size, samples=hasattr(module, "sampler"))
        yield (
            f"memory of a step on each device (estimated): {peak_of(parts, program) / MIB:,.0f} MiB for "
            f"{size.gradient_rows} rows of at most {size.context} + {size.action} tokens"
        )
        for name, value in parts.items():
            yield f"  {name:<16}{value / MIB:>10,.0f} MiB"
        if program:
            yield f"  {'program':<16}{program / MIB:>10,.0f} MiB (resident now, without weights)"
        yield (
            "  weights are counted, gradients and both moments of AdamW follow from those that are trained; activations"
            "\n  are scaled up from small passes; keys and values, logits and sampler follow from shapes"
        )

    def step_size(self, trainer: Trainer, module: Any, model: LanguageModel, batch: list[Any]) -> StepSize:
        """Rows and lengths of a step; of sampled actions the longest that there may be."""
        sampler, updates = getattr(module, "sampler", None), getattr(module, "updates", None)
        per_example = 2 if isinstance(batch[0], Preference) else 1
        if sampler is not None:
            per_example = int(sampler.num_samples) + bool(sampler.behaviour.always_reference)
        rows = self.share * per_example
        context, action = longest(trainer, model)
        action = model.max_new_tokens if sampler is not None or not action else min(action, model.max_new_tokens)
        gradient_rows = -(-rows // (updates.num_minibatches if updates is not None else 1))
        return StepSize(rows, gradient_rows, min(context, model.max_prompt_tokens), action, per_example)

    def measured(self, trainer: Trainer, module: Any) -> Iterator[str]:
        """Time of an optimiser step, and the peak of the small one."""
        batches = int(getattr(module, "updates_per_rollout", 1))
        factor = self.share / self.taken
        seconds = self.seconds[1] * factor / batches * trainer.accumulate_grad_batches
        peak = peak_memory_mib(module.device)
        how = (
            "measured" if self.taken == self.share else
            f"extrapolated in proportion from {self.taken} of {self.share} examples, which took {self.seconds[1]:.3g} s"
        )  # fmt: skip
        yield f"optimiser step: {seconds:.3g} s ({how}); validation and checkpoints come on top"
        yield f"peak memory of this step: {peak:,.0f} MiB (measured, with {self.taken} of {self.share} examples)"


def longest(trainer: Trainer, model: LanguageModel) -> tuple[int, int]:
    """Tokens of the longest prompt and of the longest completion among the first training texts; 0 without any.

    Of theorems, whose states come from an environment, the longest prompt is the limit.
    """
    texts_of = getattr(getattr(trainer, "datamodule", None), "texts_of", None)
    texts = [text for text in (texts_of("fit") if texts_of is not None else ()) if text[0] == "train"][:MEASURED_TEXTS]
    prompts = [len(model.codec.encode_prompt(prompt)) for prompt in {text[2] for text in texts}]
    targets = [len(model.codec.encode_completion(target)) for text in texts for target in text[3]]
    return max(prompts, default=model.max_prompt_tokens), max(targets, default=0)


def resident_bytes() -> int:
    """Memory of this process now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def now(device: torch.device) -> float:
    """Seconds of a clock, after the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
