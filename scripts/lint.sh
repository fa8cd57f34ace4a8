#!/bin/sh
# Formats nothing, says what it would: clang-format and clang-tidy on C++ files.
#   scripts/lint.sh              files that differ from the last commit, or are new
#   scripts/lint.sh --since REV  files that differ from REV
#   scripts/lint.sh --all        every file (clang-tidy takes several seconds a file)
#   scripts/lint.sh FILE...      these
# Exit 0: clean; 1: findings; 2: usage; 3: a tool is missing.
# clang-tidy 16 is the first whose <source_location> works; formatting differs between versions of
# clang-format, so it is Debian 12's, 14, for everyone.
set -eu
cd "$(dirname "$0")/.."

for tool in git clang-format-14 clang-tidy-16; do
  command -v "$tool" >/dev/null && continue
  echo "lint: $tool is missing: apt-get install git clang-format-14 clang-tidy-16" >&2
  exit 3
done

only_cpp() { grep -E '\.(h|cpp)$' || true; }
case "${1:-}" in
  --all) files="$(git ls-files | only_cpp)" ;;
  --since) files="$(git diff --name-only --diff-filter=d "${2:?a revision}" | only_cpp)" ;;
  "") files="$( (git diff --name-only --diff-filter=d HEAD
                 git ls-files --others --exclude-standard) | only_cpp)" ;;
  -*) echo "lint: unknown option $1; see the head of scripts/lint.sh" >&2; exit 2 ;;
  *) files="$*" ;;
esac
[ -n "$files" ] || { echo "lint: no C++ files to look at" >&2; exit 0; }

# clang-tidy reads the compile commands of the dev preset; headers are seen through the sources.
cmake --preset dev >/dev/null
status=0
# shellcheck disable=SC2086  # the list is meant to be split; no path has a space
clang-format-14 --dry-run --Werror $files || status=1
sources="$(echo "$files" | tr ' ' '\n' | grep '\.cpp$' || true)"
if [ -n "$sources" ]; then
  echo "$sources" | xargs -n 1 -P "$(nproc)" clang-tidy-16 -p build/dev --quiet || status=1
fi
exit $status
