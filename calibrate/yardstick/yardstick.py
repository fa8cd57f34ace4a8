#!/usr/bin/env python3
"""yardstick: what one GPU and its vendor libraries do, measured for longhaul's cost profiles.

    python3 yardstick.py --sections ceilings,attention --out DIR --budget SECONDS [--smoke]

Each section runs in a process of its own and appends one JSON object a line to
DIR/<section>.jsonl, flushed at once. A point already in that file (or in a folder named by
--also-done) is skipped, so a cut run is resumed by the same command. What cannot run (memory, no
kernel) is a result with its `status`. README.md explains the fields.
"""
import argparse
import os
import subprocess
import sys
import time

from common import ORPHANED, WEIGHTS


def drive(args):
    """Run the sections one after another, each within its share of what is left of the budget."""
    os.makedirs(args.out, exist_ok=True)
    end, names = time.time() + args.budget, args.sections.split(",")
    unknown = [n for n in names if n not in WEIGHTS]
    if unknown:
        known = ", ".join(WEIGHTS)
        print(f"error: unknown section {', '.join(unknown)}; known: {known}", file=sys.stderr)
        sys.exit(2)
    for at, name in enumerate(names):
        share = (end - time.time()) * WEIGHTS[name] / sum(WEIGHTS[n] for n in names[at:])
        deadline, tries = min(time.time() + share, end), 0
        while deadline - time.time() > 3 and tries < 5:
            tries += 1
            command = [
                sys.executable,
                os.path.abspath(__file__),
                "--worker",
                name,
                "--deadline",
                str(deadline - 2),
                "--sections",
                args.sections,
                "--out",
                args.out,
                "--budget",
                str(args.budget),
                "--seed",
                str(args.seed + tries - 1),
            ]
            command += ["--smoke"] * args.smoke + [
                part for place in args.also_done for part in ("--also-done", place)
            ]
            child = subprocess.Popen(command)
            try:
                code = child.wait(timeout=max(1, deadline + 6 - time.time()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                code = ORPHANED
            if code != 0:
                print(f"[{name}] section process ended with {code}", flush=True)
            if code in (0, 1, ORPHANED):  # done, a mistake that would be repeated, or out of time
                break


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sections", default=",".join(WEIGHTS), help="comma-separated, run in this order"
    )
    parser.add_argument("--out", required=True, help="folder for the results")
    parser.add_argument("--budget", type=float, default=480, help="seconds for everything")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny shapes on the CPU, to test the script itself"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--also-done",
        action="append",
        default=[],
        metavar="DIR",
        help="skip the points of an earlier run kept there",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        from worker import run_section  # needs PyTorch, which the driver does not

        run_section(args)
    else:
        drive(args)


if __name__ == "__main__":
    main()
