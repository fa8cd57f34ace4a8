#!/usr/bin/env python3
"""Our forward attention beside cuDNN's on the same GPU, in the same run.

    compare_with_vendor.py BENCH        BENCH: the program bench_flash_attention of a build folder

Order: our bench, cuDNN through PyTorch's scaled_dot_product_attention, our bench again, so that a GPU
that warms up shows as a difference between our two runs ("drift") and not as a victory. Full and
causal squares only: the other masks have no counterpart there. Times are medians over CUDA events of
groups of calls of at least 200 us; inputs are normal random numbers in sets that together exceed the
L2 cache threefold. FLOPs as the README defines them.
Exit: 0 done or waived (no GPU, no PyTorch); 1 a bench failed; 2 bad usage.
"""
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile


def ours(bench):
    """Microseconds by (head_dim, heads, kv_heads, length, mask), measured by our bench."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([bench, "--out", folder], check=True, stdout=subprocess.DEVNULL)
        lines = (pathlib.Path(folder) / "flash_attention.jsonl").read_text().splitlines()
    times = {}
    for point in map(json.loads, lines):
        square = point["mask"] in ("full", "causal") and point["q_len"] == point["kv_len"]
        plain = point["dtype"] == "bf16" and not point["joins"]
        if point["backend"] != "longhaul" or not (square and plain):
            continue
        key = (point["head_dim"], point["heads"], point["kv_heads"], point["q_len"], point["mask"])
        times[key] = point["value_us_median"]
    return times


def vendor(torch, key):
    """Microseconds of cuDNN's forward for one shape."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    head_dim, heads, kv_heads, length, mask = key
    set_bytes = 4 * length * head_dim * (heads + kv_heads)
    l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    sets = [
        [torch.randn(1, length, h, head_dim, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
         for h in (heads, kv_heads, kv_heads)]
        for _ in range(max(1, min(16, math.ceil(3 * l2_bytes / set_bytes))))
    ]

    def call(index):
        torch.nn.functional.scaled_dot_product_attention(
            *sets[index % len(sets)], is_causal=mask == "causal", enable_gqa=heads != kv_heads)

    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION), torch.no_grad():
        rough = timed(torch, call, 3)
        group = max(1, math.ceil(200 / rough))
        return statistics.median(timed(torch, call, group) for _ in range(15))


def timed(torch, call, count):
    """Microseconds of one call, mean of `count` back to back after one more."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    call(0)
    begin.record()
    for index in range(count):
        call(index)
    end.record()
    torch.cuda.synchronize()
    return 1e3 * begin.elapsed_time(end) / count


def flops(key):
    head_dim, heads, _, length, mask = key
    pairs = length * length if mask == "full" else length * (length + 1) // 2
    return 4 * head_dim * heads * pairs


def main(arguments):
    if len(arguments) != 1:
        print(__doc__.strip().splitlines()[2].strip(), file=sys.stderr)
        return 2
    try:
        import torch
    except ImportError:
        print("waived: no PyTorch")
        return 0
    if not torch.cuda.is_available():
        print("waived: no CUDA device")
        return 0
    try:
        first = ours(arguments[0])
        other = {key: vendor(torch, key) for key in first}
        second = ours(arguments[0])
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{'d':>4} {'heads':>6} {'length':>7} {'mask':>7} {'ours TFLOP/s':>13} {'cuDNN':>8} "
          f"{'ours/cuDNN':>11} {'drift':>7}")
    for key in first:
        mean = (first[key] + second[key]) / 2
        print(f"{key[0]:4} {key[1]:3}/{key[2]:<3} {key[3]:6} {key[4]:>7} "
              f"{flops(key) / mean * 1e-6:13.1f} {flops(key) / other[key] * 1e-6:8.1f} "
              f"{other[key] / mean:11.3f} {second[key] / first[key] - 1:+7.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
