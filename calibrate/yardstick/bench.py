"""The one way to measure: when a point runs, how its time is taken, what is recorded."""
import gc
import json
import math
import os
import threading
import time

import torch

from common import MB, ORPHANED, POINT_LIMIT_S, POISONED, failure_status, first_line, quantile
from results import Monitor, Results


class Bench:
    """The one way to measure: `point` decides whether and records, `time` takes the times."""

    def __init__(self, section, args):
        self.section, self.smoke, self.deadline = section, args.smoke, args.deadline
        self.cuda = not args.smoke
        self.device = "cuda" if self.cuda else "cpu"
        self.results = Results(args.out, section, args.also_done)
        self.monitor = Monitor(self.cuda)
        self.l2_bytes = 60 * MB
        self.running, self.skipped, self.measured, self.slabs = None, 0, 0, {}
        torch.manual_seed(args.seed)
        if self.cuda:
            torch.cuda.init()
            self.l2_bytes = getattr(
                torch.cuda.get_device_properties(0), "L2_cache_size", self.l2_bytes
            )
        threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()

    def left(self):
        return self.deadline - time.time()

    def sync(self):
        if self.cuda:
            torch.cuda.synchronize()

    def _watch(self, parent):
        """Records a hung point and ends the process; ends it, too, without a parent or time."""
        while True:
            time.sleep(0.5)
            if os.getppid() != parent or self.left() < -8:
                os._exit(ORPHANED)
            running = self.running
            if running and time.time() > running[1]:
                self.results.write({**running[0], "status": "timeout", "limit_s": running[2]})
                os._exit(POISONED)

    def point(self, fields, body, note=None, seconds=0.5, limit_s=POINT_LIMIT_S):
        """Measure one point: `fields` say what, `body()` gives the values, `seconds` is a guess."""
        key = json.dumps({"section": self.section, **fields}, sort_keys=True)
        if key in self.results.done:
            return
        if self.left() < (1 if self.smoke else seconds + 1):
            self.skipped += 1
            return
        record = {"section": self.section, **fields, "note": note, "id": key}
        self.running = (record, time.time() + limit_s, limit_s)
        start = time.time()
        try:
            outcome = {"status": "ok", **body()}
            self.measured += 1
        except Exception as error:  # a failure is a result
            outcome = {"status": failure_status(error), "error": first_line(error)}
        self.running = None
        outcome["wall_s"] = round(time.time() - start, 3)
        self.results.write({**record, **outcome})
        print(
            f"[{self.section}] {self.left():6.1f} s left  {outcome['status']:13s} "
            f"{outcome.get('value_us_median', outcome.get('error', ''))}  {self._short(fields)}",
            flush=True,
        )
        self._tidy(outcome["status"] != "ok")

    @staticmethod
    def _short(fields):
        return " ".join(f"{k}={v}" for k, v in fields.items() if k != "dtype")

    def _tidy(self, failed):
        if not self.cuda:
            return
        try:
            torch.cuda.synchronize()
            if failed or torch.cuda.memory_reserved() > 40e9:
                self.clean()
        except RuntimeError:  # the context is lost: a fresh process goes on with the next point
            os._exit(POISONED)

    def clean(self):
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def data(self, *shape, dtype=None):
        """Random normal values: a view into one big slab, at another place each time."""
        dtype, count = dtype or torch.bfloat16, math.prod(shape)
        size = (1 << 31) if self.cuda else (1 << 18)
        if count > size:
            return self.fresh(*shape, dtype=dtype)
        if dtype not in self.slabs:
            slab = torch.empty(
                size if dtype == torch.bfloat16 else min(size, 1 << 30),
                device=self.device,
                dtype=dtype,
            )
            for part in slab.split(1 << 26):
                part.copy_(torch.randn(part.shape, device=self.device))
            self.slabs[dtype] = [slab, 0]
        slab, at = self.slabs[dtype]
        if count > slab.numel():
            return self.fresh(*shape, dtype=dtype)
        at = 0 if at + count > slab.numel() else at
        self.slabs[dtype][1] = at + (count + 4095) // 4096 * 4096
        return slab[at : at + count].view(*shape)

    def fresh(self, *shape, dtype=None, scale=1.0):
        """Random normal values in memory of their own."""
        out = torch.empty(*shape, device=self.device, dtype=dtype or torch.bfloat16)
        for part in out.view(-1).split(1 << 28):
            part.copy_(torch.randn(part.shape, device=self.device, dtype=torch.float32) * scale)
        return out

    def sets(self, nbytes, most=16):
        """How many input sets to rotate so that together they are three times the L2 cache."""
        return 2 if self.smoke else max(1, min(most, math.ceil(3 * self.l2_bytes / max(nbytes, 1))))

    def time(self, calls, target_s=0.08, most=60):
        """Times of one call. `calls` do the same on different inputs and are used in turn.

        The first call is timed apart (plans, handles, memory). Samples lie between consecutive CUDA
        events; short calls are grouped (`inner`), and the stream is held by a spin while they are
        queued, so that launch cost of the host stays out (it is reported as `host_us`).
        """
        n = len(calls)
        if not self.cuda:
            return self._time_host(calls)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, start = torch.cuda.memory_allocated(), time.perf_counter()
        calls[0]()
        torch.cuda.synchronize()
        first = time.perf_counter() - start
        memory = {
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
            "peak_extra_bytes": torch.cuda.max_memory_allocated() - before,
        }
        event = lambda: torch.cuda.Event(enable_timing=True)
        begin, end, warm = event(), event(), 1 if first > 0.3 else 3
        for i in range(warm if first < 0.3 else 0):
            calls[i % n]()
        torch.cuda.synchronize()
        start = time.perf_counter()
        begin.record()
        for i in range(warm):
            calls[i % n]()
        end.record()
        host = (time.perf_counter() - start) / warm
        torch.cuda.synchronize()
        per = max(begin.elapsed_time(end) / 1e3 / warm, 1e-6)
        inner = 1 if per > 200e-6 else min(10, math.ceil(200e-6 / per))
        least = 7 if per < 0.05 else 5 if per < 0.2 else 3 if per < 0.6 else 2 if per < 3 else 1
        repeats = max(
            least, min(most, int(target_s / (per * inner)), 160 // inner)
        )  # a queue holds about 1000 launches
        if per * repeats > self.left() - 1:
            repeats = max(1, min(repeats, int((self.left() - 1) / per)))
        marks = [event() for _ in range(repeats + 1)]
        torch.cuda._sleep(int(min(0.06, 1.3 * host * inner * repeats + 20e-6) * 1.9e9))
        marks[0].record()
        for r in range(repeats):
            for i in range(inner):
                calls[(r * inner + i) % n]()
            marks[r + 1].record()
        state = self.monitor.read()  # while the queue drains
        torch.cuda.synchronize()
        samples = [a.elapsed_time(b) * 1e3 / inner for a, b in zip(marks, marks[1:])]
        return {
            **self._summary(samples),
            "inner": inner,
            "rotating_sets": n,
            "first_call_s": round(first, 4),
            "host_us": round(host * 1e6, 2),
            **memory,
            **state,
        }

    def _time_host(self, calls):
        samples = []
        for call in (calls * 5)[:5]:
            start = time.perf_counter()
            call()
            samples.append((time.perf_counter() - start) * 1e6)
        return {**self._summary(samples[1:]), "inner": 1, "rotating_sets": len(calls)}

    @staticmethod
    def _summary(samples):
        return {
            "value_us_median": round(quantile(samples, 0.5), 3),
            "p10": round(quantile(samples, 0.1), 3),
            "p90": round(quantile(samples, 0.9), 3),
            "repeats": len(samples),
        }

    def heat(self, seconds):
        """Matrix products for so long, until clocks and power are those of a training step."""
        size = 8192 if self.cuda else 64
        a, b = self.fresh(size, size), self.fresh(size, size)
        end = time.time() + (seconds if self.cuda else 0.01)
        while time.time() < end:
            for _ in range(20):
                a @ b
            self.sync()

    def trace(self, call, seconds, group=20):
        """Back-to-back calls for so long, with clocks and power beside every group of calls."""
        rows, start = [], time.time()
        seconds = seconds if self.cuda else 0.05
        while time.time() - start < seconds:
            if self.cuda:
                a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                a.record()
            host = time.perf_counter()
            for _ in range(group):
                call()
            if self.cuda:
                b.record()
            state = self.monitor.read()
            self.sync()
            us = (
                a.elapsed_time(b) * 1e3 if self.cuda else (time.perf_counter() - host) * 1e6
            ) / group
            rows.append(
                [round(time.time() - start, 3), round(us, 2)]
                + [state.get(k) for k in ("sm_clock_mhz", "power_w", "temperature")]
            )
        thin = rows[:: max(1, len(rows) // 150)]
        tail = [r[1] for r in rows[len(rows) // 2 :]]
        return {
            **self._summary(tail),
            "first_us": rows[0][1],
            "calls": group * len(rows),
            "trace_columns": ["t_s", "us_per_call", "sm_clock_mhz", "power_w", "temperature"],
            "trace": thin,
        }


def all_finite(*tensors):
    return all(
        bool(torch.isfinite(part).all())
        for t in tensors
        for part in t.detach().reshape(-1).split(1 << 28)
    )


def relative_error(out, reference):
    return float((out.float() - reference).norm() / reference.norm().clamp_min(1e-30))
