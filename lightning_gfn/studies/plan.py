"""A plan lists the stages that a study file asks for, for every seed, each with those that it needs."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_gfn.studies.stages import Choice, Comparison, Stage, Study, StudyError, named_files
from lightning_gfn.studies.study_file import check_keys, read_content

TRAINER_COMMANDS = ("run", "fit", "test", "validate", "predict")
STAGE_KEYS = {
    "like", "command", "config", "overlays", "set", "arguments", "grid", "choose", "for", "method", "seed",
    "seed_keys", "needs",
}  # fmt: skip
COMPARE_KEYS = {"name", "stages", "baseline", "arguments"}
SEED_KEYS = ("seed_everything", "data.init_args.seed", "model.init_args.seed")
PLACEHOLDER = re.compile(r"\{(\w[\w.\-]*)\}")


def read_study(path: Path, *, output: Path | None = None, seeds: Sequence[int] | None = None) -> Study:
    """Read a study file and plan every stage for every seed.

    Args:
        path: the YAML file; file names in it are relative to its folder.
        output: folder of all runs, instead of the file's.
        seeds: instead of the file's.

    Raises:
        StudyError: the file is not a study; names the field.
    """
    content = read_content(path)
    study = Study(
        path=path,
        output=output if output is not None else Path(content.get("output", f"runs/{path.stem}")),
        seeds=tuple(seeds if seeds is not None else content.get("seeds", [0])),
        content=content,
    )
    planner = Planner(study)
    study.comparisons = tuple(planner.comparisons())
    compared = [name for comparison in study.comparisons for name in comparison.stages]
    for seed in study.seeds:
        for name in dict.fromkeys([*planner.own, *compared]):
            planner.require(name, seed)
    return study


def spelled(key: str, value: Any) -> tuple[str, str]:
    """A setting as two arguments of the command line."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"--{key}", text


def is_yaml_file(value: Any) -> bool:
    """True if a setting names a YAML file, which lies, as all files that a study names, relative to the study."""
    return isinstance(value, str) and re.fullmatch(r"[\w./-]+\.yaml", value) is not None


