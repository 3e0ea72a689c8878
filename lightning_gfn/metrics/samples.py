"""Which samples of a problem a metric of diversity looks at: the correct ones, or all."""

from __future__ import annotations

from typing import Literal, get_args

from lightning_gfn.similarity.counting import correct_only
from lightning_gfn.types import EvalRecord

Samples = Literal["correct", "all"]


def require_samples(samples: Samples) -> Samples:
    """The choice, or ValueError if there is no such one."""
    if samples not in get_args(Samples):
        raise ValueError(f"samples: unknown choice {samples!r}; use one of {', '.join(get_args(Samples))}")
    return samples


def of_samples(name: str, samples: Samples) -> str:
    """The key of a metric, which says so if all samples count."""
    return f"sample_{name}" if samples == "all" else name


def chosen_samples(record: EvalRecord, samples: Samples) -> list[str]:
    """The completions that count, in order."""
    return list(record.completions) if samples == "all" else correct_only(record.completions, record.correct)
