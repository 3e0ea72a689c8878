"""A replay buffer of trajectories with stated rules for duplicates, eviction and sampling."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, get_args

from lightning_gfn.buffers.packing import PackedTrajectory, from_state, pack, to_state, unpack
from lightning_gfn.buffers.ranks import Ranks
from lightning_gfn.interfaces import Buffer, Reward
from lightning_gfn.types import Trajectory

DuplicateRule = Literal["exact", "edit_distance", "none"]
EvictionRule = Literal["lowest_reward", "oldest"]
SamplingRule = Literal["uniform", "reward", "recency"]

_STEP_SEPARATOR = chr(0x10FFFF)


@dataclass(frozen=True, slots=True)
class _Entry:
    serial: int
    key: str
    packed: PackedTrajectory


class ReplayBuffer(Buffer):
    """Past trajectories, per problem or in one common pool.

    **Adding.** Trajectories are offered one after the other. A *duplicate* has the same problem and

    - ``exact``: the same action tokens. The newcomer takes the held copy's place, so that terms and birth are those of
      the latest visit.
    - ``edit_distance``: an exact duplicate as above; or a Levenshtein distance over action tokens below
      ``tolerance · (len_a + len_b)``. The newcomer enters only if its log reward is higher than that of *every*
      held near-duplicate, and then all of them leave; else it is refused. So no two held trajectories are ever near.
    - ``none``: nothing is a duplicate.

    **Eviction.** A newcomer that is no duplicate always enters. If there is no room, one of those already held leaves
    first: the one of ``lowest_reward`` (the oldest of equals), or the ``oldest`` (by time of arrival). So the buffer
    never freezes, whatever it holds: with ``lowest_reward`` the best ``capacity - 1`` ever offered stay and the last
    place turns over.

    **Sampling.** Independent draws with ``replacement``, or without: then each draw excludes the earlier ones and at
    most as many come as are held. A trajectory's weight is

    - ``uniform``: 1,
    - ``reward``: exp(log_reward / temperature),
    - ``recency``: 2^(-age / half_life), age in optimiser steps behind the youngest candidate.

    **Log rewards** that are compared in all of this are those that the reward of ``rank_by`` makes of the stored terms
    at its optimiser step, so that a schedule of weights or temperatures moves held and new trajectories alike; without
    it, and where the reward has no schedule, they are those at which trajectories were added.

    The i-th draw inverts the cumulative weights, in order of arrival, at the i-th given uniform; nothing else is
    random.

    Args:
        capacity: trajectories held, for each problem or in all.
        per_problem: whether ``capacity`` counts per problem (else over all problems).
        duplicates: which trajectories count as the same.
        tolerance: for ``edit_distance``: share of the summed lengths, in (0, 1].
        eviction: which trajectory leaves when there is no room.
        sampling: how draws are weighted.
        temperature: of reward-proportional sampling, in nats of log reward.
        half_life: of recency sampling, in optimiser steps.
        replacement: whether one call may draw a trajectory twice.

    Raises:
        ValueError: naming the argument that is out of range.

    Source: Hu et al. 2024, arXiv:2310.04363, appendix (edit distance, best 50 per prompt); Bartoldson et al. 2025,
    arXiv:2503.18929 (recency and reward).
    """

    def __init__(
        self,
        *,
        capacity: int = 50,
        per_problem: bool = True,
        duplicates: DuplicateRule = "exact",
        tolerance: float = 0.25,
        eviction: EvictionRule = "lowest_reward",
        sampling: SamplingRule = "uniform",
        temperature: float = 1.0,
        half_life: float = 100.0,
        replacement: bool = True,
    ) -> None:
        _require_one_of("duplicates", duplicates, DuplicateRule)
        _require_one_of("eviction", eviction, EvictionRule)
        _require_one_of("sampling", sampling, SamplingRule)
        for name, value in (("capacity", capacity), ("temperature", temperature), ("half_life", half_life)):
            if value <= 0:
                raise ValueError(f"ReplayBuffer: {name}={value} must be above 0")
        if not 0.0 < tolerance <= 1.0:
            raise ValueError(f"ReplayBuffer: tolerance={tolerance} must lie in (0, 1]")
        self.capacity = capacity
        self.per_problem = per_problem
        self.duplicates = duplicates
        self.tolerance = tolerance
        self.eviction = eviction
        self.sampling = sampling
        self.temperature = temperature
        self.half_life = half_life
        self.replacement = replacement
        self._ranks = Ranks()
        self._shelves: dict[str, dict[int, _Entry]] = {}
        self._next_serial = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, trajectories: Iterable[Trajectory]) -> int:
        """Offer trajectories one after the other.

        Args:
            trajectories: finished trajectories with their log rewards.

        Returns:
            How many entered (a refreshed exact duplicate counts).

        Raises:
            ValueError: if a log reward is not finite.
        """
        return sum(self._offer(pack(trajectory)) for trajectory in trajectories)

    def rank_by(self, reward: Reward, optimizer_step: int) -> None:
        """Compare trajectories by the reward as it combines their terms at this optimiser step; see the class."""
        self._ranks.rank_by(reward, optimizer_step)

    def sample(self, problem_id: str | None, num_samples: int, uniforms: Sequence[float]) -> list[Trajectory]:
        """Draw trajectories.

        Args:
            problem_id: draw from this problem's; None draws from all.
            num_samples: how many draws.
            uniforms: at least ``num_samples`` numbers in [0, 1).

        Returns:
            ``num_samples`` trajectories, fewer without replacement if fewer are held, none if nothing is held.

        Raises:
            ValueError: if there are too few uniforms.
        """
        if len(uniforms) < num_samples:
            raise ValueError(f"ReplayBuffer.sample: {num_samples} draws need as many uniforms, got {len(uniforms)}")
        candidates = self._entries(problem_id)
        drawn: list[_Entry] = []
        cumulative: list[float] = []
        for uniform in uniforms[:num_samples]:
            if not candidates:
                break
            if not self.replacement or not cumulative:
                cumulative = list(accumulate(self._weights(candidates)))
            pick = _invert(cumulative, float(uniform))
            drawn.append(candidates[pick] if self.replacement else candidates.pop(pick))
        return [unpack(entry.packed) for entry in drawn]

    def state_dict(self) -> dict[str, Any]:
        """Every held trajectory in order of arrival, as flat tensors and lists of strings."""
        return to_state([entry.packed for entry in self._entries(None)])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``; with a smaller capacity than it was saved under, the surplus is evicted by rule.

        Raises:
            ValueError: if the state is no replay buffer's.
        """
        restored = from_state(state)
        self._shelves, self._size, self._next_serial = {}, 0, 0
        self._ranks.forget()
        for packed in restored:
            self._insert(packed, _key(packed))

    def _offer(self, packed: PackedTrajectory) -> bool:
        if not math.isfinite(packed.log_reward):
            raise ValueError(
                f"ReplayBuffer.add: log reward {packed.log_reward} of problem '{packed.problem_id}' is not finite"
            )
        key = _key(packed)
        shelf = self._shelves.get(packed.problem_id, {})
        if self.duplicates != "none":
            same = [entry for entry in shelf.values() if entry.key == key]
            near = [] if same or self.duplicates == "exact" else self._near(key, shelf.values())
            own, *others = self._ranks.log_rewards([packed, *(entry.packed for entry in near)])
            if any(other >= own for other in others):
                self._ranks.forget(packed)
                return False
            for entry in same + near:
                self._remove(entry)
        self._insert(packed, key)
        return True

    def _near(self, key: str, held: Iterable[_Entry]) -> list[_Entry]:
        from rapidfuzz.distance import Levenshtein

        near = []
        for entry in held:
            cutoff = math.ceil(self.tolerance * (len(key) + len(entry.key))) - 1  # the largest distance below the bound
            if cutoff >= 0 and Levenshtein.distance(key, entry.key, score_cutoff=cutoff) <= cutoff:
                near.append(entry)
        return near

    def _insert(self, packed: PackedTrajectory, key: str) -> None:
        held = len(self._shelves.get(packed.problem_id, {})) if self.per_problem else self._size
        if held >= self.capacity:
            rivals = self._entries(packed.problem_id if self.per_problem else None)
            self._remove(rivals[self._first_to_leave(rivals)])
        self._shelves.setdefault(packed.problem_id, {})[self._next_serial] = _Entry(self._next_serial, key, packed)
        self._next_serial += 1
        self._size += 1

    def _remove(self, entry: _Entry) -> None:
        shelf = self._shelves[entry.packed.problem_id]
        del shelf[entry.serial]
        self._ranks.forget(entry.packed)
        if not shelf:
            del self._shelves[entry.packed.problem_id]
        self._size -= 1

    def _entries(self, problem_id: str | None) -> list[_Entry]:
        """Held entries in order of arrival."""
        if problem_id is not None:
            return list(self._shelves.get(problem_id, {}).values())
        held = [entry for shelf in self._shelves.values() for entry in shelf.values()]
        return sorted(held, key=lambda entry: entry.serial)

    def _first_to_leave(self, rivals: Sequence[_Entry]) -> int:
        """Index of the one that eviction chooses among rivals in order of arrival."""
        if self.eviction == "oldest":
            return 0
        log_rewards = self._ranks.log_rewards([entry.packed for entry in rivals])
        return log_rewards.index(min(log_rewards))

    def _weights(self, candidates: Sequence[_Entry]) -> list[float]:
        if self.sampling == "reward":
            log_rewards = self._ranks.log_rewards([entry.packed for entry in candidates])
            best = max(log_rewards)
            return [math.exp((value - best) / self.temperature) for value in log_rewards]
        if self.sampling == "recency":
            youngest = max(entry.packed.born for entry in candidates)
            return [2.0 ** ((entry.packed.born - youngest) / self.half_life) for entry in candidates]
        return [1.0] * len(candidates)


def _key(packed: PackedTrajectory) -> str:
    """Action tokens as one code point each: a compact key that is hashed and compared at C speed."""
    ends = packed.lengths.cumsum().tolist()
    actions = [packed.tokens[start:end].tolist() for start, end in zip(ends[::2], ends[1::2], strict=True)]
    return _STEP_SEPARATOR.join("".join(map(chr, action)) for action in actions)


def _invert(cumulative: list[float], uniform: float) -> int:
    """The first index whose cumulative weight exceeds ``uniform`` times the total."""
    return min(bisect_right(cumulative, uniform * cumulative[-1]), len(cumulative) - 1)


def _require_one_of(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"ReplayBuffer: {name}='{value}' is none of {list(get_args(choices))}")
