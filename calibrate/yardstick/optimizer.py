"""AdamW and what comes with it, over a billion parameters."""
import torch

from bench import all_finite


def section_optimizer(b):
    total = 10**9 if b.cuda else 10**4

    def body(kind, tensors):
        b.clean()
        dtype = torch.bfloat16 if kind.endswith("bf16") else torch.float32
        size, width = total // tensors, 2 if kind.endswith("bf16") else 4
        if kind.startswith("cast"):
            source = b.fresh(
                total, dtype=torch.float32 if kind == "cast_master_to_bf16" else torch.bfloat16
            )
            target = torch.empty(total, device=b.device, dtype=dtype)
            return {
                **b.time([lambda: target.copy_(source)]),
                "bytes": 6 * total,
                "verified": all_finite(target),
            }
        parameters = [torch.nn.Parameter(b.fresh(size, dtype=dtype)) for _ in range(tensors)]
        for p in parameters:
            p.grad = b.fresh(size, dtype=dtype, scale=0.01)
        if kind == "grad_norm_fp32":
            call = lambda: torch.nn.utils.clip_grad_norm_(parameters, 1e9)
            return {
                **b.time([call]),
                "bytes": 3 * width * total,
                "verified": bool(call().isfinite()),
            }
        if kind == "zero_grad_fp32":
            return {
                **b.time([lambda: [p.grad.zero_() for p in parameters]]),
                "bytes": width * total,
                "verified": True,
            }
        style = {"fused": True} if "fused" in kind and b.cuda else {"foreach": "foreach" in kind}
        optimizer = torch.optim.AdamW(parameters, lr=1e-4, **style)
        out = b.time([optimizer.step], target_s=0.2)
        return {
            **out,
            "bytes": 7 * width * total,
            "flops": 0,
            "verified": all_finite(parameters[0]),
        }

    for kind, counts in (
        ("adamw_fused_fp32", (64, 1, 256)),
        ("grad_norm_fp32", (64,)),
        ("cast_master_to_bf16", (1,)),
        ("cast_grad_to_fp32", (1,)),
        ("adamw_fused_bf16", (64,)),
        ("adamw_foreach_fp32", (64,)),
        ("zero_grad_fp32", (64,)),
    ):
        for tensors in counts:
            b.point(
                {
                    "op": kind,
                    "parameters": total,
                    "tensors": tensors,
                    "dtype": "bf16" if kind.endswith("bf16") else "fp32",
                    "backend": "torch",
                },
                lambda: body(kind, tensors),
                seconds=2,
            )
