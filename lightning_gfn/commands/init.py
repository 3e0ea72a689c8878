"""Look at a file and a model, and write a commented configuration that runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_gfn.commands.asking.options import named_columns, run_asking
from lightning_gfn.commands.asking.shown import indented

if TYPE_CHECKING:
    from lightning_gfn.commands.init_parts.data_facts import DataFacts
    from lightning_gfn.commands.init_parts.model_facts import ModelFacts

EPILOG = """examples:
  lightning-gfn init mine.jsonl
  lightning-gfn init mine.csv --method grpo --columns question=task answer=gold --output grpo.yaml
  lightning-gfn init pairs.jsonl --method dpo --model owner/model
Then: lightning-gfn run --config mine.yaml

The file holds questions with answers or solutions, conversations (messages), preferences (prompt, chosen, rejected, or
prompt, completion, label), or theorems in Lean (name, statement). Of the model the tokenizer and configuration are
read, and no weights."""


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn init``."""
    from lightning_gfn.commands.init_parts.methods import METHODS
    from lightning_gfn.pretrained.catalogue import SMOLLM2

    parser = argparse.ArgumentParser(
        prog="lightning-gfn init",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", help="rows in JSON lines, JSON, CSV or Parquet; or a folder with train and test")
    parser.add_argument("--model", default=SMOLLM2.name, help="name, folder or run (default: %(default)s)")
    parser.add_argument("--method", choices=tuple(METHODS), help="(default: by the file: vargrad, dpo, kto or sft)")
    parser.add_argument("--output", type=Path, help="the configuration (default: FILE's name with .yaml, here)")
    parser.add_argument("--run_dir", help="folder of the run (default: runs/ and the name of the configuration)")
    parser.add_argument("--columns", metavar="FIELD=COLUMN", nargs="+", help="columns: question, solution, answer, id")
    parser.add_argument("--answer_style", help="gsm8k, math, metamath, last_number, or a pattern such as 'A: (.+)'")
    parser.add_argument("--prompt_template", help="the prompt, with {question} where the question stands")
    parser.add_argument("--reward", metavar="FILE:FUNCTION", help="a reward function of yours, in place of answers")
    parser.add_argument("--force", action="store_true", help="overwrite an existing configuration")
    return parser


def heading(args: Sequence[str], model: ModelFacts, facts: DataFacts, method: str, size_note: str) -> list[str]:
    """What stands above the configuration: how it was made, what was found, one row as the model sees it."""
    import shlex

    from lightning_gfn.commands.init_parts.example import example_of
    from lightning_gfn.commands.init_parts.methods import METHODS
    from lightning_gfn.commands.init_parts.yaml_text import remark

    example = example_of(model, facts)
    lines = remark(f"Written by: lightning-gfn init {shlex.join(args)}")
    lines += ["#", *remark(f"Method {method}: {METHODS[method].summary}."), *remark(f"Sizes: {size_note}")]
    for sentence in (*found_in_file(facts), *about_model(model, facts)):
        lines += remark(sentence)
    lines += ["#", f"# The first training prompt as the model reads it ({example.tokens} tokens):"]
    lines += indented(example.prompt, "#   │ ")
    lines += remark(example.verdict)
    return lines


def found_in_file(facts: DataFacts) -> list[str]:
    """What the file holds, column by column."""
    guessed = facts.guessed
    parts = [f"{name} is column {column!r} ({guessed.why[name]})" for name, column in guessed.columns.items()]
    lines = [f"Data: {facts.num_rows} training rows of {facts.path}, read as {guessed.kind}: {', '.join(parts)}."]
    unsure = [name for name in guessed.columns if name not in guessed.sure]
    if unsure and guessed.kind == "problems":
        what = f"; {'; '.join(guessed.unclear)}" if guessed.unclear else ""
        lines.append(
            f"Guessed by content, so look: {', '.join(unsure)}{what}. Change it under data.init_args.columns, or: "
            "lightning-gfn init --columns question=COLUMN answer=COLUMN."
        )
    if guessed.others:
        lines.append(f"Further columns, which reward functions receive: {', '.join(guessed.others)}.")
        if guessed.kind == "problems" and "solution" not in guessed.columns:
            lines.append("If one of them holds worked solutions, which sft trains on: --columns solution=COLUMN.")
    if facts.guessed.kind in ("problems", "messages") and facts.answered < facts.num_rows:
        lacking = facts.num_rows - facts.answered
        lines.append(f"{lacking} of {facts.num_rows} rows have no answer; none of their samples counts as right.")
    return lines


def about_model(model: ModelFacts, facts: DataFacts) -> list[str]:
    """What is to be said of a model for these data."""
    if facts.guessed.kind == "theorems" and not model.source.is_prover:
        return [
            f"{model.source.name} is not known to be a prover: it will hardly find proofs to learn from. Begin with a "
            "model that has learnt tactics: lightning-gfn run --config experiments/lean/sft.yaml; then name that run."
        ]
    if facts.guessed.kind == "messages" and not model.has_chat:
        return [f"{model.source.name} has no chat template: it reads conversations as plain text."]
    return []


def compose(options: argparse.Namespace, args: Sequence[str], output: Path) -> str:
    """The whole file.

    Raises:
        ValueError: the data cannot be used, or not by this method.
        FileNotFoundError: the file or model does not exist.
    """
    from lightning_gfn.commands.doctor_parts.machine import training_device
    from lightning_gfn.commands.init_parts.configuration import data_block, model_block, trainer_block
    from lightning_gfn.commands.init_parts.methods import METHODS
    from lightning_gfn.commands.init_parts.model_facts import look_at_model
    from lightning_gfn.commands.init_parts.sizes import fitting_sizes, measure_lengths, measured_speed
    from lightning_gfn.commands.init_parts.yaml_text import to_yaml

    model = look_at_model(options.model)
    facts, name = data_and_method(options, model)
    method, device = METHODS[name], training_device()
    lengths = measure_lengths(model, facts, samples=method.samples)
    sizes = fitting_sizes(model, device, lengths, facts.num_rows, samples=method.samples, speed=measured_speed(device))
    blocks = {
        "seed_everything": 0,
        "run_dir": options.run_dir if options.run_dir is not None else f"runs/{output.stem}",
        "trainer": trainer_block(device, model, sizes, proofs=facts.guessed.kind == "theorems"),
        "data": data_block(facts, sizes),
        "model": model_block(name, method, model, facts, lengths, sizes, options.reward),
    }
    return "\n".join([*heading(args, model, facts, name, sizes.note), *to_yaml(blocks)]) + "\n"


def data_and_method(options: argparse.Namespace, model: ModelFacts) -> tuple[DataFacts, str]:
    """What the file gives, and the method that is named or fits it.

    Raises:
        ValueError: the data cannot be used, or not by this method.
        FileNotFoundError: the file does not exist.
    """
    from lightning_gfn.commands.asking.file_rows import guess_file
    from lightning_gfn.commands.init_parts.data_facts import Wishes, look_at_data
    from lightning_gfn.commands.init_parts.methods import METHODS, check_method, default_method

    guessed, rows = guess_file(options.file, options.columns)
    samples = options.method is None or METHODS[options.method].samples
    wishes = Wishes(options.columns, options.answer_style, options.prompt_template, model.has_chat, samples)
    facts = look_at_data(options.file, guessed, rows, wishes)
    have = {"answered": facts.answered > 0, "solved": bool(facts.solutions), "reward": options.reward is not None}
    name = options.method if options.method is not None else default_method(guessed.kind, **have)
    check_method(name, guessed.kind, list(rows[0]), **have)
    if METHODS[name].samples != samples:
        facts = look_at_data(options.file, guessed, rows, replace(wishes, samples=METHODS[name].samples))
    if guessed.kind == "preferences" and name == "kto":
        facts.settings["unpair"] = True
    return facts, name


def work(args: Sequence[str]) -> int:
    """Look, write, and say what was found."""
    options = build_parser().parse_args(args)
    options.columns = named_columns(options.columns)
    name = Path(options.file).name.split(".")[0] or "mine"
    output = options.output if options.output is not None else Path(f"{name}.yaml")
    if output.exists() and not options.force:
        raise ValueError(f"{output} exists: name another one (--output), or overwrite it (--force)")
    from lightning_gfn.commands.asking.classes import find_classes

    # Libraries take seconds to load, and nothing else would be seen meanwhile.
    print(f"Looking at {options.file} and the tokenizer of {options.model} …\n", flush=True)
    find_classes()
    text = compose(options, args, output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        print(line[2:])
    print(f"\nWritten: {output}. Read its remarks, then: lightning-gfn run --config {output}", file=sys.stdout)
    return 0


def main(args: list[str]) -> int:
    """Run the command; 0 if the configuration was written, 2 if file, model or method cannot be used."""
    return run_asking("init", work, args)
