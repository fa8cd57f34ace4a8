"""What the card does at most: bandwidths, products, launches, host copies, clocks over time."""
import torch

from bench import all_finite
from common import MB
from device_helper import checked, helper_for_device, stream_pointer


def section_ceilings(b):
    edge = 8192 if b.cuda else 64
    bandwidths(b)
    products(b, edge)
    for kind in ("empty_kernel", "torch_add"):
        fields = {"op": "launch", "kernel": kind, "backend": "stream"}
        b.point(fields, lambda: launch_body(b, kind))
    for nodes in (1, 16, 256, 1024):
        fields = {"op": "graph_replay", "nodes": nodes, "backend": "graph"}
        b.point(fields, lambda: graph_body(b, nodes))
    host_copies(b)
    shape = {"m": edge, "n": edge, "k": edge, "dtype": "bf16", "data": "randn"}
    b.point(
        {"op": "power_trace", "load": "gemm", **shape}, lambda: gemm_trace(b, edge, 20), seconds=21
    )


def bandwidths(b):
    sizes = [1024, 256, 16, 64, 4096, 8192] if b.cuda else [1]
    for size in (MB * n for n in sizes):
        for op, factor in (("copy_device", 2), ("read_sum", 1), ("write_fill", 1)):
            fields = {"op": op, "size_bytes": size, "dtype": "bf16", "backend": "torch"}
            b.point(fields, lambda: bandwidth_body(b, size, op, factor))


def bandwidth_body(b, size, op, factor):
    n = b.sets(2 * size)
    src = [b.fresh(size // 2) for _ in range(n)]
    dst = [torch.empty_like(s) for s in src] if op != "read_sum" else src
    run = {
        "copy_device": lambda i: dst[i].copy_(src[i]),
        "read_sum": lambda i: src[i].sum(),
        "write_fill": lambda i: dst[i].fill_(1.5),
    }[op]
    out = b.time([lambda i=i: run(i) for i in range(n)])
    good = op == "read_sum" or (
        bool(torch.equal(dst[0], src[0])) if op == "copy_device" else float(dst[0][-1]) == 1.5
    )
    return {**out, "bytes": factor * size, "flops": 0, "verified": bool(good)}


def products(b, edge):
    shape = {"m": edge, "n": edge, "k": edge, "dtype": "bf16", "backend": "cublas"}
    for values in ("randn", "zeros"):  # zeros only as the labelled comparison
        b.point({"op": "gemm", **shape, "data": values}, lambda: product_body(b, edge, values))


def product_body(b, edge, values):
    a, c = b.fresh(edge, edge), b.fresh(edge, edge)
    if values == "zeros":
        a.zero_(), c.zero_()
    out = b.time([lambda: a @ c], target_s=0.3)
    good = all_finite(a @ c)
    return {**out, "flops": 2 * edge**3, "bytes": 6 * edge**2, "verified": good}


def launch_body(b, kind):
    """One kernel of a full queue; host_us: one launch."""
    x, per = b.fresh(32), 20
    if kind == "empty_kernel":
        lib = helper_for_device()
        call = lambda: checked(lib.launch_empty(stream_pointer()), "launch_empty")
    else:
        call = lambda: x.add_(1.0)
    out = b.time([lambda: [call() for _ in range(per)]], most=8)
    for field in ("value_us_median", "p10", "p90", "host_us"):
        out[field] = round(out.get(field, 0) / per, 4)
    return out


def graph_body(b, nodes):
    x, graph = b.fresh(32), torch.cuda.CUDAGraph()
    x.add_(1.0), torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        for _ in range(nodes):
            x.add_(1.0)
    return {**b.time([graph.replay]), "nodes": nodes}


def host_copies(b):
    sizes = [256 * MB, 1 * MB, 16 * MB, 1024 * MB] if b.cuda else [MB]
    for beside in ("alone", "gemm"):
        for size in sizes:
            for memory in ("pinned", "pageable"):
                for way in ("h2d", "d2h", "both"):
                    staged = way == "both" and memory == "pageable"
                    small = beside == "gemm" and (memory, size) != ("pinned", 256 * MB)
                    if staged or small:
                        continue
                    fields = {
                        "op": "host_copy",
                        "way": way,
                        "memory": memory,
                        "size_bytes": size,
                        "beside": beside,
                        "backend": "copy_engine",
                    }
                    b.point(fields, lambda: host_copy(b, size, memory, way, beside))


def host_copy(b, size, memory, way, beside):
    if not b.cuda:
        raise NotImplementedError("host copies need a GPU: not supported")
    device = [
        torch.empty(size, dtype=torch.uint8, device=b.device).random_(0, 255) for _ in range(2)
    ]
    host = [
        torch.empty(size, dtype=torch.uint8, pin_memory=memory == "pinned").copy_(d)
        for d in reversed(device)
    ]
    ways = [
        (way != "d2h", device[0], host[0], torch.cuda.Stream()),
        (way != "h2d", host[1], device[1], torch.cuda.Stream()),
    ]
    nbytes, event = size * (2 if way == "both" else 1), lambda: torch.cuda.Event(enable_timing=True)

    def call():
        main = torch.cuda.current_stream()
        for wanted, target, source, stream in ways:
            if wanted:
                stream.wait_stream(main)
                with torch.cuda.stream(stream):
                    target.copy_(source, non_blocking=True)
                main.wait_stream(stream)

    if beside == "alone":
        out = b.time([call], most=10)
    else:  # four copies while matrix products run on a third stream
        a, side, count = b.data(8192, 8192), torch.cuda.Stream(), 18
        out = {"gemm_alone_us": b.time([lambda: a @ a])["value_us_median"], "repeats": 4}
        first, last, begin, end = event(), event(), event(), event()
        with torch.cuda.stream(side):
            first.record()
            for _ in range(count):
                a @ a
            last.record()
        begin.record()
        for _ in range(4):
            call()
        end.record()
        state = b.monitor.read()
        torch.cuda.synchronize()
        out.update(
            value_us_median=round(begin.elapsed_time(end) * 1e3 / 4, 2),
            gemm_beside_us=round(first.elapsed_time(last) * 1e3 / count, 2),
            covered=end.elapsed_time(last) > 0,
            **state
        )
    good = all(
        torch.equal(target.cpu(), source.cpu()) for wanted, target, source, _ in ways if wanted
    )
    return {**out, "bytes": nbytes, "flops": 0, "verified": good}


def gemm_trace(b, edge, seconds):
    a, c = b.fresh(edge, edge), b.fresh(edge, edge)
    return {
        **b.trace(lambda: a @ c, seconds),
        "flops": 2 * edge**3,
        "bytes": 6 * edge**2,
        "verified": all_finite(a @ c),
    }
