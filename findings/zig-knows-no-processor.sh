#!/bin/sh
# Expected: `zig cc` is clang, so that __builtin_cpu_supports tells what the processor has, as it does with gcc and clang.
# Happens: it compiles and links without a word, and says no to everything, whatever the processor: the run-time library of
# ziglang has the function that should ask the processor as one that does nothing. A library that chooses its loops by it
# runs with the slowest, with the right results, so that no test tells.
# Met in: p3mdata/native/processor.h, which asks the processor itself.
# Seen with ziglang 0.17.1, Linux x86-64, a processor with AVX2:
#   the system lists avx2; zig cc: avx2 0, sse2 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
grep -qw avx2 /proc/cpuinfo || { echo "needs a processor with AVX2"; exit 2; }
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check ziglang==0.17.1 || exit 2
cd "$folder"
cat > asks.c <<'C'
#include <stdio.h>

int main(void) {
    __builtin_cpu_init();
    printf("avx2 %d, sse2 %d\n", __builtin_cpu_supports("avx2") != 0, __builtin_cpu_supports("sse2") != 0);
    return 0;
}
C
export ZIG_GLOBAL_CACHE_DIR="$folder/cache" ZIG_LOCAL_CACHE_DIR="$folder/cache"
env/bin/python -m ziglang version
env/bin/python -m ziglang cc -Wall -Wextra -O2 -target x86_64-linux-musl -o asks asks.c 2> errors || { tail -5 errors; exit 2; }
said=$(./asks)
echo "the system lists avx2; zig cc: $said"
[ "$said" = "avx2 0, sse2 0" ] || { echo "changed: it knows the processor"; exit 1; }
