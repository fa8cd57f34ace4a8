#!/bin/sh
# Sets up, builds with warnings as errors, and runs every test.
# For other builds use the presets of CMakePresets.json (see CONTRIBUTING.md).
set -eu
cd "$(dirname "$0")/.."

scripts/setup.sh
CTEST_PARALLEL_LEVEL="${CTEST_PARALLEL_LEVEL:-$(nproc)}"
export CTEST_PARALLEL_LEVEL
exec cmake --workflow --preset test
