#!/bin/sh
# check_static.sh PROGRAM: fails where the program needs a shared library beside the C library's
# own. CUDA's driver and libraries are opened at run time, where they are there.
set -eu

needed=$(LC_ALL=C readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p')
if [ -z "$needed" ]; then
  echo "error: $1: found no list of shared libraries" >&2
  exit 1
fi
for library in $needed; do
  case $library in
    libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | ld-linux-*) ;;
    *)
      echo "error: $1 needs $library; LIQUIDGEMM_STATIC is for a machine that has none" >&2
      exit 1
      ;;
  esac
done
