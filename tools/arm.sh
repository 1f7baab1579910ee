#!/bin/sh
# Runs a command with this tree as Linux on 64-bit ARM would, under qemu: bytes are as there, times are not.
#
#   sh tools/arm.sh FOLDER COMMAND...     first: sh tools/arm.sh /tmp/arm python3.11 -m p3mdata doctor --fetch-models
#
# The first time it fills FOLDER (3 GB) with Debian and with our requirements' ARM wheels, from pip's index. FOLDER/work is
# /work to the command. QEMU_CPU=cortex-a72 has no dot products of bytes, neoverse-n1 (here the default) has them.
# Needs root on an x86-64 Debian 12 whose kernel has binfmt_misc, python3.11 with pip, and the packages debootstrap,
# gcc-aarch64-linux-gnu and qemu-user-static.
set -eu
[ $# -ge 2 ] || { sed -n 2,9p "$0"; exit 2; }
tree=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1/work"
folder=$(cd "$1" && pwd) root=$folder/root packages=$folder/root/opt/packages
shift

if [ ! -e "$folder/ready" ]; then
  rm -rf "$root"
  debootstrap --arch=arm64 --foreign --variant=minbase \
    --include=python3.11,libgl1,libegl1,libgles2,libglib2.0-0,libgomp1 bookworm "$root" > "$folder/debian.log"
  # Unpacked is enough; nothing is configured.
  for package in "$root"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
  python3.11 - "$tree/pyproject.toml" > "$folder/requirements.txt" << 'PYTHON'
import sys, tomllib

project = tomllib.load(open(sys.argv[1], "rb"))["project"]
# Those for x86-64 alone have no wheels.
print(*(name for name in project["dependencies"] if "platform_machine" not in name), sep="\n")
print("pip\npytest\nhypothesis\nscipy\nscikit-image\nonnx")
PYTHON
  platforms=$(for glibc in 17 24 26 27 28; do echo "--platform manylinux_2_${glibc}_aarch64"; done)
  # shellcheck disable=SC2086
  python3.11 -m pip install --quiet --target "$packages" --only-binary=:all: $platforms --platform manylinux2014_aarch64 \
    --python-version 311 --implementation cp --abi cp311 --abi abi3 --abi none -r "$folder/requirements.txt"
  # What onnxruntime reads at its start; that of an x86 processor ends it with a fault.
  for number in 0 1; do
    printf 'processor\t: %s\nFeatures\t: fp asimd aes crc32 atomics asimdrdm asimddp\n' $number
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\n'
  done > "$folder/cpuinfo"
  touch "$folder/ready"
fi

rm -rf "$root/tree"
mkdir -p "$root/tree" "$root/work" "$root/etc/ssl/certs"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
tar -C "$tree" -c --exclude=.git --exclude=.venv --exclude=__pycache__ --exclude='_p3mdata.*' . | tar -C "$root/tree" -x
# The sources' names and contents are what the library is known by, not where it was made.
(cd "$tree" && CC=aarch64-linux-gnu-gcc python3.11 - "$root/tree/p3mdata/native/_p3mdata.so") << 'PYTHON'
import runpy, sys
from pathlib import Path

runpy.run_path("p3mdata/native/compiling.py")["compile_library"](Path(sys.argv[1]))
PYTHON

# What is mounted goes with the process.
export root folder
exec unshare --mount sh -c '
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2> /dev/null || true
  known=/proc/sys/fs/binfmt_misc/qemu-aarch64
  magic="\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
  mask="\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
  [ -e $known ] || printf "%s" ":qemu-aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:OCF" > /proc/sys/fs/binfmt_misc/register
  mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && mount --rbind /sys "$root/sys"
  mount --bind "$folder/cpuinfo" "$root/proc/cpuinfo" && mount --bind "$folder/work" "$root/work"
  exec env -i HOME=/root LANG=C.UTF-8 PATH=/usr/bin:/bin PYTHONPATH=/tree:/opt/packages PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 QEMU_CPU="${QEMU_CPU:-neoverse-n1}" P3MDATA_NATIVE="${P3MDATA_NATIVE:-auto}" \
    /usr/sbin/chroot "$root" sh -c "cd /tree && exec \"\$@\"" sh "$@"' sh "$@"