class Planner:
    """Makes stages out of a study's entries.

    Args:
        study: receives the stages.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.root = study.path.parent
        self.defaults: Mapping[str, Any] = study.content.get("defaults", {})
        self.search: Mapping[str, Any] = study.content.get("search", {})
        check_keys(study.path, "search", self.search, {"seed", "metric", "mode", "set"})
        self.entries: dict[str, dict[str, Any]] = {}
        self.expand(study.content.get("included", {}))
        self.own = self.expand(study.content["stages"])

    def expand(self, entries: Mapping[str, Any]) -> list[str]:
        """Make an entry for each combination of ``for`` values, with what it is like merged in; returns the names."""
        names = []
        for name, given in entries.items():
            variables = (given or {}).get("for", {})
            for values in itertools.product(*variables.values()):
                bound = dict(zip(variables, values, strict=True))
                own = {key: self.filled(value, bound) for key, value in (given or {}).items() if key != "for"}
                names.append(self.filled(name, bound))
                self.entries[names[-1]] = self.merged(names[-1], own)
        return names

    def merged(self, name: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """An entry on top of the default or the earlier stage that it is like.

        Raises:
            StudyError: names the file and the field.
        """
        check_keys(self.study.path, f"stages.{name}", own, STAGE_KEYS)
        like = own.get("like")
        known = {**self.entries, **self.defaults}
        if like is not None and like not in known:
            raise StudyError(f"{self.study.path}: stages.{name}.like names {like!r}, no default and no earlier stage")
        base = known[like] if like is not None else {}
        entry = {**base, **own}
        for part in ("set", "grid"):
            entry[part] = {**base.get(part, {}), **own.get(part, {})}
        entry["overlays"] = [*base.get("overlays", []), *own.get("overlays", [])]
        if "choose" in own or own.get("grid") == {}:
            entry["grid"] = {}
        return entry

    def filled(self, value: Any, names: Mapping[str, Any]) -> Any:
        """The value with ``{name}`` replaced; a text that is one placeholder takes the value with its type."""
        if isinstance(value, dict):
            return {self.filled(key, names): self.filled(item, names) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item, names) for item in value]
        if not isinstance(value, str):
            return value
        whole = PLACEHOLDER.fullmatch(value)
        if whole is not None and whole[1] in names:
            return names[whole[1]]
        return PLACEHOLDER.sub(lambda found: str(names[found[1]]) if found[1] in names else found[0], value)

    def require(self, name: str, seed: int) -> Stage:
        """The stage of an entry and a seed, or of the entry's own seed, planned with everything that it needs.

        Raises:
            StudyError: there is no such stage.
        """
        seed = int(self.entries.get(name, {}).get("seed", seed))
        key = f"{name}@{seed}"
        if key not in self.study.stages:
            entry = self.entries.get(name)
            if entry is None:
                raise StudyError(f"{self.study.path}: there is no stage {name!r} among {', '.join(self.entries)}")
            stage = self.stage(name, seed, entry, self.study.output / f"{name}_seed{seed}")
            self.study.stages.setdefault(key, stage)
        return self.study.stages[key]

    def stage(
        self,
        name: str,
        seed: int,
        entry: Mapping[str, Any],
        run_dir: Path,
        extra: Mapping[str, Any] | None = None,
    ) -> Stage:
        """One stage; ``extra`` makes it a candidate of a search.

        Args:
            name: of the entry.
            seed: of the run.
            entry: its merged settings.
            run_dir: its run folder.
            extra: settings that make it a candidate of a search; None otherwise.

        Raises:
            StudyError: names the file and the field.
        """
        given = entry.get("command", "run") if extra is None else "fit"
        commands = (given,) if isinstance(given, str) else tuple(given)
        trains = set(commands) <= set(TRAINER_COMMANDS)
        files = [*([entry["config"]] if "config" in entry else []), *entry["overlays"]]
        if trains:
            files = [*files[:1], *self.study.content.get("overlays", []), *files[1:]]
        paths = [self.root / file for file in files]
        named = {key: self.root / value for key, value in entry["set"].items() if is_yaml_file(value)}
        for path in [*paths, *named.values()]:
            if not path.is_file():
                raise StudyError(f"{self.study.path}: stages.{name}: {path} does not exist")
        needs = [self.require(needed, seed).key for needed in entry.get("needs", [])]
        arguments = [text for path in paths for text in ("--config", str(path))]
        if trains:
            arguments += self.trainer_arguments(name, seed, entry, run_dir, extra)
        settings = {**entry["set"], **{key: str(path) for key, path in named.items()}}
        more = [text for key, value in settings.items() for text in spelled(key, value)]
        more += [str(text) for text in entry.get("arguments", [])]
        more += [text for key, value in (extra or {}).items() for text in spelled(key, value)]
        arguments += [self.resolved(text, seed, run_dir, needs) for text in more]
        choice = (
            self.choice(entry.get("choose", name)) if extra is None and (entry["grid"] or "choose" in entry) else None
        )
        if choice is not None:
            needs += [key for key, _ in choice.candidates]
        return Stage(
            name=name,
            seed=seed,
            run_dir=run_dir,
            commands=commands,
            arguments=tuple(arguments),
            needs=tuple(dict.fromkeys(needs)),
            choice=choice,
            inputs=tuple(named_files([*paths, *named.values()])),
            is_search=extra is not None,
            method=entry.get("method", name),
        )

    def trainer_arguments(
        self,
        name: str,
        seed: int,
        entry: Mapping[str, Any],
        run_dir: Path,
        extra: Mapping[str, Any] | None,
    ) -> list[str]:
        """Run folder, seeds and the name of the method."""
        arguments = ["--run_dir", str(run_dir)]
        for key in entry.get("seed_keys", SEED_KEYS):
            arguments += spelled(key, seed)
        method = entry.get("method", name)
        arguments += ["--model.init_args.method", method]
        if extra is not None:
            arguments += [text for key, value in self.search.get("set", {}).items() for text in spelled(key, value)]
        return arguments

    def resolved(self, text: str, seed: int, run_dir: Path, needs: list[str]) -> str:
        """The argument with folders of stages put in; the stages that it names are added to ``needs``.

        Args:
            text: with ``{name}`` where a folder stands.
            seed: of the run.
            run_dir: of the run.
            needs: keys of the stages that it needs; added to.
        """
        fixed = {"seed": str(seed), "output": str(self.study.output), "run_dir": str(run_dir)}

        def value(found: re.Match[str]) -> str:
            if found[1] in fixed:
                return fixed[found[1]]
            if found[1] not in self.entries:
                return found[0]
            needed = self.require(found[1], seed)
            needs.append(needed.key)
            return str(needed.run_dir)

        return PLACEHOLDER.sub(value, text)

    def choice(self, name: str) -> Choice:
        """Plan the candidates of a stage's search: every combination of its grid, at the seed of the search.

        Raises:
            StudyError: there is no such stage, or it searches nothing.
        """
        entry = self.entries.get(name, {"grid": {}})
        if not entry["grid"]:
            raise StudyError(f"{self.study.path}: a stage has 'choose: {name}', but {name!r} is no stage with a grid")
        seed = int(self.search.get("seed", 1000))
        candidates = []
        for number, values in enumerate(itertools.product(*entry["grid"].values())):
            tried = dict(zip(entry["grid"], values, strict=True))
            own = f"{name}.search{number}"
            run_dir = self.study.output / "search" / f"{own}_seed{seed}"
            stage = self.stage(own, seed, {**entry, "method": name}, run_dir, extra=tried)
            self.study.stages.setdefault(stage.key, stage)
            candidates.append((stage.key, tuple(text for key, value in tried.items() for text in spelled(key, value))))
        mode = self.search.get("mode", "max")
        if mode not in ("max", "min"):
            raise StudyError(f"{self.study.path}: search.mode is {mode!r}, expected max or min")
        return Choice(tuple(candidates), self.search.get("metric", "solve_rate"), mode == "max")

    def comparisons(self) -> Iterator[Comparison]:
        """The comparisons that the study ends with.

        Raises:
            StudyError: names what is no stage.
        """
        for number, entry in enumerate(self.study.content.get("compare", [])):
            check_keys(self.study.path, f"compare[{number}]", entry, COMPARE_KEYS)
            for name in (found := [str(stage) for stage in entry["stages"]]):
                if name not in self.entries:
                    raise StudyError(f"{self.study.path}: compare[{number}].stages names {name!r}, which is no stage")
            arguments = tuple(str(text) for text in entry.get("arguments", []))
            yield Comparison(entry["name"], tuple(found), entry.get("baseline"), arguments)
