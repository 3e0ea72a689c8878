"""Small tokenizers with chat templates in the style of well-known families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CORPUS = [
    "How many apples are left?\n\nThink about it step by step.",
    "user\nassistant\nsystem\nmodel\nYou are a helpful assistant.",
    "  indented\n\n\nlines and 1,234 + 5 = 1,239\n",
    "The answer is: 12\nThe answer is: 13",
] * 3


@dataclass(frozen=True)
class Family:
    """A style of chat format.

    Args:
        specials: special tokens beside pad.
        bos: begin token.
        eos: end token.
        end_of_turn: what ends an answer.
        template: in Jinja.
        adds_begin: the tokenizer's own rule puts the begin token in front of texts.
        has_system: the template takes a system message.
    """

    specials: tuple[str, ...]
    bos: str | None
    eos: str
    end_of_turn: str
    template: str
    adds_begin: bool = False
    has_system: bool = True


CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n{% endif %}" + CHATML
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
FAMILIES = {
    "smollm2": Family(CHATML_TOKENS, "<|im_start|>", "<|im_end|>", "<|im_end|>", CHATML),
    "qwen": Family(CHATML_TOKENS, None, "<|endoftext|>", "<|im_end|>", CHATML_DEFAULT_SYSTEM),
    "llama3": Family(
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        HEADERS,
        adds_begin=True,
    ),
    "gemma": Family(
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        "<end_of_turn>",
        TURNS,
        adds_begin=True,
        has_system=False,
    ),
}


def chat_tokenizer(name: str, *, stripping: bool = False, template: bool = True) -> Any:
    """A byte-level tokenizer of a family, trained on a few texts.

    Args:
        name: of the family.
        stripping: the end of a turn swallows the white space behind it, as some families have it.
        template: with the chat template, or without as a base model's tokenizer.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    tokenizer = Tokenizer(models.BPE())
    # As these families do, line breaks form a word of their own, whatever follows them.
    words = Regex(r"\s*[\r\n]+| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(t, special=True, rstrip=stripping and t == family.end_of_turn) for t in family.specials]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", *specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer=trainer)
    if family.adds_begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, tokenizer.token_to_id(family.bos))]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token=family.bos,
        eos_token=family.eos,
        additional_special_tokens=list(family.specials),
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = family.template if template else None
    return made
