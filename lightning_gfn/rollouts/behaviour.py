"""Where the trajectories of a training step come from: the policy, replay, reference solutions, or a search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

from lightning_gfn.rollouts.keyed_random import keyed_uniform
from lightning_gfn.types import Source


@dataclass(frozen=True)
class BehaviourMix:
    """Shares of the sources of trajectories; each problem of each rollout batch draws one source.

    - ``on_policy``: the whole group is sampled from the policy at temperature 1.
    - ``tempered``: the whole group is sampled at one temperature, uniform in [temperature_low, temperature_high], with
      ``top_k`` and ``top_p`` if set.
    - ``replay``: the whole group is drawn from the buffer.
    - ``reference``: one trajectory of the group is a reference solution of the problem, the rest is on-policy.
    - ``search``: trajectories that a search found (theorems only), the rest is on-policy.

    With ``always_reference`` every group holds one reference solution more, whatever its source, as in Proof Flow.

    Args:
        on_policy: share of problems sampled on-policy.
        tempered: share of problems sampled at another temperature.
        replay: share of problems replayed.
        reference: share of problems with a reference solution in their group.
        search: share of problems that are searched.
        temperature_low: lowest temperature of the tempered share.
        temperature_high: highest temperature of the tempered share.
        top_k: the tempered share keeps the k most likely actions; None keeps all.
        top_p: the tempered share keeps the smallest set of actions with this probability; None keeps all.
        always_reference: a reference solution beside the ``num_samples`` trajectories of every problem; where there is
            none that the policy could produce, one more sample takes its place.

    Raises:
        ValueError: if the shares are negative or do not sum to 1, or a setting is out of range.

    Source: Hu et al. 2024, arXiv:2310.04363, appendix (shares and temperatures U[0.5, 2]); Proof Flow,
    arXiv:2410.13224 (the reference always in the batch).
    """

    on_policy: float = 1.0
    tempered: float = 0.0
    replay: float = 0.0
    reference: float = 0.0
    search: float = 0.0
    temperature_low: float = 0.5
    temperature_high: float = 2.0
    top_k: int | None = None
    top_p: float | None = None
    always_reference: bool = False

    def __post_init__(self) -> None:
        shares = self.shares
        if min(shares.values()) < 0.0 or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
            raise ValueError(
                f"behaviour: shares {shares} must be at least 0 and sum to 1, not to {sum(shares.values()):g}"
            )
        if not 0.0 < self.temperature_low <= self.temperature_high < math.inf:
            raise ValueError(
                f"behaviour: temperatures [{self.temperature_low}, {self.temperature_high}] must be ordered and above 0"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"behaviour: top_k={self.top_k} must be at least 1, or null to keep all actions")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"behaviour: top_p={self.top_p} must lie in (0, 1], or null to keep all actions")
        if self.always_reference and self.reference > 0.0:
            raise ValueError(
                f"behaviour: always_reference puts a reference solution into every group: set reference to 0, it is "
                f"{self.reference}"
            )

    @property
    def shares(self) -> dict[Source, float]:
        """Share of problems for each source."""
        return {
            "on_policy": self.on_policy,
            "tempered": self.tempered,
            "replay": self.replay,
            "reference": self.reference,
            "search": self.search,
        }

    @property
    def truncates(self) -> bool:
        """True if tempered samples come from a truncated distribution."""
        return self.top_k is not None or self.top_p is not None

    def source(self, problem_id: str, *, seed: int, rollout_step: int) -> Source:
        """The source of a problem's group in a rollout batch."""
        uniform = keyed_uniform("source", seed=seed, rollout_step=rollout_step, problem_id=problem_id)
        possible = {source: share for source, share in self.shares.items() if share > 0.0}
        bounds = accumulate(possible.values())
        return next(
            (source for source, bound in zip(possible, bounds, strict=True) if uniform < bound), list(possible)[-1]
        )

    def temperature(self, problem_id: str, *, seed: int, rollout_step: int) -> float:
        """The temperature of a problem's tempered group in a rollout batch."""
        uniform = keyed_uniform("temperature", seed=seed, rollout_step=rollout_step, problem_id=problem_id)
        return self.temperature_low + (self.temperature_high - self.temperature_low) * uniform
