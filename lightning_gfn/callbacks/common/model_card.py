"""The model card of an exported model, filled from what its run folder says; what is not known is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lightning_gfn.callbacks.common.card_origin import HUB_NAME, Origin, front_matter, origin_of
from lightning_gfn.callbacks.common.markdown_text import code, fenced, plain
from lightning_gfn.callbacks.common.problem_rows import is_headline

CARD = "README.md"
OURS = "lightning_gfn"
COSTS = {
    "optimizer_steps": "optimiser steps",
    "environment_steps": "tactics",
    "wall_seconds": "s of wall time",
    "peak_memory_mib": "MiB of memory at its peak",
}
SECRET = re.compile(r"(?i).*(api_?key|token|password|secret)")
SETTINGS = ("policy", "network", "objective", "reward", "behaviour", "buffer", "head", "num_samples", "feedback")


@dataclass(frozen=True)
class Training:
    """What the trainer knows and no file of the run says.

    Args:
        method: name under which results are compared.
        step: optimiser steps that the weights have seen.
        problems: number of problems of each split that was loaded.
    """

    method: str
    step: int
    problems: Mapping[str, int] = field(default_factory=dict)


def read_training(model: Path) -> Training | None:
    """What an earlier card of a model says of its training; None if it has no card of ours."""
    said = front_matter(model / CARD).get(OURS)
    if not isinstance(said, dict) or not {"method", "step"} <= said.keys():
        return None
    return Training(str(said["method"]), int(said["step"]), dict(said.get("problems") or {}))


def model_card(run: Path, model: Path, training: Training) -> str:
    """The card as Markdown under its YAML head.

    Args:
        run: the run folder; files that it lacks leave out what they would say.
        model: the folder with the weights.
        training: what the trainer knows.
    """
    config = loaded(run / "config.yaml")
    settings = part(config, "model", "init_args")
    origin = origin_of(part(settings, "policy", "init_args") or part(settings, "network", "init_args"), model)
    results = measured(run, training.step)
    parts = [
        f"# {plain(run.name)}",
        introduction(config, origin, training),
        *section("Use", loading(origin)),
        *section("Data", data_text(config, training, results)),
        *section("Method", method_text(config, settings)),
        *section("Results", results_text(results)),
        *section("Configuration and versions", record_text(run)),
    ]
    return f"---\n{yaml_head(config, origin, training, results)}---\n\n" + "\n\n".join(filter(None, parts)) + "\n"


def loaded(path: Path) -> dict[str, Any]:
    """A YAML or JSON object; empty if the file is missing or holds none."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def part(tree: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """A branch of a configuration; empty if it has none."""
    found: Any = tree
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def shown(value: Any) -> Any:
    """A setting without what is unset or secret; classes by their names, absolute paths by their last two parts."""
    if isinstance(value, Mapping):
        if "class_path" in value:
            inner = shown(value.get("init_args") or {})
            return {class_name(value): inner} if inner else class_name(value)
        known = {str(key): item for key, item in value.items() if item is not None}
        return {key: shown(item) for key, item in known.items() if not SECRET.fullmatch(key)}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return "/".join(Path(value).parts[-2:])
    return value


def class_name(value: Mapping[str, Any]) -> str:
    """The last part of a class path."""
    return str(value.get("class_path", "")).rpartition(".")[2]


def section(title: str, text: str) -> list[str]:
    """A heading with its text; nothing if that is empty."""
    return [f"## {title}", text] if text else []


def fenced_yaml(value: Mapping[str, Any]) -> str:
    """Settings as YAML in a fence."""
    return fenced(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True).rstrip(), "yaml")


def measured(run: Path, step: int) -> list[dict[str, Any]]:
    """The results of the weights at a step: test before validation."""
    found = [loaded(run / "results" / f"{stage}_metrics.json") for stage in ("test", "val")]
    return [one for one in found if one.get("step") == step and part(one, "metrics") and part(one, "problems")]


def figures(result: Mapping[str, Any]) -> list[tuple[str, float, Sequence[float] | None]]:
    """The headline figures of a result: name, value and 95% interval."""
    rows = []
    for name, entry in result["metrics"].items():
        value = entry.get("value") if isinstance(entry, dict) else None
        if isinstance(value, (int, float)) and is_headline(re.sub(r"_t[\d.]+$", "", name)):
            rows.append((name, float(value), entry.get("ci95")))
    return rows


def introduction(config: Mapping[str, Any], origin: Origin, training: Training) -> str:
    """What the model is."""
    if origin.library == "peft":
        what = f"A LoRA adapter on {code(origin.name)}" if origin.name else "A LoRA adapter"
    elif origin.name:
        what = f"A model trained from {code(origin.name)}"
    else:
        what = "A model made from its configuration, without pretrained weights" if config else "A model"
    text = f"{what}, after {training.step:,} optimiser steps of {code(training.method)}. Trained with Lightning-GFN."
    if origin.license is None:
        text += " Its licence is not known here: state one before you publish it."
    return text


def loading(origin: Origin) -> str:
    """How to load the folder."""
    if origin.model_class is None:
        return "A later stage names this folder in its configuration, as `pretrained` or as the folder of its run."
    owner, cls = ("peft", f"AutoPeftModelFor{origin.model_class}"), f"AutoModelFor{origin.model_class}"
    library, name = owner if origin.library == "peft" else ("transformers", cls)
    lines = [f"from {library} import {name}", "from transformers import AutoTokenizer", ""]
    lines += [f'model = {name}.from_pretrained("model")', 'tokenizer = AutoTokenizer.from_pretrained("model")']
    text = "```python\n" + "\n".join(lines) + "\n```"
    return text + '\n\n`"model"` is this folder. A later stage of Lightning-GFN names it as `pretrained`.'


def data_text(config: Mapping[str, Any], training: Training, results: Sequence[Mapping[str, Any]]) -> str:
    """The data set, its files and how many problems were used."""
    data = config.get("data")
    counts = dict(training.problems)
    counts |= {one["stage"]: one["problems"]["count"] for one in results}
    names = {"train": "training", "val": "validation", "test": "test"}
    said = [f"{counts[key]:,} {name}" for key, name in names.items() if counts.get(key)]
    text = f"Problems: {', '.join(said)}." if said else ""
    if not isinstance(data, Mapping) or not class_name(data):
        return text
    setting = shown(data)
    block = fenced_yaml(setting if isinstance(setting, dict) else {str(setting): {}})
    return f"{code(class_name(data))}. {text}".strip() + f"\n\n{block}"


def method_text(config: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The module, the objective and their settings."""
    known = {name: shown(settings[name]) for name in (*SETTINGS, "optimizer") if settings.get(name) is not None}
    trainer = part(config, "trainer")
    names = ("max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision", "devices")
    known |= {name: trainer[name] for name in names if trainer.get(name) is not None}
    if config.get("seed_everything") is not None:
        known["seed"] = config["seed_everything"]
    module = class_name(config["model"]) if isinstance(config.get("model"), Mapping) else ""
    return (f"{code(module)} with\n\n" if module else "") + fenced_yaml(known) if known else ""


