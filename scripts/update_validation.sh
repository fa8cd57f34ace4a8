#!/bin/sh
# Writes the tables of docs/models/validation.md anew:
#   scripts/update_validation.sh BINARY RUNS.yaml...
# The scores stand between the marks 'scores' and 'end scores', the sources left out between
# 'cross' and 'end cross'.
set -eu
binary="$1"
shift
page="$(dirname "$0")/../docs/models/validation.md"
put() { # mark, file: replaces what stands between the marks
  awk -v mark="$1" -v file="$2" '
    $0 == "<!-- end " mark " -->" { inside = 0 }
    !inside { print }
    $0 == "<!-- " mark " -->" {
      inside = 1
      print "```"
      while ((getline line < file) > 0) print line
      print "```"
    }' "$page" >"$page.new"
  mv "$page.new" "$page"
}
scratch="$(mktemp)"
trap 'rm -f "$scratch"' EXIT
"$binary" validate "$@" 2>/dev/null >"$scratch"
put scores "$scratch"
"$binary" validate "$@" --cross-validate 2>/dev/null >"$scratch"
put cross "$scratch"
git --no-pager diff --stat -- "$page"
