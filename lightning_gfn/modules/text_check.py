"""What is looked at in the data as soon as there is a tokenizer: overlong prompts and targets, chat or no chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lightning_gfn.interfaces import TextModel
from lightning_gfn.policies.text.prompt_lengths import PromptLengths, chat_mismatch
from lightning_gfn.prompts.chat import ChatPrompt

SHOWN = 3
MISMATCH = {
    "plain": "the tokenizer has a chat template, but no prompt passes through it: a chat model wants data.chat: on; "
    "data.chat: off keeps plain prompts without this warning",
    "conversations": "the prompts are conversations, but the tokenizer has no chat template: they are read as plain "
    "text; use a chat model, or set data.chat: off and a prompt_template",
}


class DataText(NamedTuple):
    """A prompt of the data and what is to follow it.

    Args:
        split: where it is used.
        id: of the problem or example.
        prompt: a text or a conversation.
        targets: completions that are trained on, if the module trains on texts.
    """

    split: str
    id: str
    prompt: str
    targets: tuple[str, ...]


def check_texts(
    model: TextModel, datamodule: Any, stage: str, *, targets: Literal["unused", "cut", "refused"] = "unused"
) -> None:
    """Find what is too long before the first step: in training, validation and test data alike.

    What becomes of overlong prompts is the model's ``overlong_prompts``: an error, their problems are left out and
    counted, or they are cut on the left and counted.

    Args:
        model: with tokenizer; anything without ``codec`` has no limits that could be checked.
        datamodule: anything without ``texts_of`` is not checked.
        stage: ``fit``, ``validate``, ``test`` or ``predict``.
        targets: overlong targets are trained on until the maximum length (``cut``), or treated as overlong prompts.

    Raises:
        ValueError: a prompt is too long, all of a split are, or the chat template refuses a conversation.
    """
    codec, texts_of = getattr(model, "codec", None), getattr(datamodule, "texts_of", None)
    if codec is None or texts_of is None:
        return
    texts = [DataText(*text) for text in texts_of(stage)]
    overlong = find_overlong(model, datamodule, texts, targets == "refused")
    if overlong:
        settle(model, datamodule, texts, overlong)
    if targets == "cut":
        count_cut_targets(model, texts)
    mismatch = chat_mismatch(codec, (text.prompt for text in texts)) if texts else None
    if mismatch is not None and not (mismatch == "plain" and getattr(datamodule, "chat", None) == "off"):
        rank_zero_warn(MISMATCH[mismatch])


def find_overlong(model: Any, datamodule: Any, texts: Sequence[DataText], with_targets: bool) -> dict[int, str]:
    """What is too long about a text, by its place.

    Raises:
        ValueError: the chat template refuses a conversation; names the problem.
    """
    lengths = PromptLengths(model.codec)
    for text in {roles_of(text.prompt): text for text in reversed(texts)}.values():
        try:
            model.codec.encode_prompt(text.prompt)
        except ValueError as error:
            raise ValueError(f"{named(datamodule, text)}: {error}") from error
    found = dict[int, str]()
    if with_targets:
        owners, targets = zip(*((i, target) for i, text in enumerate(texts) for target in text.targets), strict=True)
        for row, length in lengths.overlong_completions(targets, model.max_new_tokens).items():
            found[owners[row]] = f"{length} tokens in the completion"
    prompts = lengths.overlong_prompts([text.prompt for text in texts], model.max_prompt_tokens)
    found |= {index: f"{length} tokens in the prompt" for index, length in prompts.items()}
    return dict(sorted(found.items()))


def roles_of(prompt: str) -> tuple[str, ...]:
    """The roles of a conversation, on which it depends whether a template refuses it; none of a text."""
    return tuple(turn.role for turn in prompt.messages) if isinstance(prompt, ChatPrompt) else ()


def settle(model: Any, datamodule: Any, texts: Sequence[DataText], overlong: Mapping[int, str]) -> None:
    """Refuse, leave out or count what is too long.

    Raises:
        ValueError: overlong texts are refused, or none of a split is left.
    """
    first = "; ".join(f"{named(datamodule, texts[i])} has {what}" for i, what in list(overlong.items())[:SHOWN])
    more = f"; and {len(overlong) - SHOWN} more" if len(overlong) > SHOWN else ""
    counts = f"{len(overlong)} of {len(texts)} prompts are longer than max_prompt_tokens={model.max_prompt_tokens}"
    if any("completion" in what for what in overlong.values()):
        counts = f"{len(overlong)} of {len(texts)} rows are longer than the limits of {model.max_prompt_tokens} tokens"
        counts += f" for the prompt and {model.max_new_tokens} for the completion"
    if model.overlong_prompts == "refuse":
        raise ValueError(f"{counts}: {first}{more}. Raise the limit, or set overlong_prompts of the model to skip")
    if model.overlong_prompts == "truncate":
        rank_zero_warn(f"{counts} and lose their beginning (overlong_prompts: truncate): {first}{more}")
        return
    left = {text.split for index, text in enumerate(texts) if index not in overlong}
    for split in {texts[index].split for index in overlong} - left:
        raise ValueError(f"{counts}, which leaves no {split} problem (overlong_prompts: skip): {first}{more}")
    datamodule.drop({texts[index].id for index in overlong})
    rank_zero_warn(f"{counts} and are left out (overlong_prompts: skip): {first}{more}")


def count_cut_targets(model: Any, texts: Sequence[DataText]) -> None:
    """Say how many targets are longer than the policy may write."""
    targets = [target for text in texts if text.split == "train" for target in text.targets]
    long = PromptLengths(model.codec).overlong_completions(targets, model.max_new_tokens)
    if long:
        rank_zero_warn(
            f"{len(long)} of {len(targets)} training targets are longer than max_new_tokens={model.max_new_tokens} "
            f"(the longest has {max(long.values())}) and are trained on up to there, without their end: raise it"
        )


def named(datamodule: Any, text: DataText) -> str:
    """A problem by its id and, if it was read from a file, its line."""
    places = getattr(datamodule, "places", {})
    place = places.get(text.id, places.get(text.id.rpartition("/")[0]))
    return f"{text.split} problem {text.id!r}" + (f" ({place})" if place is not None else "")
