"""The calls of vLLM's HTTP interface that sampling and pushing weights need."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from lightning_gfn.endpoints.http_json import RETRIED_STATUS, Endpoint, EndpointError
from lightning_gfn.policies.vllm.settings import VllmSettings

MAX_REPLY_BYTES = 2**30
MAX_BACKOFF_SECONDS = 30.0
COMPLETIONS = "/v1/completions"
LOWEST_VERSION = "0.28"
SERVE_ADAPTERS = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve … --enable-lora --max-lora-rank RANK"
SERVE_WEIGHTS = "VLLM_SERVER_DEV_MODE=1 vllm serve …"


class VllmError(OSError):
    """The server cannot do what is asked of it; the message names it and the remedy."""


class UnknownModelError(VllmError):
    """The server has no model of the name that was asked for."""


class VllmServer:
    """A vLLM server by its address.

    Args:
        settings: how it is asked.
    """

    def __init__(self, settings: VllmSettings) -> None:
        key = os.environ.get(settings.key_variable) if settings.key_variable is not None else None
        self.url = settings.url.rstrip("/")
        self.endpoint = Endpoint(
            self.url,
            key,
            settings.timeout_seconds,
            settings.max_retries,
            settings.backoff_seconds,
            MAX_BACKOFF_SECONDS,
            MAX_REPLY_BYTES,
        )
        # Here a 500 is a refusal of what was asked for, not a server that may come back.
        self.control = replace(self.endpoint, retried_status=RETRIED_STATUS - {500})

    def refusal(self, what: str) -> VllmError:
        """An error that names the server."""
        return VllmError(f"policy.vllm.url {self.url}: {what}")

    # ---------------------------------------------------------------- looking

    def check_is_there(self) -> None:
        """Ask once.

        Raises:
            VllmError: if there is no answer.
        """
        try:
            replace(self.endpoint, max_retries=0).ask("/v1/models", None, _read_object)
        except EndpointError as error:
            raise self.refusal(
                f"no vLLM server answers there ({_said(error)}): start one (docs/vllm.md) or set url"
            ) from None

    def models(self) -> list[dict[str, Any]]:
        """What the server serves: its own model first, then adapters, which have a ``parent``."""
        found = self._ask("/v1/models", None).get("data")
        if not isinstance(found, list) or not found:
            raise self.refusal("/v1/models lists no model: is it a vLLM server?")
        return found

    def has_adapter_route(self) -> bool:
        """True if adapters can be loaded at run time."""
        return self._status("/v1/load_lora_adapter", {}) != 404

    def has_weight_routes(self) -> bool:
        """True if weights can be reloaded."""
        return self._status("/weight_info", None) != 404

    def weight_version(self) -> str | None:
        """The version that was named last; None or a name that the server chose where none was."""
        version = self._ask("/weight_info", None).get("weight_version")
        return None if version is None else str(version)

    # ---------------------------------------------------------------- sampling

    def complete(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Completions of one prompt.

        Raises:
            UnknownModelError: if the server lost the adapter that was asked for.
            VllmError: if it refuses or does not answer.
        """
        choices = self._ask(COMPLETIONS, body).get("choices")
        if not isinstance(choices, list) or len(choices) != body["n"]:
            raise self.refusal(f"the reply does not hold the {body['n']} completions that were asked for")
        return sorted(choices, key=lambda choice: choice["index"])

    # ---------------------------------------------------------------- weights

    def load_adapter(self, name: str, path: str) -> None:
        """Serve the adapter of a folder under a name, unless there is one of that name."""
        try:
            self._ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, as_text=True)
        except VllmError:
            if name not in {model["id"] for model in self.models()}:
                raise

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; nothing if it is not there."""
        if name in {model["id"] for model in self.models()}:
            self._ask("/v1/unload_lora_adapter", {"lora_name": name}, as_text=True)

    def reload(self, path: str) -> None:
        """Replace the weights by those of a folder; inside ``replacing``."""
        body = {"method": "reload_weights", "kwargs": {"weights_path": path}}
        self._ask("/collective_rpc", body, as_text=True)

    @contextmanager
    def replacing(self, version: str) -> Iterator[None]:
        """Inside, no request runs and the weights may be replaced; afterwards no prefix of the old ones is cached.

        Args:
            version: what the new weights are called, unless replacing them fails.
        """
        self._ask("/pause?mode=wait", {})
        try:
            yield
            if not self._ask("/reset_prefix_cache", {}).get("success", True):
                raise self.refusal("the prefix cache could not be reset: is another client using the server?")
            self._ask("/update_weight_version", {"new_version": version})
        finally:
            self._ask("/resume", {})

    # ---------------------------------------------------------------- the client that vLLM's trainer side drives

    def num_workers(self) -> int:
        """Processes that hold the weights."""
        return int(self._ask("/get_world_size", None)["world_size"])

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Let the workers join a group."""
        self._ask("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Prepare the workers."""
        self._ask("/start_weight_update", {})

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Let the workers receive; returns when they have."""
        self._ask("/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Let the workers use what they received."""
        self._ask("/finish_weight_update", {} if weight_version is None else {"weight_version": weight_version})

    def shutdown_weight_transfer_engine(self) -> None:
        """Let the workers leave the group."""
        self._ask("/shutdown_weight_transfer_engine", {})

    # ---------------------------------------------------------------- asking

    def _ask(self, path: str, body: dict[str, Any] | None, *, as_text: bool = False) -> dict[str, Any]:
        try:
            endpoint = self.endpoint if path == COMPLETIONS else self.control
            return endpoint.ask(path, body, _ignore if as_text else _read_object)
        except EndpointError as error:
            said = _said(error)
            if error.status == 404 and path == COMPLETIONS:
                raise UnknownModelError(f"policy.vllm.url {self.url}: {said}") from None
            route = path.partition("?")[0]
            raise self.refusal(f"{route}: {said}{_remedy(said, route)}") from None

    def _status(self, path: str, body: dict[str, Any] | None) -> int:
        """The status of an answer; 200 for a success."""
        try:
            self.control.ask(path, body, _ignore)
        except EndpointError as error:
            if error.status is None:
                raise self.refusal(f"{path}: {error}") from None
            return error.status
        return 200


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise EndpointError(f"the reply is no JSON ({error})", retry_after=0.0) from None
    if not isinstance(found, dict):
        raise EndpointError("the reply is no JSON object")
    return found


def _ignore(body: bytes) -> dict[str, Any]:
    return {}


def _said(error: EndpointError) -> str:
    """What the server said, where it said something; on one line."""
    text = error.detail
    try:
        found = json.loads(text)
        inner = found.get("error", found.get("detail", found.get("message", found)))
        text = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    except (ValueError, AttributeError):
        pass
    return " ".join((f"{error.status}: {text}" if text else str(error)).split())[:500]


def _remedy(said: str, route: str) -> str:
    """What to do about what the server said."""
    if "lora" in route:
        return (
            "; an adapter needs a server started with --enable-lora, --max-lora-rank of at least lora.rank, and the "
            "same path to vllm.folder"
        )
    if route == "/init_weight_transfer_engine":
        return """; start it with --weight-transfer-config '{"backend": "nccl"}'"""
    if route == "/collective_rpc":
        return "; the server needs a model of the policy's architecture and the same path to vllm.folder"
    if "allowed token ids" in said.lower() or "logit bias" in said.lower():
        return "; start it with VLLM_USE_V2_MODEL_RUNNER=0, or allow fewer tokens"
    return ""
