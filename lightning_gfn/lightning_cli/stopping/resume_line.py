"""What an interrupted run leaves, and the command that goes on with it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from lightning_gfn.tracking.run_folder import RunFolder

REPLACED = ("--if_exists", "--ckpt_path")
FITTING = ("fit", "run")


def resuming(arguments: Sequence[str]) -> str:
    """The command that goes on, ready to be copied.

    Args:
        arguments: of the interrupted command, its name first.
    """
    kept, drop = [], False
    for argument in arguments:
        if drop:
            drop = False
        elif argument in REPLACED and arguments[0] in FITTING:
            drop = True
        elif not (argument.startswith(tuple(f"{name}=" for name in REPLACED)) and arguments[0] in FITTING):
            kept.append(argument)
    more = ["--if_exists", "resume"] if arguments[0] in FITTING else []
    return shlex.join(["lightning-gfn", *kept, *more])


def what_is_left(folder: RunFolder, trainer: Trainer, saved: bool) -> str:
    """A clause about the checkpoint.

    Args:
        folder: the run folder.
        trainer: of the interrupted command.
        saved: the state at the present step was saved.
    """
    if trainer.state.fn != "fit":
        return f"{trainer.state.fn} was interrupted; it begins again"
    if saved and folder.last_checkpoint.exists():
        return f"training stopped after step {trainer.global_step}, which is saved in {folder.last_checkpoint}"
    if folder.last_checkpoint.exists():
        return f"training stopped at step {trainer.global_step}; {folder.last_checkpoint} is the last state saved"
    if trainer.global_step:
        return f"training stopped at step {trainer.global_step}, within a step that took too long; nothing was saved"
    return "training had not begun, nothing was saved"
