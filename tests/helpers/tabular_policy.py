"""A policy small enough to check by hand: the next character depends on the last one through a table of logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.interfaces import Policy
from lightning_gfn.types import CandidateScores, SampledActions, Scores, StepBatch

FIRST_CHARACTER = 10  # newline; token id t is chr(FIRST_CHARACTER + t)
VOCABULARY = 127 - FIRST_CHARACTER


class TabularPolicy(Policy):
    """Characters as tokens; row ``previous`` of the table holds the logits of all characters and of stop."""

    def __init__(
        self, *, max_new_tokens: int = 12, min_new_tokens: int = 0, seed: int = 0, stop_bonus: float = 3.0
    ) -> None:
        self.max_new_tokens = max_new_tokens
        self.min_new_tokens = min_new_tokens
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(VOCABULARY, VOCABULARY + 1, generator=generator)
        self.table[:, -1] += stop_bonus
        self.reference = torch.randn(VOCABULARY, VOCABULARY + 1, generator=generator)
        self.sample_calls: list[dict[str, Any]] = []
        self.score_rows = 0
        self.decode_calls = 0

    hidden_size = 1
    base_is_reloadable = False
    vocab_size = VOCABULARY + 1
    stop_id = VOCABULARY
    num_positions = None

    def tokenizer_state(self) -> str:
        return ""

    def load_tokenizer_state(self, state: str) -> None:
        pass

    def build(self, texts: Iterable[str]) -> None:
        pass

    def freeze_reference(self) -> None:
        self.reference = self.table.clone()

    def encode_prompt(self, text: str) -> list[int]:
        return self.encode_completion(text)

    def encode_context(self, text: str) -> list[int]:
        return self.encode_completion(text)

    def encode_completion(self, text: str) -> list[int]:
        return [ord(character) - FIRST_CHARACTER for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        self.decode_calls += 1
        return "".join(chr(FIRST_CHARACTER + token) for token in ids)

    def log_q(self, previous: int, length: int, *, reference: bool = False) -> Tensor:
        """Log-probabilities of all characters and stop after ``length`` tokens."""
        logits = (self.reference if reference else self.table)[previous].clone()
        if length >= self.max_new_tokens:
            logits[:-1] = -torch.inf
        elif length < self.min_new_tokens:
            logits[-1] = -torch.inf
        return logits.log_softmax(-1)

    def sample(
        self,
        contexts: Sequence[Sequence[int]],
        uniforms_NT1: Tensor,
        *,
        temperature_N: Tensor | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        entropy: bool = False,
    ) -> SampledActions:
        self.sample_calls.append(
            {"contexts": contexts, "uniforms": uniforms_NT1, "temperature": temperature_N, "top_k": top_k}
        )
        actions, behaviour, stops = [], [], []
        for n, context in enumerate(contexts):
            temperature = 1.0 if temperature_N is None else float(temperature_N[n])
            action, log_pf = [], []
            while True:
                log_q = (self.log_q([*context, *action][-1], len(action)) / temperature).log_softmax(-1)
                if top_k is not None:
                    log_q = torch.where(
                        log_q >= log_q.topk(min(top_k, len(log_q))).values[-1], log_q, -torch.inf
                    ).log_softmax(-1)
                cumulative = log_q.double().exp().cumsum(0)
                pick = int(
                    torch.searchsorted(cumulative, uniforms_NT1[n, len(action)].double() * cumulative[-1], right=True)
                )
                log_pf.append(float(log_q[pick]))
                if pick == VOCABULARY:
                    break
                action.append(pick)
            actions.append(action)
            behaviour.append(log_pf)
            stops.append(log_pf[-1])
        ids, mask = self.pad(actions)
        log_pf_NT = torch.zeros(ids.shape)
        for n, row in enumerate(behaviour):
            log_pf_NT[n, : len(row) - 1] = torch.tensor(row[:-1])
        scores = self.score(StepBatch(*self.pad([list(context)[-1:] for context in contexts]), ids, mask))
        return SampledActions(ids, mask, scores, log_pf_NT, torch.tensor(stops))

    def score(
        self,
        steps: StepBatch,
        *,
        stop: bool = True,
        entropy: bool = False,
        hidden: bool = False,
        reference: bool = False,
    ) -> Scores:
        num_rows, width = steps.action_ids_NT.shape
        self.score_rows += num_rows
        log_pf, log_pstop, entropies = (
            torch.zeros(num_rows, width),
            torch.zeros(num_rows, width + 1),
            torch.zeros(num_rows, width + 1),
        )
        stop_mask = torch.zeros(num_rows, width + 1, dtype=torch.bool)
        for n in range(num_rows):
            action = steps.action_ids_NT[n][steps.action_mask_NT[n]].tolist()
            context = steps.context_ids_NC[n][steps.context_mask_NC[n]].tolist()
            for i in range(len(action) + 1):
                log_q = self.log_q([*context, *action[:i]][-1], i, reference=reference)
                stop_mask[n, i] = i >= self.min_new_tokens
                log_pstop[n, i] = log_q[-1] if i >= self.min_new_tokens else 0.0
                entropies[n, i] = -(log_q.exp() * torch.where(log_q.isfinite(), log_q, 0.0)).sum()
                if i < len(action):
                    log_pf[n, i] = log_q[action[i]]
        return Scores(log_pf, log_pstop, stop_mask, entropies if entropy else None)

    def candidate_scores(self, steps: StepBatch, candidates_NT1K: Tensor) -> CandidateScores:
        raise AssertionError("not part of these tests")

    def save_pretrained(self, folder: Path) -> None:
        raise AssertionError("not part of these tests")

    @staticmethod
    def pad(actions: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Right-padded ids (pad id 7, to be ignored) and mask."""
        width = max((len(action) for action in actions), default=0)
        ids = torch.tensor([[*action, *[7] * (width - len(action))] for action in actions]).reshape(len(actions), width)
        mask = torch.tensor([[True] * len(action) + [False] * (width - len(action)) for action in actions])
        return ids.long(), mask.reshape(len(actions), width).bool()
