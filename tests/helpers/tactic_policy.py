"""A policy over a few whole tactics, with a row of logits for every prompt and prefix, and the tree of its scripts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_gfn.interfaces import Policy
from lightning_gfn.lean_interfaces import LeanBackend
from lightning_gfn.lean_types import LeanError, ProofFinished, Theorem
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.types import CandidateScores, SampledActions, Scores, StepBatch

CONJUNCTION = Theorem(
    "conjunction",
    "(p q : Prop) (hp : p) (hq : q) : p ∧ q",
    proofs=(("exact ⟨hp, hq⟩",), ("constructor", "exact hp", "exact hq")),
)
DISJUNCTION = Theorem("disjunction", "(p q : Prop) (hp : p) : p ∨ q", proofs=(("left", "exact hp"),))
UNSTATED = Theorem("unstated", "(p : Prop : p")
TACTICS = ("constructor", "exact hp", "exact hq", "exact ⟨hp, hq⟩", "left")


class TacticPolicy(nn.Module, Policy):
    """Token t is the t-th tactic; an action is some tactics in a row, mostly one."""

    hidden_size = 1
    base_is_reloadable = False
    num_positions = None

    def __init__(
        self,
        *,
        tactics: Sequence[str] = TACTICS,
        max_new_tokens: int = 1,
        min_new_tokens: int = 0,
        stop_bonus: float = 0.0,
        end_bonus: float = 0.0,
        max_context: int = 10_000,
        rows: int = 2000,
    ) -> None:
        super().__init__()
        self.tactics, self.max_context = tuple(tactics), max_context
        self.vocab_size = len(tactics) + 1
        self.stop_bonus, self.end_bonus = stop_bonus, end_bonus
        self.max_new_tokens, self.min_new_tokens = max_new_tokens, min_new_tokens
        self.table = nn.Parameter(torch.zeros(rows, len(tactics) + 1))
        self.rows: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        self.calls: list[int] = []
        self.reference: Tensor | None = None

    def tokenizer_state(self) -> str:
        return ""

    def load_tokenizer_state(self, state: str) -> None:
        pass

    def build(self, texts: Iterable[str]) -> None:
        pass

    def freeze_reference(self) -> None:
        self.reference = self.table.detach().clone()

    @property
    def stop_id(self) -> int:
        return len(self.tactics)

    def encode_prompt(self, text: str) -> list[int]:
        if len(text) > self.max_context:
            raise ValueError(f"a prompt has {len(text)} characters")
        return list(map(ord, text))

    def encode_context(self, text: str) -> list[int]:
        return list(map(ord, text))

    def encode_completion(self, text: str) -> list[int]:
        return [self.tactics.index(text)] if text else []

    def decode(self, ids: Sequence[int]) -> str:
        return " <;> ".join(self.tactics[token] for token in ids)

    def log_q(self, context: Sequence[int], prefix: Sequence[int], *, reference: bool = False) -> Tensor:
        """Log-probabilities of all tactics and stop; the row begins with numbers that its key alone decides."""
        key = (tuple(context), tuple(prefix))
        if key not in self.rows:
            self.rows[key] = len(self.rows)
            seed = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "little")
            start = torch.randn(len(self.tactics) + 1, generator=torch.Generator().manual_seed(seed))
            start[-1] += self.stop_bonus + (self.end_bonus if prefix else 0.0)
            with torch.no_grad():
                self.table[self.rows[key]] = start
                if self.reference is not None:
                    self.reference[self.rows[key]] = start
        table = self.reference if reference and self.reference is not None else self.table
        logits = table[self.rows[key]].clone()
        if len(prefix) >= self.max_new_tokens:
            logits[:-1] = -torch.inf
        elif len(prefix) < self.min_new_tokens:
            logits[-1] = -torch.inf
        return logits.log_softmax(-1)

    @torch.no_grad()
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
        self.calls.append(len(contexts))
        stop, actions, behaviour = len(self.tactics), [], []
        for n, context in enumerate(contexts):
            temperature = 1.0 if temperature_N is None else float(temperature_N[n])
            action: list[int] = []
            log_p: list[float] = []
            while True:
                log_q = (self.log_q(context, action) / temperature).log_softmax(-1)
                cumulative = log_q.double().exp().cumsum(0)
                point = uniforms_NT1[n, len(action)].double() * cumulative[-1]
                pick = min(int(torch.searchsorted(cumulative, point, right=True)), stop)
                log_p.append(float(log_q[pick]))
                if pick == stop:
                    break
                action.append(pick)
            actions.append(action)
            behaviour.append(log_p)
        width = max(map(len, actions))
        ids = (
            torch.tensor([action + [0] * (width - len(action)) for action in actions])
            .reshape(len(actions), width)
            .long()
        )
        mask = (
            torch.tensor([[t < len(action) for t in range(width)] for action in actions])
            .reshape(len(actions), width)
            .bool()
        )
        log_pf = torch.tensor([(row[:-1] + [0.0] * width)[:width] for row in behaviour]).reshape(len(actions), width)
        scores = self.scores(contexts, actions, width, entropy=True, reference=False)
        return SampledActions(ids, mask, scores, log_pf, torch.tensor([row[-1] for row in behaviour]))

    def score(
        self,
        steps: StepBatch,
        *,
        stop: bool = True,
        entropy: bool = False,
        hidden: bool = False,
        reference: bool = False,
    ) -> Scores:
        contexts = [ids[mask].tolist() for ids, mask in zip(steps.context_ids_NC, steps.context_mask_NC, strict=True)]
        actions = [ids[mask].tolist() for ids, mask in zip(steps.action_ids_NT, steps.action_mask_NT, strict=True)]
        return self.scores(contexts, actions, steps.action_ids_NT.shape[1], entropy=entropy, reference=reference)

    def scores(
        self,
        contexts: Sequence[Sequence[int]],
        actions: Sequence[Sequence[int]],
        width: int,
        *,
        entropy: bool,
        reference: bool,
    ) -> Scores:
        """Log-probabilities of given actions."""
        zero = self.table.new_zeros(())
        pf, pstop, entropies, may = [], [], [], []
        for context, action in zip(contexts, actions, strict=True):
            rows = [self.log_q(context, action[:i], reference=reference) for i in range(len(action) + 1)]
            pf.append([rows[i][token] for i, token in enumerate(action)] + [zero] * (width - len(action)))
            ends = [i >= self.min_new_tokens for i in range(len(action) + 1)]
            pad = [zero] * (width - len(action))
            pstop.append([row[-1] if end else zero for row, end in zip(rows, ends, strict=True)] + pad)
            entropies.append([-(row.exp() * row.clamp_min(-1e9)).sum() for row in rows] + pad)
            may.append(ends + [False] * (width - len(action)))

        def table(cells: list[list[Tensor]], size: int) -> Tensor:
            flat = [cell for row in cells for cell in row]
            return torch.stack(flat).reshape(-1, size) if flat else zero.new_zeros(len(cells), 0)

        return Scores(
            table(pf, width),
            table(pstop, width + 1),
            torch.tensor(may),
            table(entropies, width + 1) if entropy else None,
        )

    def candidate_scores(self, steps: StepBatch, candidates_NT1K: Tensor) -> CandidateScores:
        raise AssertionError("not part of these tests")

    def save_pretrained(self, folder: Path) -> None:
        raise AssertionError("not part of these tests")


def enumerated(
    policy: TacticPolicy, backend: LeanBackend, theorem: Theorem, max_steps: int
) -> dict[tuple[str, ...], tuple[float, str]]:
    """Probability and outcome of every attempt that the policy can make, by its tactics, walked one after the other."""
    prompt = ProofPrompt()
    found: dict[tuple[str, ...], tuple[float, str]] = {}

    def walk(state, tactics: tuple[str, ...], log_p: float) -> None:  # type: ignore[no-untyped-def]
        context = policy.encode_prompt(prompt(state.text, tactics))
        for action, log_action in actions_of(policy, context):
            script, result = (*tactics, policy.decode(action)), backend.run_tac(state, policy.decode(action))
            if isinstance(result, ProofFinished):
                outcome = "proved"
            elif isinstance(result, LeanError):
                outcome = "error"
            elif len(script) == max_steps:
                outcome = "unfinished"
            else:
                walk(result, script, log_p + log_action)
                continue
            before, _ = found.get(script, (0.0, outcome))
            found[script] = before + math.exp(log_p + log_action), outcome

    first = backend.start(theorem)
    assert not isinstance(first, LeanError)
    walk(first, (), 0.0)
    return found


def actions_of(policy: TacticPolicy, context: Sequence[int]) -> list[tuple[tuple[int, ...], float]]:
    """Every action with its log-probability."""
    found: list[tuple[tuple[int, ...], float]] = []

    def extend(prefix: tuple[int, ...], log_p: float) -> None:
        log_q = policy.log_q(context, prefix).tolist()
        if log_q[-1] > -math.inf:
            found.append((prefix, log_p + log_q[-1]))
        if len(prefix) < policy.max_new_tokens:
            for token in range(len(policy.tactics)):
                extend((*prefix, token), log_p + log_q[token])

    with torch.no_grad():
        extend((), 0.0)
    return found
