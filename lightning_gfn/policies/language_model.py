"""What a policy is made of: tokenizer, model, adapter, reference and action space, from settings to a saved folder."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn

from lightning_gfn.policies.action_space import make_action_space
from lightning_gfn.policies.decoder_factory import DecoderFactory, DecoderName, DTypeName
from lightning_gfn.policies.fused.layer_copies import LayerCopies
from lightning_gfn.policies.models import adapters, export, loading
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.models.architectures import Architecture, DecoderOnly, max_positions
from lightning_gfn.policies.models.averaged_weights import AveragedWeights
from lightning_gfn.policies.models.dropout import switch_off_dropout
from lightning_gfn.policies.models.output_layer import output_layer_of
from lightning_gfn.policies.models.repeated_layers import compile_layers, repeated_layers
from lightning_gfn.policies.models.saving import save_folder
from lightning_gfn.policies.passes.equal_passes import in_equal_passes
from lightning_gfn.policies.passes.in_passes import RowFunction, in_passes
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.policies.setting_checks import check_lengths, check_served, check_source, check_tool_use
from lightning_gfn.policies.teacher_forcing.scoring_pass import PassName, ScoringPass
from lightning_gfn.policies.text import tokenizers
from lightning_gfn.policies.text.prompt_lengths import Overlong
from lightning_gfn.policies.text.tokenizers import TextCodec, TokenizerSettings
from lightning_gfn.policies.text.tool_results import ToolResults
from lightning_gfn.policies.vllm.engine import VllmEngine
from lightning_gfn.policies.vllm.settings import VllmSettings
from lightning_gfn.tools.tool import Tool
from lightning_gfn.types import StepBatch

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lightning_gfn.sharding.shards import Shards


class LanguageModel(nn.Module):
    """A language model with its tokenizer, built by ``build``; decoder-only unless a subclass says otherwise.

    Args:
        pretrained: name of an installed model (``smollm2-135m``) or of the hub (``owner/model``), folder of a model or
            of an adapter that an earlier stage saved, or a GGUF file.
        config: a model from scratch instead: ``model_type`` and the fields of its configuration.
        tokenizer: name or path, or settings of one to be made; None takes the one beside ``pretrained``, and bytes
            for a model from scratch.
        lora: train a low-rank adapter and freeze everything else; None trains all weights.
        previous_adapter: what becomes of the adapter if ``pretrained`` is an adapter folder: merged into the weights,
            or kept beside the new one and frozen. Without ``lora`` it is merged.
        max_prompt_tokens: longest prompt.
        overlong_prompts: problems with a longer prompt end the run before it begins (``refuse``), are left out and
            counted (``skip``), or lose the beginning of their prompt, but for its begin token (``truncate``).
        max_new_tokens: longest action; stop is forced there.
        min_new_tokens: shortest complete action.
        allowed_tokens: tokens that may be produced, as vocabulary entries or texts of one token; None for all but
            special ones.
        end_tokens: tokens that mean stop; None for the tokenizer's and the model's end tokens.
        dtype: of the weights. Train full weights in float32; bfloat16 is for a base that LoRA freezes.
        sampling_dtype: of the fused decoder's working copy. None takes the dtype of the weights, or of the surrounding
            autocast, but float32 on processors without bfloat16 arithmetic, and with an adapter of a T5 model (its
            small updates are lost in a bfloat16 copy).
        decoder: ``fused`` decodes dense models of the families Llama, Mistral, Qwen2, Qwen3, Gemma (1 to 3), GPT-2 and
            T5 from a working copy of the weights, ``continuous`` the same, but for T5, in slots that are refilled as
            rows finish (as many as ``budget`` allows), as CUDA graphs on a GPU; ``hugging_face`` any model through its
            own forward pass; ``auto`` takes ``fused`` on a processor and ``continuous`` on a GPU, where it is supported
            and the copy is below 4 GiB or a quarter of the GPU's memory.
        scoring: ``fused`` scores and trains models of the same families by a pass of our own, which reads a shared
            prompt once and no padding; ``hugging_face`` any model by its own forward pass; ``auto`` takes ``fused`` on
            a processor where it is supported, rows have at most 512 positions, ``attn_implementation`` is not given
            and the working copy is below 4 GiB.
        dropout: train with the dropout of the adapter and of the model's configuration; None does so in supervised
            fine-tuning alone. Elsewhere it makes the trained policy another one than the policy that sampled.
        gradient_checkpointing: recompute activations in the backward pass.
        compile_layers: compile each layer of the model's own forward pass with ``torch.compile`` for scoring and
            training; takes a minute once and pays on GPUs. The fused passes do not use it.
        attn_implementation: attention of the model (``sdpa``, ``eager``, ``flash_attention_2``); None for the default.
        max_logits: the most logits (prefixes times vocabulary) that scoring holds at a time.
        budget: rows and tokens of one pass of scoring, training or sampling; larger batches are cut. None for no limit.
        vllm: a vLLM server that samples in the place of ``decoder``; None samples here.
        tools: write into completions while they are sampled (``lightning_gfn.tools.calculator.Calculator``). What they
            write is part of the text, and of ``max_new_tokens``, but no action. Rows are decoded in step then, by the
            ``fused`` or the ``hugging_face`` decoder.

    Raises:
        ValueError: if settings contradict each other.
        FileNotFoundError: if ``pretrained`` looks like a path and does not exist.
    """

    architecture: ClassVar[Architecture] = DecoderOnly()

    def __init__(
        self,
        *,
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        tokenizer: str | TokenizerSettings | None = None,
        lora: LoraSettings | None = None,
        previous_adapter: Literal["merge", "freeze"] = "merge",
        max_prompt_tokens: int = 512,
        overlong_prompts: Overlong = "refuse",
        max_new_tokens: int = 256,
        min_new_tokens: int = 0,
        allowed_tokens: list[str] | None = None,
        end_tokens: list[str] | None = None,
        dtype: DTypeName = "float32",
        sampling_dtype: DTypeName | None = None,
        decoder: DecoderName = "auto",
        scoring: PassName = "auto",
        dropout: bool | None = None,
        gradient_checkpointing: bool = False,
        compile_layers: bool = False,
        attn_implementation: str | None = None,
        max_logits: int = 2**25,
        budget: PassBudget | None = None,
        vllm: VllmSettings | None = None,
        tools: list[Tool] | None = None,
    ) -> None:
        super().__init__()
        check_source(pretrained, config, tokenizer)
        check_lengths(min_new_tokens, max_new_tokens, max_prompt_tokens, overlong_prompts)
        if pretrained is None and tokenizer is None:
            tokenizer = TokenizerSettings()
        self.pretrained, self.config_block, self.tokenizer_source = pretrained, config, tokenizer
        self.lora, self.previous_adapter = lora, previous_adapter
        self.max_prompt_tokens, self.overlong_prompts = max_prompt_tokens, overlong_prompts
        self.max_new_tokens, self.min_new_tokens = max_new_tokens, min_new_tokens
        self.allowed_tokens, self.end_tokens = allowed_tokens, end_tokens
        self.dtype_name, self.dropout = dtype, dropout
        copies = LayerCopies()
        self.decoders, self.reference_decoders = (
            DecoderFactory(decoder=decoder, dtype=dtype, sampling_dtype=sampling_dtype, copies=copies) for _ in range(2)
        )
        self.scoring = ScoringPass(scoring, copies, own_attention=attn_implementation is not None)
        self.gradient_checkpointing, self.attn_implementation = gradient_checkpointing, attn_implementation
        self.compile_layers, self.max_logits = compile_layers, max_logits
        self.budget = budget if budget is not None else PassBudget()
        self.tools = tools if tools is not None else []
        check_tool_use(self.tools, served=vllm is not None, decoder=decoder)
        self.uses_tools = bool(self.tools)
        self.engine: VllmEngine | None = None
        if vllm is not None:
            two_adapters = previous_adapter == "freeze" and lora is not None
            check_served(self.architecture, type(self).__name__, two_adapters=two_adapters)
            self.engine = VllmEngine(vllm, is_adapted=lora is not None)
        self.restored_tokenizer: PreTrainedTokenizerBase | None = None
        self.model: nn.Module | None = None
        self.reference: nn.Module | None = None
        self.teacher: AveragedWeights | None = None
        self.shards: Shards | None = None

    # ---------------------------------------------------------------- building

    def build(self, texts: Iterable[str]) -> None:
        """Load or create tokenizer and weights.

        Args:
            texts: train a ``bpe`` tokenizer; not read otherwise.

        Raises:
            ValueError: if tokenizer, model and settings do not fit each other.
            VllmError: if the server cannot serve this policy.
        """
        if self.engine is not None:
            self.engine.check(self.architecture.positions_needed(self.max_prompt_tokens, self.max_new_tokens))
        dtype = getattr(torch, self.dtype_name)
        if self.pretrained is not None:
            how = self.previous_adapter if self.lora is not None else "merge"
            model, tokenizer_home = loading.load_pretrained(
                self.pretrained,
                self.architecture,
                dtype=dtype,
                attn_implementation=self.attn_implementation,
                previous_adapter=how,
            )
            self.set_tokenizer(self.make_tokenizer(texts, tokenizer_home))
        else:
            self.set_tokenizer(self.make_tokenizer(texts, None))
            assert self.config_block is not None
            model = loading.create_model(
                self.config_block,
                self.architecture,
                self.tokenizer,
                vocab_size=self.tokenizer_size(),
                dtype=dtype,
                attn_implementation=self.attn_implementation,
            )
        # Loading leaves evaluation mode, and Lightning keeps modes: dropout and gradient checkpointing would be off.
        if self.lora is not None:
            model = adapters.attach_lora(model, self.lora, self.architecture.task_type)
        self.model = model.train()
        self.check_model()
        self.set_action_space()
        if self.gradient_checkpointing:
            self.hugging_face.gradient_checkpointing_enable({"use_reentrant": False})
        if self.compile_layers:
            compile_layers(self.hugging_face)

    def set_dropout(self, asked: bool) -> None:
        """Train with dropout or without; ``dropout`` of the settings decides if it is given."""
        if not (asked if self.dropout is None else self.dropout):
            switch_off_dropout(self.hugging_face)

    def make_tokenizer(self, texts: Iterable[str], home: str | None) -> PreTrainedTokenizerBase:
        """The restored tokenizer, or the one that the settings ask for."""
        if self.restored_tokenizer is not None:
            return self.restored_tokenizer
        source = self.tokenizer_source if self.tokenizer_source is not None else home
        assert source is not None
        return tokenizers.made_or_loaded(source, texts, prompts_end=self.architecture.prompts_end)

    def set_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Use this tokenizer from now on."""
        self.tokenizer = tokenizer
        self.codec = TextCodec(tokenizer, prompts_end=self.architecture.prompts_end)
        self.__dict__.pop("results", None)
        self.pad_id: int = tokenizer.pad_token_id

    def tokenizer_size(self) -> int:
        """Rows that the embedding needs: of a trained tokenizer its full size, even if the data gave fewer merges."""
        asked = self.tokenizer_source.vocab_size if isinstance(self.tokenizer_source, TokenizerSettings) else 0
        return max(len(self.tokenizer), asked)

    def check_model(self) -> None:
        """Refuse a model that this policy cannot use right."""
        hugging_face, architecture = self.hugging_face, self.architecture
        architecture.check_model(hugging_face)
        limit = max_positions(hugging_face.config)
        if limit is not None and architecture.positions_needed(self.max_prompt_tokens, self.max_new_tokens) > limit:
            raise ValueError(
                f"max_prompt_tokens={self.max_prompt_tokens} + max_new_tokens={self.max_new_tokens} exceed the {limit} "
                "positions of the model: lower them or raise config.max_position_embeddings"
            )
        architecture.check_output_layer(hugging_face, output_layer_of(hugging_face))

    def set_action_space(self) -> None:
        """Derive the actions of q from model and tokenizer."""
        self.vocab_size = int(self.hugging_face.get_input_embeddings().weight.shape[0])
        if len(self.tokenizer) > self.vocab_size:
            raise ValueError(f"the tokenizer has {len(self.tokenizer)} tokens, the model only {self.vocab_size}")
        self.space = make_action_space(
            self.codec,
            vocab_size=self.vocab_size,
            default_end_ids=self.default_end_ids(),
            allowed_tokens=self.allowed_tokens,
            end_tokens=self.end_tokens,
            min_new_tokens=self.min_new_tokens,
            max_new_tokens=self.max_new_tokens,
        ).to(self.device)

    @cached_property
    def results(self) -> ToolResults | None:
        """What the tools insert; None without tools."""
        return ToolResults(self.tools, self.codec, self.vocab_size) if self.tools else None

    def default_end_ids(self) -> set[int]:
        """End tokens if none are named: those of an earlier stage, else the tokenizer's, its chat template's, and the
        model's if both come from one place."""
        if (saved := export.saved_end_tokens(self.tokenizer)) is not None:
            return set(saved)
        of_turns = {self.codec.chat.end_of_turn_id()} if self.codec.chat is not None else set()
        ids = {self.tokenizer.eos_token_id, *of_turns}
        if self.pretrained is not None and self.tokenizer_source is None:
            declared = getattr(self.hugging_face.generation_config, "eos_token_id", None)
            ids |= set(declared) if isinstance(declared, list) else {declared}
        return ids - {None}

    @property
    def hugging_face(self) -> PreTrainedModel:
        """The Hugging Face model, with adapter layers inside if there are any."""
        if self.model is None:
            raise RuntimeError(f"{type(self).__name__} has no weights yet: call build first")
        return self.model.get_base_model() if self.lora is not None else self.model  # type: ignore[operator]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.hugging_face.parameters()).device

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states that ``score`` returns."""
        return int(self.hugging_face.config.get_text_config().hidden_size)

    @property
    def base_is_reloadable(self) -> bool:
        """True if ``build`` gives back every weight that is not trained, so that checkpoints may leave them out."""
        return self.pretrained is not None and self.lora is not None

    # ---------------------------------------------------------------- sharding and passes

    def cut(self, shards: Shards) -> None:
        """Cut the weights of the built model, and of its reference, over the processes of a run."""
        self.shards = shards
        for model in (self.hugging_face, self.reference):
            if model is not None:
                shards.cut(model, repeated_layers(model))

    def in_passes(
        self, function: RowFunction, steps: StepBatch, *, of_model: bool = True, shares_prompts: bool = False
    ) -> dict[str, Tensor | None]:
        """The values of a function of rows in passes within the budget; see ``in_passes``.

        Args:
            function: runs the model or its reference.
            steps: contexts and actions.
            of_model: it runs the model that is trained, and not a head alone.
            shares_prompts: it reads equal contexts once; nothing does where weights are cut.
        """
        shards = self.shards
        if shards is None or shards.is_whole:
            return in_passes(function, steps, self.budget, shares_prompts=shares_prompts)
        enter = partial(shards.run, self.hugging_face if of_model else None)
        return in_equal_passes(function, steps, self.budget, shards.most, enter)

    # ---------------------------------------------------------------- reference

    def freeze_reference(self) -> None:
        """Remember the present policy: the model without the new adapter, or a frozen copy if all weights are trained.

        Raises:
            RuntimeError: if the adapter was already trained, so that the model without it is another policy.
        """
        if self.lora is None:
            self.reference = None
            self.reference = copy.deepcopy(self.hugging_face).requires_grad_(False).eval()
            if self.compile_layers:  # a copy is not compiled
                compile_layers(self.reference)
        elif not adapters.trained_adapter_is_zero(self.peft_model):
            raise RuntimeError(
                "freeze_reference must be called before the adapter is trained or loaded from a checkpoint"
            )

    @property
    def peft_model(self) -> PeftModel:
        """The adapted model; only with ``lora``."""
        assert self.lora is not None
        return self.model

    def reference_model(self) -> tuple[PreTrainedModel, AbstractContextManager[None]]:
        """The model that stands for the reference, and the context in which it does."""
        if self.lora is not None:
            return self.hugging_face, adapters.without_trained_adapter(self.peft_model)
        if self.reference is None:
            raise RuntimeError("there is no reference policy: call freeze_reference after build")
        return self.reference, nullcontext()

    # ---------------------------------------------------------------- tokenizer state

    def tokenizer_state(self) -> str:
        """JSON string that holds a tokenizer made here; a checkpoint keeps it."""
        return tokenizers.dump_tokenizer(self.tokenizer, made_here=isinstance(self.tokenizer_source, TokenizerSettings))

    def load_tokenizer_state(self, state: str) -> None:
        """Restore ``tokenizer_state``, before or after ``build``.

        Raises:
            ValueError: if it does not fit the model that was built.
        """
        restored = tokenizers.restore_tokenizer(state)
        if (restored is not None) != isinstance(self.tokenizer_source, TokenizerSettings):
            raise ValueError(
                "the checkpoint's tokenizer was made in another way than 'tokenizer' says; use the run's config.yaml"
            )
        if restored is None:
            return
        self.restored_tokenizer = restored
        if self.model is not None:
            self.set_tokenizer(restored)
            self.set_action_space()

    # ---------------------------------------------------------------- saving

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that ``pretrained`` of a later stage can name.

        An adapter on an unchanged, named base is written as an adapter; everything else as a whole model. Weights that
        are cut over processes must be whole, and are so no longer of use.

        Args:
            folder: made if missing.
        """
        save_folder(
            folder,
            self.hugging_face,
            self.tokenizer,
            self.space.end_ids.tolist(),
            adapted=self.peft_model if self.lora is not None else None,
            base=self.pretrained,
            of_shards=self.shards is not None,
        )
