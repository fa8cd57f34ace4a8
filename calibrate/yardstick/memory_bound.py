"""Operators bound by memory."""
import torch
import torch.nn.functional as F

from bench import all_finite


def rms_norm(x, weight):
    if hasattr(F, "rms_norm"):
        return F.rms_norm(x, (x.shape[-1],), weight, 1e-5)
    return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)).to(
        x.dtype
    ) * weight


def rope(x, cos, sin):  # x: ..., length, heads, dim; cos and sin: length, 1, dim
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


def swiglu(gate_up):
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def lse_merge(out, lse, block, block_lse):
    """Fold one block's attention output into the running float32 output; what a ring step does."""
    total = torch.logaddexp(lse, block_lse)
    return (
        out * torch.exp(lse - total)[..., None]
        + block.float() * torch.exp(block_lse - total)[..., None],
        total,
    )


def angles(b, length, dim):
    phase = (
        torch.arange(length, device=b.device)[:, None]
        * 10000 ** (-torch.arange(0, dim, 2, device=b.device) / dim)[None]
    )
    phase = torch.cat((phase, phase), -1)[:, None]
    return phase.cos().to(torch.bfloat16), phase.sin().to(torch.bfloat16)


def memory_ops(b):
    """name: (function, inputs for (tokens, hidden), least bytes per element, backward bytes)."""
    leaf = lambda *shape, dtype=None: b.data(*shape, dtype=dtype).detach().requires_grad_()
    dim = 128 if b.cuda else 16
    f32 = torch.float32
    return {
        "rms_norm": (rms_norm, lambda t, h: (leaf(t, h), leaf(h)), 4, 6),
        "add_rms_norm": (
            lambda x, y, w: rms_norm(x + y, w),
            lambda t, h: (leaf(t, h), leaf(t, h), leaf(h)),
            8,
            8,
        ),
        "residual_add": (lambda x, y: x + y, lambda t, h: (leaf(t, h), leaf(t, h)), 6, 0),
        "swiglu": (swiglu, lambda t, h: (leaf(t, 2 * h),), 6, 10),
        "rope": (rope, lambda t, h: (leaf(t, h // dim, dim), *angles(b, t, dim)), 4, 4),
        "lse_merge": (
            lse_merge,
            lambda t, h: (
                b.data(t, h // dim, dim, dtype=f32),
                b.data(t, h // dim, dtype=f32),
                b.data(t, h // dim, dim),
                b.data(t, h // dim, dtype=f32),
            ),
            10 + 12 / dim,
            0,
        ),
        "cast_bf16_fp32": (lambda x: x.float(), lambda t, h: (b.data(t, h),), 6, 0),
        "cast_fp32_bf16": (lambda x: x.bfloat16(), lambda t, h: (b.data(t, h, dtype=f32),), 6, 0),
        "accumulate_fp32_bf16": (
            lambda a, x: a.add_(x),
            lambda t, h: (b.fresh(t, h, dtype=f32), b.data(t, h)),
            10,
            0,
        ),
        "transpose_heads": (
            lambda x: x.transpose(0, 1).contiguous(),
            lambda t, h: (b.data(t, h // dim, dim),),
            4,
            0,
        ),
        "split_for_8_peers": (
            lambda x: x.unflatten(-1, (8, x.shape[-1] // 8)).transpose(0, 1).contiguous(),
            lambda t, h: (b.data(t, h),),
            4,
            0,
        ),
    }


FUSED = ["rms_norm", "add_rms_norm", "swiglu", "rope", "lse_merge"]
BOTH_WAYS = ("forward", "backward")


def operator_body(b, op, tokens, hidden, way, backend):
    function, make, forward_bytes, backward_bytes = op
    per = forward_bytes if way == "forward" else backward_bytes
    if backend == "compiled":
        function = torch.compile(function, dynamic=True)
    inputs = [make(tokens, hidden) for _ in range(b.sets(tokens * hidden * per, most=8))]
    first = lambda r: r[0] if isinstance(r, tuple) else r
    if way == "forward":
        with torch.enable_grad() if backend == "eager" else torch.no_grad():
            out = b.time([lambda s=s: function(*s) for s in inputs])
            good = all_finite(first(function(*inputs[0])))
    else:
        outs = [function(*s) for s in inputs]
        leaves = [[t for t in s if t.requires_grad] for s in inputs]
        dy = b.data(*outs[0].shape)
        back = lambda i: torch.autograd.grad(outs[i], leaves[i], dy, retain_graph=True)
        out = b.time([lambda i=i: back(i) for i in range(len(inputs))])
        good = all_finite(*back(0))
    return {**out, "bytes": int(tokens * hidden * per), "flops": 0, "verified": good}


def grid(b, ops, tokens, hiddens, backend="eager", ways=BOTH_WAYS):
    for hidden in hiddens:
        for t in tokens:
            for name, op in ops.items():
                for way in ways:
                    if way == "backward" and not op[3] or t * hidden * 4 > 9e9:
                        continue
                    fields = {
                        "op": name,
                        "way": way,
                        "tokens": t,
                        "hidden": hidden,
                        "dtype": "bf16",
                        "backend": backend,
                    }
                    b.point(
                        fields,
                        lambda: operator_body(b, op, t, hidden, way, backend),
                        seconds=0.3 if backend == "eager" else 10,
                    )


def losses(b, tokens, vocabularies):
    for vocabulary in vocabularies:
        for t in tokens:
            for kind in ("bf16", "fp32"):
                for way in ("forward", "forward_backward"):
                    if t * vocabulary > 9e9:
                        continue
                    fields = {
                        "op": "cross_entropy",
                        "way": way,
                        "tokens": t,
                        "vocabulary": vocabulary,
                        "dtype": kind,
                        "backend": "eager",
                    }
                    b.point(
                        fields, lambda: cross_entropy_body(b, t, vocabulary, kind, way), seconds=0.5
                    )


def section_memory_bound(b):
    ops = memory_ops(b)
    fused = {name: ops[name] for name in FUSED}
    if b.smoke:
        grid(b, ops, [16], [64])
        grid(b, {"rms_norm": ops["rms_norm"]}, [16], [64], "compiled", ("forward",))
        return losses(b, [8], [64])
    grid(b, ops, [16384], [4096, 8192])
    losses(b, [8192], [32000, 128256])
    grid(b, ops, [1024, 4096, 65536], [4096])
    grid(b, fused, [16384], [4096], "compiled", ("forward",))
    grid(b, ops, [1024, 131072], [2048, 8192, 16384])
    losses(b, [1024, 2048, 16384, 32768], [32000, 128256])
    grid(b, ops, [2048, 8192, 32768], [4096, 8192])
    grid(b, fused, [1024, 65536], [4096, 8192], "compiled", ("forward",))
    grid(b, ops, [4096, 16384, 65536], [2048, 16384])


def cross_entropy_body(b, tokens, vocabulary, kind, way):
    dtype = torch.float32 if kind == "fp32" else torch.bfloat16
    logits = b.data(tokens, vocabulary, dtype=dtype).detach().requires_grad_()
    labels = torch.randint(0, vocabulary, (tokens,), device=b.device)

    def call():
        loss = F.cross_entropy(logits, labels)
        return torch.autograd.grad(loss, logits)[0] if way != "forward" else loss

    width = 4 if kind == "fp32" else 2
    return {
        **b.time([call]),
        "bytes": tokens * vocabulary * width * (1 if way == "forward" else 3),
        "flops": 0,
        "verified": all_finite(call()),
    }
