"""Ask a model for solutions of a problem, and show them by way of solving, with verdicts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_gfn.commands.asking.options import (
    add_model_options,
    add_sampling_options,
    check_sampling,
    named_columns,
    run_asking,
)
from lightning_gfn.commands.asking.shown import counted, indented, printable

SHOWN_WRONG = 3
"""Groups of wrong samples that are shown if not all are asked for."""
EPILOG = """examples:
  lightning-gfn sample smollm2-135m "Mia has 3 boxes of 4 pens. How many pens?" --answer 12
  lightning-gfn sample runs/mine --split test --row 1 2 3
  lightning-gfn sample owner/model --file mine.jsonl --row 5 -k 16 --json

Right solutions are one way of solving if they have the same equations in the same order (--by equations), a ROUGE-L F1
from --threshold on (--by rouge), or the same text. Equal seeds give equal samples, and more samples (-k) the same first
ones. log q is the log-probability of the whole completion at temperature 1, in nats."""


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn sample``."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn sample",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument("prompts", metavar="PROMPT", nargs="*", help="questions, each sampled for itself")
    asked = parser.add_argument_group("what is asked")
    asked.add_argument("--answer", action="append", help="the right answer of the prompt (again for each prompt)")
    asked.add_argument("--file", help="rows of a file instead (JSON lines, JSON, CSV, Parquet)")
    asked.add_argument("--split", choices=("train", "val", "test"), help="problems of the run's own data set instead")
    asked.add_argument("--row", metavar="N", type=int, nargs="+", help="which rows of either, from 1 (default: 1)")
    asked.add_argument(
        "--columns", metavar="FIELD=COLUMN", nargs="+", type=str, help="columns of the file: question, solution, answer"
    )
    form = parser.add_argument_group("how it is asked (default: as the run did, or as the model's chat template wants)")
    form.add_argument("--prompt_template", help="the prompt, with {question} where the question stands")
    form.add_argument("--chat", choices=("auto", "on", "off"), help="pass prompts through the chat template")
    form.add_argument("--system_prompt", help="a system message; needs --chat on")
    form.add_argument("--answer_style", help="gsm8k, math, metamath, last_number, or a pattern such as 'A: (.+)'")
    add_sampling_options(parser)
    shown = parser.add_argument_group("how it is shown")
    shown.add_argument("--by", choices=("equations", "rouge", "text"), default="equations", help="ways of solving")
    shown.add_argument("--threshold", type=float, default=0.7, help="ROUGE-L F1 of one way (default: 0.7)")
    shown.add_argument("--all", action="store_true", help="show every sample, not one of each group")
    shown.add_argument("--json", action="store_true", help="one JSON object a problem")
    return parser


def described(policy: Any, record: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is known of the samples of a problem.

    Args:
        policy: that wrote them.
        record: the samples.
        options: of the command line.
    """
    from lightning_gfn.answers import extract_answer
    from lightning_gfn.commands.asking.ways import solution_groups, ways_of_solving
    from lightning_gfn.prompts.chat import written_prompt

    problem, judged = record.problem, record.problem.answer is not None
    answers = [extract_answer(text, problem.answer_style) for text in record.completions]
    right = [text for text, correct in zip(record.completions, record.correct, strict=True) if correct or not judged]
    ids = policy.encode_prompt(problem.prompt)
    return {
        "problem_id": problem.id,
        "prompt": written_prompt(problem.prompt),
        "model_input": policy.tokenizer.decode(ids),
        "prompt_tokens": len(ids),
        "answer": problem.answer,
        "answer_style": problem.answer_style,
        "temperature": record.temperature,
        "seed": options.seed,
        "num_samples": len(record.completions),
        "num_correct": sum(record.correct) if judged else None,
        "num_ways": {by: len(ways_of_solving(right, by, options.threshold)) for by in ("equations", "rouge", "text")},
        "samples": sample_rows(record, answers),
        "groups": [
            {"correct": group.verdict, "label": group.label, "samples": list(group.members)}
            for group in solution_groups(record, answers, options.by, options.threshold)
        ],
    }


def sample_rows(record: Any, answers: Sequence[str | None]) -> list[dict[str, Any]]:
    """What is known of each sample; no verdict where there is no reference answer."""
    judged = record.problem.answer is not None
    return [
        {
            "completion": text,
            "answer": answers[i],
            "correct": record.correct[i] if judged else None,
            "log_prob": round(record.log_probs[i], 4),
            "tokens": record.lengths[i],
            "truncated": record.truncated[i],
        }
        for i, text in enumerate(record.completions)
    ]