def results_text(results: Sequence[Mapping[str, Any]]) -> str:
    """A table of each stage's headline figures, or that nothing was measured."""
    if not results:
        return "These weights have not been evaluated by the run that trained them."
    parts = []
    for one in results:
        decoding = part(one, "decoding")
        heat = ", ".join(f"{t:g}" for t in decoding.get("temperatures") or [])
        stage = {"test": "Test", "val": "Validation"}[one["stage"]]
        draws = f", {decoding['num_samples']} samples each" if decoding.get("num_samples") else ""
        parts.append(
            f"{stage}: {one['problems']['count']:,} problems{draws}" + (f", temperature {heat}." if heat else ".")
        )
        rows = [f"| {plain(name)} | {value:.4g} | {interval_text(ci)} |" for name, value, ci in figures(one)]
        parts.append("\n".join(["| metric | mean | 95% interval over problems |", "|---|---:|---:|", *rows]))
    return "\n\n".join(parts)


def interval_text(ci: Sequence[float] | None) -> str:
    """An interval in a table."""
    return f"{ci[0]:.4g} to {ci[1]:.4g}" if ci and None not in ci else "–"


def record_text(run: Path) -> str:
    """Where the whole configuration lies, what training cost, and with which code and versions it ran."""
    record, budget = loaded(run / "run.json"), part(loaded(run / "budget.json"), "own")
    lines = ["- The whole configuration is `config.yaml` of the run folder."] if (run / "config.yaml").is_file() else []
    costs = [f"{value:,.0f} {COSTS.get(name, name.replace('_', ' '))}" for name, value in budget.items() if value]
    lines += [f"- Training spent {', '.join(costs)}."] if costs else []
    if record.get("git_revision"):
        dirty = ", with changes that were not committed" if record.get("git_dirty") else ""
        lines.append(f"- Git revision {code(record['git_revision'])}{dirty}.")
    versions = part(record, "versions")
    lines += [f"- Versions: {', '.join(f'{plain(k)} {plain(v)}' for k, v in versions.items())}."] if versions else []
    return "\n".join(lines)


def yaml_head(
    config: Mapping[str, Any], origin: Origin, training: Training, results: Sequence[Mapping[str, Any]]
) -> str:
    """The front matter that the Hugging Face hub reads."""
    data = part(config, "data")
    path = part(data, "init_args").get("path")
    set_name = str(path) if isinstance(path, str) and HUB_NAME.fullmatch(path) and not Path(path).exists() else None
    head: dict[str, Any] = {"library_name": origin.library, "license": origin.license, "base_model": origin.hub_name}
    head["pipeline_tag"] = origin.task
    head["tags"] = ["lightning-gfn", training.method]
    head["datasets"] = [set_name] if set_name else None
    if results and origin.task is not None:
        shown_name = set_name or class_name(data) or "unnamed"
        dataset: dict[str, Any] = {"type": set_name or re.sub(r"\W+", "-", shown_name).lower(), "name": shown_name}
        entries: list[dict[str, Any]] = [
            {
                "task": {"type": origin.task},
                "dataset": {**dataset, "split": {"val": "validation"}.get(one["stage"], one["stage"])},
                "metrics": [{"type": name, "name": name, "value": value} for name, value, _ in figures(one)],
            }
            for one in results
        ]
        head["model-index"] = [{"name": training.method, "results": entries}]
    head[OURS] = {"method": training.method, "step": training.step, "problems": dict(training.problems)}
    return yaml.safe_dump({key: value for key, value in head.items() if value}, sort_keys=False, allow_unicode=True)
