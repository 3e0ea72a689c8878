"""Packed rows: every token once, equal contexts together, and every prefix found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from packed_rows import alike_rows, begun_alike_rows, random_rows

from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.passes.beginnings import LEAST_SHARED, shared_beginning
from lightning_gfn.policies.teacher_forcing.packing import TOGETHER, Packing, pack
from lightning_gfn.policies.teacher_forcing.tries import LEAST_SAVED, MOST_NODES


def visible(packing: Packing) -> dict[int, list[int]]:
    """Of each packed position, the packed positions that its block lets it see, in order."""
    seen: dict[int, list[int]] = {}
    for block in packing.blocks:
        batch, samples, length = block.shape
        queries, count = samples * length, block.stop - block.start
        places = range(count) if block.place_S is None else block.place_S.tolist()
        position_of = {place: block.start + i for i, place in enumerate(places)}
        contexts = [[]] * batch if block.context_BC is None else block.context_BC.tolist()
        mask = block.mask_BQL.expand(batch, -1, -1)
        for place, position in position_of.items():
            b, query = divmod(place, queries)
            own = [position_of.get(b * queries + key) for key in range(queries)]
            keys = [*contexts[b], *own]
            allowed = [True] * (len(keys) - mask.shape[2]) + (mask[b, query] == 0).tolist()
            seen[position] = [key for key, may in zip(keys, allowed, strict=True) if may and key is not None]
    return seen


@pytest.mark.parametrize("draw", [random_rows, alike_rows, begun_alike_rows])
@pytest.mark.parametrize("seed", range(6))
def test_every_token_sees_its_row_up_to_itself(seed: int, draw: Callable[..., Any]) -> None:
    contexts, actions = draw(seed, contexts=1 + seed, rows=12, longest=(4, 9, 40, 70, 20, 33)[seed])
    packing = pack(pad_steps(contexts, actions, "cpu"))
    ids, seen = packing.ids_S.tolist(), visible(packing)
    different = {tuple(context) for context in contexts}
    expected = -shared_beginning(list(different)) * (len(different) - 1)
    assert (expected < 0) == (draw is begun_alike_rows and len(different) > 1)
    for context in different:
        own = {tuple(action) for given, action in zip(contexts, actions, strict=True) if tuple(given) == context}
        total, nodes = sum(map(len, own)), len({action[: n + 1] for action in own for n in range(len(action))})
        is_tree = nodes <= MOST_NODES and nodes <= (1 - LEAST_SAVED) * total
        expected += len(context) + (nodes if is_tree else total)
    assert len(ids) == expected
    if draw is alike_rows:
        assert len(ids) < sum(map(len, set(map(tuple, contexts)))) + sum(map(len, actions)), "something is shared"
    assert sorted(seen) == list(range(len(ids)))
    for row, (context, action) in enumerate(zip(contexts, actions, strict=True)):
        tokens = context + action
        for prefix in range(len(action) + 1):
            position = int(packing.flat_NT1[row, prefix])
            length = len(context) + prefix
            assert [ids[key] for key in seen[position]] == tokens[:length]
            assert seen[position][-1] == position and int(packing.position_S[position]) == length - 1
        passage = int(packing.passage_N[row])
        kept = packing.context_PC[passage][packing.context_mask_PC[passage]]
        assert [ids[i] for i in kept.tolist()] == context


def test_contexts_share_what_they_all_begin_with_if_it_is_long_enough() -> None:
    long = list(range(LEAST_SHARED))
    assert shared_beginning([[*long, 90], [*long, 91, 92], [*long, 91]]) == LEAST_SHARED
    assert shared_beginning([[*long, 90], [*long[:-1], 91, 92], [*long, 91]]) == 0  # one token too short
    assert shared_beginning([[*long, 90, 91], [*long, 90, 91, 92]]) == LEAST_SHARED + 1  # each keeps one of its own
    assert shared_beginning([long, [*long, 90]]) == 0
    assert shared_beginning([[*long, 90]]) == shared_beginning([]) == 0


def test_short_answers_share_a_copy_of_their_context() -> None:
    packing = pack(pad_steps([[5] * 256] * 64, [[10 + row, 7, 8, 9] for row in range(64)], "cpu"))
    assert packing.ids_S.shape == (512,)
    assert [block.shape for block in packing.blocks] == [(1, 1, 256), (64 // (TOGETHER // 4), TOGETHER // 4, 4)]


def test_equal_answers_are_read_once() -> None:
    packing = pack(pad_steps([[5] * 9, [6] * 9] * 32, [[7, 8], [7, 8], [7, 9], [7, 8]] * 16, "cpu"))
    assert packing.ids_S.shape == (2 * 9 + 3 + 2,)
    assert packing.flat_NT1[0].tolist() == packing.flat_NT1[4].tolist()
    assert packing.flat_NT1[0].tolist() != packing.flat_NT1[1].tolist()


def test_answers_that_begin_alike_make_a_tree_unless_it_is_too_large_or_saves_little() -> None:
    alike = pack(pad_steps([[5] * 9] * 8, [[1, 2, 3, 10 + row] for row in range(8)], "cpu"))
    assert alike.ids_S.shape == (9 + 3 + 8,) and [block.shape for block in alike.blocks] == [(1, 1, 9), (1, 1, 11)]
    assert alike.position_S[9:].tolist() == [9, 10, 11] + [12] * 8
    saving = int(1 / LEAST_SAVED) + 3
    little = pack(pad_steps([[5] * 9] * 2, [[1, *range(10, 10 + saving)], [1, *range(40, 40 + saving)]], "cpu"))
    assert little.ids_S.shape == (9 + 2 * (saving + 1),)
    long = [[1] * MOST_NODES + [row] for row in range(3)]
    assert pack(pad_steps([[5] * 9] * 3, long, "cpu")).ids_S.shape == (9 + 3 * (MOST_NODES + 1),)


def test_like_lengths_share_a_block_and_unlike_ones_do_not() -> None:
    packing = pack(pad_steps([[1, 2]] * 4, [[3] * 100, [4] * 20, [5] * 96, [6] * 21], "cpu"))
    assert [block.shape[2] for block in packing.blocks] == [2, 21, 100]
    assert sum(block.stop - block.start for block in packing.blocks) == 2 + 237
