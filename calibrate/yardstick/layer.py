"""A whole transformer block, with memory and by operators."""
import time

import torch
import torch.nn.functional as F

from attention import attend, backend_context
from bench import all_finite
from common import quantile
from gemm import LLAMA, layer_matrices
from memory_bound import angles, rms_norm, rope, swiglu


class Block:
    """One transformer block in plain PyTorch. `mark(name, tensor)` sees every operator's output."""

    def __init__(self, b, model, length, backend):
        self.hidden, self.heads, self.kv_heads, ffn = LLAMA[model]
        self.dim, self.backend = self.hidden // self.heads, backend
        weight = lambda rows, cols: b.fresh(rows, cols, scale=cols**-0.5).requires_grad_()
        matrices = layer_matrices(model, 1)
        self.qkv, self.out, self.gate_up, self.down = (weight(n, k) for _, n, k in matrices)
        self.norm1, self.norm2 = (
            torch.ones(self.hidden, device=b.device, dtype=torch.bfloat16).requires_grad_()
            for _ in range(2)
        )
        self.cos, self.sin = angles(b, length, self.dim)
        self.parameters = [self.qkv, self.out, self.gate_up, self.down, self.norm1, self.norm2]
        self.mark = lambda name, tensor: tensor

    def forward(self, x):
        mark, batch, length = self.mark, x.shape[0], x.shape[1]
        h = mark("norm1", rms_norm(mark("input", x), self.norm1))
        h = mark("qkv", F.linear(h, self.qkv)).unflatten(
            -1, (self.heads + 2 * self.kv_heads, self.dim)
        )
        q, k, v = h.split((self.heads, self.kv_heads, self.kv_heads), 2)
        k = rope(k, self.cos, self.sin)
        q = mark("rope", rope(q, self.cos, self.sin))
        with backend_context(self.backend):
            h = attend(self.backend, *(t.transpose(1, 2) for t in (q, k, v)), True)
        h = mark("attention", h.transpose(1, 2).reshape(batch, length, self.heads * self.dim))
        h = mark("out", F.linear(h, self.out))
        x = mark("add1", x + h)
        h = mark("norm2", rms_norm(x, self.norm2))
        h = mark("gate_up", F.linear(h, self.gate_up))
        h = mark("swiglu", swiglu(h))
        h = mark("down", F.linear(h, self.down))
        return mark("add2", x + h)


def layer_flops(model, length):
    hidden, heads, _, _ = LLAMA[model]
    return (
        2 * length * sum(n * k for _, n, k in layer_matrices(model, 1)) + 2 * length**2 * hidden
    )


def layer_body(b, model, length, way, recompute, backend):
    b.clean()
    start = torch.cuda.memory_allocated() if b.cuda else 0
    block, x = (
        Block(b, model, length, backend),
        b.fresh(1, length, LLAMA[model][0]).requires_grad_(),
    )
    dy, held = b.fresh(1, length, LLAMA[model][0]), {}
    base = torch.cuda.memory_allocated() if b.cuda else 0

    def forward():
        if recompute == "full":
            from torch.utils.checkpoint import checkpoint

            return checkpoint(block.forward, x, use_reentrant=False)
        return block.forward(x)

    def step():
        for t in block.parameters + [x]:
            t.grad = None
        y = forward()
        if "held_bytes" not in held and b.cuda:
            held["held_bytes"] = (
                torch.cuda.memory_allocated() - base
            )  # saved for backward, output included
        if way == "forward_backward":
            y.backward(dy)
        return y

    out = b.time([step], target_s=0.15)
    good = all_finite(x.grad if way == "forward_backward" else step())
    factor = 1 if way == "forward" else 3 if recompute == "none" else 4
    return {
        **out,
        **held,
        "weights_and_inputs_bytes": base - start,
        "flops": factor * layer_flops(model, length),
        "verified": good,
    }


