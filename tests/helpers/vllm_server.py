"""A process that speaks the part of vLLM's HTTP interface that the engine uses, on plain transformers and peft.

It samples as vLLM's sampler does: bias and allowed tokens, minimum length, temperature, top-k, top-p, then one draw by
exponential noise from the request's own generator. The states after a prompt are cached by model name and prompt, as
vLLM caches prefixes: whoever replaces weights must reset the cache. ``POST /_test`` sets what it is and what is wrong
with it:

* ``model``: folder to start anew from; also what a restart would do.
* ``lora``, ``dev_mode``, ``logprobs_mode``, ``max_model_len``, ``max_lora_rank``: flags of ``vllm serve``.
* ``lag``: weights and adapters take effect so many pushes late.
* ``fault``: ``shifted`` log-probabilities (those of the token before), ``temperature`` ignored, ``stop`` (the sampled
  end token alone has a log-probability), ``cut`` (ends early), ``foreign`` (a token that is barred), ``busy`` (a 503
  before each answer), ``old`` (does not know ``logprob_token_ids``).
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

FLAGS = {
    "lora": True, "dev_mode": True, "logprobs_mode": "processed_logprobs", "max_model_len": 64, "max_lora_rank": 16,
    "lag": 0, "fault": "",
}  # fmt: skip


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeVllm:
    """Model, adapters and flags."""

    def __init__(self, folder: str) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.start(folder)

    def start(self, folder: str, **flags: Any) -> None:
        self.folder, self.flags = folder, {**FLAGS, **flags}
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.adapted: Any = None
        self.adapters: dict[str, str] = {}
        self.version: str | None = None
        self.paused = self.updating = False
        self.group: dict[str, Any] | None = None
        self.pushed: list[Any] = []
        self.prefixes: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    # ------------------------------------------------------------ weights

    def delayed(self, newest: Any) -> Any | None:
        self.pushed.append(newest)
        late = len(self.pushed) - 1 - self.flags["lag"]
        return self.pushed[late] if late >= 0 else None

    def load_adapter(self, body: dict[str, Any]) -> str:
        from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

        if "lora_name" not in body or "lora_path" not in body:
            raise Refused(422, "Field required: lora_name, lora_path")
        name, path = body["lora_name"], body["lora_path"]
        if name in self.adapters:
            raise Refused(400, f"The lora adapter '{name}' has already been loaded.")
        rank = json.loads((Path(path) / "adapter_config.json").read_text())["r"]
        if rank > self.flags["max_lora_rank"]:
            raise Refused(400, f"LoRA rank {rank} is greater than max_lora_rank {self.flags['max_lora_rank']}.")
        if self.adapted is None:
            self.adapted = PeftModel.from_pretrained(self.model, path, adapter_name=name).eval()
        else:
            self.adapted.load_adapter(path, adapter_name=name)
        weights = {k: v.clone() for k, v in get_peft_model_state_dict(self.adapted, adapter_name=name).items()}
        late = self.delayed(weights)
        late = late if late is not None else {key: torch.zeros_like(value) for key, value in weights.items()}
        set_peft_model_state_dict(self.adapted, late, adapter_name=name)
        self.adapters[name] = path
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload_adapter(self, body: dict[str, Any]) -> str:
        if self.adapters.pop(body["lora_name"], None) is None:
            raise Refused(404, "The lora adapter cannot be found.")
        if self.adapters:
            self.adapted.set_adapter(next(iter(self.adapters)))
            self.adapted.delete_adapter(body["lora_name"])
        return "Success"

    def reload(self, path: str) -> None:
        if not self.paused:
            raise Refused(500, "reloading while requests may run")
        weights = load_file(Path(path) / "model.safetensors")
        late = self.delayed(weights)
        if late is not None:
            found = self.model.load_state_dict(late, strict=False)
            missing = set(found.missing_keys) - {"lm_head.weight"}
            if missing or found.unexpected_keys:
                raise Refused(500, f"weights do not fit: {missing or found.unexpected_keys}")

    # ------------------------------------------------------------ sampling

    def next_logits(self, name: str, prompt: list[int], rows: list[list[int]]) -> Tensor:
        """Logits after prompt and row, (n, V); those after the prompt alone come from the cache."""
        key = (name, tuple(prompt))
        if not rows[0] and key in self.prefixes:
            return self.prefixes[key].expand(len(rows), -1)
        if self.adapted is None:
            logits = self.model(torch.tensor([prompt + row for row in rows])).logits[:, -1]
        elif name in self.adapters:
            self.adapted.set_adapter(name)
            logits = self.adapted(torch.tensor([prompt + row for row in rows])).logits[:, -1]
        else:
            with self.adapted.disable_adapter():
                logits = self.adapted(torch.tensor([prompt + row for row in rows])).logits[:, -1]
        if not rows[0]:
            self.prefixes[key] = logits[:1]
        return logits

    def processed(self, logits: Tensor, body: dict[str, Any], length: int) -> Tensor:
        """Log-probabilities that are sampled by."""
        logits = logits.float().clone()
        for token, bias in (body.get("logit_bias") or {}).items():
            logits[:, int(token)] += max(-100.0, min(100.0, bias))
        if body.get("allowed_token_ids"):
            barred = torch.ones(logits.shape[1], dtype=torch.bool)
            barred[body["allowed_token_ids"]] = False
            logits[:, barred] = -torch.inf
        if length < body.get("min_tokens", 0):
            logits[:, body["stop_token_ids"]] = -torch.inf
        if self.flags["fault"] != "temperature":
            logits = logits / body["temperature"]
        if 0 < body.get("top_k", 0) < logits.shape[1]:
            logits[logits < logits.topk(body["top_k"]).values[:, -1:]] = -torch.inf
        if body.get("top_p", 1.0) < 1.0:
            ordered, order = logits.sort(descending=False)
            cut = ordered.softmax(1).cumsum(1) <= 1 - body["top_p"]
            cut[:, -1] = False
            logits[torch.zeros_like(cut).scatter(1, order, cut)] = -torch.inf
        return logits.log_softmax(1)

    @torch.no_grad()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        name, prompt, n = body["model"], body["prompt"], body["n"]
        if name != "base" and name not in self.adapters:
            raise Refused(404, f"The model `{name}` does not exist.")
        room = self.flags["max_model_len"] - len(prompt)
        if room < body["max_tokens"]:
            raise Refused(400, f"'max_tokens' is too large: {body['max_tokens']}, this model has room for {room}")
        generators = [torch.Generator().manual_seed(body.get("seed", 0) + i) for i in range(n)]
        rows: list[list[int]] = [[] for _ in range(n)]
        found: list[list[dict[str, float]]] = [[] for _ in range(n)]
        live = list(range(n))
        ends = set(body.get("stop_token_ids", ()))
        while live:
            length = len(rows[live[0]])
            raw = self.next_logits(name, prompt, [rows[i] for i in live])
            log_probs = self.processed(raw, body, length)
            shown = log_probs if self.flags["logprobs_mode"] == "processed_logprobs" else raw.log_softmax(1)
            for i, draw, show in zip(live, log_probs.exp(), shown, strict=True):
                noise = torch.empty_like(draw).exponential_(generator=generators[i])
                token = int((draw / noise).argmax())
                if self.flags["fault"] == "foreign":
                    token = 0
                rows[i].append(token)
                asked = [] if self.flags["fault"] == "old" else body.get("logprob_token_ids") or []
                if self.flags["fault"] == "stop":
                    show = torch.where(torch.arange(len(show)) == token, show, -torch.inf)
                found[i].append({f"token_id:{k}": max(float(show[k]), -9999.0) for k in (token, *asked)})
            limit = body["max_tokens"] - (self.flags["fault"] == "cut")
            live = [i for i in live if rows[i][-1] not in ends and len(rows[i]) < limit]
        return {"choices": [self.choice(i, rows[i], found[i], ends) for i in range(n)]}

    def choice(self, index: int, row: list[int], found: list[dict[str, float]], ends: set[int]) -> dict[str, Any]:
        own = [top[f"token_id:{token}"] for token, top in zip(row, found, strict=True)]
        if self.flags["fault"] == "shifted":
            own, found = [*own[-1:], *own[:-1]], [*found[-1:], *found[:-1]]
        return {
            "index": index, "text": "", "finish_reason": "stop" if row[-1] in ends else "length", "token_ids": row,
            "logprobs": {"tokens": [f"token_id:{t}" for t in row], "token_logprobs": own, "top_logprobs": found},
        }  # fmt: skip

    # ------------------------------------------------------------ routes

    def answer(self, path: str, body: dict[str, Any]) -> Any:
        route, _, query = path.partition("?")
        self.counts[route] += 1
        if route == "/_test":
            if "model" in body:
                self.counts.clear()
                self.most_at_once = 0
                self.start(body.pop("model"), **body)
            self.flags.update(body)
            return {
                "counts": dict(self.counts),
                "most_at_once": self.most_at_once,
                "adapters": self.adapters,
                "group": self.group,
            }
        if self.flags["fault"] == "busy" and self.counts[route] % 2:
            raise Refused(503, "Service Unavailable")
        if route == "/v1/models":
            cards = [{"id": "base", "root": self.folder, "parent": None, "max_model_len": self.flags["max_model_len"]}]
            return {"data": cards + [{"id": name, "root": path, "parent": "base"} for name, path in
                                     self.adapters.items()]}  # fmt: skip
        if route == "/v1/completions":
            if self.paused:
                raise Refused(503, "paused")
            return self.complete(body)
        if route.endswith("load_lora_adapter") and self.flags["lora"]:
            return self.load_adapter(body) if route == "/v1/load_lora_adapter" else self.unload_adapter(body)
        if not self.flags["dev_mode"] or route not in WEIGHT_ROUTES:
            raise Refused(404, "Not Found")
        return WEIGHT_ROUTES[route](self, body, query)


def pause(server: FakeVllm, body: dict[str, Any], query: str) -> dict[str, Any]:
    if query != "mode=wait":
        raise Refused(400, "this would abort running requests")
    server.paused = True
    return {"status": "paused"}


def resume(server: FakeVllm, body: dict[str, Any], query: str) -> dict[str, Any]:
    server.paused = False
    return {"status": "resumed"}


def collective_rpc(server: FakeVllm, body: dict[str, Any], query: str) -> dict[str, Any]:
    if body["method"] != "reload_weights":
        raise Refused(500, f"unknown method {body['method']}")
    server.reload(body["kwargs"]["weights_path"])
    return {"results": [None]}


def reset_prefix_cache(server: FakeVllm, body: dict[str, Any], query: str) -> dict[str, Any]:
    server.prefixes.clear()
    return {"success": True}


def update_weight_version(server: FakeVllm, body: dict[str, Any], query: str) -> dict[str, Any]:
    server.version = body["new_version"]
    return {"success": True}


def init_weight_transfer_engine(server: FakeVllm, body: dict[str, Any], query: str) -> dict[str, Any]:
    server.group = body["init_info"]
    return {"message": "Weight transfer initialized"}


def start_weight_update(server: FakeVllm, body: dict[str, Any], query: str) -> dict[str, Any]:
    if server.group is None:
        raise Refused(500, "no weight transfer engine")
    server.updating = True
    return {"message": "Weight update started"}


def update_weights(server: FakeVllm, body: dict[str, Any], query: str) -> dict[str, Any]:
    """What the trainer's stand-in broadcasts lies in a folder."""
    if not server.updating:
        raise Refused(500, "no weight update was started")
    server.reload(body["update_info"]["path"])
    return {"message": "Weights updated"}


