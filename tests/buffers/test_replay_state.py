from __future__ import annotations

import io
import random

import numpy
import pytest
import torch

from lightning_gfn.buffers.packing import pack, unpack
from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.types import Step, Trajectory


def through_a_checkpoint(state: dict) -> dict:
    """Saved and loaded as Lightning does, with nothing but tensors and primitives allowed."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("per_problem", [True, False])
@pytest.mark.parametrize("duplicates", ["exact", "edit_distance", "none"])
def test_a_restored_buffer_goes_on_bit_for_bit(per_problem, duplicates, make_trajectories) -> None:
    settings = {"capacity": 6, "per_problem": per_problem, "duplicates": duplicates, "sampling": "reward"}
    stream = make_trajectories(7, 200)
    straight, interrupted, restored = (ReplayBuffer(**settings) for _ in range(3))
    straight.add(stream[:120])
    interrupted.add(stream[:120])
    restored.load_state_dict(through_a_checkpoint(interrupted.state_dict()))
    generator = random.Random(0)
    for trajectory in stream[120:]:
        assert straight.add([trajectory]) == restored.add([trajectory])
        uniforms = [generator.random() for _ in range(3)]
        for problem in (None, "p0", "p1"):
            assert straight.sample(problem, 3, uniforms) == restored.sample(problem, 3, uniforms)
    one, two = straight.state_dict(), restored.state_dict()
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.equal(value, two[key]) if isinstance(value, torch.Tensor) else value == two[key]


def test_the_state_is_flat(make_trajectories) -> None:
    buffer = ReplayBuffer(duplicates="none")
    buffer.add(make_trajectories(0, 120))
    for value in buffer.state_dict().values():
        assert isinstance(value, torch.Tensor | list)
        if isinstance(value, list):
            assert len(value) in (1, 120), "one entry a trajectory at most, never one a token"


def test_floats_keep_every_bit() -> None:
    values = (0.1, 1 / 3, -1e-300, float(numpy.float32(0.7)), -0.0)
    trajectory = Trajectory(
        "ü", (Step((), ()), Step((2**31 - 1,), (0, 1))), "x\u2028y", {"b": values, "a": ()}, 1 / 7, 2**40
    )
    buffer = ReplayBuffer()
    buffer.add([trajectory])
    restored = ReplayBuffer()
    restored.load_state_dict(through_a_checkpoint(buffer.state_dict()))
    (found,) = restored.sample(None, 1, [0.0])
    assert found == trajectory and list(found.terms) == ["b", "a"]
    assert [value.hex() for value in found.terms["b"]] == [value.hex() for value in values]


def test_an_empty_buffer_and_different_terms(make_trajectories) -> None:
    restored = ReplayBuffer()
    restored.add(make_trajectories(0, 5))
    restored.load_state_dict(through_a_checkpoint(ReplayBuffer().state_dict()))
    assert len(restored) == 0 and restored.sample(None, 1, [0.5]) == []
    mixed = ReplayBuffer(duplicates="none")
    plain = Trajectory("p", (Step((1,), (2,)),), "t", {}, 0.0)
    mixed.add([plain, *make_trajectories(1, 3), plain])
    restored.load_state_dict(through_a_checkpoint(mixed.state_dict()))
    assert torch.equal(restored.state_dict()["term_schema"], torch.tensor([0, 1, 1, 1, 0]))


def test_a_smaller_buffer_evicts_the_surplus(make_trajectories) -> None:
    large = ReplayBuffer(capacity=100, per_problem=False, duplicates="none")
    large.add(make_trajectories(0, 60))
    small = ReplayBuffer(capacity=4, per_problem=False, duplicates="none", eviction="oldest")
    small.load_state_dict(large.state_dict())
    assert len(small) == 4
    assert [t.born for t in small.sample(None, 4, [0.1, 0.3, 0.6, 0.9])] == [56, 57, 58, 59]


def test_another_state_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks .*'tokens'"):
        ReplayBuffer().load_state_dict({"problem_ids": []})


def test_packing_is_the_inverse_of_unpacking(make_trajectories) -> None:
    for trajectory in make_trajectories(3, 50):
        assert unpack(pack(trajectory)) == trajectory
