"""What is known of a model without its weights: class, tokenizer, positions, size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_gfn.commands.asking.policies import hub_error, model_config, tokenizer_home
from lightning_gfn.commands.asking.sources import ModelSource, find_source

CAUSAL = "lightning_gfn.policies.causal_lm.CausalLM"
SEQ2SEQ = "lightning_gfn.policies.seq2seq_lm.Seq2SeqLM"


@dataclass(frozen=True)
class ModelFacts:
    """A model as a configuration needs to know it.

    Args:
        source: where it comes from.
        class_path: of the policy.
        codec: texts to tokens.
        positions: longest sequence, tokens; None if unlimited.
        parameters: number of them.
        layers: of the decoder.
        width: of the hidden states.
        vocabulary: entries.
    """

    source: ModelSource
    class_path: str
    codec: Any
    positions: int | None
    parameters: int
    layers: int
    width: int
    vocabulary: int

    @property
    def has_chat(self) -> bool:
        """The tokenizer has a chat template."""
        return self.codec.chat is not None

    @property
    def is_seq2seq(self) -> bool:
        """Prompts go to an encoder."""
        return self.class_path == SEQ2SEQ


def look_at_model(name: str) -> ModelFacts:
    """Tokenizer and configuration of a model; no weights are read.

    Args:
        name: as ``find_source`` takes it; of a run its exported model.

    Raises:
        ValueError: the model cannot be had, or a run has not exported one.
        FileNotFoundError: a path leads nowhere, or a model is not installed.
    """
    from lightning_gfn.policies.models.architectures import max_positions
    from lightning_gfn.policies.text.tokenizers import TextCodec, load_tokenizer

    source = exported(find_source(name))
    assert source.pretrained is not None
    try:
        config = model_config(source.pretrained)
        tokenizer = load_tokenizer(tokenizer_home(source.pretrained))
    except (OSError, KeyError) as error:
        raise hub_error(name, error) from error
    is_seq2seq = bool(getattr(config, "is_encoder_decoder", False))
    text = config.get_text_config()
    return ModelFacts(
        source,
        SEQ2SEQ if is_seq2seq else CAUSAL,
        TextCodec(tokenizer, prompts_end=is_seq2seq),
        max_positions(config),
        count_parameters(config, is_seq2seq),
        int(text.num_hidden_layers),
        int(text.hidden_size),
        int(text.vocab_size),
    )


def exported(source: ModelSource) -> ModelSource:
    """The source, of a run its exported model.

    Raises:
        ValueError: there is none.
    """
    if source.pretrained is not None:
        return source
    run = source.run if source.run is not None else Path(source.name)
    if not (run / "model").is_dir():
        raise ValueError(
            f"--model {source.name}: the run has not exported a model ({run / 'model'}); finish it: "
            f"lightning-gfn fit --config {run / 'config.yaml'} --if_exists resume"
        )
    return ModelSource(source.name, pretrained=str(run / "model"), run=run, config=source.config)


def count_parameters(config: Any, is_seq2seq: bool) -> int:
    """Parameters of a model of this configuration, counted without memory for them."""
    import torch
    import transformers

    make = transformers.AutoModelForSeq2SeqLM if is_seq2seq else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = make.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())
