"""A joint likelihood with the wrong model of the evidence: the reward of a study of robustness."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_gfn.answers.noise import check_probability, flipped, noise_below
from lightning_gfn.interfaces import TextLikelihood
from lightning_gfn.rewards.joint import JointLikelihood, JointText, evidence_of
from lightning_gfn.types import Problem

if TYPE_CHECKING:
    from lightning_gfn.types import Rollouts

_NUMBER = re.compile(r"\d+")


class MisspecifiedLikelihood(JointLikelihood):
    """``JointLikelihood`` whose likelihood of the evidence is raised to a power, or reads the wrong evidence.

        log R(z_1:i) = log p(z_1:i | x) + w · log p(y' | x, z_1:i)        (nats)

        y' = another text than y for a share ε of the problems, for good; y for the others

    Balanced, a policy samples p(z | x) p(y' | x, z)^w / Z: the posterior of a likelihood that is too sure (w > 1), not
    sure enough (w < 1; 0 is the prior), or of labels that are partly wrong. Which problems have a wrong one depends on
    seed and problem id alone; those of a small ε stay wrong at every larger one. Metrics read the true answers.

    Args:
        exponent: w, at least 0; 1 is the model's own likelihood.
        corruption: ε, share of problems with wrong evidence.
        alternatives: texts, among them one other than y, of which a wrong one is drawn; None puts another number in the
            place of the last one of y.
        seed: key of the draws; the same for every method that is compared.
        count_inserted: let p(z | x) count the tokens that tools wrote as well.

    Raises:
        ValueError: a number is out of range.

    Source: Grünwald & van Ommen 2017, arXiv:1412.3730 (generalised posteriors, exponent w).
    """

    def __init__(
        self,
        *,
        exponent: float = 1.0,
        corruption: float = 0.0,
        alternatives: list[str] | None = None,
        seed: int = 0,
        count_inserted: bool = False,
    ) -> None:
        super().__init__(count_inserted)
        if not (math.isfinite(exponent) and exponent >= 0.0):
            raise ValueError(f"reward.exponent is {exponent}, expected a number of at least 0; 1 changes nothing")
        check_probability(corruption)
        self.exponent, self.corruption, self.seed = exponent, corruption, seed
        self.alternatives = alternatives

    def evidence(self, problem: Problem) -> str:
        """What is taken to follow the completion, right or wrong."""
        true = evidence_of(problem)
        wrong = self.wrong_evidence(problem, true) if self.corruption else true
        is_wrong = flipped(problem.id, true, probability=self.corruption, seed=self.seed)
        return wrong if is_wrong else true

    def wrong_evidence(self, problem: Problem, true: str) -> str:
        """Another text, drawn by seed and problem.

        Raises:
            ValueError: there is none to draw.
        """
        if self.alternatives is not None:
            others = sorted({text for text in self.alternatives if text != true})
            if not others:
                raise ValueError(
                    f"reward.alternatives has no text other than the evidence {true!r} of problem {problem.id!r}"
                )
            return others[noise_below(len(others), problem.id, "other", seed=self.seed)]
        found = list(_NUMBER.finditer(true))
        if not found:
            raise ValueError(
                f"the evidence {true!r} of problem {problem.id!r} has no number to change: set reward.alternatives to "
                "the texts that may stand in its place"
            )
        last = found[-1]
        other = int(last[0]) + 1 + noise_below(9, problem.id, "other", seed=self.seed)
        return f"{true[: last.start()]}{other}{true[last.end() :]}"

    def log_joint(self, policy: TextLikelihood, rollouts: Rollouts, texts: Sequence[JointText]) -> list[float]:
        """log p(z | x) + w · log p(y' | x, z) of each text."""
        whole = super().log_joint(policy, rollouts, texts)
        if self.exponent == 1.0:
            return whole
        alone = super().log_joint(policy, rollouts, [text._replace(evidence=()) for text in texts])
        w = self.exponent
        return [(1.0 - w) * prior + w * joint for prior, joint in zip(alone, whole, strict=True)]
