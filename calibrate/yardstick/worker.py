"""A section's process: what it ran on, and its points."""
import datetime
import importlib
import json
import os
import platform
import sys
import time
import warnings

import torch

from bench import Bench


def add_provenance(args, entry):
    path = os.path.join(args.out, "provenance.json")
    try:
        runs = json.load(open(path))["runs"]
    except (OSError, ValueError, KeyError):
        runs = []
    runs = [r for r in runs if r["run"] != entry["run"]] + [entry]
    with open(path + ".tmp", "w") as file:
        json.dump({"tool": "yardstick 1", "runs": runs}, file, indent=1)
    os.replace(path + ".tmp", path)


def provenance(args, bench):
    guard = lambda get: next((v for v in [_attempt(get)] if v is not None), None)
    options = " ".join(
        f"--{name} {value}"
        for name, value in (
            ("sections", args.sections),
            ("budget", args.budget),
            ("seed", args.seed),
        )
    )
    nvml, handle = bench.monitor.nvml, getattr(bench.monitor, "handle", None)
    return {
        "run": f"{args.worker} {time.time():.0f}",
        "section": args.worker,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": f"yardstick.py {options} --out DIR" + (" --smoke" if args.smoke else ""),
        "gpu": guard(lambda: torch.cuda.get_device_name(0)) if bench.cuda else "none (smoke)",
        "sms": guard(lambda: torch.cuda.get_device_properties(0).multi_processor_count),
        "l2_bytes": bench.l2_bytes,
        "memory_bytes": guard(lambda: torch.cuda.get_device_properties(0).total_memory),
        "driver": guard(lambda: str(nvml.nvmlSystemGetDriverVersion())),
        "max_sm_clock_mhz": guard(
            lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
        ),
        "power_limit_w": guard(lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "cudnn": guard(torch.backends.cudnn.version),
        "nccl": guard(lambda: ".".join(map(str, torch.cuda.nccl.version())))
        if bench.cuda
        else None,
        "triton": guard(lambda: __import__("triton").__version__),
        "flash_attention_3": guard(lambda: bool(__import__("flash_attn_interface"))) or False,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "before": bench.monitor.read(),
    }


def _attempt(get):
    try:
        return get()
    except Exception:
        return None


def run_section(args):
    warnings.filterwarnings("ignore")
    bench = Bench(args.worker, args)
    entry = provenance(args, bench)
    add_provenance(args, entry)
    start = time.time()
    module = importlib.import_module(args.worker)
    getattr(module, "section_" + args.worker)(bench)
    seconds = time.time() - start
    entry.update(
        after=bench.monitor.read(),
        seconds=round(seconds, 1),
        measured=bench.measured,
        left_out_for_time=bench.skipped,
        complete=bench.skipped == 0,
    )
    add_provenance(args, entry)
    counts = f"{bench.measured} measured, {bench.skipped} left out for time"
    print(f"[{args.worker}] {counts}, {seconds:.0f} s", flush=True)
    sys.stdout.flush()
    os._exit(0)  # no teardown: a communicator or a lost context could hang it
