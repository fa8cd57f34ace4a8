#!/bin/sh
# Estimates the error model of intervals anew on files of measured runs:
#   scripts/update_intervals.sh BINARY RUNS.yaml...
# Every change belongs into CHANGELOG.md under "Predictions changed".
set -eu
binary="$1"
shift
profile="$(dirname "$0")/../calibrate/profiles/uncertainty.yaml"
"$binary" validate "$@" --fit-intervals 2>/dev/null >"$profile.new"
sed -n '/^# of sources left out/p' "$profile.new"
sed -i '/^# of sources left out/d' "$profile.new"
mv "$profile.new" "$profile"
git --no-pager diff --stat -- "$profile"
