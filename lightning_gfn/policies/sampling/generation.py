"""The sampling loop: one prefill per distinct prompt, then one token a step by inverse-CDF sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gfn.finite import NotFiniteError
from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.policies.sampling.action_columns import ActionColumns
from lightning_gfn.policies.sampling.inverse_cdf import InverseCDF, cdf_dtype
from lightning_gfn.policies.sampling.truncation import behaviour_logits, check_behaviour
from lightning_gfn.policies.text.tool_results import PendingResults, ToolResults
from lightning_gfn.types import SampledActions, Scores

ACCELERATOR_CHECK_INTERVAL = 8
"""Steps between two looks at which rows have finished; each look waits for the accelerator. On CPU it is free."""


class Decoder(ABC):
    """Incremental forward passes of a language model over a batch of rows; one object serves one batch."""

    columns_K: Tensor | None = None
    """Token ids that the columns of its logits belong to; None for the whole vocabulary."""
    state_R: Tensor | None = None
    """The row of the logits of ``step`` that each row of the batch reads; None if each has its own."""

    @abstractmethod
    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """Read left-padded prompts (mask None: no padding); float32 logits after each, (P, V), free to overwrite."""

    @abstractmethod
    def expand(self, rows_N: Tensor, num_steps: int, room: int | None = None) -> None:
        """Make N rows, row i a copy of prompt ``rows_N[i]``, with room for ``num_steps`` more tokens and ``room`` rows.

        ``room`` None is N.
        """

    @abstractmethod
    def step(self, tokens_R: Tensor) -> Tensor:
        """Append one token to every row; float32 logits after it, free to overwrite; see ``state_R``."""

    @abstractmethod
    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """Copy rows ``source_R`` over ``target_R`` and keep ``num_rows`` from the first one on, perhaps more."""


@dataclass(frozen=True)
class Draw:
    """One action for each of R rows, with its log-probabilities, and the entropy of q where it is asked for."""

    action_R: Tensor
    log_pf_R: Tensor
    log_pstop_R: Tensor
    behaviour_log_p_R: Tensor
    entropy_R: Tensor | None = None

    def values(self) -> Tensor:
        """What is recorded of each row, (3, R), or (4, R) with the entropy."""
        columns = (self.log_pf_R, self.log_pstop_R, self.behaviour_log_p_R)
        return torch.stack(columns if self.entropy_R is None else (*columns, self.entropy_R))


def draw(
    inverse_cdf: InverseCDF,
    action_logits_DV: Tensor,
    uniforms_R1: Tensor,
    stop_id: int,
    *,
    temperature_D1: Tensor | None,
    top_k: int | None,
    top_p: float | None,
    given_R1: Tensor | None = None,
    entropy: bool = False,
    state_R: Tensor | None = None,
) -> Draw:
    """Sample one action a row: the first whose cumulative probability exceeds the uniform number.

    Args:
        inverse_cdf: workspace of the sampler.
        action_logits_DV: logits of q.
        uniforms_R1: in [0, 1), (R, 1).
        stop_id: column of the stop action.
        temperature_D1: (D, 1); None for 1.
        top_k: actions that the behaviour keeps.
        top_p: probability mass that the behaviour keeps.
        given_R1: (R, 1), actions that are taken instead, -1 where one is drawn; the behaviour is sure of them.
        entropy: give the entropy of q.
        state_R: the row of the logits that each row reads; None if each has its own.

    Returns:
        actions and their log-probabilities under q and under the behaviour.
    """
    num_states = len(action_logits_DV)
    action_R1, log_z_D1 = inverse_cdf(action_logits_DV, uniforms_R1, state_R)
    entropy_D = inverse_cdf.entropy(num_states) if entropy else None
    plain = temperature_D1 is None and top_k is None and top_p is None
    if not plain:
        logits_DV = behaviour_logits(action_logits_DV, temperature_D1, top_k, top_p)
        action_R1, behaviour_log_z_D1 = inverse_cdf(logits_DV, uniforms_R1, state_R)
    if given_R1 is not None:
        action_R1 = torch.where(given_R1 < 0, action_R1, given_R1)
    action_R = action_R1[:, 0]
    row_R = torch.arange(num_states, device=action_R.device) if state_R is None else state_R
    log_pf_R = (action_logits_DV[row_R, action_R] - log_z_D1[row_R, 0]).float()
    log_pstop_R = (action_logits_DV[:, stop_id] - log_z_D1[:, 0])[row_R].float()
    behaviour_R = log_pf_R if plain else (logits_DV[row_R, action_R] - behaviour_log_z_D1[row_R, 0]).float()
    if given_R1 is not None:
        behaviour_R = behaviour_R.masked_fill(given_R1[:, 0] >= 0, 0.0)
    return Draw(action_R, log_pf_R, log_pstop_R, behaviour_R, None if entropy_D is None else entropy_D[row_R])


def at_states(
    logits_DV: Tensor, temperature_R1: Tensor | None, state_R: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Logits, temperatures and states such that rows of one state have one temperature.

    Args:
        logits_DV: of D states.
        temperature_R1: of the rows; None for 1.
        state_R: of the rows; None if each has its own.

    Returns:
        logits, temperatures (D, 1), and the state of each row; None where each row has its own.
    """
    if temperature_R1 is None or state_R is None:
        return logits_DV, temperature_R1, state_R
    temperature_D1 = temperature_R1.new_ones(len(logits_DV), 1).index_copy_(0, state_R, temperature_R1)
    if bool((temperature_D1.index_select(0, state_R) == temperature_R1).all()):
        return logits_DV, temperature_D1, state_R
    return logits_DV.index_select(0, state_R), temperature_R1, None


