#!/bin/sh
# Instructions per event of the flow engine, counted by valgrind: the difference of two sizes over
# the difference of their events, so that start-up does not count. Free of noise, unlike seconds.
#   bench/instructions.sh FLOWS [LIMITS]
# Exit 1 if a workload takes more than its limit; 3 if valgrind is not here.
set -eu
flows="$1"
limits="${2:-$(dirname "$0")/instruction_limits.txt}"
command -v valgrind >/dev/null || { echo "instructions: valgrind is not here" >&2; exit 3; }

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Prints "instructions events" of one run.
count() {
  # shellcheck disable=SC2086  # the arguments are meant to be split
  valgrind --tool=callgrind --callgrind-out-file="$work/profile" --log-file="$work/log" \
    "$flows" $1 > "$work/out"
  instructions="$(sed -n 's/.*Collected *: *//p' "$work/log")"
  events="$(sed 's/.*events=\([0-9]*\).*/\1/' "$work/out")"
  echo "$instructions $events"
}

status=0
# Fields: name | limit | arguments of the smaller run | of the larger run.
while IFS='|' read -r name limit small large; do
  case "$name" in ''|'#'*) continue ;; esac
  verdict="$(echo "$(count "$small") $(count "$large") $limit" | awk '{
    each = ($3 - $1) / ($4 - $2)
    printf "%.0f instructions per event, limit %d%s", each, $5, (each > $5 ? ": TOO MANY" : "")
  }')"
  echo "$name: $verdict"
  case "$verdict" in *"TOO MANY") status=1 ;; esac
done < "$limits"
exit "$status"
