#!/bin/sh
# Sets up, builds, and answers the main question: Llama-3 8B on four DGX H100 nodes at 128k, 512k
# and 1M tokens: ring, Ulysses, a hybrid, Megatron SP or all-gather? Does it fit, how long is a
# step, and why?
set -eu
cd "$(dirname "$0")/.."

scripts/setup.sh
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
echo "demo: building (log on failure) ..." >&2
if ! cmake --workflow --preset demo >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi

for sequence in 128k 512k 1M; do
  echo
  echo "\$ longhaul compare llama3-8b dgx-h100 --gpus 32 --global-batch 1 --seq $sequence"
  # Exit code 1 is an answer too: nothing fits.
  build/release/longhaul compare llama3-8b dgx-h100 --gpus 32 --global-batch 1 --seq "$sequence" ||
    [ $? -eq 1 ]
done
