"""Class maps as a command line names them: ``rouge,threshold=0.8``."""

from __future__ import annotations

from importlib import import_module

from lightning_gfn.solution_classes.base import SolutionClasses

SHORT_NAMES = {
    "known_paths": "known_paths.KnownPaths",
    "equations": "equations.EquationClasses",
    "skeleton": "skeleton.SkeletonClasses",
    "rouge": "clusters.RougeClusters",
    "embedding": "clusters.EmbeddingClusters",
    "first_tactic": "proofs.FirstTactic",
    "lemmas": "proofs.LemmaSets",
    "script": "proofs.ScriptSkeleton",
    "function": "function.FunctionClasses",
    "judge": "judge.JudgeClasses",
}


def classes_named(text: str) -> SolutionClasses:
    """The class map of a name and its settings.

    Args:
        text: a key of ``SHORT_NAMES``, then settings as ``key=value``, all divided by commas, such as
            ``rouge,threshold=0.8,linkage=leaders`` or ``function,function=mine.py:f``.

    Raises:
        ValueError: there is no such name, or the class map refuses the settings.
    """
    import yaml

    name, *settings = text.split(",")
    if name not in SHORT_NAMES:
        raise ValueError(f"classes {text!r}: unknown name {name!r}; use one of {', '.join(SHORT_NAMES)}")
    arguments = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign:
            raise ValueError(f"classes {text!r}: {setting!r} is no setting; write {name},key=value")
        arguments[key] = yaml.safe_load(value)
    module, _, kind = SHORT_NAMES[name].rpartition(".")
    try:
        made: SolutionClasses = getattr(import_module(f"lightning_gfn.solution_classes.{module}"), kind)(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"classes {text!r}: {error}") from error
    return made
