"""Whether a checkpoint is whole and fits, found out before anything is built or changed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_gfn.finite import not_finite
from lightning_gfn.sharding.checkpoint_folder import REST, cut_off_files, is_checkpoint_folder, read_rest
from lightning_gfn.whole_files import CheckpointError

FIT_PARTS: Mapping[str, type] = {
    "state_dict": dict, "global_step": int, "epoch": int, "loops": dict, "callbacks": dict, "optimizer_states": list,
    "lr_schedulers": list,
}  # fmt: skip
MADE_OF = "made_of"
"""Where ``RunRecord`` keeps, in a checkpoint, the settings that its state was made of."""
SHAPING = ("policy", "network", "head", "teacher_policy")
SHAPING_ARGUMENTS = ("config", "pretrained", "lora", "tokenizer", "encoder_decoder")


def check_checkpoint(path: Path, *, fitting: bool, made_of: Mapping[str, str] | None = None) -> None:
    """Refuse a checkpoint that is damaged, incomplete, not finite or of another model; nothing in it is executed.

    Every record is read once and compared with the CRC-32 that ``torch.save`` stored with it.

    Args:
        path: a file; of a folder, as sharded strategies write, the values of weights are not read.
        fitting: the state of training is needed too, not the weights alone.
        made_of: the present settings, as ``settings_of`` gives them; None compares nothing.

    Raises:
        CheckpointError: says what is wrong, the remedy, and which whole checkpoint lies beside it.
    """
    try:
        look_at(path, fitting=fitting, made_of=made_of)
    except CheckpointError as error:
        raise CheckpointError(
            f"checkpoint {path} {error}; {offer(path, fitting, made_of)}. Nothing was changed."
        ) from None


def look_at(path: Path, *, fitting: bool, made_of: Mapping[str, str] | None) -> None:
    """The first fault of a checkpoint.

    Raises:
        CheckpointError: says it, as the end of a sentence about the file.
    """
    if path.is_dir():
        checkpoint = look_into(path)
        check_parts(checkpoint, fitting=fitting)
    else:
        check_records(path)
        checkpoint = load(path)
        check_parts(checkpoint, fitting=fitting)
        if broken := not_finite(checkpoint["state_dict"].items()):
            raise CheckpointError(
                f"holds {len(broken)} weights that are not finite (NaN or infinite), {broken[0]!r} first"
            )
        if fitting:
            check_optimizers(checkpoint["optimizer_states"])
    if made_of is not None and isinstance(checkpoint.get(MADE_OF), dict):
        check_settings(checkpoint[MADE_OF], made_of, fitting=fitting)


def look_into(folder: Path) -> dict[str, Any]:
    """What a folder of shards holds beside the values of tensors, which are many and stay unread.

    Raises:
        CheckpointError: it is another folder, or lacks files, or parts of files.
    """
    if not is_checkpoint_folder(folder):
        raise CheckpointError("is a folder that holds no checkpoint")
    check_records(folder / REST)
    try:
        cut_off = cut_off_files(folder)
        rest = read_rest(folder)
    except Exception as error:  # unpicklers raise whatever broken bytes make them
        raise CheckpointError(f"is damaged ({type(error).__name__} in its {REST} or .metadata)") from error
    if cut_off:
        raise CheckpointError(f"is missing {cut_off[0]!r}, or the end of that file")
    return rest


def check_records(path: Path) -> None:
    """Refuse a file that is no whole zip archive.

    Raises:
        CheckpointError: empty, unreadable, cut off, of another kind, or damaged.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(4)
        if not begin:
            raise CheckpointError("is empty")
        if begin != b"PK\x03\x04":
            raise CheckpointError("is no checkpoint file (it does not begin as torch.save's files do)")
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror or error})") from error
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"is cut off or damaged ({error})") from error
    except (ValueError, NotImplementedError, EOFError, RuntimeError, zipfile.LargeZipFile, UnicodeError) as error:
        raise CheckpointError(f"is damaged ({error})") from error
    if damaged is not None:
        raise CheckpointError(f"is damaged: its record {damaged!r} does not have the checksum that was stored with it")


def load(path: Path) -> dict[str, Any]:
    """The content, tensors left on the disk until they are read.

    Raises:
        CheckpointError: it cannot be read without executing code, or is no mapping.
    """
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # unpicklers raise whatever broken bytes make them
        raise CheckpointError(
            f"holds more than tensors and plain values, or is damaged ({type(error).__name__}); nothing in it was "
            "executed"
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"holds a {type(checkpoint).__name__}, not the state of a run")
    return checkpoint


