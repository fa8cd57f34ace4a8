#!/bin/sh
# Measures our kernels on this machine's GPU: each kernel's check, then, if it passed, its bench.
#
#   scripts/measure_kernels.sh BUILD DIR [--quick]
#
# BUILD is a build folder (build/release); DIR gets checks.txt, kernels.jsonl (a point a line) and
# provenance.json. Run again with the same DIR after an interruption: finished benches are kept. No
# compiler is needed here, so the programs of BUILD/kernels may come from another machine.
# Exit: 0 done; 1 a check failed (its kernel is not measured: the rate of a wrong kernel is worth
# nothing); 2 bad usage; 3 no GPU.
set -eu

if [ $# -lt 2 ] || [ ! -d "$1/kernels" ]; then
  echo "usage: scripts/measure_kernels.sh BUILD DIR [--quick]   (BUILD/kernels must exist)" >&2
  exit 2
fi
programs=$1/kernels
out=$2
quick=${3:-}
mkdir -p "$out"
parts=$out/unfinished
touch "$out/kernels.jsonl"

# Appends what a finished bench wrote, so that a part is either wholly there or not at all.
keep() {
  cat "$parts"/*.jsonl >>"$out/kernels.jsonl"
  mv "$parts/provenance.json" "$out/provenance.json"
  rm -r "$parts"
}

failed=""
for check in "$programs"/check_*; do
  [ -x "$check" ] || continue
  name=${check##*/check_}
  if grep -q "^== $name: measured" "$out/checks.txt" 2>/dev/null; then
    echo "$name: measured before"
    continue
  fi
  echo "== $name" >>"$out/checks.txt"
  status=0
  said=$("$check" 2>&1) || status=$?
  printf '%s\n' "$said" >>"$out/checks.txt"
  if printf '%s\n' "$said" | grep -q "^waived: no CUDA device"; then
    echo "waived: no CUDA device" >&2
    exit 3
  fi
  if [ "$status" -ne 0 ]; then
    echo "$name: CHECK FAILED (see $out/checks.txt); not measured" >&2
    failed="$failed $name"
    continue
  fi
  rm -rf "$parts"
  mkdir -p "$parts"
  # The provenance of earlier benches goes on in the same file.
  [ ! -f "$out/provenance.json" ] || cp "$out/provenance.json" "$parts/"
  # shellcheck disable=SC2086  # no word at all where it is empty
  "$programs/bench_$name" --out "$parts" $quick
  keep
  echo "== $name: measured" >>"$out/checks.txt"
done

[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
