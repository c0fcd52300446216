#!/usr/bin/env bash
# The servers that tests/real asks, which nobody here wrote: LiteLLM's proxy and mitmproxy, each in a virtual environment of
# its own (what they need clashes with each other and with batchrun), aimock from npm, nginx from Debian where this is root.
# Run it again at any time: what is there as pinned below is left alone. Where one can't be installed, the others are, the
# exit is 1, and its tests are skipped with the reason (and fail where CI is set).
set -uo pipefail
home=${BATCHRUN_TEST_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/batchrun-test-servers}
litellm='litellm[proxy]>=1.108.7,<1.109'
mitmproxy='mitmproxy>=11.0.2,<13'
aimock='@copilotkit/aimock@>=1.43.0 <1.44.0'
mkdir -p "$home"
exec 9>"$home/.lock"
flock 9
missing=()

# once NAME PINNED COMMAND...: run COMMAND in a clean folder $home/NAME, unless that holds PINNED already
once() {
  local folder=$home/$1 pinned=$2
  if [[ -f $folder/pinned && $(<"$folder/pinned") == "$pinned" ]]; then return; fi
  echo "installing $pinned"
  rm -rf "$folder"
  mkdir -p "$folder"
  if "${@:3}" "$folder" "$pinned"; then printf %s "$pinned" >"$folder/pinned"; else missing+=("$1"); fi
}

with_pip() {
  python3 -m venv "$1" && "$1/bin/pip" install -q --disable-pip-version-check --no-compile "$2"
}

with_npm() {
  command -v npm >/dev/null || { echo "npm is not there: install Node.js 20 or newer" >&2; return 1; }
  npm install --silent --no-audit --no-fund --no-update-notifier --prefix "$1" "$2"
}

once litellm "$litellm" with_pip
once mitmproxy "$mitmproxy" with_pip
once aimock "$aimock" with_npm
if ! command -v nginx >/dev/null; then
  if ((EUID == 0)) && command -v apt-get >/dev/null; then
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nginx-light
  fi || true
  command -v nginx >/dev/null || missing+=(nginx)
fi
if ((${#missing[@]})); then
  echo "not installed: ${missing[*]}" >&2
  exit 1
fi
