"""Reading a study file, with the studies that it includes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_gfn.installation.yaml_files import YamlFileError, read_yaml
from lightning_gfn.studies.stages import StudyError

STUDY_KEYS = {"include", "output", "seeds", "overlays", "search", "defaults", "stages", "compare"}


def read_content(path: Path) -> dict[str, Any]:
    """The mapping of a study file; an included study gives whatever the file does not say itself.

    Stages and defaults of the included study can be built upon; they run only where they are needed.

    Raises:
        StudyError: the file cannot be read or is malformed.
    """
    try:
        content = read_yaml(path)
    except YamlFileError as error:
        raise StudyError(f"{error}: give the file of a study") from error
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise StudyError(f"{path}: expected a mapping with the field 'stages'")
    check_keys(path, "the study", content, STUDY_KEYS)
    if "include" not in content:
        return content
    base = read_content(path.parent / content["include"])
    known = {**base.get("included", {}), **base["stages"]}
    defaults = {**base.get("defaults", {}), **content.get("defaults", {})}
    kept = {name: value for name, value in base.items() if name not in ("compare", "stages")}
    return {**kept, **content, "defaults": defaults, "included": known}


def check_keys(path: Path, where: str, given: Mapping[str, Any], known: set[str]) -> None:
    """Refuse fields that nobody reads.

    Args:
        path: the study file.
        where: the entry, named in the error.
        given: its fields.
        known: fields that are read.

    Raises:
        StudyError: names the field.
    """
    if unknown := sorted(given.keys() - known):
        raise StudyError(f"{path}: {where} has the unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