def finish_weight_update(server: FakeVllm, body: dict[str, Any], query: str) -> dict[str, Any]:
    server.updating = False
    return {"message": "Weight update finished"}


WEIGHT_ROUTES = {
    "/get_world_size": lambda server, body, query: {"world_size": 2},
    "/init_weight_transfer_engine": init_weight_transfer_engine,
    "/start_weight_update": start_weight_update,
    "/update_weights": update_weights,
    "/finish_weight_update": finish_weight_update,
    "/pause": pause,
    "/resume": resume,
    "/collective_rpc": collective_rpc,
    "/reset_prefix_cache": reset_prefix_cache,
    "/update_weight_version": update_weight_version,
    "/weight_info": lambda server, body, query: {"weight_version": server.version},
}


def make_handler(server: FakeVllm) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.respond({})

        def do_POST(self) -> None:
            self.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def respond(self, body: dict[str, Any]) -> None:
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                with server.lock:
                    status, found = 200, server.answer(self.path, body)
            except Refused as error:
                status, found = error.status, {"error": {"message": str(error), "code": error.status}}
            except Exception as error:
                status, found = 500, {"error": {"message": repr(error)}}
            finally:
                server.at_once -= 1
            payload = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *arguments: Any) -> None:
            """Nothing on the screen."""

    return Handler


def main(folder: str, port: str) -> None:
    torch.set_num_threads(1)
    http = ThreadingHTTPServer(("127.0.0.1", int(port)), make_handler(FakeVllm(folder)))
    print(f"http://127.0.0.1:{http.server_address[1]}", flush=True)
    http.serve_forever(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
