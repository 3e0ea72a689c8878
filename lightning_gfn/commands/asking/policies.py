"""The policy of a model source, loaded to be asked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.commands.asking.classes import class_at
from lightning_gfn.commands.asking.sources import ModelSource

if TYPE_CHECKING:
    import torch

LONGEST_PROMPT = 4096
"""Tokens of a prompt where the model itself has no limit."""
DEFAULT_NEW_TOKENS = 256
UNUSED = {"gradient_checkpointing": False, "overlong_prompts": "refuse"}


def load_policy(source: ModelSource, *, max_new_tokens: int | None = None, device: str | None = None) -> Any:
    """Tokenizer and weights of a model, on the device that is asked for or the best one.

    Args:
        source: whose.
        max_new_tokens: longest completion; None for that of the run, or 256.
        device: as torch names it; None for the first GPU if there is one, else the CPU.

    Raises:
        ValueError: settings or weights do not fit each other, or the model cannot be had.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    target = usable_device(device)
    print(f"loading {source} …", file=sys.stderr, flush=True)
    try:
        make = policy_of_checkpoint if source.checkpoint is not None else policy_of_model
        policy = make(source, max_new_tokens)
        return policy.to(target).eval()
    except (OSError, RuntimeError) as error:
        raise hub_error(source.name, error) from error


def usable_device(name: str | None) -> torch.device:
    """The device of this name; for None the first GPU if there is one, else the CPU.

    Raises:
        ValueError: there is none of that name here.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name} cannot be used here: {first_line(error)}") from error
    return device


def hub_error(name: str, error: BaseException) -> ValueError:
    """What is said where a model cannot be read, or not be had from the hub."""
    hint = ""
    if not Path(name).expanduser().exists():
        hint = ". A model of the hub needs a network once; lightning-gfn model list shows those that do without"
    return ValueError(f"{name}: {first_line(error).rstrip('.')}{hint}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message; libraries add paragraphs."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def policy_of_model(source: ModelSource, max_new_tokens: int | None) -> Any:
    """A policy that reads prompts as long as the model allows."""
    from lightning_gfn.policies.causal_lm import CausalLM
    from lightning_gfn.policies.models.architectures import max_positions
    from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM

    assert source.pretrained is not None
    config = model_config(source.pretrained)
    known = run_lengths(source)
    new_tokens = max_new_tokens if max_new_tokens is not None else known.get("max_new_tokens", DEFAULT_NEW_TOKENS)
    is_seq2seq = bool(getattr(config, "is_encoder_decoder", False))
    limit = max_positions(config)
    longest = LONGEST_PROMPT if limit is None else limit - (0 if is_seq2seq else new_tokens)
    if longest < 1:
        raise ValueError(
            f"--max_new_tokens {new_tokens} leaves no room for a prompt: {source.name} has {limit} positions"
        )
    make = Seq2SeqLM if is_seq2seq else CausalLM
    policy = make(pretrained=source.pretrained, max_prompt_tokens=longest, max_new_tokens=new_tokens)
    policy.build(())
    return policy


def model_config(name: str) -> Any:
    """The configuration of a model, of an adapter that of its base."""
    from lightning_gfn.policies.models.adapters import base_of_adapter, is_adapter_folder
    from lightning_gfn.policies.models.loading import load_config

    folder = Path(name).expanduser()
    return load_config(base_of_adapter(folder) if folder.is_dir() and is_adapter_folder(folder) else name)


def tokenizer_home(name: str) -> str:
    """Where the tokenizer of a model is: of an adapter without one of its own, at its base."""
    from lightning_gfn.policies.models.adapters import base_of_adapter, is_adapter_folder

    folder = Path(name).expanduser()
    if folder.is_dir() and is_adapter_folder(folder) and not (folder / "tokenizer_config.json").is_file():
        return base_of_adapter(folder)
    return name


def has_chat_template(source: ModelSource) -> bool:
    """Whether the tokenizer of a model has a chat template; nothing else is loaded.

    Raises:
        ValueError: the model cannot be had.
    """
    from lightning_gfn.policies.text.tokenizers import load_tokenizer

    if source.pretrained is None:
        return False
    try:
        if getattr(model_config(source.pretrained), "is_encoder_decoder", False):
            return False
        return bool(load_tokenizer(tokenizer_home(source.pretrained)).chat_template)
    except (OSError, KeyError) as error:
        raise hub_error(source.name, error) from error


def run_lengths(source: ModelSource) -> dict[str, int]:
    """The lengths that the run's policy was trained with; none if no run is known."""
    if not source.config:
        return {}
    arguments = source.policy_block.get("init_args") or {}
    return {name: arguments[name] for name in ("max_prompt_tokens", "max_new_tokens") if name in arguments}


def policy_of_checkpoint(source: ModelSource, max_new_tokens: int | None) -> Any:
    """The policy that a run's configuration describes, with the weights of its checkpoint.

    Raises:
        ValueError: the file is no checkpoint of a policy, or lacks weights.
    """
    from lightning_gfn.policies.language_policy import LanguagePolicy
    from lightning_gfn.policies.reward_models.trained import STATE_KEY

    block = source.policy_block
    make = class_at(block["class_path"])
    if not (isinstance(make, type) and issubclass(make, LanguagePolicy)):
        raise ValueError(f"{source.run}: model.init_args.policy is {block['class_path']}, which is no language model")
    settings = policy_settings(block.get("init_args") or {})
    if max_new_tokens is not None:
        settings |= {"max_new_tokens": max_new_tokens, "min_new_tokens": 0}
    state = read_checkpoint(source)
    policy = make(**settings)
    policy.load_tokenizer_state(state[STATE_KEY]["tokenizer"])
    policy.build(())
    start = "policy.model."
    weights = {
        name.removeprefix("policy."): value for name, value in state["state_dict"].items() if name.startswith(start)
    }
    missing = set(policy.load_state_dict(weights, strict=False).missing_keys)
    trained = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    if lost := sorted(trained & missing):
        raise ValueError(f"{source.checkpoint} lacks {len(lost)} trained weights, {lost[0]!r} among them")
    return policy


def policy_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a policy's class, nested settings as what they are."""
    from lightning_gfn.policies.models.adapters import LoraSettings
    from lightning_gfn.policies.text.tokenizers import TokenizerSettings

    settings = {**arguments, **UNUSED}
    for name, make in (("lora", LoraSettings), ("tokenizer", TokenizerSettings)):
        if isinstance(settings.get(name), Mapping):
            settings[name] = make(**settings[name])
    return settings


def read_checkpoint(source: ModelSource) -> Mapping[str, Any]:
    """The content of a checkpoint, read without running code of it.

    Raises:
        ValueError: it cannot be read, or is none of a run.
    """
    from lightning_gfn.policies.reward_models.trained import STATE_KEY
    from lightning_gfn.sharding.checkpoint_folder import read_whole

    assert source.checkpoint is not None
    try:
        state = read_whole(source.checkpoint)
        missing = [name for name in (STATE_KEY, "state_dict") if name not in state]
    except Exception as error:  # whatever a broken file raises
        raise ValueError(f"{source.checkpoint} cannot be read as a checkpoint: {first_line(error)}") from error
    if missing:
        raise ValueError(f"{source.checkpoint} is no checkpoint of a run: it has no {missing[0]!r}")
    return dict(state)
