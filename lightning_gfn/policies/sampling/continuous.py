"""Continuous batching: a fixed number of slots, refilled as rows finish, one step in memory that never moves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gfn.finite import NotFiniteError
from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.policies.sampling.action_columns import ActionColumns
from lightning_gfn.policies.sampling.captured_steps import CapturedSteps
from lightning_gfn.policies.sampling.generation import assemble, check_arguments, draw, pack_contexts
from lightning_gfn.policies.sampling.inverse_cdf import InverseCDF, cdf_dtype
from lightning_gfn.policies.sampling.truncation import check_behaviour
from lightning_gfn.types import SampledActions

LOOK_INTERVAL = 16
"""Steps between two looks at which slots are free; each waits for the accelerator. On CPU it is free."""
WINDOW = 128
"""Attention reads keys up to a multiple of this many positions; one step is captured for each multiple."""
PREFILL_TOKENS = 16384
"""The most prompt positions, padding included, that are read at once; a longer prompt is read alone."""


class SlotDecoder(ABC):
    """Incremental forward passes of S slots, each at a position of its own; one object serves one batch."""

    columns_K: Tensor | None = None
    """Token ids that the columns of its logits belong to; None for the whole vocabulary."""

    @abstractmethod
    def open(self, num_slots: int, capacity: int) -> None:
        """Make S slots with room for so many positions."""

    @abstractmethod
    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """Read left-padded prompts and keep their states until the next call; float32 logits after each, (P, V)."""

    @abstractmethod
    def admit(self, prompts_A: Tensor, slots_A: Tensor) -> None:
        """Let slots go on from prompts of the last ``prefill``."""

    @abstractmethod
    def step(self, tokens_S: Tensor, window: int) -> Tensor:
        """Append a token to every slot; float32 logits, (S, V). No slot may hold ``window`` positions before.

        Slots without a row take part, with results that nobody reads.
        """

    @abstractmethod
    def keep(self, slots_K: Tensor) -> None:
        """Go on with these slots alone, in this order."""


@dataclass(frozen=True)
class Behaviour:
    """How rows are sampled.

    Args:
        temperature_N1: of each row, and 1 for rows that do not exist; None for 1.
        top_k: actions that are kept.
        top_p: probability mass that is kept.
        first_N1: the first action of each row, and -1 for rows that do not exist; None draws it.
    """

    temperature_N1: Tensor | None
    top_k: int | None
    top_p: float | None
    first_N1: Tensor | None = None


class Slots:
    """The state of S slots and the records of all rows; ``step`` waits for nothing and allocates no state.

    Records are kept for N rows and one more, which slots without a row write to.

    Args:
        decoder: with S slots open.
        space: the actions of q.
        uniforms_TN: one number in [0, 1) for each step and row, and a column for rows that do not exist.
        behaviour: how rows are sampled.
        num_slots: S.
        vocab_size: V.
        device: of the state.
    """

    def __init__(
        self,
        decoder: SlotDecoder,
        space: ActionSpace,
        uniforms_TN: Tensor,
        behaviour: Behaviour,
        *,
        num_slots: int,
        vocab_size: int,
        device: torch.device,
    ) -> None:
        self.decoder, self.space, self.behaviour = decoder, space, behaviour
        self.columns = ActionColumns(space, decoder.columns_K, vocab_size)
        self.first_N1 = None if behaviour.first_N1 is None else self.columns.places(behaviour.first_N1)
        self.num_steps, self.width = uniforms_TN.shape
        self.uniforms = uniforms_TN.reshape(-1)
        self.actions = torch.full((uniforms_TN.numel(),), space.stop_id, device=device)
        self.values_3R = torch.zeros(3, uniforms_TN.numel(), device=device)
        self.row_S = torch.full((num_slots,), self.width - 1, device=device)
        self.time_S = torch.zeros(num_slots, dtype=torch.int64, device=device)
        self.live_S = torch.zeros(num_slots, dtype=torch.bool, device=device)
        self.logits_SV = torch.zeros(num_slots, self.columns.num_logits, device=device)
        self.inverse_cdf = InverseCDF(num_slots, self.columns.num_actions, device)

    @property
    def num_slots(self) -> int:
        """S."""
        return len(self.row_S)

    def admit(self, rows_A: Tensor, prompts_A: Tensor, slots_A: Tensor, logits_PV: Tensor) -> None:
        """Begin rows in free slots, after prompts of the last prefill."""
        self.decoder.admit(prompts_A, slots_A)
        self.row_S[slots_A] = rows_A
        self.time_S[slots_A] = 0
        self.live_S[slots_A] = True
        self.logits_SV[slots_A] = logits_PV[prompts_A]

    def step(self, window: int) -> None:
        """Sample an action in every slot, record it, and read it."""
        space, columns, behaviour = self.space, self.columns, self.behaviour
        place_S = self.time_S * self.width + self.row_S
        temperature_N1, first_N1 = behaviour.temperature_N1, self.first_N1
        drawn = draw(
            self.inverse_cdf,
            columns.restrict_(self.logits_SV, self.time_S >= space.min_new_tokens),
            self.uniforms[place_S][:, None],
            columns.stop_id,
            temperature_D1=None if temperature_N1 is None else temperature_N1[self.row_S],
            top_k=behaviour.top_k,
            top_p=behaviour.top_p,
            given_R1=None if first_N1 is None else first_N1[self.row_S].masked_fill(self.time_S[:, None] > 0, -1),
        )
        tokens_S = columns.tokens(drawn.action_R)
        self.actions.index_copy_(0, place_S, tokens_S)
        values = torch.stack((drawn.log_pf_R, drawn.log_pstop_R, drawn.behaviour_log_p_R))
        self.values_3R.index_copy_(1, place_S, values)
        self.time_S += 1
        self.live_S &= (tokens_S != space.stop_id) & (self.time_S < self.num_steps)
        self.row_S.masked_fill_(~self.live_S, self.width - 1)
        self.time_S.masked_fill_(~self.live_S, 0)
        self.logits_SV.copy_(self.decoder.step(tokens_S, window))

    def keep(self, slots_K: Tensor) -> None:
        """Go on with these slots alone."""
        self.decoder.keep(slots_K)
        for name in ("row_S", "time_S", "live_S", "logits_SV"):
            setattr(self, name, getattr(self, name)[slots_K])

    def sampled(self, pad_id: int) -> SampledActions:
        """The actions of all rows."""
        shape = (self.num_steps, self.width)
        values_T3N = self.values_3R.view(3, *shape)[:, :, :-1].transpose(0, 1).contiguous()
        if not bool(torch.isfinite(values_T3N[:, 0]).all()):
            raise NotFiniteError("the model's logits are not finite (NaN or infinite), nothing can be sampled from it")
        return assemble(self.actions.view(shape)[:, :-1], values_T3N, self.space, pad_id)


class Queue:
    """Rows that wait for a slot, those of one prompt together, and the prompts that were read last.

    Args:
        contexts: of all rows.
        pad_id: filler.
        device: of the prompts.
    """

    def __init__(self, contexts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> None:
        groups: dict[tuple[int, ...], list[int]] = {}
        for row, context in enumerate(contexts):
            groups.setdefault(tuple(context), []).append(row)
        self.groups = sorted(groups.items(), key=lambda group: len(group[0]))
        self.pad_id, self.device = pad_id, device
        self.ready: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.ready) + sum(len(rows) for _, rows in self.groups)

    def fill(self, slots: Slots, lengths: list[int | None]) -> None:
        """Begin as many rows as there are free slots, one prefill for each prompt.

        Args:
            slots: to begin them in.
            lengths: positions that each slot holds, None if it is free; changed.
        """
        free = [slot for slot, length in enumerate(lengths) if length is None]
        while free and len(self):
            if not self.ready:
                self.read_prompts(slots.decoder, len(free))
            taken, self.ready = self.ready[: len(free)], self.ready[len(free) :]
            chosen, free = free[: len(taken)], free[len(taken) :]
            rows, prompts = zip(*taken, strict=True)
            rows_A, prompts_A, slots_A = (torch.tensor(part, device=self.device) for part in (rows, prompts, chosen))
            slots.admit(rows_A, prompts_A, slots_A, self.logits_PV)
            for slot, prompt in zip(chosen, prompts, strict=True):
                lengths[slot] = self.prompt_lengths[prompt]

    def read_prompts(self, decoder: SlotDecoder, num_free: int) -> None:
        """Prefill the next prompts: enough for the free slots, unless they are too long to be read at once."""
        count, rows = 0, 0
        while count < len(self.groups) and rows < num_free:
            if count and (count + 1) * len(self.groups[count][0]) > PREFILL_TOKENS:
                break
            rows += len(self.groups[count][1])
            count += 1
        taken, self.groups = self.groups[:count], self.groups[count:]
        contexts = [context for context, _ in taken]
        ids_PC, mask_PC, _ = pack_contexts(contexts, self.pad_id, self.device)
        self.logits_PV = decoder.prefill(ids_PC, mask_PC)
        self.prompt_lengths = [len(context) for context in contexts]
        self.ready = [(row, prompt) for prompt, (_, rows_of) in enumerate(taken) for row in rows_of]


@torch.no_grad()
def generate_in_slots(
    decoder: SlotDecoder,
    space: ActionSpace,
    contexts: Sequence[Sequence[int]],
    uniforms_NT1: Tensor,
    *,
    num_slots: int,
    vocab_size: int,
    pad_id: int,
    device: torch.device,
    temperature_N: Tensor | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    first_N: Tensor | None = None,
) -> SampledActions:
    """Sample one action for each context, at most S at a time; what ``generate`` gives, up to rounding.

    Args:
        decoder: a fresh decoder.
        space: the actions of q.
        contexts: N token id sequences; equal ones share one prefill.
        uniforms_NT1: numbers in [0, 1), one per row and prefix, at least ``max_new_tokens`` columns.
        num_slots: S.
        vocab_size: columns of the logits.
        pad_id: filler of the result.
        device: where the model is.
        temperature_N: behaviour temperature of each row; None for 1.
        top_k: actions that the behaviour keeps.
        top_p: probability mass that the behaviour keeps.
        first_N: the first token of each row, or the stop; None draws it.

    Returns:
        N actions with their log-probabilities.

    Raises:
        ValueError: if arguments do not fit each other.
        NotFiniteError: if the model's logits are NaN or infinite.
    """
    num_rows, num_steps = len(contexts), space.max_new_tokens
    check_arguments(num_rows, num_steps, uniforms_NT1, temperature_N, first_N)
    check_behaviour(temperature_N, top_k, top_p)
    queue = Queue(contexts, pad_id, device)
    uniforms_TN = uniforms_NT1[:, :num_steps].to(cdf_dtype(device)).to(device).t()
    temperature_N1 = None
    if temperature_N is not None:
        temperature_N1 = torch.nn.functional.pad(temperature_N.to(device, torch.float32), (0, 1), value=1.0)[:, None]
    first_N1 = None
    if first_N is not None:
        first_N1 = torch.nn.functional.pad(first_N.to(device), (0, 1), value=-1)[:, None]
    num_slots = min(num_slots, num_rows)
    decoder.open(num_slots, max(map(len, contexts)) + num_steps)
    slots = Slots(
        decoder,
        space,
        torch.nn.functional.pad(uniforms_TN, (0, 1)),
        Behaviour(temperature_N1, top_k, top_p, first_N1),
        num_slots=num_slots,
        vocab_size=vocab_size,
        device=device,
    )
    interval = 1 if device.type == "cpu" else LOOK_INTERVAL
    run_slots(slots, queue, CapturedSteps(device, enabled=top_p is None), interval)
    return slots.sampled(pad_id)


def run_slots(slots: Slots, queue: Queue, captured: CapturedSteps, interval: int) -> None:
    """Sample until every row of the queue has finished.

    Args:
        slots: all of them free.
        queue: rows that wait.
        captured: runs steps.
        interval: steps between two looks at which slots are free.
    """
    lengths: list[int | None] = [None] * slots.num_slots
    while True:
        queue.fill(slots, lengths)
        longest = max(length for length in lengths if length is not None)
        window = -(-(longest + interval) // WINDOW) * WINDOW
        for _ in range(interval):
            captured.run(slots.step, slots.num_slots, window)
        live = slots.live_S.tolist()
        lengths = [
            None if length is None or not alive else length + interval
            for length, alive in zip(lengths, live, strict=True)
        ]
        if len(queue):
            continue
        if not any(live):
            return
        if 2 * sum(live) <= slots.num_slots:
            kept = [slot for slot, alive in enumerate(live) if alive]
            slots.keep(torch.tensor(kept, device=slots.row_S.device))
            lengths = [lengths[slot] for slot in kept]
            captured.forget()
