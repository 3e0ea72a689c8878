"""Runs that differ in how completions were decoded, made comparable: what they share stays, what differs has a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning_gfn.reports.runs import EvaluatedRun

COMMON = 1.0
"""Under this temperature the values of all runs stand; what each was decoded at is told by ``decodings_of``."""
SHARED = ("num_samples", "max_new_tokens", "min_new_tokens", "seed")
"""Settings in which the runs must agree all the same."""


def decoding_text(decoding: Mapping[str, Any], temperature: float) -> str:
    """How a run decodes, in words.

    Args:
        decoding: its settings.
        temperature: at which it is compared.
    """
    beams = decoding.get("beams")
    if beams:
        groups = beams.get("num_groups", 1)
        alone = f"beam search with {decoding['num_samples']} beams"
        text = alone if groups == 1 else f"{alone} in {groups} groups, penalty {beams['diversity_penalty']:g}"
        return text + (f", length penalty {beams['length_penalty']:g}" if beams.get("length_penalty") else "")
    cuts = [f"{name.replace('_', '-')} {decoding[name]:g}" for name in ("top_k", "top_p") if decoding.get(name)]
    return ", ".join([f"temperature {temperature:g}", *cuts])


def decodings_of(runs: Sequence[EvaluatedRun]) -> dict[str, str]:
    """How each method decodes.

    Raises:
        ValueError: the runs of one method differ in it.
    """
    found: dict[str, tuple[str, EvaluatedRun]] = {}
    for run in runs:
        text = decoding_text(run.identity["decoding"], run.temperature)
        known, first = found.setdefault(run.method, (text, run))
        if known != text:
            raise ValueError(
                f"method {run.method!r} decodes by {known} in {first.folder}, by {text} in {run.folder}: give them two "
                "names (NAME=RUN)"
            )
    return {name: text for name, (text, _) in found.items()}


def with_shared_decoding(runs: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
    """The runs, each at the one temperature that it is compared at, with the settings of decoding that all share."""
    return [
        replace(
            run,
            temperature=COMMON,
            values={COMMON: run.values[run.temperature]},
            identity={
                **run.identity,
                "decoding": {
                    **{name: run.identity["decoding"][name] for name in SHARED if name in run.identity["decoding"]},
                    "temperatures": [COMMON],
                },
            },
        )
        for run in runs
    ]
