"""The reward that a policy trained on preferences stands for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_gfn.interfaces import RewardNetwork
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.language_policy import LanguagePolicy
from lightning_gfn.policies.models.adapters import base_of_adapter, is_adapter_folder
from lightning_gfn.policies.models.evaluation_mode import no_dropout_and_gradient
from lightning_gfn.policies.models.loading import check_pretrained, load_config
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM


class ImplicitReward(RewardNetwork):
    """Log-ratio of a policy trained by DPO and the one that it started from.

        s_k = β · [log π(a_1 … a_k, stop | prompt) - log π_ref(a_1 … a_k, stop | prompt)]

    DPO's loss is that of a classifier of preferences with this reward: the sigmoid of the difference of two scores is
    the probability that one is preferred.

    Args:
        path: run folder of the trained policy, its folder ``model``, or a Hugging Face name.
        reference: the same of the policy that its training began with.
        beta: DPO's β.
        max_prompt_tokens: longest prompt; a longer one is an error.
        max_new_tokens: longest solution; a longer one is an error, and where it ends there, stop has probability 1. A
            text sampled byte by byte may have three times as many tokens: a broken character takes three bytes.
        max_rows: solutions judged at once.

    Raises:
        FileNotFoundError: there is no such policy.
        ValueError: ``beta`` is not positive.

    Source: Rafailov et al. 2023, arXiv:2305.18290, section 5; of steps: Yuan et al. 2024, arXiv:2412.01981.
    """

    is_calibrated = False

    def __init__(
        self,
        path: str,
        reference: str,
        *,
        beta: float = 0.1,
        max_prompt_tokens: int = 640,
        max_new_tokens: int = 192,
        max_rows: int = 256,
    ) -> None:
        if beta <= 0.0:
            raise ValueError(f"beta is {beta}, expected DPO's beta, above 0")
        self.paths = [model_of(name) for name in (path, reference)]
        self.beta, self.max_rows = beta, max_rows
        self.max_prompt_tokens, self.max_new_tokens = max_prompt_tokens, max_new_tokens
        self.policies: list[LanguagePolicy] = []

    def load(self) -> list[LanguagePolicy]:
        """The trained policy and its reference, frozen; loaded once."""
        if not self.policies:
            for path in self.paths:
                policy = policy_class(path)(
                    pretrained=path, max_prompt_tokens=self.max_prompt_tokens, max_new_tokens=self.max_new_tokens
                )
                policy.build(())
                self.policies.append(policy.requires_grad_(False))
        return self.policies

    def score_steps(self, prompts: Sequence[str], steps: Sequence[Sequence[str]], device: Any) -> list[list[float]]:
        """Scores of B solutions, one for each step; none for one without steps."""
        policies = [policy.to(device) for policy in self.load()]
        scores: list[list[float]] = [[] for _ in prompts]
        order = [b for b, solution in enumerate(steps) if solution]
        for start in range(0, len(order), self.max_rows):
            chosen = order[start : start + self.max_rows]
            contexts = [policies[0].encode_prompt(prompts[b]) for b in chosen]
            parts = [[policies[0].encode_completion(step) for step in steps[b]] for b in chosen]
            actions = [[token for part in solution for token in part] for solution in parts]
            trained, reference = (log_probs_when_ended(policy, contexts, actions) for policy in policies)
            ratio_NT1 = self.beta * (trained - reference)
            for b, solution, row in zip(chosen, parts, ratio_NT1.tolist(), strict=True):
                ends = [sum(map(len, solution[: k + 1])) for k in range(len(solution))]
                scores[b] = [row[end] for end in ends]
        return scores


def log_probs_when_ended(policy: LanguagePolicy, contexts: list[list[int]], actions: list[list[int]]) -> Tensor:
    """log q(prefix, stop | context) of each prefix of each action, (N, T + 1), nats; arbitrary beyond an action."""
    with no_dropout_and_gradient(policy):
        return policy.score(pad_steps(contexts, actions, policy.device)).log_prob_NT1()


def model_of(name: str) -> str:
    """The folder ``model`` of a run folder; any other name as it is.

    Raises:
        FileNotFoundError: there is no such policy.
    """
    inner = Path(name).expanduser() / "model"
    found = str(inner) if inner.is_dir() else name
    check_pretrained(found)
    return found


def policy_class(path: str) -> type[LanguagePolicy]:
    """Which kind of policy a model is."""
    folder = Path(path).expanduser()
    name = base_of_adapter(folder) if folder.is_dir() and is_adapter_folder(folder) else path
    config = load_config(name)
    return Seq2SeqLM if getattr(config, "is_encoder_decoder", False) else CausalLM
