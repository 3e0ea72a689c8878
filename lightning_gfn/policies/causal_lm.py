"""Any Hugging Face causal language model as a policy."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lightning_gfn.interfaces import Policy
from lightning_gfn.policies import adapters, loading, tokenizers
from lightning_gfn.policies.adapters import LoraSettings
from lightning_gfn.policies.decoding import ActionSpace
from lightning_gfn.policies.generation import Decoder, generate
from lightning_gfn.policies.scoring import score_actions
from lightning_gfn.policies.tokenizers import TextCodec, TokenizerSettings
from lightning_gfn.types import SampledActions, Scores

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lightning_gfn.policies.fused_weights import FusedWeights

DTypeName = Literal["float32", "bfloat16"]
MAX_WORKING_COPY_BYTES = 4 * 2**30
"""``decoder: auto`` makes no working copy of the weights larger than this."""


class CausalLM(nn.Module, Policy):
    """A decoder-only language model that samples actions and scores them.

        log q(action, stop | context) = Σ_t log q(a_t | context, a_<t) + log q(stop | context, a)

    over the actions that ``ActionSpace`` defines.

    Args:
        pretrained: Hugging Face name, folder of a model, or folder of an adapter that an earlier stage saved.
        config: a model from scratch instead: ``model_type`` and the fields of its configuration.
        tokenizer: name or path, or settings of one to be made; None takes the one beside ``pretrained``, and bytes for a
            model from scratch.
        lora: train a low-rank adapter and freeze everything else; None trains all weights.
        previous_adapter: what becomes of the adapter if ``pretrained`` is an adapter folder: merged into the weights, or
            kept beside the new one and frozen. Without ``lora`` it is merged.
        max_prompt_tokens: longest prompt; a longer one is an error.
        max_new_tokens: longest action; stop is forced there.
        min_new_tokens: shortest complete action.
        allowed_tokens: tokens that may be produced, as vocabulary entries or texts of one token; None for all but special ones.
        end_tokens: tokens that mean stop; None for the tokenizer's and the model's end tokens.
        dtype: of the weights. Train full weights in float32; bfloat16 is for a base that LoRA freezes.
        sampling_dtype: of the fused decoder's working copy. None takes the dtype of the weights, or of the surrounding
            autocast, but float32 on processors without bfloat16 arithmetic.
        decoder: ``fused`` decodes dense Llama, Mistral, Qwen2 and Qwen3 models from a working copy of the weights,
            ``hugging_face`` any model through its own forward pass; ``auto`` takes ``fused`` where it is supported and the
            copy is below 4 GiB.
        gradient_checkpointing: recompute activations in the backward pass.
        attn_implementation: attention kernel of the model (``sdpa``, ``eager``, ``flash_attention_2``); None for the default.
        max_logits: the most logits (prefixes times vocabulary) that scoring holds at a time.

    Raises:
        ValueError: if settings contradict each other.
        FileNotFoundError: if ``pretrained`` looks like a path and does not exist.
    """

    def __init__(
        self,
        *,
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        tokenizer: str | TokenizerSettings | None = None,
        lora: LoraSettings | None = None,
        previous_adapter: Literal["merge", "freeze"] = "merge",
        max_prompt_tokens: int = 512,
        max_new_tokens: int = 256,
        min_new_tokens: int = 0,
        allowed_tokens: list[str] | None = None,
        end_tokens: list[str] | None = None,
        dtype: DTypeName = "float32",
        sampling_dtype: DTypeName | None = None,
        decoder: Literal["auto", "hugging_face", "fused"] = "auto",
        gradient_checkpointing: bool = False,
        attn_implementation: str | None = None,
        max_logits: int = 2**25,
    ) -> None:
        super().__init__()
        if (pretrained is None) == (config is None):
            raise ValueError("give exactly one of pretrained (a name or folder) and config (a model from scratch)")
        if config is not None and "model_type" not in config:
            raise ValueError("config.model_type is missing: name an architecture, for example 'llama'")
        if pretrained is not None:
            loading.check_pretrained(pretrained)
        if sampling_dtype is not None and decoder == "hugging_face":
            raise ValueError(
                "sampling_dtype needs the working copy of the fused decoder; leave it out or set decoder: fused"
            )
        if not 0 <= min_new_tokens <= max_new_tokens or max_new_tokens < 1 or max_prompt_tokens < 1:
            raise ValueError(
                f"min_new_tokens={min_new_tokens}, max_new_tokens={max_new_tokens} and max_prompt_tokens={max_prompt_tokens} "
                "must satisfy 0 <= min_new_tokens <= max_new_tokens, max_new_tokens >= 1 and max_prompt_tokens >= 1"
            )
        self.pretrained, self.config_block, self.tokenizer_source = pretrained, config, tokenizer
        self.lora, self.previous_adapter = lora, previous_adapter
        self.max_prompt_tokens, self.max_new_tokens, self.min_new_tokens = (
            max_prompt_tokens,
            max_new_tokens,
            min_new_tokens,
        )
        self.allowed_tokens, self.end_tokens = allowed_tokens, end_tokens
        self.dtype_name, self.sampling_dtype, self.decoder = dtype, sampling_dtype, decoder
        self.gradient_checkpointing, self.attn_implementation = gradient_checkpointing, attn_implementation
        self.max_logits = max_logits
        self.restored_tokenizer: PreTrainedTokenizerBase | None = None
        self.working_copy: tuple[Any, FusedWeights] | None = None
        self.model: nn.Module | None = None
        self.reference: nn.Module | None = None

    # ---------------------------------------------------------------- building

    def build(self, texts: Iterable[str]) -> None:
        """Load or create tokenizer and weights.

        Args:
            texts: train a ``bpe`` tokenizer; not read otherwise.

        Raises:
            ValueError: if tokenizer, model and settings do not fit each other.
        """
        dtype = getattr(torch, self.dtype_name)
        if self.pretrained is not None:
            how = self.previous_adapter if self.lora is not None else "merge"
            model, tokenizer_home = loading.load_pretrained(
                self.pretrained, dtype=dtype, attn_implementation=self.attn_implementation, previous_adapter=how
            )
            self.set_tokenizer(self.make_tokenizer(texts, tokenizer_home))
        else:
            self.set_tokenizer(self.make_tokenizer(texts, None))
            assert self.config_block is not None
            model = loading.create_model(
                self.config_block,
                self.tokenizer,
                vocab_size=self.tokenizer_size(),
                dtype=dtype,
                attn_implementation=self.attn_implementation,
            )
        self.model = model if self.lora is None else adapters.attach_lora(model, self.lora)
        self.prepare()

    def make_tokenizer(self, texts: Iterable[str], home: str | None) -> PreTrainedTokenizerBase:
        """The restored tokenizer, or the one that the settings ask for."""
        if self.restored_tokenizer is not None:
            return self.restored_tokenizer
        source = self.tokenizer_source if self.tokenizer_source is not None else home
        if isinstance(source, str):
            return tokenizers.load_tokenizer(source)
        return tokenizers.make_tokenizer(source if source is not None else TokenizerSettings(), texts)

    def set_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Use this tokenizer from now on."""
        self.tokenizer = tokenizer
        self.codec = TextCodec(tokenizer)
        self.pad_id: int = tokenizer.pad_token_id

    def tokenizer_size(self) -> int:
        """Rows that the embedding needs; a trained tokenizer gets its full size even where the data gave fewer merges."""
        settings = self.tokenizer_source
        asked = settings.vocab_size if isinstance(settings, TokenizerSettings) else 0
        return max(len(self.tokenizer), asked)

    def prepare(self) -> None:
        """Derive what depends on model and tokenizer, and check it."""
        hugging_face = self.hugging_face
        loading.check_decodable(hugging_face)
        self.vocab_size = int(hugging_face.get_input_embeddings().weight.shape[0])
        if len(self.tokenizer) > self.vocab_size:
            raise ValueError(f"the tokenizer has {len(self.tokenizer)} tokens, the model only {self.vocab_size}")
        limit = loading.max_positions(hugging_face.config)
        if limit is not None and self.max_prompt_tokens + self.max_new_tokens > limit:
            raise ValueError(
                f"max_prompt_tokens={self.max_prompt_tokens} + max_new_tokens={self.max_new_tokens} exceed the {limit} positions "
                "of the model: lower them or raise config.max_position_embeddings"
            )
        loading.check_output_layer(hugging_face, loading.output_layer_of(hugging_face))
        if self.gradient_checkpointing:
            hugging_face.gradient_checkpointing_enable({"use_reentrant": False})
        end_ids = self.end_ids()
        self.space = ActionSpace(
            vocab_size=self.vocab_size,
            allowed_ids=self.allowed_ids(),
            end_ids=end_ids,
            min_new_tokens=self.min_new_tokens,
            max_new_tokens=self.max_new_tokens,
        ).to(self.device)

    def end_ids(self) -> list[int]:
        """Ids of the tokens that mean stop."""
        if self.end_tokens is not None:
            return [self.codec.token_id(token, "end_tokens") for token in self.end_tokens]
        ids = {self.tokenizer.eos_token_id}
        if self.pretrained is not None and self.tokenizer_source is None:
            declared = getattr(self.hugging_face.generation_config, "eos_token_id", None)
            ids |= set(declared) if isinstance(declared, list) else {declared}
        return sorted(ids - {None})

    def allowed_ids(self) -> list[int]:
        """Ids of the tokens that may be produced."""
        special = self.codec.special_ids()
        if self.allowed_tokens is None:
            return [index for index in range(len(self.tokenizer)) if index not in special]
        ids = [self.codec.token_id(token, "allowed_tokens") for token in self.allowed_tokens]
        forbidden = [token for token, index in zip(self.allowed_tokens, ids, strict=True) if index in special]
        if forbidden:
            raise ValueError(
                f"allowed_tokens: {forbidden[0]!r} is a special token; list it in end_tokens if it means stop"
            )
        return ids

    @property
    def hugging_face(self) -> PreTrainedModel:
        """The Hugging Face model, with adapter layers inside if there are any."""
        if self.model is None:
            raise RuntimeError("CausalLM has no weights yet: call build first")
        return self.model.get_base_model() if self.lora is not None else self.model  # type: ignore[operator, return-value]

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

    # ---------------------------------------------------------------- reference

    def freeze_reference(self) -> None:
        """Remember the present policy: the model without the new adapter, or a frozen copy if all weights are trained.

        Raises:
            RuntimeError: if the adapter was already trained, so that the model without it is another policy.
        """
        if self.lora is None:
            self.reference = None
            self.reference = copy.deepcopy(self.hugging_face).requires_grad_(False).eval()
        elif not adapters.trained_adapter_is_zero(self.peft_model):
            raise RuntimeError(
                "freeze_reference must be called before the adapter is trained or loaded from a checkpoint"
            )

    @property
    def peft_model(self) -> PeftModel:
        """The adapted model; only with ``lora``."""
        assert self.lora is not None
        return self.model  # type: ignore[return-value]

    def reference_model(self) -> tuple[PreTrainedModel, AbstractContextManager[None]]:
        """The model that stands for the reference, and the context in which it does."""
        if self.lora is not None:
            return self.hugging_face, adapters.without_trained_adapter(self.peft_model)
        if self.reference is None:
            raise RuntimeError("there is no reference policy: call freeze_reference after build")
        return self.reference, nullcontext()  # type: ignore[return-value]

    # ---------------------------------------------------------------- text

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a prompt, begin token included where the tokenizer adds one.

        Raises:
            ValueError: if it is longer than ``max_prompt_tokens``.
        """
        ids = self.codec.encode_prompt(text)
        if len(ids) > self.max_prompt_tokens:
            raise ValueError(
                f"a prompt has {len(ids)} tokens, max_prompt_tokens is {self.max_prompt_tokens}: raise it or drop the problem; "
                f"it begins {text[:60]!r}"
            )
        return ids

    def encode_completion(self, text: str) -> list[int]:
        """Token ids of a completion, without special tokens."""
        return self.codec.encode_completion(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of action tokens."""
        return self.codec.decode(ids)

    def tokenizer_state(self) -> str:
        """JSON string that holds a tokenizer made here; a checkpoint keeps it."""
        return tokenizers.dump_tokenizer(self.tokenizer, self.made_tokenizer_settings)

    def load_tokenizer_state(self, state: str) -> None:
        """Restore ``tokenizer_state``, before or after ``build``.

        Raises:
            ValueError: if it does not fit the model that was built.
        """
        restored = tokenizers.restore_tokenizer(state)
        if (restored is not None) != (self.made_tokenizer_settings is not None):
            raise ValueError(
                "the checkpoint's tokenizer was made in another way than 'tokenizer' says; use the run's config.yaml"
            )
        if restored is None:
            return
        self.restored_tokenizer = restored
        if self.model is not None:
            self.set_tokenizer(restored)
            self.prepare()

    @property
    def made_tokenizer_settings(self) -> TokenizerSettings | None:
        """Settings of a tokenizer made here; None if it is loaded by name or path."""
        if isinstance(self.tokenizer_source, TokenizerSettings):
            return self.tokenizer_source
        return TokenizerSettings() if self.tokenizer_source is None and self.pretrained is None else None

    # ---------------------------------------------------------------- acting

    def sample(
        self,
        contexts: Sequence[Sequence[int]],
        uniforms_NT1: Tensor,
        *,
        temperature_N: Tensor | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> SampledActions:
        """Continue each context by inverse-CDF sampling; dropout is off and no graph is kept.

        Args:
            contexts: N token id sequences, none empty; equal ones share one prefill.
            uniforms_NT1: numbers in [0, 1), one for each row and prefix.
            temperature_N: behaviour temperature of each row, above 0.
            top_k: most probable actions that the behaviour keeps; 1 is greedy.
            top_p: probability mass that the behaviour keeps.

        Returns:
            actions with log-probabilities under q and under the behaviour.

        Raises:
            ValueError: if arguments do not fit each other or the model.
        """
        if not contexts:
            raise ValueError("contexts is empty: sample at least one row")
        self.check_positions(max(map(len, contexts)) + self.max_new_tokens)
        with torch.no_grad(), evaluation_mode(self.hugging_face):
            decoder, context = self.make_decoder()
            with context:
                return generate(
                    decoder,
                    self.space,
                    contexts,
                    uniforms_NT1,
                    pad_id=self.pad_id,
                    device=self.device,
                    temperature_N=temperature_N,
                    top_k=top_k,
                    top_p=top_p,
                )

    def make_decoder(self) -> tuple[Decoder, AbstractContextManager[Any]]:
        """A decoder for one batch and the context that it runs in."""
        from lightning_gfn.policies.fused_decoder import FusedDecoder
        from lightning_gfn.policies.hugging_face_decoder import HuggingFaceDecoder

        weights = self.fused_weights()
        if weights is not None:
            return FusedDecoder(weights), torch.autocast(self.device.type, enabled=False)
        model = self.hugging_face
        num_layers = int(model.config.get_text_config().num_hidden_layers)
        return HuggingFaceDecoder(model.base_model, loading.output_layer_of(model), num_layers), nullcontext()

    def fused_weights(self) -> FusedWeights | None:
        """The up-to-date working copy; None if the model decodes through its own forward pass.

        Raises:
            ValueError: if ``decoder: fused`` cannot run this model.
        """
        from lightning_gfn.policies import fused_weights

        if self.decoder == "hugging_face":
            return None
        model, dtype = self.hugging_face, self.copy_dtype()
        reason = fused_weights.unsupported_reason(model)
        if reason is not None and (self.decoder == "fused" or self.sampling_dtype is not None):
            raise ValueError(
                f"decoder: fused cannot run this model: {reason}; use decoder: hugging_face without sampling_dtype"
            )
        if reason is not None:
            return None
        if self.decoder == "auto" and fused_weights.copy_bytes(model, dtype) > MAX_WORKING_COPY_BYTES:
            return None
        key = (dtype, fused_weights.weight_fingerprint(model))
        if self.working_copy is None or self.working_copy[0] != key:
            self.working_copy = None
            self.working_copy = (key, fused_weights.FusedWeights(model, dtype))
        return self.working_copy[1]

    def copy_dtype(self) -> torch.dtype:
        """What the working copy is kept in."""
        if self.sampling_dtype is not None:
            return getattr(torch, self.sampling_dtype)
        device_type = self.device.type
        autocast = torch.is_autocast_enabled(device_type)
        dtype = torch.get_autocast_dtype(device_type) if autocast else getattr(torch, self.dtype_name)
        return torch.float32 if device_type == "cpu" and not cpu_has_bfloat16() else dtype

    def score(
        self,
        context_ids_NC: Tensor,
        context_mask_NC: Tensor,
        action_ids_NT: Tensor,
        action_mask_NT: Tensor,
        *,
        stop: bool = True,
        entropy: bool = False,
        hidden: bool = False,
        reference: bool = False,
    ) -> Scores:
        """Log-probabilities of given actions by one teacher-forced pass.

        Args:
            context_ids_NC: int64, padded on the left.
            context_mask_NC: bool, True on tokens.
            action_ids_NT: int64, padded on the right, no end token.
            action_mask_NT: bool, True on tokens.
            stop: also return log q(stop) of every prefix.
            entropy: also return the entropy at every prefix.
            hidden: also return the hidden state at every prefix.
            reference: score under the frozen reference, without gradient and without dropout.

        Returns:
            scores in float32 (nats) on the model's device.

        Raises:
            ValueError: if an action holds a token that q cannot produce, or is too long.
            RuntimeError: if ``reference`` is asked for and there is none.
        """
        model, context = self.reference_model() if reference else (self.hugging_face, nullcontext())
        with context, no_dropout_and_gradient(model) if reference else nullcontext():
            scores = score_actions(
                model.base_model,
                loading.output_layer_of(model),
                self.space,
                context_ids_NC.to(self.device),
                context_mask_NC.to(self.device),
                action_ids_NT.to(self.device),
                action_mask_NT.to(self.device),
                pad_id=self.pad_id,
                vocab_size=self.vocab_size,
                max_logits=self.max_logits,
                max_positions=loading.max_positions(model.config),
                stop=stop,
                entropy=entropy,
                hidden=hidden,
                describe=lambda token: repr(self.tokenizer.convert_ids_to_tokens(token)),
            )
        return scores

    def check_positions(self, length: int) -> None:
        """Refuse sequences that the model has no positions for."""
        limit = loading.max_positions(self.hugging_face.config)
        if limit is not None and length > limit:
            raise ValueError(
                f"context and max_new_tokens need {length} positions, the model has {limit}: shorten the prompt"
            )

    # ---------------------------------------------------------------- saving

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that ``pretrained`` of a later stage can name.

        An adapter on an unchanged, named base is written as an adapter; everything else as a whole model.

        Args:
            folder: made if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(folder)
        base = None if self.pretrained is None else Path(self.pretrained).expanduser()
        if self.lora is None:
            self.hugging_face.save_pretrained(folder)
        elif base is None or adapters.is_adapter_folder(base):
            copy.deepcopy(self.peft_model).merge_and_unload().save_pretrained(folder)
        else:
            config = self.peft_model.peft_config[adapters.TRAINED]
            config.base_model_name_or_path = str(base.resolve()) if base.is_dir() else self.pretrained
            self.peft_model.save_pretrained(str(folder), save_embedding_layers=False)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Inside, dropout is off; afterwards every submodule is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def no_dropout_and_gradient(model: nn.Module) -> Iterator[None]:
    """``evaluation_mode`` without gradient."""
    with torch.no_grad(), evaluation_mode(model):
        yield


def cpu_has_bfloat16() -> bool:
    """True if the processor multiplies bfloat16 in hardware; without, float32 is faster and more exact."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
