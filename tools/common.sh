# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts: where things are, how to say and remember something.

cache="${VERIFY_TFLITE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/verify_tflite}"
[[ $cache == /* ]] || cache="$PWD/$cache"
export VERIFY_TFLITE_CACHE="$cache"
python="${PYTHON:-python3}"

say() { printf '== %s\n' "$*"; }

# Prints the lines and ends with the exit code for "could not check".
stop() {
  printf '%s\n' "$@" >&2
  exit 2
}

# Is this directory complete and made for this key? The stamp is written last.
is_stamped() { [[ -f $1/.stamp && $(<"$1/.stamp") == "$2" ]]; }
stamp() { printf '%s\n' "$2" >"$1/.stamp"; }
