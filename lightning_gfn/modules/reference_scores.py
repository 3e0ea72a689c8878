"""Log-probabilities under the frozen reference, computed once for each completion and kept with the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.interfaces import Policy
from lightning_gfn.modules.training_batch.columns import trajectory_log_prob
from lightning_gfn.prompts.chat import prompt_identity
from lightning_gfn.rollouts.distributed import gather_all
from lightning_gfn.rollouts.reference import text_rollouts
from lightning_gfn.types import Problem

SAMPLED_ELEMENTS = 256
"""Elements of each weight that its digest reads."""


def completion_key(prompt: str, text: str) -> str:
    """A digest of prompt and completion."""
    parts = [part.encode("utf-8", "surrogatepass") for part in (prompt_identity(prompt), text)]
    return blake2b(len(parts[0]).to_bytes(8, "little") + b"".join(parts), digest_size=16).hexdigest()


def weights_digest(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """A digest of names, shapes and evenly spread elements of weights; other training gives another digest."""
    digest = blake2b(digest_size=16)
    for name, weight in sorted(parameters, key=lambda item: item[0]):
        flat = weight.detach().reshape(-1)
        stride = max(1, len(flat) // SAMPLED_ELEMENTS)
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        own = flat[::stride].to("cpu", torch.float32, copy=True)  # numpy would keep FSDP from freeing gathered weights
        digest.update(own.numpy().tobytes())
    return digest.hexdigest()


class ReferenceScores:
    """log q_ref of whole completions, by content, for one reference.

    What is not known is scored without gradient and remembered on every rank. The state names the reference by a digest
    of its weights, so values of another reference are never used.
    """

    def __init__(self) -> None:
        self.identity: str | None = None
        self.known: dict[str, float] = {}
        self.num_scored = 0

    def log_pf(
        self,
        policy: Policy,
        reference: Iterable[tuple[str, Tensor]],
        problems: Sequence[Problem],
        index: Sequence[int],
        texts: Sequence[str],
        device: torch.device,
    ) -> Tensor:
        """log q_ref of each whole completion, stop included.

        Args:
            policy: holds the frozen reference.
            reference: names and weights of the reference; read on the first call.
            problems: P problems.
            index: the problem of each of the B texts.
            texts: B completions.
            device: of the result.

        Returns:
            (B,) float32, nats, without gradient.
        """
        if self.identity is None:
            self.bind(weights_digest(reference))
        keys = [completion_key(problems[p].prompt, text) for p, text in zip(index, texts, strict=True)]
        missing = {key: b for b, key in enumerate(keys) if key not in self.known}
        found: list[tuple[str, float]] = []
        if missing:
            rows = list(missing.values())
            log_pf = self.score(policy, problems, [index[b] for b in rows], [texts[b] for b in rows], device)
            found = list(zip(missing, log_pf.tolist(), strict=True))
            self.num_scored += len(found)
        for key, value in gather_all(found):
            self.known.setdefault(key, value)
        return torch.tensor([self.known[key] for key in keys], dtype=torch.float32, device=device)

    @torch.no_grad()
    def score(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        index: Sequence[int],
        texts: Sequence[str],
        device: torch.device,
    ) -> Tensor:
        """log q_ref of these completions by one pass, (B,), nats.

        Args:
            policy: whose reference it is.
            problems: the P problems.
            index: problem of each of the B completions.
            texts: the B completions.
            device: where the values go.
        """
        rollouts, _ = text_rollouts(policy, problems, index, texts, device)
        return trajectory_log_prob(policy.score(rollouts.steps, reference=True), rollouts)

    def bind(self, identity: str) -> None:
        """Say which reference the values are of; restored values of another one are dropped."""
        restored, self.identity = self.restored_identity, identity
        if restored is not None and restored != identity:
            self.known.clear()

    restored_identity: str | None = None

    def state(self) -> dict[str, Any]:
        """Identity, keys and values, as primitives and one tensor."""
        values = torch.tensor(list(self.known.values()), dtype=torch.float64)
        return {"identity": self.identity, "keys": list(self.known), "values": values}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore ``state``; whether the values hold is decided when the reference is known."""
        self.restored_identity, self.identity = state["identity"], None
        self.known = dict(zip(state["keys"], state["values"].tolist(), strict=True))
