"""SMs taken away by a copy beside attention and products; the slowing of both."""
import torch

from attention import attend, attention_inputs, backend_context
from common import MB
from device_helper import checked, helper_for_device, stream_pointer


FULL = 200 * 1024  # bytes of shared memory that keep other blocks off the SM
FOREGROUNDS = ("attention_forward", "gemm", "attention_backward")


def section_interference(b):
    scene = Scene(b)
    for shared, kinds, counts in (
        (FULL, ("copy", "spin"), (16, 4, 32, 8)),
        (0, ("copy",), (16, 8, 32)),
    ):
        for sms in counts:
            for kind in kinds:
                for foreground in FOREGROUNDS:
                    fields = {
                        "op": "interference",
                        "foreground": foreground,
                        "occupant": kind,
                        "sms": sms,
                        "exclusive": shared > 0,
                        "dtype": "bf16",
                        "backend": "cudnn" if "att" in foreground else "cublas",
                    }
                    b.point(fields, lambda: scene.body(foreground, kind, sms, shared), seconds=1)


class Scene:
    """Foreground calls, and a kernel that holds SMs beside them."""

    def __init__(self, b):
        self.b, self.calls = b, {}

    def prepare(self):
        """Foreground calls and copy buffers, made once."""
        b = self.b
        edge = 8192 if b.cuda else 64
        lib = helper_for_device() if b.cuda else None
        x, w = b.fresh(edge, edge), b.fresh(edge, edge)
        backend, length, heads, kv, dim = (
            ("cudnn", 8192, 32, 8, 128) if b.cuda else ("math", 32, 4, 2, 16)
        )
        q, k, v = attention_inputs(b, 1, heads, kv, length, length, dim)

        def attention():
            with backend_context(backend):
                return attend(backend, q, k, v, False)

        out = attention()
        dout = b.fresh(*out.shape)
        back = lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)
        if b.cuda:
            self.src, self.dst = b.fresh(512 * MB), b.fresh(512 * MB)
            self.side = torch.cuda.Stream(priority=-1)
            self.report = torch.zeros(4 * 256, dtype=torch.int64, device=b.device)
        self.lib = lib
        self.calls = {
            "gemm": lambda: x @ w,
            "attention_forward": attention,
            "attention_backward": back,
        }

    def hold(self, kind, sms, shared, us):
        size = self.src.numel() * 2 if kind == "copy" else 0
        code = self.lib.launch_hold(
            self.src.data_ptr(),
            self.dst.data_ptr(),
            size,
            us,
            self.report.data_ptr(),
            sms,
            shared,
            stream_pointer(self.side),
        )
        checked(code, "launch_hold")

    def rate(self, sms):
        """GB/s read plus written, each block over its own time; and how many SMs were held."""
        rows = self.report[: 4 * sms].view(sms, 4).tolist()
        moved = sum(2 * n / max(end - start, 1) for start, end, n, _ in rows)
        return moved, len({sm for *_, sm in rows})

    def body(self, foreground, kind, sms, shared):
        if not self.calls:
            self.prepare()
        call = self.calls[foreground]
        alone = self.b.time([call])
        t = alone["value_us_median"]
        if not self.b.cuda:
            return {**alone, "foreground_alone_us": t, "covered": False}
        self.hold(kind, sms, shared, 5e3)
        torch.cuda.synchronize()
        rate_alone, held = self.rate(sms)
        beside, count, covered = self.inside_occupant(call, t, kind, sms, shared)
        rate_beside, reading = self.inside_foreground(call, t, kind, sms, shared)
        slow = lambda a, c: round(a / c, 4) if c else None
        return {
            "value_us_median": round(beside, 3),
            "repeats": count,
            "foreground_alone_us": t,
            "foreground_slowdown": slow(beside, t),
            "occupant_alone_gb_s": round(rate_alone, 2),
            "occupant_beside_gb_s": round(rate_beside, 2),
            "occupant_slowdown": slow(rate_alone, rate_beside),
            "sms_held": held,
            "covered": covered,
            **reading,
        }

    def inside_occupant(self, call, t, kind, sms, shared):
        """The foreground inside the occupant's window: time of a call, calls, whether covered."""
        event = lambda: torch.cuda.Event(enable_timing=True)
        window = max(30e3, 8 * t)
        begin, end, over, count = event(), event(), event(), max(2, int(0.45 * window / t))
        self.hold(kind, sms, shared, window)
        over.record(self.side)
        torch.cuda._sleep(400_000)  # let the occupant take its SMs first
        begin.record()
        for _ in range(count):
            call()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) * 1e3 / count, count, end.elapsed_time(over) > 0

    def inside_foreground(self, call, t, kind, sms, shared):
        """The occupant's rate inside a longer run of the foreground."""
        for _ in range(max(4, int(24e3 / t) + 4)):
            call()
        self.hold(kind, sms, shared, 6e3)
        reading = self.b.monitor.read()
        torch.cuda.synchronize()
        return self.rate(sms)[0], reading
