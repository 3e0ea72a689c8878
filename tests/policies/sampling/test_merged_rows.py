"""Rows with the same tokens are decoded once, and what is sampled does not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.policies import decoder_factory
from lightning_gfn.policies.sampling.generation import Decoder
from lightning_gfn.policies.sampling.merged_rows import MergedRows

NAMES = [
    (model, decoder)
    for model in ("llama", "mistral_window", "gpt2", "gemma2_soft_cap", "t5")
    for decoder in ("fused", "hugging_face")
] + [("bart", "hugging_face")]


class Written(Decoder):
    """Rows as lists of tokens; the logits of a row are a function of its list."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        self.prompts = [tuple(row) for row in ids_PC.tolist()]
        return torch.zeros(len(self.prompts), 1)

    def expand(self, rows_N: Tensor, num_steps: int, room: int | None = None) -> None:
        self.rows = [self.prompts[row] for row in rows_N.tolist()]
        self.room = len(self.rows) if room is None else room

    def step(self, tokens_R: Tensor) -> Tensor:
        assert len(tokens_R) == len(self.rows)
        self.sizes.append(len(self.rows))
        self.rows = [(*row, token) for row, token in zip(self.rows, tokens_R.tolist(), strict=True)]
        return torch.tensor([[float(hash(row) % 10007)] for row in self.rows])

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        assert num_rows <= self.room
        rows: list[Any] = self.rows + [None] * (self.room - len(self.rows))
        moved = [rows[source] for source in source_R.tolist()]
        for target, row in zip(target_R.tolist(), moved, strict=True):
            rows[target] = row
        self.rows = rows[:num_rows]
        assert None not in self.rows


@pytest.mark.parametrize("seed", range(20))
def test_every_row_gets_the_logits_of_its_own_tokens(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(most: int, count: int) -> Tensor:
        return torch.randint(0, most, (count,), generator=generator)

    inner = Written()
    decoder = MergedRows(inner)
    prompts, vocabulary = torch.arange(1, 4)[:, None], 2 + seed % 4
    prompt_N = draw(3, 24)
    decoder.prefill(prompts, None)
    decoder.expand(prompt_N, 12)
    rows = [(int(prompts[p, 0]),) for p in prompt_N]
    for _ in range(12):
        tokens = draw(vocabulary, len(rows))
        rows = [(*row, int(token)) for row, token in zip(rows, tokens, strict=True)]
        expected = [float(hash(row) % 10007) for row in rows]
        logits = decoder.step(tokens)[:, 0]
        found = logits if decoder.state_R is None else logits[decoder.state_R]
        assert found.tolist() == expected
        assert inner.sizes[-1] == len(set(rows))
        live = torch.rand(len(rows), generator=generator) > 0.1
        live[0] = True
        order = torch.arange(len(rows))
        num_live = int(live.sum())
        gaps = (~live[:num_live]).nonzero().squeeze(1)
        movers = live[num_live:].nonzero().squeeze(1) + num_live
        order[gaps] = order[movers]
        rows = [rows[i] for i in order[:num_live].tolist()]
        decoder.move_rows(gaps, movers, num_live)
    assert max(inner.sizes) <= 24


@contextmanager
def unmerged() -> Iterator[None]:
    """Every row is decoded by itself."""
    before = decoder_factory.MergedRows
    decoder_factory.MergedRows = lambda inner: inner  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        decoder_factory.MergedRows = before  # type: ignore[misc]


@pytest.mark.parametrize("temperature", [(0.05,), (0.5,), (1.0,), (0.05, 0.05, 1.0, 0.5)])
@pytest.mark.parametrize(("model", "decoder"), NAMES)
def test_samples_are_those_of_rows_decoded_one_by_one(
    make_policy: Any, model: str, decoder: str, temperature: tuple[float, ...]
) -> None:
    """Also where rows of one state have temperatures of their own."""
    policy = make_policy(model, decoder=decoder, end_tokens=[*"abcdefghijklmnopqrstuvwxyz0123456789"])
    contexts = [policy.encode_prompt(text) for text in ("one", "a longer prompt", "one", "one") * 8]
    uniforms = torch.rand(32, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    arguments = {"temperature_N": torch.tensor(temperature).repeat(32 // len(temperature)), "top_p": 0.95}
    merged = policy.sample(contexts, uniforms, **arguments)
    with unmerged():
        plain = policy.sample(contexts, uniforms, **arguments)
    assert torch.equal(merged.action_ids_NT, plain.action_ids_NT)
    torch.testing.assert_close(merged.scores.log_pf_NT, plain.scores.log_pf_NT, atol=2e-5, rtol=0)
    torch.testing.assert_close(merged.behaviour_log_pf_NT, plain.behaviour_log_pf_NT, atol=2e-4, rtol=0)


def test_equal_samples_are_decoded_once(make_policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_gfn.policies.fused.decoder import FusedDecoder

    sizes: list[int] = []
    original = FusedDecoder.step

    def counted(self: FusedDecoder, tokens_R: Tensor) -> Tensor:
        sizes.append(len(tokens_R))
        return original(self, tokens_R)

    monkeypatch.setattr(FusedDecoder, "step", counted)
    policy = make_policy("llama", decoder="fused")
    contexts = [policy.encode_prompt(text) for text in ("one", "two") * 16]
    uniforms = torch.rand(32, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    policy.sample(contexts, uniforms, temperature_N=torch.full((32,), 1e-3))
    assert set(sizes) == {2}
    sizes.clear()
    sampled = policy.sample(contexts, uniforms)
    ids, lengths = sampled.action_ids_NT.tolist(), sampled.action_mask_NT.sum(1).tolist()
    pairs = [
        {
            (row % 2, *tokens[: t + 1])
            for row, (tokens, length) in enumerate(zip(ids, lengths, strict=True))
            if length > t
        }
        for t in range(policy.max_new_tokens - 1)
    ]
    assert sizes == [len(states) for states in pairs if states]
    assert sizes[0] < 32
