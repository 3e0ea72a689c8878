"""The short help of the trainer's commands; it imports nothing heavy."""

from __future__ import annotations

import shutil
import textwrap

from lightning_gfn.lightning_cli.help.families import FAMILIES, Family, choices

WIDTH = 100
FITTING = ("fit", "run")
IF_EXISTS = (
    "--if_exists WHAT",
    "a folder that holds a run: error (refuse), resume (go on), fresh (move it aside); default error",
)
DRY_RUN = ("--dry_run", "try the run out on a few examples: memory and step time, no run folder")
OPTIONS = (
    ("-c, --config FILE", "a YAML file; of several the later one wins, key by key"),
    ("--run_dir DIR", "the folder of the run; required, here or in a file"),
    ("--ckpt_path WHICH", "last, best, a file, or none for the model as configured"),
    ("--seed_everything N", "seed of all random numbers; default 0"),
    ("--run_health false", "no warnings of training that cannot learn"),
    ("--print_config", "print the configuration that results, and run nothing"),
    ("--model CLASS", "and --data CLASS: what is trained, and on what"),
    ("--trainer.KEY VALUE", "Lightning's trainer: max_steps, devices, precision, val_check_interval, logger, …"),
    ("--trainer.callbacks+ CLASS", "one more callback"),
    ("--checkpoint.KEY VALUE", "every_n_train_steps, monitor, mode, keep_previous"),
    ("--mlflow.KEY VALUE", "experiment_name, run_name, tracking_uri, tags"),
)
MORE = (
    ("--help CLASS", "the options of one class: --help VarGrad, or --help my_file.MyReward for one of yours"),
    ("--help WORD", "what each of a kind is for: modules, data, policies, objectives, rewards, callbacks"),
    ("--help trainer", "these options in full; also --help checkpoint and --help mlflow"),
    ("--help all", "every option at once, in several hundred lines"),
)


def width() -> int:
    """Columns of the terminal, a hundred at most."""
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def rows(pairs: dict[str, str] | tuple[tuple[str, str], ...]) -> list[str]:
    """Two columns; what is too long for the second goes on below."""
    items = list(pairs.items()) if isinstance(pairs, dict) else pairs
    first = max(len(name) for name, _ in items) + 4
    lines = []
    for name, text in items:
        wrapped = textwrap.wrap(text, max(20, width() - first)) or [""]
        lines.append(f"  {name}".ljust(first) + wrapped[0])
        lines += [" " * first + rest for rest in wrapped[1:]]
    return lines


def heading(family: Family) -> str:
    """The line above the classes of a family."""
    return f"{family.word.capitalize()} ({family.option} {family.package}.NAME):"


def family_help(word: str) -> str | None:
    """What each class of a family is for; None if there is no such family."""
    for family in FAMILIES:
        if family.word == word:
            return "\n".join([heading(family), *rows(choices(family)), "", "--help NAME shows the options of one."])
    return None


def short_help(command: str, summary: str) -> str:
    """The help of a command in about two screens.

    Args:
        command: fit, validate, test, predict or run.
        summary: what it does.
    """
    fitting = command in FITTING
    options = (*OPTIONS[:2], IF_EXISTS, *OPTIONS[2:6], DRY_RUN, *OPTIONS[6:]) if fitting else OPTIONS
    lines = [
        f"usage: lightning-gfn {command} --config FILE [--config FILE …] [--KEY VALUE …]",
        "",
        summary,
        "",
        *rows(options),
        "",
        *textwrap.wrap(
            "Every key of a YAML file can be given so: --model.optimizer.lr 1e-4, --data.batch_size 8; null takes a "
            "value away. A class is named by its path, lightning_gfn.objectives.VarGrad.",
            width(),
        ),
    ]
    for family in FAMILIES:
        lines += ["", heading(family)]
        found = choices(family)
        lines += rows(found) if family.word == "modules" else textwrap.wrap(
            ", ".join(found), width(), initial_indent="  ", subsequent_indent="  ")  # fmt: skip
    return "\n".join([*lines, "", "More help:", *rows(MORE)])
