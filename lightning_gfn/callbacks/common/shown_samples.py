"""One sample as a few lines of plain text, for the console."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.types import EvalRecord

PROMPT_CHARACTERS = 300
COMPLETION_CHARACTERS = 800


@runtime_checkable
class Samples(Protocol):
    """A module that samples and rewards in its training step."""

    latest_rollouts: RolloutBatch | None
    """The latest rollout batch; None before the first."""


def visible(text: str) -> str:
    """Text without control characters: a completion cannot steer the terminal."""
    return "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in text)


def indented(mark: str, text: str) -> str:
    """Every line of a text behind a mark."""
    return "\n".join(f"  {mark} {line}" for line in visible(text).split("\n"))


def shortened(text: str, length: int, *, end: bool = False) -> str:
    """The start (or the end) of a text; what is left out is counted."""
    left_out = len(text) - length
    if left_out <= 0:
        return text
    note = f"[{left_out} more characters]"
    return f"{note} {text[left_out:]}" if end else f"{text[:length]} {note}"


def sample_text(title: str, prompt: str, completion: str) -> str:
    """Prompt and completion under a title."""
    asked = indented("|", shortened(prompt, PROMPT_CHARACTERS, end=True))
    return f"{title}\n{asked}\n{indented('>', shortened(completion, COMPLETION_CHARACTERS))}"


def training_sample(module: object, step: int) -> str | None:
    """The first fresh trajectory of the latest rollout batch with its reward; None if nothing was sampled."""
    drawn = module.latest_rollouts if isinstance(module, Samples) else None
    if drawn is None:
        return None
    rollouts = drawn.rollouts
    b = next((b for b, source in enumerate(rollouts.sources) if source == "on_policy"), 0)
    verdict = "" if rollouts.correct_B is None else (", right" if bool(rollouts.correct_B[b]) else ", wrong")
    tokens = int(rollouts.action_mask_NT[rollouts.trajectory_index_N == b].sum())
    reward = float(drawn.log_reward.terminal_B[b])
    word = getattr(module, "reward_word", "log reward")
    title = f"sample at step {step} ({rollouts.sources[b]}{verdict}, {word} {reward:.4g}, {tokens} tokens):"
    return sample_text(title, rollouts.problem_of(b).prompt, rollouts.completions[b])


def evaluation_sample(outputs: object, step: int, stage: str = "validation") -> str | None:
    """The first completion of the first record of a stage; None if the step returned no records."""
    record = outputs[0] if isinstance(outputs, list) and outputs else None
    if not isinstance(record, EvalRecord) or not record.completions:
        return None
    verdict = ("right, " if record.correct[0] else "wrong, ") if record.is_judged else ""
    cut = "cut, " if record.truncated[0] else ""
    title = f"{stage} sample at step {step} ({verdict}{cut}{record.lengths[0]} tokens):"
    return sample_text(title, record.problem.prompt, record.shown[0])
