"""The vendor's attention, forward and backward."""
import contextlib
import math
import time

import torch
import torch.nn.functional as F

from bench import all_finite, relative_error
from common import failure_status


def backend_context(backend):
    if backend in ("fa3", "math"):
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(
        {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}[backend]
    )


def attend(backend, q, k, v, causal):
    """q: batch, heads, length, dim (a view of batch, length, heads, dim); k, v: heads or fewer."""
    if backend == "fa3":
        import flash_attn_interface

        out = flash_attn_interface.flash_attn_func(
            *(t.transpose(1, 2) for t in (q, k, v)), causal=causal
        )
        return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)
    group = q.shape[1] // k.shape[1]
    if backend == "math":
        k, v = (t.repeat_interleave(group, 1).float() for t in (k, v))
        scores = q.float() @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if causal:
            scores = scores + torch.full(scores.shape[-2:], float("-inf")).triu(1)
        return (scores.softmax(-1) @ v).to(q.dtype)
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=causal, **({"enable_gqa": True} if group > 1 else {})
    )


def attention_errors(q, k, v, out, dout, grads, causal):
    """Relative errors against float32 math: some rows of one head; dK, dV of a small group."""
    group, scale, length = q.shape[1] // k.shape[1], q.shape[-1] ** -0.5, q.shape[2]
    full = grads is not None and length * k.shape[2] * group <= 1 << 25
    rows = (
        torch.arange(length)
        if full
        else torch.unique(
            torch.cat(
                [torch.arange(4), torch.arange(4) + length // 2, torch.arange(length - 4, length)]
            ).clamp(0, length - 1)
        )
    )
    rows, kv_head, errors = rows.to(q.device), k.shape[1] - 1, {}
    keys, values, dk, dv = k[0, kv_head].float(), v[0, kv_head].float(), 0, 0
    for head in range(kv_head * group, (kv_head + 1) * group if full else kv_head * group + 1):
        queries = q[0, head, rows].float()
        scores = queries @ keys.T * scale
        if causal:
            scores = scores.masked_fill(
                torch.arange(k.shape[2], device=q.device)[None] > rows[:, None], float("-inf")
            )
        p = scores.softmax(-1)
        reference = p @ values
        errors["error_out"] = max(
            errors.get("error_out", 0), relative_error(out[0, head, rows], reference)
        )
        if grads is None:
            continue
        d = dout[0, head, rows].float()
        ds = p * (d @ values.T - (d * reference).sum(-1, keepdim=True)) * scale
        errors["error_dq"] = max(
            errors.get("error_dq", 0), relative_error(grads[0][0, head, rows], ds @ keys)
        )
        if full:
            dv, dk = dv + p.T @ d, dk + ds.T @ queries
    if full:
        errors["error_dk"] = relative_error(grads[1][0, kv_head], dk)
        errors["error_dv"] = relative_error(grads[2][0, kv_head], dv)
    return errors


def attention_inputs(b, batch, heads, kv_heads, q_len, kv_len, dim, values="randn"):
    def take(length, count):
        t = b.data(batch, length, count, dim)
        if values == "zeros":
            t = torch.zeros_like(t)
        elif values == "uniform":
            t = torch.rand(t.shape, device=t.device).to(t.dtype)
        return t.transpose(1, 2).detach().requires_grad_()

    return take(q_len, heads), take(kv_len, kv_heads), take(kv_len, kv_heads)


def attention_body(b, backend, way, batch, heads, kv_heads, q_len, kv_len, dim, causal):
    nbytes = (
        2 * batch * dim * (q_len * heads + 2 * kv_len * kv_heads) * (2 if way == "backward" else 1)
    )
    inputs = [
        attention_inputs(b, batch, heads, kv_heads, q_len, kv_len, dim)
        for _ in range(b.sets(nbytes))
    ]
    with backend_context(backend):
        gqa, start = "none" if heads == kv_heads else "native", time.perf_counter()
        try:
            attend(backend, *inputs[0], causal)
            b.sync()
        except RuntimeError as error:
            if gqa == "none" or failure_status(error) == "out_of_memory":
                raise
            gqa = "expanded"
            inputs = [
                (
                    q,
                    *(
                        t.detach().repeat_interleave(heads // kv_heads, 1).requires_grad_()
                        for t in (k, v)
                    ),
                )
                for q, k, v in inputs
            ]
        plan_s = round(time.perf_counter() - start, 4)
        if way == "forward":
            dout = None
            out = b.time([lambda s=s: attend(backend, *s, causal) for s in inputs])
        else:
            dout = b.data(batch, q_len, heads, dim).transpose(1, 2)
            outs = [attend(backend, *s, causal) for s in inputs]
            back = lambda i: torch.autograd.grad(outs[i], inputs[i], dout, retain_graph=True)
            out = b.time([lambda i=i: back(i) for i in range(len(inputs))])
        result = attend(backend, *inputs[0], causal)
        grads = torch.autograd.grad(result, inputs[0], dout) if way == "backward" else None
    errors = attention_errors(
        *(t.detach() for t in inputs[0]), result.detach(), dout, grads, causal
    )
    finite = all_finite(result, *(grads or ()))
    flops = 4 * batch * heads * q_len * kv_len * dim // (2 if causal else 1)
    io = 2 * batch * dim * (2 * q_len * heads + 2 * kv_len * kv_heads) + 4 * batch * heads * q_len
    return {
        **out,
        "plan_s": plan_s,
        "gqa": gqa,
        "layout": "bshd",
        "flops": flops * (5 if way == "backward" else 2) // 2,
        "bytes": io * (2 if way == "backward" else 1),
        **{k: round(v, 6) for k, v in errors.items()},
        "verified": finite and all(e < 0.03 for e in errors.values()),
    }


COARSE, FINE = (8192, 2048, 512, 32768), (4096, 1024, 16384)
LONG = (512, 1024, 4096, 16384, 32768)
SQUARES, HALVES = ("causal", "full"), ("half_kv", "half_q")
BOTH_WAYS = ("forward", "backward")
# Shapes: batch, heads, kv heads, q, kv, dim, mask. 132 tiles of 128 queries are one for each SM.
STAIRS = [
    (1, 1, 1, 128 * tiles, 2048, 128, "full")
    for tiles in (132, 133, 66, 264, 1, 33, 131, 198, 265, 396, 528, 1056)
]
MASKED = [(4, 33, 33, 128 * n, 128 * n, 128, "causal") for n in (8, 1, 32, 2, 4, 16)]
RAGGED = [(1, 12, 12, 1408, 128 * n + 1, 128, "full") for n in (4, 16, 64)]


def ring(lengths, heads, kv_heads, dim, kinds):
    """Blocks that a ring step has: squares, half the keys, half the queries."""
    return [
        (
            1,
            heads,
            kv_heads,
            s // (2 if kind == "half_q" else 1),
            s // (2 if kind == "half_kv" else 1),
            dim,
            "causal" if kind == "causal" else "full",
        )
        for s in lengths
        for kind in kinds
    ]


def slope(dim):
    return [(1, 12, 12, 1408, 128 * n, dim, "full") for n in (8, 64, 1, 2, 4, 16, 32, 128)]


def grid(b, note, shapes, backends, ways=BOTH_WAYS, state="as_found"):
    for batch, heads, kv_heads, q_len, kv_len, dim, mask in shapes:
        causal = mask == "causal"
        one = 8e-15 * batch * heads * q_len * kv_len * dim / (2 if causal else 1)
        for way in ways:
            seconds = 0.5 + 6 * one * (3.5 if way == "backward" else 1)
            for backend in backends:
                if state == "hot":
                    b.heat(0.3)
                fields = {
                    "op": "attention_" + way,
                    "batch": batch,
                    "heads": heads,
                    "kv_heads": kv_heads,
                    "q_len": q_len,
                    "kv_len": kv_len,
                    "head_dim": dim,
                    "mask": mask,
                    "dtype": "bf16",
                    "backend": backend,
                    "state": state,
                }
                body = lambda: attention_body(
                    b, backend, way, batch, heads, kv_heads, q_len, kv_len, dim, causal
                )
                b.point(fields, body, note, seconds=seconds)


def section_attention(b):
    if b.smoke:
        return smoke(b)
    vendor = ["cudnn"]
    try:
        import flash_attn_interface  # noqa: F401  measured beside cuDNN where present

        vendor.append("fa3")
    except ImportError:
        pass
    coarse_grid(b, vendor)
    if b.left() > 40:
        b.heat(20)
        grid(b, "hot", ring((8192, 32768), 32, 8, 128, SQUARES), vendor, state="hot")
    grid(b, "head dim 64", ring(COARSE, 32, 8, 64, SQUARES), vendor)
    others = ring((8192, 2048), 8, 1, 128, SQUARES) + ring((8192, 2048), 64, 8, 128, SQUARES)
    grid(b, "other heads", others, vendor)
    traces(b)
    fine_grid(b, vendor)


def smoke(b):
    shapes = [(1, 4, 2, 32, 32, 16, "causal"), (2, 4, 4, 16, 48, 16, "full")]
    grid(b, "smoke", shapes, ["math", "flash"])
    fields = {"op": "power_trace", "load": "attention", "data": "randn"}
    b.point(fields, lambda: attention_trace(b, "math", 32, "randn", 1))


def coarse_grid(b, vendor):
    grid(b, "ring coarse", ring(COARSE, 32, 8, 128, SQUARES), vendor)
    grid(b, "ring coarse", ring((8192, 2048), 32, 8, 128, SQUARES), ["flash"])
    grid(b, "slope: tiles = 132", slope(128), vendor)
    grid(b, "staircase: kv = 16 tiles", STAIRS, vendor, ways=("forward",))
    grid(b, "masked tiles", MASKED, vendor)
    grid(b, "ring fine", ring(FINE, 32, 8, 128, SQUARES), vendor)
    grid(b, "ring halves", ring(COARSE, 32, 8, 128, HALVES), vendor)
    grid(b, "long", [(1, 32, 8, 65536, 65536, 128, "causal")], vendor)
    grid(b, "batch", [(n, 32, 8, 4096, 4096, 128, "causal") for n in (2, 4)], vendor)


def traces(b):
    runs = ((8192, "randn", 10), (32768, "randn", 10), (8192, "zeros", 3), (8192, "uniform", 3))
    for length, values, seconds in runs:
        fields = {
            "op": "power_trace",
            "load": "attention",
            "q_len": length,
            "heads": 32,
            "kv_heads": 8,
            "head_dim": 128,
            "mask": "full",
            "dtype": "bf16",
            "backend": "cudnn",
            "data": values,
        }
        b.point(
            fields,
            lambda: attention_trace(b, "cudnn", length, values, seconds),
            seconds=seconds + 2,
        )


def fine_grid(b, vendor):
    edges = (2048, 8192, 32768)
    blocks = [(1, 32, 8, q, kv, 128, "full") for q in edges for kv in edges if q != kv]
    grid(b, "head dim 256", ring((8192, 2048), 16, 4, 256, SQUARES), vendor + ["flash"])
    grid(b, "heads = kv heads", ring((8192, 2048), 32, 32, 128, SQUARES), vendor)
    grid(b, "slope, d 64", slope(64), vendor)
    grid(b, "ragged end", RAGGED, vendor, ways=("forward",))
    grid(b, "blocks", blocks, vendor)
    grid(b, "ring halves", ring(FINE, 32, 8, 128, HALVES), vendor)
    grid(b, "flash", ring(LONG, 32, 8, 128, SQUARES), ["flash"])
    grid(b, "staircase", STAIRS, vendor, ways=("backward",))
    grid(b, "long", [(1, 32, 8, 131072, 131072, 128, "causal")], vendor)
    for heads, kv_heads in ((8, 1), (64, 8)):
        for dim in (128, 64):
            shapes = ring(LONG, heads, kv_heads, dim, SQUARES + HALVES)
            grid(b, "ring, other heads", shapes, vendor)


def attention_trace(b, backend, length, values, seconds):
    if b.cuda:
        time.sleep(1)  # from idle, so that the fall of the clock is seen
    heads, kv_heads, dim = (32, 8, 128) if b.cuda else (4, 2, 16)
    q, k, v = attention_inputs(b, 1, heads, kv_heads, length, length, dim, values)
    with backend_context(backend), torch.no_grad():
        out = b.trace(
            lambda: attend(backend, q, k, v, False),
            seconds,
            group=max(1, min(40, (16384 // length) ** 2 * 4)),
        )
        return {
            **out,
            "flops": 4 * heads * length**2 * dim,
            "verified": all_finite(attend(backend, q, k, v, False)),
        }