def check_parts(checkpoint: Mapping[str, Any], *, fitting: bool) -> None:
    """Refuse a state that lacks what is needed.

    Raises:
        CheckpointError: names what is missing or wrong.
    """
    from importlib.metadata import version

    needed = FIT_PARTS if fitting else {"state_dict": dict}
    missing = [name for name in needed if name not in checkpoint]
    if missing:
        purpose = "training cannot go on from weights alone" if "state_dict" in checkpoint else "it is of another kind"
        raise CheckpointError(f"lacks {', '.join(missing)}: {purpose}")
    for name, kind in needed.items():
        if not isinstance(checkpoint[name], kind):
            raise CheckpointError(f"is malformed: {name} is {type(checkpoint[name]).__name__}, not {kind.__name__}")
    written = str(checkpoint.get("pytorch-lightning_version", "0"))
    major, here = written.partition(".")[0], version("lightning")
    if major.isdigit() and int(major) > int(here.partition(".")[0]):
        raise CheckpointError(f"was written by Lightning {written}, this is {here}: install that version")
    if fitting and "fit_loop" not in checkpoint["loops"]:
        raise CheckpointError("is malformed: it does not say where training stood (loops.fit_loop)")


def check_optimizers(states: list[Any]) -> None:
    """Refuse optimiser states that are malformed or not finite.

    Raises:
        CheckpointError: says which.
    """
    import torch

    for state in states:
        if not isinstance(state, dict) or not {"state", "param_groups"} <= set(state):
            raise CheckpointError("is malformed: an optimiser state has no state and param_groups")
        known = {number for group in state["param_groups"] for number in group["params"]}
        if not set(state["state"]) <= known:
            raise CheckpointError("is malformed: its optimiser state names parameters that no group holds")
        named = [
            (f"{key} of parameter {number}", value)
            for number, values in state["state"].items()
            for key, value in values.items()
            if isinstance(value, torch.Tensor)
        ]
        if broken := not_finite(named):
            raise CheckpointError(f"holds an optimiser state that is not finite ({broken[0]})")


def check_settings(saved: Mapping[str, str], present: Mapping[str, str], *, fitting: bool) -> None:
    """Refuse a checkpoint of another model, or, to go on training, of another method.

    Raises:
        CheckpointError: names the first setting that differs.
    """
    for name in sorted(set(saved) | set(present)):
        if not fitting and name.split(".")[0] not in SHAPING:
            continue
        if saved.get(name) != present.get(name):
            raise CheckpointError(
                f"is of another {'model' if name.split('.')[0] in SHAPING else 'method'}: model.{name} was "
                f"{saved.get(name, 'not set')} and is {present.get(name, 'not set')} now"
            )


def settings_of(model: Any) -> dict[str, str]:
    """The settings of ``model`` in a configuration that its state depends on: classes, architecture, tokenizer.

    Args:
        model: ``class_path`` and ``init_args`` as YAML gives them.
    """
    if not isinstance(model, dict):
        return {}
    found = {"class_path": str(model.get("class_path"))}
    arguments = model.get("init_args") or {}
    objective = arguments.get("objective")
    if isinstance(objective, dict):
        found["objective"] = str(objective.get("class_path"))
    for part in SHAPING:
        block = arguments.get(part)
        if isinstance(block, dict):
            found[part] = str(block.get("class_path"))
            own = block.get("init_args") or {}
            for name in SHAPING_ARGUMENTS:
                found.update(flat(f"{part}.{name}", own.get(name)))
    return found


def flat(name: str, value: Any) -> dict[str, str]:
    """A nested setting as texts by dotted name; what is not set is left out."""
    if isinstance(value, dict):
        return {key: text for inner, own in value.items() for key, text in flat(f"{name}.{inner}", own).items()}
    return {} if value is None else {name: str(value)}


def offer(path: Path, fitting: bool, made_of: Mapping[str, str] | None) -> str:
    """The first whole checkpoint beside a broken one, or what to do without any."""
    for other in (path.with_name(name) for name in ("last.ckpt", "previous.ckpt", "best.ckpt")):
        if other == path or not other.exists():
            continue
        try:
            look_at(other, fitting=fitting, made_of=made_of)
        except CheckpointError:
            continue
        step = "" if other.is_dir() else f" (step {load(other).get('global_step', '?')})"
        return f"{other}{step} is whole: give --ckpt_path {other}"
    return "give another --ckpt_path, or start again with --if_exists fresh"
