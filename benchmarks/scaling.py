"""Memory and traffic of a training step over many GPUs; ``python -m benchmarks.scaling`` prints the table of the docs.

What a token keeps is measured on small models (tests hold the constants to them); sizes of devices and networks are
what their makers publish, and assumptions here.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

HIDDEN_BYTES, INTERMEDIATE_BYTES, KEY_BYTES = 40, 12, 4
"""Bytes that one layer keeps of a token for its backward pass, in bfloat16 with LoRA, for each unit of these widths."""
LAYER_INPUT_BYTES = 2
"""Bytes of a layer's input, which is all that recomputation keeps, for each unit of the hidden width."""
PEAK_OVER_ESTIMATE = 1.08
"""Measured peak over what is counted, SmolLM2-135M: allocator, temporary buffers."""
LOGIT_BYTES = 3 * 4 * 2**25
"""Tables of logits at the default of ``max_logits``."""
WIDE, NARROW = 4, 2
SERVER_BYTES, SAMPLING_SHARE = 40e9, 0.6
"""Memory that a sampling GPU gives to weights, and the share of its bandwidth that sampling reaches (our target)."""


@dataclass(frozen=True)
class Transformer:
    """Sizes of a dense Llama-like model.

    Args:
        name: for the table.
        layers: of the decoder.
        hidden: width of the residual stream.
        intermediate: width inside the MLP.
        key_width: of the keys of a layer.
        vocabulary: words; embedding and output layer are two matrices.
    """

    name: str
    layers: int
    hidden: int
    intermediate: int
    key_width: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Weights of one layer."""
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.key_width
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def weights(self) -> int:
        """Weights in all."""
        return self.layers * self.layer_weights + 2 * self.vocabulary * self.hidden + self.hidden

    @property
    def token_bytes(self) -> int:
        """Activations that recomputation holds of a token: the inputs of all layers, and one layer."""
        layer = HIDDEN_BYTES * self.hidden + INTERMEDIATE_BYTES * self.intermediate + KEY_BYTES * self.key_width
        return self.layers * LAYER_INPUT_BYTES * self.hidden + layer

    def adapter_weights(self, rank: int) -> int:
        """Weights of adapters on all linear layers."""
        inputs_and_outputs = (
            2 * (self.hidden + self.hidden) + 2 * (self.hidden + self.key_width) + 3 * (self.hidden + self.intermediate)
        )
        return self.layers * rank * inputs_and_outputs


@dataclass(frozen=True)
class Step:
    """An optimiser step and the machines that take it.

    Args:
        rows: trajectories of the step.
        tokens: of a row, prompt included.
        new_tokens: of them sampled.
        pass_tokens: ``budget.max_tokens_per_pass``.
        training: GPUs that train.
        sampling: GPUs that sample by vLLM beside them; 0 if the training ones sample.
        rank: of the adapter; 0 trains all weights.
        network: bytes a second that a GPU receives from others.
        bandwidth: bytes a second of a GPU's memory.
        flops: operations a second of a GPU, bfloat16.
        utilisation: share of them that training reaches.
    """

    rows: int = 1024
    tokens: int = 2048
    new_tokens: int = 1536
    pass_tokens: int = 16384
    training: int = 48
    sampling: int = 16
    rank: int = 0
    network: float = 50e9
    bandwidth: float = 3.35e12
    flops: float = 989e12
    utilisation: float = 0.45

    @property
    def gathered_bytes(self) -> int:
        """Bytes of a weight on its way between GPUs: FSDP2 gathers weights as they are stored."""
        return NARROW if self.rank else WIDE


def memory(model: Transformer, step: Step) -> dict[str, float]:
    """Bytes on each training GPU under FSDP2 with recomputed activations.

    Args:
        model: that is trained.
        step: how.
    """
    trained = model.adapter_weights(step.rank) if step.rank else model.weights
    frozen = model.weights * NARROW / step.training if step.rank else 0.0
    stays: dict[str, float] = {
        "weights": frozen + trained * WIDE / step.training,
        "gradients and moments": 3 * trained * WIDE / step.training,
    }
    passing: dict[str, float] = {
        "gathered layers": 2 * model.layer_weights * step.gathered_bytes,
        "gathered output matrix": model.vocabulary * model.hidden * step.gathered_bytes,
        "activations": step.pass_tokens * model.token_bytes,
        "logits": LOGIT_BYTES,
    }
    sampling: dict[str, float] = {}
    if not step.sampling:
        stays["sampler's copy"] = model.weights * NARROW
        sampling["gathered for sampling"] = model.weights * step.gathered_bytes
    peak = sum(stays.values()) + max(sum(passing.values()), sum(sampling.values()))
    return {**stays, **passing, **sampling, "peak": PEAK_OVER_ESTIMATE * peak}


def traffic(model: Transformer, step: Step) -> dict[str, float]:
    """Bytes that each training GPU receives in an optimiser step.

    Args:
        model: that is trained.
        step: how.
    """
    others = (step.training - 1) / step.training
    passes = -(-step.rows * step.tokens // (step.training * step.pass_tokens))
    trained = model.adapter_weights(step.rank) if step.rank else model.weights
    sampled = trained * NARROW if step.sampling else model.weights * step.gathered_bytes
    return {
        "weights for the passes": 2 * passes * others * model.weights * step.gathered_bytes,
        "gradients": passes * others * trained * WIDE,
        "weights for sampling": others * sampled,
    }


def seconds(model: Transformer, step: Step) -> dict[str, float]:
    """Seconds of the parts of an optimiser step, at the rates assumed.

    Args:
        model: that is trained.
        step: how.
    """
    factor = 4 if step.rank else 6  # frozen weights need no gradient
    recomputed = 2
    work = (factor + recomputed) * model.weights * step.rows * step.tokens
    samplers = step.sampling or step.training
    # Every copy of the weights, which one GPU or several hold, is read once a token for all of its rows.
    copies = min(samplers, max(1, samplers * SERVER_BYTES // (model.weights * NARROW)))
    positions = step.rows * (step.tokens - step.new_tokens / 2)
    cache = 2 * model.layers * model.key_width * NARROW * positions
    rate = samplers * SAMPLING_SHARE * step.bandwidth
    sampling = step.new_tokens * (copies * model.weights * NARROW + cache) / rate
    return {
        "training": work / (step.training * step.utilisation * step.flops),
        "network": sum(traffic(model, step).values()) / step.network,
        "sampling": sampling,
    }


LLAMA_8B = Transformer("8B", 32, 4096, 14336, 1024, 128256)
LLAMA_70B = Transformer("70B", 80, 8192, 28672, 1024, 128256)
CASES = {
    "8B, full, 8 GPUs": (LLAMA_8B, Step(training=8, sampling=0, rows=256)),
    "8B, LoRA 32, 8 GPUs": (LLAMA_8B, Step(training=8, sampling=0, rows=256, rank=32)),
    "70B, full, 48 + 16 GPUs": (LLAMA_70B, Step()),
    "70B, LoRA 32, 48 + 16 GPUs": (LLAMA_70B, Step(rank=32)),
}


def table() -> str:
    """Memory (GB), traffic (GB) and seconds of every case, as Markdown."""
    columns = [(memory(*case), traffic(*case), seconds(*case)) for case in CASES.values()]
    lines = [["a training GPU", *CASES], ["---"] * (1 + len(CASES))]
    for number, (head, scale, unit) in enumerate((("memory", 1e9, "GB"), ("receives", 1e9, "GB"), ("time", 1.0, "s"))):
        for name in dict.fromkeys(name for column in columns for name in column[number]):
            values = [column[number].get(name) for column in columns]
            cells = ["–" if value is None else f"{value / scale:,.1f}" for value in values]
            lines.append([f"{head}: {name}, {unit}", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__).parse_args()
    print(table())
