"""Runs that differ in how completions were decoded, made comparable: what they share stays, what differs has a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning_gfn.reports.runs import EvaluatedRun

COMMON = 1.0
"""Under this temperature the values of all runs stand; what each was decoded at is told by ``decodings_of``."""
SHARED = ("num_samples", "max_new_tokens", "seed")
"""Settings in which the runs must agree all the same."""


ONLY_DRAWN = ("sample_spread", "sample_elbo", "sample_log_z", "sample_effective", "log_z_estimate")
"""Metrics of samples that the policy itself drew, which other ways of decoding have no value of."""


def decoding_text(decoding: Mapping[str, Any], temperature: float) -> str:
    """How a run decodes, in words.

    Args:
        decoding: its settings.
        temperature: at which it is compared.
    """
    shortest = decoding.get("min_new_tokens")
    least = f", at least {shortest} token{'s' * (shortest > 1)}" if shortest else ""
    beams = decoding.get("beams")
    if beams:
        groups = beams.get("num_groups", 1)
        alone = f"beam search with {decoding['num_samples']} beams"
        text = alone if groups == 1 else f"{alone} in {groups} groups, penalty {beams['diversity_penalty']:g}"
        return text + (f", length penalty {beams['length_penalty']:g}" if beams.get("length_penalty") else "") + least
    cuts = [f"{name.replace('_', '-')} {decoding[name]:g}" for name in ("top_k", "top_p") if decoding.get(name)]
    return ", ".join([f"temperature {temperature:g}", *cuts]) + least


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
    """The runs, each at the one temperature that it is compared at, with the settings of decoding that all share.

    Estimates that need draws of the policy itself are left out, unless all runs have them.
    """
    left_out = {name for name in ONLY_DRAWN if any(name not in run.values[run.temperature] for run in runs)}
    return [
        replace(
            run,
            temperature=COMMON,
            values={COMMON: {n: found for n, found in run.values[run.temperature].items() if n not in left_out}},
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
