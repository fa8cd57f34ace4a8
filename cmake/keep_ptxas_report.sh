#!/bin/sh
# A compiler launcher: runs the command, and keeps what it says (with -Xptxas -v: registers, spills
# and warnings of every kernel) beside the object file, as OBJECT.ptxas, for tests/kernels.
set -eu

object=""
previous=""
for word in "$@"; do
  [ "$previous" = "-o" ] && object=$word
  previous=$word
done

status=0
said=$("$@" 2>&1) || status=$?
if [ -n "$said" ]; then
  # What ptxas says in good order is for the report, all else for the eye.
  printf '%s\n' "$said" | grep -v '^ptxas info\|^    [0-9]* bytes stack frame' >&2 || true
fi
case $object in
  *.o) printf '%s\n' "$said" >"$object.ptxas" ;;
esac
exit "$status"
