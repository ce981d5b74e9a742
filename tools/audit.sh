#!/usr/bin/env bash
# Looks for known vulnerabilities: in Go code that the Worker or the command line
# calls, and in npm packages. One of them fails. Those of the Go that
# builds are only told, since a newer Go mends them and this repository cannot. npm is
# asked with VERSION latest alone, so that every other run depends on the change alone.
# What cannot be looked up is skipped, loudly.
#
# Usage: tools/audit.sh VERSION, of the module golang.org/x/vulndb.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The database comes through the module proxy, checked by its checksum; govulncheck
# reads its entries as they lie there. So vuln.go.dev need not be reachable.
if database=$(go mod download -json "golang.org/x/vulndb@$1" 2>/dev/null | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') && [ -n "$database" ]; then
  check() { # [GOOS=… GOARCH=…] package
    local status=0 found package=${*: -1}
    found=$(env "${@:1:$#-1}" build/tools/govulncheck -db "file://$database/data/osv" "$package" 2>&1) || status=$?
    if [ "$status" -ne 0 ] && [ "$status" -ne 3 ]; then # 3: something was found
      echo "$found" >&2
      exit 1
    fi
    if grep 'Found in:' <<<"$found" | grep -qv '@go1\.'; then
      echo "$found" >&2
      exit 1
    fi
    if [ "$status" -eq 3 ]; then
      echo "NOT SAFE TO DEPLOY WITH: $(go env GOVERSION) itself has known vulnerabilities ($(grep -c '^Vulnerability #' <<<"$found") in what $package calls). Update Go."
    fi
  }
  check ./cmd/latchkey
  check GOOS=js GOARCH=wasm ./cmd/worker
else
  echo 'SKIPPED: govulncheck. Its database, golang.org/x/vulndb, cannot be had from the module proxy.'
fi

# What npm says changes from day to day: it is asked together with the latest list.
if [ "$1" != latest ]; then exit; fi
report=$(npm audit --json 2>/dev/null) || true
case $(node -e 'const r = JSON.parse(process.argv[1]); console.log(r.metadata ? r.metadata.vulnerabilities.total : "none")' "$report" 2>/dev/null || echo none) in
  0) ;;
  none) echo 'SKIPPED: npm audit. The registry does not answer it.' ;;
  *) npm audit >&2; exit 1 ;;
esac