def as_text(found: Mapping[str, Any], options: argparse.Namespace) -> str:
    """A problem and its samples for a reader."""
    lines = [f"the model reads ({found['prompt_tokens']} tokens):", *indented(found["model_input"], "  │ "), ""]
    lines.append(headline(found, options))
    right = [group for group in found["groups"] if group["correct"] is not False]
    wrong = [group for group in found["groups"] if group["correct"] is False]
    for number, group in enumerate(right, start=1):
        lines += ["", *group_lines(f"way {number}", group, found["samples"], show_all=options.all)]
    shown = wrong if options.all else wrong[:SHOWN_WRONG]
    for group in shown:
        lines += ["", *group_lines("wrong", group, found["samples"], show_all=options.all)]
    if len(shown) < len(wrong):
        lines += ["", f"and {len(wrong) - len(shown)} more wrong answers (--all shows every sample)"]
    return "\n".join(lines)


def group_lines(
    title: str, group: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], *, show_all: bool
) -> list[str]:
    """A group and its most probable sample, or all of them."""
    label = f": {printable(group['label'])}" if group["label"] else ""
    lines = [f"── {title}, {counted(len(group['samples']), 'sample')}{label}"]
    for index in group["samples"] if show_all else group["samples"][:1]:
        sample = samples[index]
        cut = ", cut at the maximum length" if sample["truncated"] else ""
        lines.append(f"sample {index + 1}: log q {sample['log_prob']:.1f}, {sample['tokens']} tokens{cut}")
        lines += indented(sample["completion"].strip(), "    ")
    return lines


def headline(found: Mapping[str, Any], options: argparse.Namespace) -> str:
    """How many samples there are, how many are right, and in how many ways."""
    total, right, ways = found["num_samples"], found["num_correct"], found["num_ways"]
    cut = sum(sample["truncated"] for sample in found["samples"])
    counts = ", ".join(f"{ways[by]} by {name}" for by, name in (("equations", "equations"), ("rouge", "ROUGE-L")))
    if right is None:
        verdicts = f"ways of solving: {counts}; no verdicts (give --answer)"
    elif right:
        verdicts = f"{right} right ({right / total:.0%}) of answer {found['answer']}, ways of solving: {counts}"
    else:
        verdicts = f"none is right (answer {found['answer']}, read by {found['answer_style']})"
    text = f"{counted(total, 'sample')} at temperature {found['temperature']:g}, seed {found['seed']}: {verdicts}"
    return text + (f"; {cut} cut at the maximum length (--max_new_tokens)" if cut else "")


def work(args: Sequence[str]) -> int:
    """Sample and print."""
    options = build_parser().parse_args(args)
    options.columns = named_columns(options.columns)
    check_sampling(options)
    from lightning_gfn.commands.asking.classes import find_classes
    from lightning_gfn.commands.asking.policies import has_chat_template, load_policy
    from lightning_gfn.commands.asking.questions import asked_problems, form_of
    from lightning_gfn.commands.asking.sources import find_source
    from lightning_gfn.rollouts.evaluation import sample_completions

    find_classes()
    source = find_source(options.model, options.checkpoint)
    form = form_of(source, options, has_chat=not source.data_block and has_chat_template(source))
    problems = asked_problems(source, form, options)
    theorem = next((problem for problem in problems if problem.theorem is not None), None)
    if theorem is not None:
        raise ValueError(f"{theorem.id} is a theorem: lightning-gfn prove {options.model} tries to prove it")
    policy = load_policy(source, max_new_tokens=options.max_new_tokens, device=options.device)
    for number, problem in enumerate(problems):
        started = time.monotonic()
        [record] = sample_completions(
            policy,
            [problem],
            num_samples=options.num_samples,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed,
            max_rows=options.max_rows,
            entropy=False,
        )
        found = {"model": str(source), **described(policy, record, options)}
        if options.json:
            print(json.dumps(found, ensure_ascii=False), flush=True)
            continue
        print(("\n" if number else "") + f"{problem.id}" + (f" ({number + 1} of {len(problems)})" if number else ""))
        print(as_text(found, options), flush=True)
        print(f"({sum(record.lengths)} tokens in {time.monotonic() - started:.1f} s)", file=sys.stderr, flush=True)
    return 0


def main(args: list[str]) -> int:
    """Run the command; 0 if it sampled, 2 if the model or the question cannot be used."""
    return run_asking("sample", work, args)
