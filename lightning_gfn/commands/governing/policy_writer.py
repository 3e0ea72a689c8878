"""A language model of this suite, or of Hugging Face's, that writes a principal's answers."""

from __future__ import annotations

from typing import Any

from lightning_gfn.mechanism.principals.writers import Writer, Written


class PolicyWriter(Writer):
    """Samples answers from a policy.

    Args:
        model: folder of a run or of a model, checkpoint or GGUF file, installed model, or ``owner/model`` of the hub.
        max_new_tokens: longest answer; None for that of the run, or 256.
        min_new_tokens: shortest answer, where ``allowed_tokens`` are given.
        allowed_tokens: the only tokens that an answer may consist of, such as digits; None for all. A run brings its
            own.
        temperature: of sampling.
        chat: put prompts into the model's chat template, if it has one.
        answer_start: what every answer begins with, written into the assistant's turn (or behind the prompt).
        device: as torch names it; None for the first GPU if there is one.

    Raises:
        ValueError: the model cannot be used.
        FileNotFoundError: it is not there.
    """

    def __init__(
        self,
        model: str,
        max_new_tokens: int | None = 48,
        min_new_tokens: int = 0,
        allowed_tokens: list[str] | None = None,
        temperature: float = 1.0,
        chat: bool = True,
        answer_start: str = "",
        device: str | None = None,
    ) -> None:
        from lightning_gfn.commands.asking.sources import find_source

        if temperature <= 0:
            raise ValueError(f"writer.temperature is {temperature}, expected a number above 0")
        self.source = find_source(model)
        if allowed_tokens is not None and (self.source.pretrained is None or max_new_tokens is None):
            raise ValueError("writer.allowed_tokens needs max_new_tokens, and a model that is no run's checkpoint")
        self.max_new_tokens, self.min_new_tokens, self.allowed_tokens = max_new_tokens, min_new_tokens, allowed_tokens
        self.temperature, self.chat, self.answer_start, self.device = temperature, chat, answer_start, device
        self.policy: Any = None

    @property
    def parameters(self) -> int | None:
        """Weights of the loaded model."""
        return None if self.policy is None else sum(p.numel() for p in self.policy.parameters())

    def load(self) -> Any:
        """The policy, loaded at the first call."""
        from lightning_gfn.commands.asking.policies import LONGEST_PROMPT, load_policy, usable_device

        if self.policy is None and self.allowed_tokens is None:
            self.policy = load_policy(self.source, max_new_tokens=self.max_new_tokens, device=self.device)
        elif self.policy is None:
            from lightning_gfn.policies.causal_lm import CausalLM

            assert self.max_new_tokens is not None
            self.policy = CausalLM(
                pretrained=self.source.pretrained,
                max_prompt_tokens=LONGEST_PROMPT,
                min_new_tokens=self.min_new_tokens,
                max_new_tokens=self.max_new_tokens,
                allowed_tokens=self.allowed_tokens,
            )
            self.policy.build(())
            self.policy.to(usable_device(self.device)).eval()
        return self.policy

    def write(self, prompt: str, *, key: str, seed: int) -> Written:
        """One sample, keyed by seed and key; the model is loaded at the first call."""
        from lightning_gfn.prompts.chat import ChatPrompt, Message
        from lightning_gfn.rollouts.evaluation import sample_completions
        from lightning_gfn.types import Problem

        begun = [Message("assistant", self.answer_start)] if self.answer_start else []
        asked = ChatPrompt([Message("user", prompt), *begun]) if self.chat else f"{prompt}\n{self.answer_start}"
        [record] = sample_completions(
            self.load(), [Problem(key, asked)], num_samples=1, temperature=self.temperature, seed=seed, entropy=False
        )
        return Written(self.answer_start + record.completions[0], record.lengths[0])
