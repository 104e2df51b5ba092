# What the commands in hack/ share. Sourced, never run: `. "$(dirname "$0")/lib.sh"`.
# Sets top (the source tree), build (where all that is made goes), tests_bin (Go clients of the tests).

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
tests_bin=$build/tests/bin

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$(basename "$0"): $*"
    exit 1
}

need_root() { [ "$(id -u)" = 0 ] || die "must be root (namespaces, cgroups and mounts are made): run it with sudo"; }

# phase NAME COMMAND...: run COMMAND, then print NAME and its seconds; COMMAND's exit status.
phase() {
    local name=$1 start=$EPOCHREALTIME status=0
    shift
    say "== $name"
    "$@" || status=$?
    printf '== %s: %s in %.1f s\n' "$name" "$([ $status = 0 ] && echo done || echo "FAILED ($status)")" \
        "$(awk "BEGIN { print $EPOCHREALTIME - $start }")" >&2
    return $status
}

# Put a Go that is new enough for tests/go.mod on PATH, or end with the sentence that says what is missing.
# GOTOOLCHAIN=local: a Go never fetches another Go.
find_go() {
    local want dir have
    want=$(awk '$1 == "go" { print $2 }' "$top/tests/go.mod")
    export GOTOOLCHAIN=local
    for dir in $(command -v go | xargs -r dirname) /usr/local/go/bin; do
        [ -x "$dir/go" ] || continue
        have=$("$dir/go" env GOVERSION)
        if [ "$(printf '%s\n' "go$want" "$have" | sort -V | head -n 1)" = "go$want" ]; then
            PATH=$dir:$PATH
            return 0
        fi
    done
    die "the tests' clients (crictl, critest) need Go $want or newer on PATH or in /usr/local/go; Debian 12's own is too old"
}

# The directory of the C programs: CRISP_BIN_DIR, or what the release preset makes.
bin_dir() { printf '%s' "${CRISP_BIN_DIR:-$build/release/bin}"; }

build_release() {
    (cd "$top" && { [ -f build/release/build.ninja ] || cmake --preset release >/dev/null; } && cmake --build --preset release)
}
