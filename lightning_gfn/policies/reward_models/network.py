"""A language model with a scalar output that judges solutions at the end of each step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lightning_gfn.interfaces import RewardNetwork, TextModel
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.decoder_factory import DTypeName
from lightning_gfn.policies.heads import output_network
from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.models.encoder_decoder import EncoderDecoder
from lightning_gfn.policies.models.evaluation_mode import no_dropout_and_gradient
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.policies.teacher_forcing.scoring_pass import PassName
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.types import StepBatch

if TYPE_CHECKING:
    from lightning_gfn.sharding.shards import Shards

SETTINGS_FILE, HEAD_FILE = "reward_network.json", "reward_head.pt"


class LanguageRewardNetwork(LanguageModel, RewardNetwork, TextModel):
    """Scores of a solution at the last token of each of its steps.

        s_k = f(h(last token of step k)),      P(good up to step k) = σ(s_k)

    Where a step ends is known by position: prompt and steps are encoded one by one and joined, so that no special
    token is searched for, and a step's end is a token's end in training and in use alike.

    Args:
        pretrained: name of an installed model (``smollm2-135m``) or of the hub (``owner/model``), folder of a model or
            of an adapter that an earlier stage saved, or a GGUF file.
        config: a model from scratch instead: ``model_type`` and the fields of its configuration.
        tokenizer: name or path, or settings of one to be made; None takes the one beside ``pretrained``.
        lora: train a low-rank adapter (and the scalar output) and freeze everything else; None trains all weights.
        previous_adapter: what becomes of the adapter if ``pretrained`` is an adapter folder.
        width: units of a hidden layer of the output; a linear map if None.
        max_prompt_tokens: longest prompt; a longer one is an error.
        max_completion_tokens: longest solution; a longer one is an error.
        overlong_prompts: training rows with a longer prompt or solution end the run before it begins (``refuse``), or
            are left out and counted (``skip``).
        dtype: of the language model's weights; the scalar output is float32.
        scoring: pass of training and judging, as of a policy: ``auto``, ``fused`` or ``hugging_face``.
        gradient_checkpointing: recompute activations in the backward pass.
        attn_implementation: attention of the model.
        max_rows: solutions judged at once without gradient (bounds memory).
        budget: rows and tokens of one pass; larger batches are cut. None for no limit.

    Source: steps judged at their last token: Wang et al. 2023, arXiv:2312.08935, section 3; whole solutions: Cobbe et
    al. 2021, arXiv:2110.14168, section 4.
    """

    is_calibrated = True

    def __init__(
        self,
        *,
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        tokenizer: str | TokenizerSettings | None = None,
        lora: LoraSettings | None = None,
        previous_adapter: Literal["merge", "freeze"] = "merge",
        width: int | None = None,
        max_prompt_tokens: int = 512,
        max_completion_tokens: int = 512,
        overlong_prompts: Literal["refuse", "skip"] = "refuse",
        dtype: DTypeName = "float32",
        scoring: PassName = "auto",
        gradient_checkpointing: bool = False,
        attn_implementation: str | None = None,
        max_rows: int = 256,
        budget: PassBudget | None = None,
    ) -> None:
        super().__init__(
            pretrained=pretrained,
            config=config,
            tokenizer=tokenizer,
            lora=lora,
            previous_adapter=previous_adapter,
            max_prompt_tokens=max_prompt_tokens,
            max_new_tokens=max_completion_tokens,
            overlong_prompts=overlong_prompts,
            dtype=dtype,
            scoring=scoring,
            gradient_checkpointing=gradient_checkpointing,
            attn_implementation=attn_implementation,
            budget=budget,
        )
        self.width, self.max_rows = width, max_rows

    # ---------------------------------------------------------------- building

    def build(self, texts: Iterable[str]) -> None:
        """Load or create tokenizer, language model and scalar output.

        Args:
            texts: train a ``bpe`` tokenizer; not read otherwise.
        """
        super().build(texts)
        self.output = output_network(self.hidden_size, self.width, 0.0).to(self.device)
        backbone = self.hugging_face
        words = backbone.get_output_embeddings()
        if words.weight is not backbone.get_input_embeddings().weight:
            words.requires_grad_(False)  # no logits over words are computed here, so it would never get a gradient

    def settings(self) -> dict[str, Any]:
        """What makes an equal network, as primitives; a checkpoint keeps it."""
        tokenizer = self.tokenizer_source
        return {
            "pretrained": self.pretrained,
            "config": self.config_block,
            "tokenizer": dataclasses.asdict(tokenizer) if isinstance(tokenizer, TokenizerSettings) else tokenizer,
            "lora": dataclasses.asdict(self.lora) if self.lora is not None else None,
            "previous_adapter": self.previous_adapter,
            "dtype": self.dtype_name,
            **self.limits(),
        }

    def limits(self) -> dict[str, Any]:
        """The part of the settings that does not say where the language model comes from."""
        return {
            "width": self.width,
            "max_prompt_tokens": self.max_prompt_tokens,
            "max_completion_tokens": self.max_new_tokens,
        }

    def kind(self) -> dict[str, Any]:
        """What a folder or a checkpoint says of the network beside its settings."""
        return {
            "is_calibrated": self.is_calibrated,
            "encoder_decoder": isinstance(self, Seq2SeqRewardNetwork),
            "separator": self.separator,
            "prompt_template": self.prompt_template,
        }

    def cut(self, shards: Shards) -> None:
        """Cut the weights of language model and scalar output over the processes of a run."""
        super().cut(shards)
        shards.cut(self.output)

    # ---------------------------------------------------------------- judging

    def encode(self, prompt: str, steps: Sequence[str]) -> tuple[list[int], list[int], list[int]]:
        """Token ids of the prompt and of the solution, and how many of the latter stand up to the end of each step.

        Raises:
            ValueError: a step has no token, or prompt or solution are too long.
        """
        context, solution, ends = self.codec.encode_prompt(prompt), list[int](), list[int]()
        for step in steps:
            tokens = self.codec.encode_completion(step)
            if not tokens:
                raise ValueError(f"a step is empty (prompt begins {prompt[:60]!r}): leave it out")
            solution += tokens
            ends.append(len(solution))
        for name, length, limit in (
            ("prompt", len(context), self.max_prompt_tokens),
            ("completion", len(solution), self.max_new_tokens),
        ):
            if length > limit:
                raise ValueError(
                    f"a {name} has {length} tokens, max_{name}_tokens of the reward network is {limit}: raise it or "
                    f"drop the row; its prompt begins {prompt[:60]!r}"
                )
        return context, solution, ends

    def forward(self, prompts: Sequence[str], steps: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, int]:
        """Scores with gradient.

        Args:
            prompts: B texts.
            steps: the steps of each of the B solutions; at least one in all.

        Returns:
            scores (B, S) in float32, 0 beyond a solution's last step; the bool mask of the steps; and the number of
            tokens read.
        """
        encoded = [self.encode(prompt, solution) for prompt, solution in zip(prompts, steps, strict=True)]
        contexts, solutions = ([row[part] for row in encoded] for part in range(2))
        batch = pad_steps(contexts, solutions, self.device)
        most = max(len(ends) for *_, ends in encoded)
        ends_BS = torch.tensor([ends + [0] * (most - len(ends)) for *_, ends in encoded], device=self.device)
        mask_BS = ends_BS > 0
        backbone = self.architecture.backbone(self.hugging_face)

        def one_pass(part: StepBatch, index: Tensor) -> dict[str, Tensor]:
            reading = self.scoring.read(self.architecture, backbone, part, self.pad_id)
            hidden_NSH = reading.hidden_SH[reading.flat_NT1.gather(1, ends_BS[index])]
            return {"score_NS": self.output(hidden_NSH).squeeze(-1)}

        shares_prompts = self.budget.limits_scoring and self.scoring.is_fused(self.architecture, backbone, batch)
        score_BS = self.in_passes(one_pass, batch, shares_prompts=shares_prompts)["score_NS"]
        assert score_BS is not None
        tokens = sum(len(context) + len(solution) for context, solution, _ in encoded)
        return torch.where(mask_BS, score_BS, 0.0), mask_BS, tokens

    def score_steps(self, prompts: Sequence[str], steps: Sequence[Sequence[str]], device: Any) -> list[list[float]]:
        """Scores of B solutions, one for each step, dropout off and without gradient; none for one without steps."""
        self.to(device)
        scores: list[list[float]] = [[] for _ in prompts]
        order = sorted((b for b, solution in enumerate(steps) if solution), key=lambda b: sum(map(len, steps[b])))
        with no_dropout_and_gradient(self):
            for start in range(0, len(order), self.max_rows):
                chosen = order[start : start + self.max_rows]
                score_BS, _, _ = self([prompts[b] for b in chosen], [steps[b] for b in chosen])
                for b, row in zip(chosen, score_BS.tolist(), strict=True):
                    scores[b] = row[: len(steps[b])]
        return scores

    # ---------------------------------------------------------------- saving

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that ``TrainedRewardNetwork`` can read.

        Args:
            folder: made if missing.
        """
        super().save_pretrained(folder)
        weights = {name: weight.detach().clone() for name, weight in self.output.named_parameters()}
        torch.save(weights, Path(folder) / HEAD_FILE)
        content = {**self.limits(), **self.kind()}
        (Path(folder) / SETTINGS_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class Seq2SeqRewardNetwork(LanguageRewardNetwork):
    """The same on an encoder-decoder model (T5, ByT5, …): the encoder reads the prompt, the decoder the solution.

    ``pretrained`` may be the folder of a tactic model, whose states then are where learning begins.
    """

    architecture = EncoderDecoder()
