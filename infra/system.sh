#!/usr/bin/env bash
# The one system package that tests want: Chromium, for tests/browser. Installed where that takes no
# password (root, or sudo in CI); elsewhere this says what to type, and those tests are skipped.
set -uo pipefail

for browser in chromium chromium-browser google-chrome; do
    command -v "$browser" >/dev/null && exit 0
done

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
    if [ -z "${CI:-}" ] || ! "${as_root[@]}" true 2>/dev/null; then
        echo "  no Chromium: tests/browser will be skipped; to run them: sudo apt-get install chromium"
        exit 0
    fi
fi
if ! command -v apt-get >/dev/null; then
    echo "  no Chromium: tests/browser will be skipped; install it with this system's package manager"
    exit 0
fi

log=$(mktemp)
echo "  installing Chromium for tests/browser"
export DEBIAN_FRONTEND=noninteractive
if "${as_root[@]}" apt-get update >"$log" 2>&1 </dev/null &&
    "${as_root[@]}" apt-get install -y --no-install-recommends chromium >>"$log" 2>&1 </dev/null; then
    rm -f "$log"
else
    echo "  Chromium could not be installed (log: $log); tests/browser will be skipped"
fi
exit 0
