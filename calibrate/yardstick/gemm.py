"""Matrix products of llama layers, in tensor-parallel slices."""
import torch

from bench import all_finite, relative_error

LLAMA = {  # name: hidden, heads, kv heads, ffn
    "llama-8b": (4096, 32, 8, 14336),
    "llama-70b": (8192, 64, 8, 28672),
    "llama-405b": (16384, 128, 8, 53248),
    "tiny": (64, 4, 2, 96),
}


def layer_matrices(model, tp):
    """(name, outputs, inputs) of the matrices that one of `tp` tensor-parallel ranks holds."""
    hidden, heads, kv_heads, ffn = LLAMA[model]
    dim = hidden // heads
    qkv = (heads + 2 * kv_heads) * dim
    return [
        ("qkv", qkv // tp, hidden),
        ("out", hidden, heads * dim // tp),
        ("gate_up", 2 * ffn // tp, hidden),
        ("down", hidden, ffn // tp),
    ]


def gemm_body(b, m, n, k, way, dtype):
    """y[m,n] = x[m,k] w[n,k]^T; dgrad dx[m,k] = dy w; wgrad dw[n,k] = dy^T x.

    fp8 has row x column operands only.
    """
    count = b.sets(2 * (m * k + n * k + m * n) // (2 if dtype == "fp8" else 1), most=8)
    if dtype == "fp8":
        rows, cols, depth = {"forward": (m, n, k), "dgrad": (m, k, n), "wgrad": (n, k, m)}[way]
        kind, one = torch.float8_e4m3fn, torch.ones((), device=b.device)
        pairs = [
            (b.data(rows, depth, dtype=kind), b.data(cols, depth, dtype=kind).t())
            for _ in range(count)
        ]
        run = lambda p: torch._scaled_mm(
            p[0], p[1], scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    else:
        x, w, dy = lambda: b.data(m, k), lambda: b.data(n, k), lambda: b.data(m, n)
        make = {
            "forward": lambda: (x(), w().t()),
            "dgrad": lambda: (dy(), w()),
            "wgrad": lambda: (dy().t(), x()),
        }[way]
        pairs, run = [make() for _ in range(count)], lambda p: p[0] @ p[1]
    out = b.time([lambda p=p: run(p) for p in pairs], target_s=0.04, most=30)
    y = run(pairs[0])
    reference = pairs[0][0][-8:].float() @ pairs[0][1][:, :64].float()
    error = relative_error(y[-8:, :64], reference)
    width = 1 if dtype == "fp8" else 2
    return {
        **out,
        "flops": 2 * m * n * k,
        "bytes": width * (m * k + n * k + m * n) + (0 if width == 2 else m * n),
        "error_out": round(error, 6),
        "verified": error < 0.02 and all_finite(y),
    }


def section_gemm(b):
    seen = set()

    def grid(models, tps, tokens, ways, dtypes, state="as_found"):
        for model in models:
            for m in tokens:
                for tp in tps:
                    for name, n, k in layer_matrices(model, tp):
                        for way in ways:
                            for dtype in dtypes:
                                fields = {
                                    "op": "gemm_" + way,
                                    "m": m,
                                    "n": n,
                                    "k": k,
                                    "dtype": dtype,
                                    "backend": "cublaslt",
                                    "state": state,
                                }
                                if str(fields) in seen or 2 * m * n * k > 1.2e14:
                                    continue
                                seen.add(str(fields))
                                if state == "hot":
                                    b.heat(0.1)
                                b.point(
                                    fields,
                                    lambda: gemm_body(b, m, n, k, way, dtype),
                                    f"{model} {name} tp{tp}",
                                    seconds=0.2 + 2 * m * n * k * 1.5e-14,
                                )

    if b.smoke:
        return grid(["tiny"], [1, 2], [32], ["forward", "dgrad", "wgrad"], ["bf16", "fp8"])
    every, big = ["forward", "dgrad", "wgrad"], ["llama-8b", "llama-70b"]
    grid(big, [1, 8], [4096, 16384], every, ["bf16"])
    grid(["llama-405b"], [8], [8192], every, ["bf16"])
    grid(big, [1], [8192], ["forward"], ["fp8"])
    b.point(
        {"op": "gemm_trace", "m": 16384, "n": 28672, "k": 4096, "dtype": "bf16"},
        lambda: linear_trace(b, 16384, 28672, 4096),
        seconds=7,
    )
    if b.left() > 40:
        b.heat(15)
        grid(big, [1, 8], [8192], every, ["bf16"], state="hot")
    grid(big, [1, 2, 4, 8], [1024, 2048, 8192, 32768], every, ["bf16"])
    grid(big, [1, 8], [1024, 4096, 16384], every, ["fp8"])
    grid(big, [2, 4], [4096, 16384], every, ["bf16"])
    grid(["llama-405b"], [1, 2, 4, 8], [1024, 4096, 16384], every, ["bf16"])
    grid(big, [1, 2, 4, 8], [65536], every, ["bf16"])
    grid(["llama-405b"], [2, 4, 8], [2048, 8192, 32768, 65536], every, ["bf16"])
    grid(
        big + ["llama-405b"],
        [1, 2, 4, 8],
        [1024, 2048, 4096, 8192, 16384, 32768, 65536],
        every,
        ["fp8"],
    )


def linear_trace(b, m, n, k):
    x, w = b.data(m, k), b.data(n, k).t()
    return {
        **b.trace(lambda: x @ w, 5, group=10),
        "flops": 2 * m * n * k,
        "verified": all_finite(x @ w),
    }
