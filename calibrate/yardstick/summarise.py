#!/usr/bin/env python3
"""Tables from yardstick's results:  python3 summarise.py DIR [DIR ...] [--section NAME] [--all]

One row a point: time, spread, implied TFLOP/s and GB/s, extra memory. `!` marks a rate above what
the device can do at its highest clock (a wrong count, or data that came from the cache), `?` a
result that was not verified.
"""
import argparse
import collections
import glob
import json
import os

# Physical peaks at the highest boost clock: matrix rate by type (TFLOP/s) and memory (GB/s).
# H200: 132 SMs x 4096 (bf16) or 8192 (fp8) FLOP per clock at 1980 MHz; data sheet 4.8 TB/s.
PEAKS = {"NVIDIA H200": {"bf16": 1070.5, "fp8": 2141.0, "fp32": 66.9, "gb_s": 4800.0}}
HIDDEN = {
    "section",
    "id",
    "note",
    "status",
    "error",
    "op",
    "value_us_median",
    "p10",
    "p90",
    "repeats",
    "inner",
    "rotating_sets",
    "bytes",
    "flops",
    "first_call_s",
    "plan_s",
    "host_us",
    "wall_s",
    "verified",
    "layout",
    "trace",
    "trace_columns",
    "operators",
    "calls",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "peak_extra_bytes",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "power_w",
    "temperature",
    "throttle",
    "error_out",
    "error_dq",
    "error_dk",
    "error_dv",
    "weights_and_inputs_bytes",
    "limit_s",
    "parameters",
}


def load(directories):
    sections, gpu = collections.OrderedDict(), None
    for directory in directories:
        for path in sorted(glob.glob(os.path.join(directory, "*.jsonl"))):
            for line in open(path, errors="replace"):
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # torn by a kill
                sections.setdefault(record["section"], {})[record["id"]] = record
        try:
            gpu = json.load(open(os.path.join(directory, "provenance.json")))["runs"][-1]["gpu"]
        except (OSError, ValueError, KeyError, IndexError):
            pass
    return {name: list(records.values()) for name, records in sections.items()}, gpu


def rates(record):
    seconds = (record.get("value_us_median") or 0) * 1e-6
    if not seconds:
        return 0.0, 0.0
    return record.get("flops", 0) / seconds / 1e12, record.get("bytes", 0) / seconds / 1e9


def impossible(record, peaks):
    tflops, gb_s = rates(record)
    if not peaks or "host_copy" == record["op"]:
        return False
    return tflops > peaks.get(record.get("dtype"), peaks["bf16"]) or gb_s > peaks["gb_s"]


def shape(record):
    return " ".join(
        f"{k}={v}"
        for k, v in record.items()
        if k not in HIDDEN and v is not None and not isinstance(v, (list, dict))
    )


def number(value, width, digits=1):
    return f"{value:{width}.{digits}f}" if value else " " * (width - 1) + "-"


def print_row(r, peaks):
    spread = 0.0
    if r.get("value_us_median"):
        spread = 100 * (r.get("p90", 0) - r.get("p10", 0)) / r["value_us_median"]
    tflops, gb_s = rates(r)
    marks = ("!" if impossible(r, peaks) else " ") + ("?" if r.get("verified") is False else " ")
    cells = [
        f"{marks}{number(r.get('value_us_median'), 12)}",
        f"{spread:8.1f}%",
        number(tflops, 8),
        number(gb_s, 8, 0),
        number(r.get("peak_extra_bytes", 0) / 1e6, 9, 0),
        f"{r.get('sm_clock_mhz', '-'):>5}",
        number(r.get("power_w"), 4, 0),
    ]
    print(" " + " ".join(cells) + "  " + shape(r))
    for part, times in (r.get("operators") or {}).items():
        forward, backward = times["forward_us"] or 0, times["backward_us"] or 0
        print(f"      {part:12s} forward {forward:10.1f} us   backward {backward:10.1f} us")


def print_group(key, rows, peaks, everything):
    op, backend, dtype = key
    best = max(rows, key=lambda r: rates(r)[0] or rates(r)[1])
    tflops, gb_s = rates(best)
    print(
        f"\n-- {op} ({backend or '-'}, {dtype or '-'}): {len(rows)} points,"
        f" best {tflops:.1f} TFLOP/s, {gb_s:.0f} GB/s at {shape(best)}"
    )
    heads = f"   {'us':>12} {'p10..p90':>9} {'TFLOP/s':>8} {'GB/s':>8} {'extra MB':>9}"
    print(heads + f" {'MHz':>5} {'W':>4}  shape")
    for r in rows if everything else rows[:40]:
        print_row(r, peaks)
    if len(rows) > 40 and not everything:
        print(f"   ... {len(rows) - 40} more (--all)")


def print_section(name, records, peaks, everything):
    print(f"\n== {name}: {len(records)} points")
    bad = collections.Counter(
        (r["op"], r["status"], r.get("error", "")[:70]) for r in records if r["status"] != "ok"
    )
    good = [r for r in records if r["status"] == "ok"]
    groups = collections.OrderedDict()
    for record in good:
        key = (record["op"], record.get("backend"), record.get("dtype"))
        groups.setdefault(key, []).append(record)
    for key, rows in groups.items():
        print_group(key, rows, peaks, everything)
    for (op, status, error), count in sorted(bad.items()):
        print(f"   {count:4d} x {op}: {status}: {error}")
    above = [r for r in good if impossible(r, peaks)]
    if above:
        print(
            f"warning: {len(above)} rates are above the device's physical peak (marked !): a wrong"
            " count or cached data"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directories", nargs="+")
    parser.add_argument("--section", help="only this one")
    parser.add_argument(
        "--all", action="store_true", help="every row, not the first 40 of each table"
    )
    args = parser.parse_args()
    sections, gpu = load(args.directories)
    peaks = PEAKS.get(gpu)
    print(f"GPU: {gpu}" + ("" if peaks else " (no peaks known: rates are not checked)"))
    for name, records in sections.items():
        if args.section in (None, name):
            print_section(name, records, peaks, args.all)


if __name__ == "__main__":
    main()