def pack_contexts(
    contexts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Distinct contexts, padded on the left.

    Args:
        contexts: N token id sequences, none empty.
        pad_id: filler.
        device: where the tensors are made.

    Returns:
        ids (P, C), mask (P, C) bool or None if nothing is padded, and the distinct context of each row (N,).

    Raises:
        ValueError: if a context is empty.
    """
    distinct: dict[tuple[int, ...], int] = {}
    rows = [distinct.setdefault(tuple(context), len(distinct)) for context in contexts]
    if () in distinct:
        raise ValueError(
            f"context {rows.index(distinct[()])} is empty: begin it with the tokenizer's begin or end token"
        )
    width = max(map(len, distinct))
    ids = torch.tensor([[pad_id] * (width - len(context)) + list(context) for context in distinct], device=device)
    lengths_P1 = torch.tensor([[len(context)] for context in distinct], device=device)
    padded = any(len(context) < width for context in distinct)
    mask = torch.arange(width, device=device) >= width - lengths_P1 if padded else None
    return ids, mask, torch.tensor(rows, device=device)


def keep_live(live_R: Tensor) -> tuple[Tensor, Tensor, int]:
    """How to drop finished rows by few copies: live rows from the end go into the gaps.

    Args:
        live_R: bool.

    Returns:
        gaps to fill, rows to fill them with, and the number of live rows.
    """
    num_live = int(live_R.sum())
    gaps = (~live_R[:num_live]).nonzero().squeeze(1)
    movers = live_R[num_live:].nonzero().squeeze(1) + num_live
    return gaps, movers, num_live


def drop_finished(decoder: Decoder, rows_R: Tensor, tokens_R: Tensor, live_R: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Go on with the live rows alone; the decoder is left as it is if there are none.

    Args:
        decoder: its rows are moved.
        rows_R: which row of the batch each one is; overwritten.
        tokens_R: the last token of each; overwritten.
        live_R: bool.

    Returns:
        The three of the rows that are left.
    """
    gaps, movers, num_live = keep_live(live_R)
    if num_live:
        decoder.move_rows(gaps, movers, num_live)
    for state_R in (rows_R, tokens_R):
        state_R[gaps] = state_R[movers]
    return rows_R[:num_live], tokens_R[:num_live], live_R.new_ones(num_live)


def check_arguments(
    num_rows: int,
    num_steps: int,
    uniforms_NT1: Tensor,
    temperature_N: Tensor | None,
    first_N: Tensor | None = None,
) -> None:
    """Refuse random numbers, temperatures or first actions that do not fit the rows.

    Raises:
        ValueError: naming the argument, its shape and the shape that it needs.
    """
    if uniforms_NT1.ndim != 2 or uniforms_NT1.shape[0] != num_rows or uniforms_NT1.shape[1] < num_steps:
        raise ValueError(
            f"uniforms_NT1 has shape {tuple(uniforms_NT1.shape)}; {num_rows} contexts with max_new_tokens={num_steps} "
            f"need ({num_rows}, {num_steps + 1})"
        )
    for name, values in (("temperature_N", temperature_N), ("first_N", first_N)):
        if values is not None and values.shape != (num_rows,):
            raise ValueError(f"{name} has shape {tuple(values.shape)}, expected ({num_rows},)")


class Records:
    """What has been sampled so far, time-major, stops behind the end of each row.

    Args:
        num_steps: the most actions of a row.
        num_rows: N.
        stop_id: the action that stands for stop.
        device: of the records.
        entropy: keep entropies.
    """

    def __init__(self, num_steps: int, num_rows: int, stop_id: int, device: torch.device, *, entropy: bool) -> None:
        self.actions_TN = torch.full((num_steps, num_rows), stop_id, device=device)
        self.values_TKN = torch.zeros(num_steps, 3 + entropy, num_rows, dtype=torch.float32, device=device)
        self.inserted_TN = torch.zeros(num_steps, num_rows, dtype=torch.bool, device=device)

    def write(self, t: int, rows_R: Tensor, tokens_R: Tensor, drawn: Draw, due: tuple[Tensor, Tensor] | None) -> Tensor:
        """Keep a step; returns the tokens of the rows, those that a tool wrote in the place of drawn ones.

        Args:
            t: the step.
            rows_R: which rows they are.
            tokens_R: drawn ones.
            drawn: with their values, 0 where a tool wrote.
            due: rows among these and the tokens that a tool wrote; None for none.
        """
        values = drawn.values()
        if due is not None:
            tokens_R, values = tokens_R.index_copy(0, *due), values.index_fill(1, due[0], 0.0)
            self.inserted_TN[t, rows_R[due[0]]] = True
        self.actions_TN[t].index_copy_(0, rows_R, tokens_R)
        self.values_TKN[t].index_copy_(1, rows_R, values)
        return tokens_R

    def check_finite(self) -> None:
        """Refuse log-probabilities of a model that has no finite ones.

        Raises:
            NotFiniteError: a log-probability is NaN or infinite.
        """
        if not bool(torch.isfinite(self.values_TKN[:, 0]).all()):
            raise NotFiniteError("the model's logits are not finite (NaN or infinite), nothing can be sampled from it")


@torch.no_grad()
def generate(
    decoder: Decoder,
    space: ActionSpace,
    contexts: Sequence[Sequence[int]],
    uniforms_NT1: Tensor,
    *,
    pad_id: int,
    device: torch.device,
    temperature_N: Tensor | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    first_N: Tensor | None = None,
    tools: ToolResults | None = None,
    entropy: bool = False,
) -> SampledActions:
    """Sample one action for each context.

    Args:
        decoder: a fresh decoder.
        space: the actions of q.
        contexts: N token id sequences; equal ones share one prefill.
        uniforms_NT1: numbers in [0, 1), one per row and prefix, at least ``max_new_tokens`` columns.
        pad_id: filler of the result.
        device: where the model is.
        temperature_N: behaviour temperature of each row; None for 1.
        top_k: actions that the behaviour keeps.
        top_p: probability mass that the behaviour keeps.
        first_N: the first token of each row, or the stop; None draws it.
        tools: write into the rows; what they write is read as if it had been sampled, but is no choice. Their calls
            wait for the device at every step.
        entropy: also give the entropy of q at each prefix.

    Returns:
        N actions with their log-probabilities.

    Raises:
        ValueError: if arguments do not fit each other.
        NotFiniteError: if the model's logits are NaN or infinite.
    """
    num_rows, num_steps = len(contexts), space.max_new_tokens
    check_arguments(num_rows, num_steps, uniforms_NT1, temperature_N, first_N)
    check_behaviour(temperature_N, top_k, top_p)
    uniforms_TN = uniforms_NT1.to(cdf_dtype(device)).to(device).t().contiguous()
    temperature_N1 = None if temperature_N is None else temperature_N.to(device=device, dtype=torch.float32)[:, None]
    ids_PC, mask_PC, prompt_N = pack_contexts(contexts, pad_id, device)
    records = Records(num_steps, num_rows, space.stop_id, device, entropy=entropy)
    interval = 1 if device.type == "cpu" else ACCELERATOR_CHECK_INTERVAL
    rows_R = torch.arange(num_rows, device=device)
    live_R = torch.ones(num_rows, dtype=torch.bool, device=device)
    logits_DV = decoder.prefill(ids_PC, mask_PC)
    state_R: Tensor | None = prompt_N
    decoder.expand(prompt_N, num_steps - 1)
    columns = ActionColumns(space, decoder.columns_K, logits_DV.shape[1])
    given_N1 = None if first_N is None else columns.places(first_N.to(device)[:, None])
    inverse_cdf = InverseCDF(num_rows, columns.num_actions, device)
    pending = None if tools is None else PendingResults(tools, num_steps, space.stop_id, device)
    for t in range(num_steps):
        temperature_R1 = None if temperature_N1 is None else temperature_N1.index_select(0, rows_R)
        logits_DV = columns.restrict_(logits_DV, t >= space.min_new_tokens)
        logits_DV, temperature_D1, state_R = at_states(logits_DV, temperature_R1, state_R)
        drawn = draw(
            inverse_cdf,
            logits_DV,
            uniforms_TN[t].index_select(0, rows_R)[:, None],
            columns.stop_id,
            temperature_D1=temperature_D1,
            top_k=top_k,
            top_p=top_p,
            given_R1=given_N1 if t == 0 else None,
            entropy=entropy,
            state_R=state_R,
        )
        due = None if pending is None else pending.take(rows_R)
        tokens_R = records.write(t, rows_R, columns.tokens(drawn.action_R), drawn, due)
        live_R &= tokens_R != space.stop_id
        if t + 1 == num_steps:
            break
        if pending is not None:
            pending.ask(records.actions_TN[: t + 1], rows_R, live_R & ~records.inserted_TN[t, rows_R])
        if (t + 1) % interval == 0 and not bool(live_R.all()):
            rows_R, tokens_R, live_R = drop_finished(decoder, rows_R, tokens_R, live_R)
            if not len(rows_R):
                break
        logits_DV, state_R = decoder.step(tokens_R), decoder.state_R
    records.check_finite()
    inserted_TN = None if tools is None else records.inserted_TN
    return assemble(records.actions_TN, records.values_TKN, space, pad_id, inserted_TN)


def assemble(
    actions_TN: Tensor, values_TKN: Tensor, space: ActionSpace, pad_id: int, inserted_TN: Tensor | None = None
) -> SampledActions:
    """Cut time-major records at the first stop of each row.

    Args:
        actions_TN: sampled actions, stop included.
        values_TKN: log q(action), log q(stop), behaviour log-probability of the action, and entropy if it is a fourth.
        space: the actions of q.
        pad_id: filler.
        inserted_TN: bool, True on tokens that a tool wrote; None without tools.

    Returns:
        row-major actions, at least one column wide.
    """
    before_stop_TN = (actions_TN == space.stop_id).cumsum(0) == 0
    lengths_N = before_stop_TN.sum(0)
    width = max(1, int(lengths_N.max()))
    action_mask_NT = before_stop_TN[:width].t().contiguous()
    forced_N = lengths_N == space.max_new_tokens
    padded_TN = torch.nn.functional.pad(values_TKN, (0, 0, 0, 0, 0, 1))[: width + 1]
    log_pf_NT1, log_pstop_NT1, behaviour_NT1, *entropies = padded_TN.permute(1, 2, 0)
    stop_mask_NT1 = space.stop_mask(lengths_N, width + 1)
    inserted_NT = None if inserted_TN is None else inserted_TN[:width].t() & action_mask_NT
    if inserted_NT is not None:
        stop_mask_NT1 &= ~torch.nn.functional.pad(inserted_NT, (0, 1))
    chosen_stop_N1 = behaviour_NT1.gather(1, lengths_N[:, None])
    scores = Scores(
        log_pf_NT=torch.where(action_mask_NT, log_pf_NT1[:, :width], 0.0),
        log_pstop_NT1=torch.where(stop_mask_NT1, log_pstop_NT1, 0.0),
        stop_mask_NT1=stop_mask_NT1,
        entropy_NT1=entropies[0] if entropies else None,
    )
    return SampledActions(
        action_ids_NT=torch.where(action_mask_NT, actions_TN[:width].t(), pad_id),
        action_mask_NT=action_mask_NT,
        scores=scores,
        behaviour_log_pf_NT=torch.where(action_mask_NT, behaviour_NT1[:, :width], 0.0),
        behaviour_log_pstop_N=torch.where(forced_N, 0.0, chosen_stop_N1[:, 0]),
        inserted_NT=inserted_NT,
    )
