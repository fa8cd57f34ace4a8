#!/bin/sh
# Installs what building and testing need and this machine lacks (Debian 12 or newer, apt).
# Touches nothing that is already there. Exit 3, with the list, if it cannot install.
set -eu

# Compiler and build tools, then the libraries (all header-only but yaml-cpp and fmt). valgrind
# counts the instructions of the flow engine.
packages="g++ cmake ninja-build ccache valgrind
          libyaml-cpp-dev libboost-dev libeigen3-dev libcli11-dev libfmt-dev
          catch2 nlohmann-json3-dev libpugixml-dev"

is_installed() {
  dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

give_up() {
  echo "setup: $1" >&2
  echo "setup: please install these packages yourself:" >&2
  echo "$missing" >&2
  exit 3
}

missing=""
for package in $packages; do
  if ! command -v dpkg-query >/dev/null || ! is_installed "$package"; then
    missing="$missing $package"
  fi
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || give_up "apt-get is not here (not a Debian system)"
as_root=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || give_up "not root, and sudo is not here"
  as_root="sudo"
fi

echo "setup: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# A bare system has no package lists yet, or old ones.
$as_root apt-get update -q >&2 || give_up "apt-get update failed"
# shellcheck disable=SC2086  # the list is meant to be split
$as_root env DEBIAN_FRONTEND=noninteractive \
  apt-get install -q -y --no-install-recommends $missing >&2 || give_up "apt-get install failed"
