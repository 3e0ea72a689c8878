"""Which precision a run really computes in."""

from __future__ import annotations

from typing import Any

NARROW = ("bf16-mixed", "bf16")


def runs_on_processor(accelerator: Any) -> bool:
    """True if the trainer will find no other device than the processor."""
    if accelerator == "auto":
        import torch

        return not (torch.cuda.is_available() or torch.backends.mps.is_available())
    return accelerator == "cpu"


def suited_precision(asked: Any, accelerator: Any) -> tuple[Any, str | None]:
    """The precision that a device is asked for, or float32 where autocast to bfloat16 would only be emulated.

    Args:
        asked: ``trainer.precision``.
        accelerator: ``trainer.accelerator``.

    Returns:
        The precision, and a line that says what was changed and why; None if nothing was.
    """
    if asked not in NARROW or not runs_on_processor(accelerator):
        return asked, None
    from lightning_gfn.policies.numerics import processor

    if processor.cpu_has_bfloat16():
        return asked, None
    return "32-true", (
        f"trainer.precision {asked} is run as 32-true: this processor has no bfloat16 arithmetic, so that float32 is "
        "faster, and more exact"
    )
