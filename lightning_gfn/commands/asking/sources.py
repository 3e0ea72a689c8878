"""Which model a command line means: a run, a model folder, a GGUF file, an installed model or one of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_gfn.sharding.checkpoint_folder import is_checkpoint_folder
from lightning_gfn.tracking.run_folder import RunFolder, RunFolderError

MODEL_FILES = ("config.json", "adapter_config.json")
CONFIG = "config.yaml"


@dataclass(frozen=True)
class ModelSource:
    """A model that can be asked, and the run that it comes from.

    Args:
        name: as it was given.
        pretrained: name or folder of the model; None where a checkpoint of a run holds it.
        run: folder of the run; None if no run is known.
        checkpoint: of the run; None where ``pretrained`` names the model.
        config: configuration of the run; empty if no run is known.
    """

    name: str
    pretrained: str | None = None
    run: Path | None = None
    checkpoint: Path | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} ({self.checkpoint})" if self.checkpoint is not None else self.name

    @property
    def policy_block(self) -> Mapping[str, Any]:
        """Class and arguments of the run's policy.

        Raises:
            ValueError: the run trains no policy.
        """
        block = section(self.config, "model", "init_args", "policy")
        if not isinstance(block.get("class_path"), str):
            what = section(self.config, "model").get("class_path", "no model")
            raise ValueError(f"{self.run}: the run trains {what}, which writes no text: name the run of a policy")
        return block

    @property
    def data_block(self) -> Mapping[str, Any]:
        """Class and arguments of the run's data set; empty if no run is known."""
        return section(self.config, "data")

    @property
    def is_prover(self) -> bool | None:
        """Whether the run trained on proofs; None if no run is known."""
        if not self.config:
            return None
        arguments = section(self.config, "model", "init_args")
        return arguments.get("proving") is not None or "lean" in str(self.data_block.get("class_path", "")).lower()


def section(config: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A part of a configuration; empty if it is missing or no mapping."""
    found: Any = config
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def find_source(name: str, checkpoint: str | None = None) -> ModelSource:
    """The model that a name means; nothing is loaded.

    Args:
        name: folder of a run or of a model, a checkpoint or GGUF file, an installed model, or one of the hub.
        checkpoint: of a run: ``last``, ``best`` or a path; None for the last one, or else the exported model.

    Raises:
        ValueError: a folder holds neither, or a checkpoint is asked of a model that is no run.
        FileNotFoundError: a path leads nowhere, or a model is not installed.
    """
    from lightning_gfn.policies.models.loading import check_pretrained

    path = Path(name).expanduser()
    if path.suffix == ".ckpt" and (path.is_file() or is_checkpoint_folder(path)):
        run = path.parent.parent if (path.parent.parent / CONFIG).is_file() else path.parent
        return ModelSource(name, run=run, checkpoint=path, config=read_config(run))
    if path.is_dir() and (path / CONFIG).is_file():
        return source_of_run(name, path, checkpoint)
    if checkpoint is not None:
        raise ValueError(f"--checkpoint {checkpoint} belongs to a run, but {name} is none: it has no {CONFIG}")
    if path.is_dir() and not any((path / file).is_file() for file in MODEL_FILES):
        raise ValueError(
            f"{name} holds neither a run ({CONFIG}) nor a model ({' or '.join(MODEL_FILES)}): name the folder of "
            "either, an installed model (lightning-gfn model list), or owner/model of the hub"
        )
    check_pretrained(name)
    home = path.parent if path.is_dir() and (path.parent / CONFIG).is_file() else None
    return ModelSource(name, pretrained=name, run=home, config=read_config(home) if home is not None else {})


def source_of_run(name: str, path: Path, checkpoint: str | None) -> ModelSource:
    """The model of a run folder: a checkpoint, or where there is none the exported model.

    Raises:
        ValueError: there is neither.
    """
    config, folder = read_config(path), RunFolder(path)
    try:
        found = folder.plan_evaluation(checkpoint)
    except RunFolderError as error:
        raise ValueError(str(error).replace("--ckpt_path", "--checkpoint")) from error
    if found is not None:
        return ModelSource(name, run=path, checkpoint=found, config=config)
    exported = path / "model"
    if not exported.is_dir():
        raise ValueError(
            f"{name}: the run has neither a checkpoint nor an exported model yet; train it: "
            f"lightning-gfn fit --config {path / CONFIG} --if_exists resume"
        )
    return ModelSource(name, pretrained=str(exported), run=path, config=config)


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of a run.

    Raises:
        ValueError: it is no YAML mapping.
    """
    import yaml

    file = run / CONFIG
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is no configuration of a run: expected a mapping, found {type(found).__name__}")
    return found
