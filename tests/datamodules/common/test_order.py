"""The training order: keyed, complete, the same for every number of ranks, and restored from its state alone."""

from __future__ import annotations

import pytest

from datamodules.common.order import EvalLoader, TrainLoader, keyed_hash
from lightning_gfn.types import Problem

PROBLEMS = [Problem(id=str(i), prompt="") for i in range(23)]


def ids(batch: list[Problem]) -> list[str]:
    return [problem.id for problem in batch]


def make(seed: int = 0, batch_size: int = 4, **settings: object) -> TrainLoader:
    return TrainLoader(PROBLEMS, batch_size=batch_size, seed=seed, **settings)  # type: ignore[arg-type]


def test_keyed_hash_is_the_same_everywhere() -> None:
    assert keyed_hash("a", 1) == 0x8181C16B4AD83CC1
    assert keyed_hash("a", 1) != keyed_hash("a1") != keyed_hash(1, "a")


def test_every_epoch_visits_every_problem_once_in_another_order() -> None:
    loader = make()
    epochs = [[id_ for batch in loader for id_ in ids(batch)] for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(ids(PROBLEMS))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != [id_ for batch in make(seed=1) for id_ in ids(batch)]
    assert len(loader) == 6


def test_order_is_that_of_ids_not_of_rows() -> None:
    reversed_rows = TrainLoader(PROBLEMS[::-1], batch_size=4, seed=0)
    assert [ids(batch) for batch in reversed_rows] == [ids(batch) for batch in make()]


def test_drop_last_makes_full_batches_only() -> None:
    loader = make(drop_last=True)
    sizes = [len(batch) for batch in loader]
    assert sizes == [4] * 5 == [4] * len(loader)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_batches_of_a_single_process(world_size: int) -> None:
    ranks = [make(rank=rank, world_size=world_size) for rank in range(world_size)]
    merged = [sorted(sum(map(ids, parts), [])) for parts in zip(*ranks, strict=True)]
    assert merged == [sorted(ids(batch)) for batch in make()]


def test_repeats_hand_out_each_batch_in_a_row() -> None:
    loader = make(repeats=3)
    found = [ids(batch) for batch in loader]
    assert found == [ids(batch) for batch in make() for _ in range(3)]
    assert len(loader) == len(found) == 18
    assert [len(batch) for batch in make(repeats=2, drop_last=True)] == [4] * 10


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("position", range(13))
def test_state_restores_the_rest(position: int, repeats: int) -> None:
    def stream(loader: TrainLoader, count: int) -> list[list[str]]:
        found: list[list[str]] = []
        while len(found) < count:
            for batch in loader:
                found.append(ids(batch))
                if len(found) == count:
                    break
        return found

    whole = stream(make(repeats=repeats), 15)
    loader = make(repeats=repeats)
    stream(loader, position)
    resumed = make(repeats=repeats)
    resumed.load_state_dict(loader.state_dict())
    assert stream(resumed, 15 - position) == whole[position:]


def test_a_position_that_runs_one_batch_ahead_is_noticed() -> None:
    loader = make()
    next(iter(loader))
    state = loader.state_dict()
    state["batch"] += 1
    resumed = make()
    resumed.load_state_dict(state)
    assert ids(next(iter(resumed))) != [ids(batch) for batch in make()][1]


def test_set_epoch_goes_to_its_start_and_keeps_a_restored_position() -> None:
    loader = make()
    loader.set_epoch(3)
    next(iter(loader))
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(3)
    assert (resumed.epoch, resumed.batch) == (3, 1)
    resumed.set_epoch(5)
    assert (resumed.epoch, resumed.batch) == (4, 0)
    resumed.set_epoch(6)
    assert (resumed.epoch, resumed.batch) == (4, 0)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (make(seed=1), "seed"),
        (make(batch_size=5), "batch_size"),
        (make(drop_last=True), "drop_last"),
        (make(repeats=2), "repeats"),
        (TrainLoader(PROBLEMS[1:], batch_size=4, seed=0), "num_problems"),
        (TrainLoader([*PROBLEMS[1:], Problem(id="x", prompt="")], batch_size=4, seed=0), "problem_ids"),
    ],
)
def test_a_position_in_other_data_is_refused(changed: TrainLoader, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}="):
        changed.load_state_dict(make().state_dict())


def test_empty_slices_are_refused() -> None:
    with pytest.raises(ValueError, match="4 processes"):
        make(world_size=4)
    make(world_size=4, drop_last=True)
    with pytest.raises(ValueError, match="no batch"):
        make(batch_size=24, drop_last=True)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 50])
def test_evaluation_shards_hold_each_problem_once(world_size: int, batch_size: int) -> None:
    loaders = [
        EvalLoader(PROBLEMS, batch_size=batch_size, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    seen = [id_ for loader in loaders for batch in loader for id_ in ids(batch)]
    assert sorted(seen) == sorted(ids(PROBLEMS))
    assert all(0 < len(batch) <= batch_size for loader in loaders for batch in loader)
    if batch_size > 1:
        assert len({len(loader) for loader in loaders}) == 1


def test_evaluation_needs_a_problem_for_each_process() -> None:
    with pytest.raises(ValueError, match="2 problems"):
        EvalLoader(PROBLEMS[:2], batch_size=1, rank=0, world_size=3)
