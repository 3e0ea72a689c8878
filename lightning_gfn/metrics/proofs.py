"""Proof metrics describe attempts at theorems: distinct proofs, length, errors, states covered, variety of tactics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from lightning_gfn.lean_types import Episode
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.similarity.tactic_scripts import distinct_scripts, entropy, head_words
from lightning_gfn.types import EvalRecord


def proofs_of(record: EvalRecord) -> list[Episode]:
    """The attempts that ended in a proof."""
    return [episode for episode in record.episodes if episode.outcome == "proved"]


class ProofMetric(PerProblemMetric):
    """Values of the episodes of a theorem; problems without episodes have none."""

    def row(self, record: EvalRecord) -> Sequence[float]:
        return self.values_of(record) if record.episodes else [math.nan] * len(self.keys)

    def values_of(self, record: EvalRecord) -> Sequence[float]:
        """One value a key, for a problem with episodes."""
        raise NotImplementedError


class DistinctProofs(ProofMetric):
    """Different proofs of a theorem: ``distinct_proofs``, and ``distinct_proofs_solved`` over theorems with a proof.

    Scripts are equal if their normal forms are (``similarity.tactic_scripts.normal_script``). The mean of the
    first is over all theorems, 0 where none was found.

    Args:
        rename: proofs that differ only in the names that they introduce are one; the keys then are
            ``distinct_proofs_renamed`` and ``distinct_proofs_renamed_solved``.
    """

    def __init__(self, rename: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rename = rename

    @property
    def keys(self) -> tuple[str, ...]:
        name = "distinct_proofs_renamed" if self.rename else "distinct_proofs"
        return (name, f"{name}_solved")

    def values_of(self, record: EvalRecord) -> Sequence[float]:
        found = len(distinct_scripts([episode.tactics for episode in proofs_of(record)], rename=self.rename))
        return [float(found), float(found) if found else math.nan]


class ProofLength(ProofMetric):
    """Tactics of the proofs found, over theorems with a proof: ``proof_length_mean`` and ``proof_length_shortest``."""

    @property
    def keys(self) -> tuple[str, ...]:
        return ("proof_length_mean", "proof_length_shortest")

    def values_of(self, record: EvalRecord) -> Sequence[float]:
        lengths = [len(episode.tactics) for episode in proofs_of(record)]
        return [fmean(lengths), float(min(lengths))] if lengths else [math.nan, math.nan]


class TacticErrors(ProofMetric):
    """Error shares say how attempts fail.

    Keys: ``tactic_error_rate``, share of the tactics that failed, for whatever reason; ``forbidden_rate`` and
    ``timeout_rate``, shares of the tactics that a rule barred and that were too slow; ``unsound_rate``, share of the
    attempts that closed the goals without a proof; ``unfinished_rate``, share that ran out of tactics;
    ``fault_rate``, share that the environment broke.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return (
            "tactic_error_rate",
            "forbidden_rate",
            "timeout_rate",
            "unsound_rate",
            "unfinished_rate",
            "fault_rate",
        )

    def values_of(self, record: EvalRecord) -> Sequence[float]:
        episodes = record.episodes
        num_tactics = sum(len(episode.tactics) for episode in episodes)
        kinds = [episode.error_kind for episode in episodes if episode.outcome == "error" and episode.tactics]
        per_tactic = [len(kinds), kinds.count("forbidden"), kinds.count("timeout")]
        unfinished = sum(episode.outcome == "unfinished" for episode in episodes)
        faults = sum(episode.error_kind == "fault" for episode in episodes)
        rates = [count / num_tactics if num_tactics else math.nan for count in per_tactic]
        return [*rates, kinds.count("unsound") / len(episodes), unfinished / len(episodes), faults / len(episodes)]


class StatesCovered(ProofMetric):
    """Different states that the attempts at a theorem went through, its first one included: ``states_covered``."""

    @property
    def keys(self) -> tuple[str, ...]:
        return ("states_covered",)

    def values_of(self, record: EvalRecord) -> Sequence[float]:
        seen = {state for episode in record.episodes for state in (*episode.states, episode.final_state) if state}
        return [float(len(seen))]


class TacticVariety(ProofMetric):
    """Variety of the tactics that were tried at a theorem, by their first words.

    Keys: ``tactic_heads``, how many different ones; ``tactic_head_entropy``, entropy of their frequencies, nats;
    ``distinct_tactics_share``, different tactics (whole texts) among all.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("tactic_heads", "tactic_head_entropy", "distinct_tactics_share")

    def values_of(self, record: EvalRecord) -> Sequence[float]:
        tactics = [tactic for episode in record.episodes for tactic in episode.tactics]
        heads = head_words(tactics)
        if not heads:
            return [math.nan] * 3
        different = len({" ".join(tactic.split()) for tactic in tactics})
        return [float(len(set(heads))), entropy(heads), different / len(tactics)]


class EnvironmentSeconds(ProofMetric):
    """Seconds that the environment worked for one attempt, mean over a theorem's attempts: ``environment_seconds``."""

    @property
    def keys(self) -> tuple[str, ...]:
        return ("environment_seconds",)

    def values_of(self, record: EvalRecord) -> Sequence[float]:
        return [fmean(episode.seconds for episode in record.episodes)]
