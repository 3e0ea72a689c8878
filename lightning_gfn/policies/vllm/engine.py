"""Sampling by a vLLM server, as ``Policy.sample`` promises it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_gfn.padding import pad_contexts
from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.policies.sampling.truncation import check_behaviour
from lightning_gfn.policies.vllm.nccl import check_package
from lightning_gfn.policies.vllm.replies import Completion, ReplyError, assemble, read_completion
from lightning_gfn.policies.vllm.requests import Group, groups_of, request_of, sampling_fields
from lightning_gfn.policies.vllm.server import (
    LOWEST_VERSION,
    SERVE_ADAPTERS,
    SERVE_WEIGHTS,
    UnknownModelError,
    VllmServer,
)
from lightning_gfn.policies.vllm.settings import VllmSettings
from lightning_gfn.policies.vllm.weights import PushedWeights
from lightning_gfn.types import SampledActions, Scores, StepBatch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

COMPARED_ROWS = 4
ATTEMPTS = 3
PROBE: dict[str, Any] = {
    "prompt": [0], "n": 1, "max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "ignore_eos": True,
    "allowed_token_ids": [0], "logprobs": 1, "logprob_token_ids": [1], "return_token_ids": True,
    "return_tokens_as_token_ids": True,
}  # fmt: skip
"""Asks for the only token that is allowed: its processed log-probability is 0, its raw one is not."""


class VllmEngine:
    """Samples through a server, to which it pushes the policy's weights first.

    Args:
        settings: which server.
        is_adapted: the policy trains an adapter.

    Raises:
        ValueError: if weights cannot be pushed as the settings say.
    """

    def __init__(self, settings: VllmSettings, *, is_adapted: bool) -> None:
        if settings.transfer == "nccl":
            if is_adapted:
                raise ValueError("vllm.transfer: nccl is for whole weights, an adapter takes the folder: leave it out")
            check_package()
        self.settings, self.is_adapted = settings, is_adapted
        self.server = VllmServer(settings)
        self.weights = PushedWeights(settings, self.server)
        self.compared = ""

    def check(self, num_positions: int) -> None:
        """Refuse a server that cannot serve this policy, before any weights are loaded.

        Args:
            num_positions: tokens of the longest prompt and the longest action together.

        Raises:
            VllmError: names the server and the flag that it lacks.
        """
        server = self.server
        server.check_is_there()
        own = server.models()[0]
        limit = own.get("max_model_len")
        if limit is not None and limit < num_positions:
            raise server.refusal(
                f"its --max-model-len is {limit}, but max_prompt_tokens and max_new_tokens need {num_positions}"
            )
        if self.is_adapted and not server.has_adapter_route():
            raise server.refusal(f"it loads no adapters at run time: start it as {SERVE_ADAPTERS}")
        if not self.is_adapted and not server.has_weight_routes():
            raise server.refusal(f"it takes no weights: start it as {SERVE_WEIGHTS}, vLLM {LOWEST_VERSION} or later")
        self._check_log_probs(str(own["id"]))

    def _check_log_probs(self, model: str) -> None:
        choice = self.server.complete({"model": model, **PROBE})[0]
        try:
            tokens, log_probs = choice["token_ids"], choice["logprobs"]
            own, others = float(log_probs["token_logprobs"][0]), log_probs["top_logprobs"][0]
        except (KeyError, TypeError, IndexError):
            tokens, own, others = None, 0.0, {}
        if tokens != [0] or "token_id:1" not in others:
            raise self.server.refusal(f"it gives no log-probabilities of chosen tokens: use vLLM {LOWEST_VERSION}")
        if abs(own) > 1e-4:
            raise self.server.refusal(
                "it gives raw log-probabilities, not those that it samples by: start it with "
                "--logprobs-mode processed_logprobs"
            )

    def sample(
        self,
        model: PreTrainedModel | PeftModel,
        space: ActionSpace,
        contexts: Sequence[Sequence[int]],
        uniforms_NT1: Tensor,
        *,
        pad_id: int,
        device: torch.device,
        score: Callable[[StepBatch], Scores],
        temperature_N: Tensor | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> SampledActions:
        """One action for each context, from the present weights.

        Args:
            model: the policy's weights.
            space: the actions of q.
            contexts: N token id sequences; equal ones at one temperature share a request.
            uniforms_NT1: seed the requests.
            pad_id: filler of the result.
            device: of the result.
            score: log q of actions, for behaviours other than q and for comparison.
            temperature_N: behaviour temperature of each row; None for 1.
            top_k: tokens that the behaviour keeps.
            top_p: probability mass that the behaviour keeps.

        Returns:
            actions; behaviour log-probabilities are the server's own.

        Raises:
            ValueError: if the arguments or the server's replies do not fit q.
            VllmError: if the server fails.
        """
        check_behaviour(temperature_N, top_k, top_p)
        fields = sampling_fields(space, top_k=top_k, top_p=top_p)
        groups = groups_of(contexts, uniforms_NT1, temperature_N)
        rows = self._completions(model, groups, fields, space)
        try:
            sampled = assemble(rows, space, pad_id=pad_id, device=device)
        except ReplyError as error:
            raise self.server.refusal(str(error)) from None
        is_plain = top_k is None and top_p is None and all(group.temperature == 1.0 for group in groups)
        if not is_plain:
            return replace(sampled, scores=score(steps_of(contexts, sampled)))
        if self.compared != self.weights.version:
            self._compare(contexts, sampled, score)
            self.compared = self.weights.version
        return sampled

    def _completions(
        self, model: PreTrainedModel | PeftModel, groups: Sequence[Group], fields: dict[str, Any], space: ActionSpace
    ) -> list[Completion]:
        """All completions from the present weights; those of a server that was started anew meanwhile are drawn again.

        Raises:
            VllmError: if the server loses the weights again and again.
        """
        for _ in range(ATTEMPTS):
            name = self.weights.ensure(model)
            try:
                rows = self._from(name, groups, fields, space)
            except UnknownModelError:
                continue
            if self.weights.are_served():
                return rows
        raise self.server.refusal("it keeps losing the policy's weights: does another run use it, or does it crash?")

    def _from(self, name: str, groups: Sequence[Group], fields: dict[str, Any], space: ActionSpace) -> list[Completion]:
        """All completions of a model of the server, in the order of the rows."""
        ends = frozenset(space.end_ids.tolist())

        def one(group: Group) -> list[Completion]:
            choices = self.server.complete(request_of(group, name, fields))
            try:
                return [read_completion(choice, ends, space.max_new_tokens) for choice in choices]
            except ReplyError as error:
                raise self.server.refusal(str(error)) from None

        pool = ThreadPoolExecutor(min(self.settings.concurrency, len(groups)))
        try:
            found = list(pool.map(one, groups))
        finally:
            pool.shutdown(cancel_futures=True)
        rows = {
            n: row for group, drawn in zip(groups, found, strict=True) for n, row in zip(group.rows, drawn, strict=True)
        }
        return [rows[n] for n in range(len(rows))]

    def _compare(
        self, contexts: Sequence[Sequence[int]], sampled: SampledActions, score: Callable[[StepBatch], Scores]
    ) -> None:
        """Refuse a server whose probabilities are not those of the weights that were pushed."""
        steps = steps_of(contexts, sampled).select(torch.arange(min(COMPARED_ROWS, len(contexts))))
        own = score(steps)
        mask_NT, stop_mask_NT1 = steps.action_mask_NT, own.stop_mask_NT1
        assert own.log_pstop_NT1 is not None and sampled.scores.log_pstop_NT1 is not None
        rows = len(mask_NT)
        tokens = (sampled.scores.log_pf_NT[:rows] - own.log_pf_NT)[mask_NT]
        stops = (sampled.scores.log_pstop_NT1[:rows] - own.log_pstop_NT1)[stop_mask_NT1]
        difference = float(torch.cat([tokens, stops]).abs().mean())
        if not difference <= self.settings.max_mismatch:
            raise self.server.refusal(
                f"its log-probabilities differ from the policy's by {difference:.2g} nats on average: it serves "
                "another model than policy.pretrained, or lost the weights (vllm.max_mismatch is the limit)"
            )


def steps_of(contexts: Sequence[Sequence[int]], sampled: SampledActions) -> StepBatch:
    """Contexts and what was sampled after them."""
    mask = sampled.action_mask_NT
    return StepBatch(*pad_contexts(contexts, mask.device), torch.where(mask, sampled.action_ids_NT, 0), mask)
