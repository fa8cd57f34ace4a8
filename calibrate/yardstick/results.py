"""Files of results, and readings of the card."""
import json
import os
import threading


class Results:
    """DIR/<section>.jsonl: what is done, and one flushed line for each new point."""

    def __init__(self, directory, section, also_done):
        self.path = os.path.join(directory, section + ".jsonl")
        self.lock = threading.Lock()
        self.done = set()
        for place in [directory] + also_done:
            self._load(os.path.join(place, section + ".jsonl"))
        self.file = open(self.path, "ab")
        self._drop_torn_line()

    def _load(self, path):
        if not os.path.exists(path):
            return
        for line in open(path, errors="replace"):
            try:
                self.done.add(json.loads(line)["id"])
            except (ValueError, KeyError):
                pass  # torn by a kill; measured again

    def _drop_torn_line(self):
        data = open(self.path, "rb").read()
        if data and not data.endswith(b"\n"):
            self.file.truncate(data.rfind(b"\n") + 1)

    def write(self, record):
        with self.lock:
            self.done.add(record["id"])
            self.file.write((json.dumps(record) + "\n").encode())
            self.file.flush()
            os.fsync(self.file.fileno())


class Monitor:
    """Clocks, power and temperature through NVML; empty readings where NVML is missing."""

    def __init__(self, enabled):
        self.nvml = None
        try:
            if enabled:
                import pynvml

                pynvml.nvmlInit()
                self.handle, self.nvml = pynvml.nvmlDeviceGetHandleByIndex(0), pynvml
        except Exception:
            self.nvml = None

    def read(self):
        n, out = self.nvml, {}
        if n is None:
            return out
        for name, get in (
            ("sm_clock_mhz", lambda: n.nvmlDeviceGetClockInfo(self.handle, n.NVML_CLOCK_SM)),
            ("memory_clock_mhz", lambda: n.nvmlDeviceGetClockInfo(self.handle, n.NVML_CLOCK_MEM)),
            ("power_w", lambda: n.nvmlDeviceGetPowerUsage(self.handle) / 1000),
            (
                "temperature",
                lambda: n.nvmlDeviceGetTemperature(self.handle, n.NVML_TEMPERATURE_GPU),
            ),
            ("throttle", lambda: n.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle)),
        ):
            try:
                out[name] = get()
            except Exception:
                pass
        return out
