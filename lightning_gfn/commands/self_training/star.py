"""Bootstrap reasoning: sample, try failures again with the answer as a hint, retrain from the base; several rounds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_gfn.commands.self_training.rft import add_filter, filter_of, keep, write_solutions
from lightning_gfn.studies.pipeline import Pipeline, PipelineError, add_options, parse, pipeline, run_command
from lightning_gfn.studies.samples import Sample, read_samples, write_rows, write_summary

MODEL = "--model.init_args.policy.init_args.pretrained"


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn star``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn star", description=__doc__)
    add_options(parser, file_mode=False)
    parser.add_argument("--rounds", type=int, default=2, help="outer rounds, each retrained from the base (default: 2)")
    add_filter(parser)
    return parser


def read(path: Path, options: argparse.Namespace) -> dict[str, list[Sample]]:
    """Samples with the verdicts that the options distort."""
    return read_samples(path, flip_probability=options.flip_probability, flip_seed=options.flip_seed)


def merge(
    kept: Mapping[str, Sequence[str]],
    rationalised: Mapping[str, Sequence[str]],
    samples: Mapping[str, Sequence[Sample]],
) -> dict[str, list[str]]:
    """The completions of each problem, in the order of the samples: without a hint, or else with one."""
    return {id_: list(kept.get(id_) or rationalised[id_]) for id_ in samples if id_ in kept or id_ in rationalised}


def one_round(stages: Pipeline, number: int, model: Path | None) -> tuple[Path, list[Path]]:
    """Sample from a model, try failures again with a hint, and filter.

    Args:
        stages: the pipeline.
        number: of the round, from 0.
        model: what samples; the base if None.

    Returns:
        The file of solutions, and the files of what sampling cost.
    """
    options, folder = stages.options, stages.folder / f"round{number + 1}"
    start = (MODEL, str(model)) if model is not None else ()
    seed = options.sample_seed + 2 * number
    predictions = stages.sample(folder / "sample", seed=seed, overrides=start)
    costs = [predictions.with_name("budget.json")]
    samples = read(predictions, options)
    kept, counts = keep(samples, filter_of(options))
    summaries = {"sampled": counts}
    failed = [id_ for id_ in samples if id_ not in kept]
    rationalised: dict[str, list[str]] = {}
    if failed:
        retry = folder / "retry.jsonl"
        write_rows(retry, ({"problem_id": id_} for id_ in failed))
        hinted = stages.sample(
            folder / "hinted", seed=seed + 1, overrides=(*start, "--data.init_args.retry_path", str(retry))
        )
        costs.append(hinted.with_name("budget.json"))
        rationalised, summaries["hinted"] = keep(read(hinted, options), filter_of(options))
    solutions = folder / "solutions.jsonl"
    origins = {name: group[0].origin for name, group in samples.items()}
    merged = merge(kept, rationalised, samples)
    write_solutions(solutions, merged, origins)
    write_summary(solutions, {"problems": len(samples), "problems_kept": len(merged), **summaries})
    return solutions, costs


def work(args: list[str]) -> None:
    """All rounds; the last one trains in the run folder itself.

    Raises:
        ValueError: options or files cannot be used.
        StageFailed: a stage failed.
    """
    options, overrides = parse(build_parser(), args)
    filter_of(options)
    if options.rounds < 1:
        raise PipelineError(f"--rounds is {options.rounds}, expected at least 1")
    with pipeline("star", options, overrides) as stages:
        model: Path | None = None
        earlier: list[Path] = []
        for number in range(options.rounds):
            solutions, costs = one_round(stages, number, model)
            is_last = number + 1 == options.rounds
            run_dir = options.run_dir if is_last else stages.folder / f"round{number + 1}" / "train"
            stages.train(run_dir, solutions, [*earlier, *costs])
            earlier = [run_dir / "budget.json"]
            model = run_dir / "model"
            if not is_last and not model.is_dir():
                raise PipelineError(f"{model} was not written: trainer.callbacks lacks the callback ExportModel")


def main(args: list[str]) -> int:
    """Run the command; 0 if everything was done."""
    return run_command("star", work, args)
