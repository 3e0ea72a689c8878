"""The order in which problems are visited: resumable for training, sharded without repetition for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from lightning_gfn.types import Problem


def keyed_hash(*key: object) -> int:
    """A 64-bit hash of the key that is the same on every machine and in every process."""
    text = "\x1f".join(map(str, key))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class TrainLoader:
    """Batches of training problems in an order that depends on (seed, epoch, problem ids) alone.

    Each epoch visits every problem once. The position, the next batch as (epoch, batch), is the whole state, and it
    advances when a batch is handed out, so a loop that resumes from a saved position repeats and skips nothing. A
    batch is formed over all ranks and each rank receives its slice: the batches are the same for every number of ranks.

    Lightning saves and restores the state as it does for any loader with ``state_dict``; it calls ``set_epoch`` through
    ``sampler`` before each epoch. It is deliberately no ``torch.utils.data.DataLoader``: the problems are in memory,
    and Lightning would replace the sampler of one.

    Args:
        problems: the training problems.
        batch_size: problems a batch, counted over all ranks.
        seed: key of the order.
        drop_last: leave out the smaller last batch of an epoch.
        repeats: hand out each batch so many times in a row, for methods that make several updates on one rollout
            batch.
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: some rank would receive an empty batch, or there is no batch at all.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        *,
        batch_size: int,
        seed: int,
        drop_last: bool = False,
        repeats: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.problems = problems
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.repeats = repeats
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.batch = 0
        self._announced: int | None = None
        self._orders: dict[int, list[Problem]] = {}
        if not len(self):
            raise ValueError(
                f"batch_size={batch_size} with drop_last leaves no batch: there are {len(problems)} training problems. "
                "Lower data.batch_size or set data.drop_last to false."
            )
        last = batch_size if drop_last else len(problems) - (len(self) // repeats - 1) * batch_size
        if min(batch_size, last) < world_size:
            raise ValueError(
                f"batch_size={batch_size} over {len(problems)} training problems makes a batch of "
                f"{min(batch_size, last)} problems, "
                f"fewer than the {world_size} processes. Raise data.batch_size, set data.drop_last to "
                f"true, or use fewer devices."
            )

    def __len__(self) -> int:
        """Batches an epoch, repetitions counted."""
        full, rest = divmod(len(self.problems), self.batch_size)
        return (full if self.drop_last or not rest else full + 1) * self.repeats

    @property
    def sampler(self) -> TrainLoader:
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Hear from the training loop that it begins an epoch: leave one that was cut short, keep a restored position.

        The number only says whether this is news: after a resume from the end of an epoch Lightning counts one too
        many.
        """
        if self._announced is None and not self.batch:
            self.epoch = epoch
        elif epoch != self._announced and self.batch:
            self.epoch, self.batch = self.epoch + 1, 0
        self._announced = epoch

    def epoch_order(self, epoch: int | None = None) -> list[Problem]:
        """The problems in the order of an epoch; of the present one if None."""
        number = self.epoch if epoch is None else epoch
        if number not in self._orders:
            self._orders = dict(list(self._orders.items())[-1:])  # who looks ahead needs two of them at a time
            self._orders[number] = sorted(
                self.problems, key=lambda problem: (keyed_hash(self.seed, number, problem.id), problem.id)
            )
        return self._orders[number]

    def batch_at(self, epoch: int, batch: int) -> list[Problem]:
        """This rank's share of a batch, without going there.

        Args:
            epoch: which epoch.
            batch: which batch of it, from 0, repetitions counted.
        """
        start = batch // self.repeats * self.batch_size
        return self.epoch_order(epoch)[start : start + self.batch_size][self.rank :: self.world_size]

    def __iter__(self) -> Iterator[list[Problem]]:
        """The batches from the present position to the end of the epoch."""
        while self.batch < len(self):
            batch = self.batch_at(self.epoch, self.batch)
            self.batch += 1
            yield batch
        self.epoch, self.batch = self.epoch + 1, 0

    def _identity(self) -> dict[str, Any]:
        """What must not change between saving and restoring a position."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "repeats": self.repeats,
            "num_problems": len(self.problems),
            "problem_ids": f"{keyed_hash(*sorted(problem.id for problem in self.problems)):016x}",
        }

    def state_dict(self) -> dict[str, Any]:
        """The position of the next batch, with what identifies the order."""
        return {"epoch": self.epoch, "batch": self.batch, "announced": self._announced, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position.

        Raises:
            ValueError: the data or the settings that decide the order have changed.
        """
        for name, value in self._identity().items():
            if state[name] != value:
                raise ValueError(
                    f"the checkpoint was made with {name}={state[name]} and the training data now have "
                    f"{name}={value}, so its "
                    "position in the data means nothing. Resume with the same data settings, or start a fresh run."
                )
        self.epoch, self.batch, self._announced = state["epoch"], state["batch"], state["announced"]


class EvalLoader:
    """Batches of an evaluation split: each problem on exactly one rank, none twice, in order.

    Batches of one rank differ in size by one at most, and ranks make equally many of them wherever there are
    problems enough.

    Args:
        problems: the problems of the split.
        batch_size: the most problems a batch of one rank.
        rank: this process.
        world_size: number of processes.

    Raises:
        ValueError: there are fewer problems than processes.
    """

    def __init__(self, problems: Sequence[Problem], *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if len(problems) < world_size:
            raise ValueError(
                f"{len(problems)} problems cannot be shared by {world_size} processes. Use more "
                f"problems or fewer devices."
            )
        shard = problems[rank::world_size]
        largest_shard = -(-len(problems) // world_size)
        num_batches = min(-(-largest_shard // batch_size), len(shard))
        bounds = [len(shard) * i // num_batches for i in range(num_batches + 1)]
        self.batches = [list(shard[start:end]) for start, end in zip(bounds, bounds[1:], strict=False)]

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Problem]]:
        """The batches of this rank."""
        return iter(self.batches)