def operators_body(b, model, length, backend):
    """Times between the marks of a block: forward in order, backward by hooks on its tensors."""
    block, x = (
        Block(b, model, length, backend),
        b.fresh(1, length, LLAMA[model][0]).requires_grad_(),
    )
    dy, rows = b.fresh(1, length, LLAMA[model][0]), {}
    for repeat in range(6):
        forward, backward = [], []

        def stamp(into, name):
            event = torch.cuda.Event(enable_timing=True) if b.cuda else None
            into.append((name, event or time.perf_counter()))
            if event:
                event.record()

        def mark(name, tensor):
            stamp(forward, name)
            if tensor.requires_grad:
                tensor.register_hook(lambda g, name=name: stamp(backward, name))
            return tensor

        block.mark = mark
        leaf = (
            x.detach().requires_grad_() * 1
        )  # a non-leaf, so that its hook runs at the end of the block
        if b.cuda:
            torch.cuda._sleep(int(4e6))  # keep the host ahead
        y = block.forward(leaf)
        stamp(backward, "start")
        y.backward(dy)
        b.sync()
        between = lambda p, q: p.elapsed_time(q) * 1e3 if b.cuda else (q - p) * 1e6
        for (_, p), (name, q) in zip(forward, forward[1:]):
            rows.setdefault(name, {"forward_us": [], "backward_us": []})["forward_us"].append(
                between(p, q)
            )
        order = [name for name, _ in forward]
        for (_, p), (name, q) in zip(backward, backward[1:]):
            # The gradient of `name` is ready: the operator after it has just been run backward.
            follower = {"add1": "norm2"}.get(name) or (
                order[order.index(name) + 1] if name != "add2" else "output"
            )
            rows.setdefault(follower, {"forward_us": [], "backward_us": []})["backward_us"].append(
                between(p, q)
            )
        for t in block.parameters:
            t.grad = None
    median = lambda v: round(quantile(v[1:], 0.5), 2) if len(v) > 1 else None
    table = {name: {k: median(v) for k, v in row.items()} for name, row in rows.items()}
    total = sum(v or 0 for row in table.values() for v in row.values())
    return {
        "value_us_median": round(total, 2),
        "repeats": 5,
        "operators": table,
        "flops": 3 * layer_flops(model, length),
        **b.monitor.read(),
    }


def section_layer(b):
    backend = "cudnn" if b.cuda else "math"

    def grid(
        models,
        lengths,
        ways=("forward_backward", "forward"),
        recomputes=("none", "full"),
        detail=True,
    ):
        for length in lengths:
            for model in models:
                for recompute in recomputes:
                    for way in ways:
                        fields = {
                            "op": "layer",
                            "model": model,
                            "tokens": length,
                            "way": way,
                            "recompute": recompute,
                            "mask": "causal",
                            "dtype": "bf16",
                            "backend": backend,
                        }
                        b.point(
                            fields,
                            lambda: layer_body(b, model, length, way, recompute, backend),
                            seconds=1
                            + layer_flops(model, length) * 1e-14 * (1 if way == "forward" else 4),
                        )
                if detail:
                    b.point(
                        {
                            "op": "layer_operators",
                            "model": model,
                            "tokens": length,
                            "mask": "causal",
                            "dtype": "bf16",
                            "backend": backend,
                        },
                        lambda: operators_body(b, model, length, backend),
                        seconds=1 + layer_flops(model, length) * 6e-14,
                    )

    if b.smoke:
        return grid(["tiny"], [32])
    both = ["llama-8b", "llama-70b"]
    grid(both, [16384, 65536, 4096, 32768])
    grid(both, [131072, 8192], ways=("forward_backward",))
    grid(["llama-8b"], [262144], ways=("forward_backward",), detail=False)
    grid(
        ["llama-70b"],
        [262144],
        ways=("forward_backward",),
        recomputes=("full", "none"),
        detail=False,
    )
    grid(both, [131072, 8192, 262144], ways=("forward",), detail=False)
