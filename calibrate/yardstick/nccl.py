"""NCCL on one GPU: groups, collectives of one rank, send and receive to self."""
import contextlib
import ctypes
import os
import tempfile
import time

import torch
import torch.distributed as dist

from bench import all_finite
from common import MB, first_line


class UniqueId(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_byte * 128)]


class Nccl:
    """Calls of NCCL that PyTorch does not offer (send to self, two ranks on one GPU)."""

    def __init__(self):
        self.lib = ctypes.CDLL("libnccl.so.2")
        self.lib.ncclCommInitRank.argtypes = [ctypes.c_void_p, ctypes.c_int, UniqueId, ctypes.c_int]
        for name in ("ncclSend", "ncclRecv"):
            getattr(self.lib, name).argtypes = [
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_int,
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_void_p,
            ]
        self.lib.ncclGetErrorString.restype = ctypes.c_char_p

    def __call__(self, name, *arguments):
        code = getattr(self.lib, name)(*arguments)
        if code:
            raise RuntimeError(f"{name}: {self.lib.ncclGetErrorString(code).decode()} ({code})")

    def communicators(self, ranks):
        unique, comms = UniqueId(), [ctypes.c_void_p() for _ in range(ranks)]
        self("ncclGetUniqueId", ctypes.byref(unique))
        with self.group():
            for rank, comm in enumerate(comms):
                self("ncclCommInitRank", ctypes.byref(comm), ranks, unique, rank)
        return comms

    @contextlib.contextmanager
    def group(self):
        self("ncclGroupStart")
        try:
            yield
        finally:
            self("ncclGroupEnd")


def section_nccl(b):
    # NCCL 2.30 and later then allow several ranks on one GPU.
    os.environ["NCCL_MULTI_RANK_GPU_ENABLE"] = "1"
    sizes = [MB, 64 * MB, 1024 * MB, 64 * 1024, 16 * MB, 256 * MB] if b.cuda else [4096]
    groups(b)
    for size in sizes:
        for op in ("all_gather", "all_to_all", "reduce_scatter", "all_reduce"):
            fields = {"op": op, "size_bytes": size, "ranks": 1, "dtype": "bf16", "backend": "torch"}
            b.point(fields, lambda: collective(b, op, size))
    peers(b, sizes)


def used(b):
    if not b.cuda:
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free


def timed(b, make):
    """What `make` gives, with its time and the device memory that it took."""
    if b.cuda:
        torch.zeros(1, device=b.device).sum().item()
    before, start = used(b), time.perf_counter()
    made = make()
    b.sync()
    elapsed = time.perf_counter() - start
    return made, {
        "value_us_median": round(elapsed * 1e6, 1),
        "repeats": 1,
        "device_memory_delta_bytes": used(b) - before,
    }


def start_group(b):
    if not dist.is_initialized():
        store = dist.FileStore(os.path.join(tempfile.mkdtemp(), "store"), 1)
        backend = "nccl" if b.cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=0, world_size=1)


def first_use(b, group=None):
    dist.all_reduce(torch.ones(256, device=b.device), group=group)


def another(b):
    start_group(b)
    group = dist.new_group([0])
    first_use(b, group)
    return group


def groups(b):
    """All below needs the group and its first communicator: made even when already measured."""
    first_fields = {"op": "init_process_group", "ranks": 1, "backend": "torch"}
    try:
        _, group = timed(b, lambda: start_group(b))
        _, first = timed(b, lambda: first_use(b))
        b.point(first_fields, lambda: group)
        b.point({"op": "first_communicator", "ranks": 1, "backend": "torch"}, lambda: first)
    except Exception as error:
        message = first_line(error)
        b.point(first_fields, lambda: {"status": "error", "error": message})
    for number in range(2, 5):
        fields = {"op": "further_communicator", "number": number, "ranks": 1, "backend": "torch"}
        b.point(fields, lambda: timed(b, lambda: another(b))[1])


def collective(b, op, size):
    start_group(b)
    x = b.fresh(size // 2)
    y = torch.empty(size // 2, device=b.device, dtype=torch.bfloat16)
    if not b.cuda:
        x, y = x.float(), y.float()
    old_or_new = lambda new, old: getattr(dist, new, getattr(dist, old, None))
    call = {
        "all_gather": lambda: old_or_new("all_gather_into_tensor", "_all_gather_base")(y, x),
        "reduce_scatter": lambda: old_or_new("reduce_scatter_tensor", "_reduce_scatter_base")(y, x),
        "all_to_all": lambda: dist.all_to_all_single(y, x),
        "all_reduce": lambda: dist.all_reduce(x),
    }[op]
    out = b.time([call])
    good = bool(torch.equal(x, y)) if op != "all_reduce" else all_finite(x)
    return {**out, "bytes": 2 * size, "verified": good}


def raw_init(b, held, ranks):
    """Communicators of so many ranks on this GPU, kept in `held` under their number."""
    nccl = held.setdefault("nccl", Nccl())
    held[ranks], out = timed(b, lambda: nccl.communicators(ranks))
    return out


def send_receive(b, held, ranks, size):
    """Rank 0 sends to the last rank: itself, or the second rank on the same GPU."""
    if ranks not in held:
        raw_init(b, held, ranks)
    nccl, comms = held["nccl"], held[ranks]
    x, y = b.fresh(size // 2), b.fresh(size // 2)
    streams = [torch.cuda.current_stream(), torch.cuda.Stream()]
    byte = 0  # NCCL's number of the type

    def call():
        receiver = streams[ranks - 1].cuda_stream
        streams[1].wait_stream(streams[0])
        with nccl.group():
            nccl("ncclSend", x.data_ptr(), size, byte, ranks - 1, comms[0], streams[0].cuda_stream)
            nccl("ncclRecv", y.data_ptr(), size, byte, 0, comms[-1], receiver)
        streams[0].wait_stream(streams[1])

    return {**b.time([call]), "bytes": 2 * size, "verified": bool(torch.equal(x, y))}


def peers(b, sizes):
    held = {}
    for ranks, limit in ((1, 40), (2, 25)):
        fields = {"op": "comm_init_rank", "ranks": ranks, "backend": "nccl"}
        b.point(fields, lambda: raw_init(b, held, ranks), "ranks on one GPU", limit_s=limit)
        if ranks == 2 and 2 not in held and b.cuda:
            break
        for size in sizes:
            fields = {"op": "send_receive", "size_bytes": size, "ranks": ranks, "backend": "nccl"}
            b.point(
                fields,
                lambda: send_receive(b, held, ranks, size),
                "to self" if ranks == 1 else "two ranks on one GPU",
                limit_s=limit,
            )
