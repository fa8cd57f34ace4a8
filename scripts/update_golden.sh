#!/bin/sh
# Writes the golden files anew from the release build and shows what changed. Every change belongs
# into CHANGELOG.md under "Predictions changed", with its reason.
set -eu
cd "$(dirname "$0")/.."
binary="${1:-build/release/longhaul}"
for scenario in examples/*.yaml; do
  name="$(basename "$scenario" .yaml)"
  # Exit code 1 is an answer: it does not fit.
  "$binary" predict "$scenario" --json >"tests/golden/$name.json" || [ $? -eq 1 ]
done
git --no-pager diff --stat -- tests/golden
