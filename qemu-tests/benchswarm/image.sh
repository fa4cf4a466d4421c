#!/bin/bash
# image.sh DEBIAN.RAW OUT.RAW: a copy of the Debian disk that holds more of the same: its own libraries, programs and
# kernel once more under /srv, until about 475 MB of its blocks are used. That is the size that the aims are stated for;
# it compresses like Debian, and frames are compressed each for itself, so that twice the same file costs twice.
# Root is needed: the file system is mounted, in a mount namespace of its own.
set -euo pipefail
raw=$1 out=$2
want=447000000 # bytes of statfs; the file system's tables and the ESP come to 28 MB more
if [ -z "${BENCHSWARM_UNSHARED:-}" ]; then
  BENCHSWARM_UNSHARED=1 exec unshare --mount --propagation private "$0" "$@"
fi

tmp=$(mktemp -d)
loop=
end() {
  mountpoint -q "$tmp" && umount "$tmp"
  if [ -n "$loop" ]; then losetup -d "$loop"; fi
  rmdir "$tmp"
}
trap end EXIT

cp --sparse=always "$raw" "$out.part"
read -r start size < <(sfdisk --dump "$out.part" | sed -n 's/.*start= *\([0-9]*\), size= *\([0-9]*\),.*name="root".*/\1 \2/p')
start=$((start * 512)) size=$((size * 512))
loop=$(losetup --find --show --offset "$start" --sizelimit "$size" "$out.part")
mount "$loop" "$tmp"
used() { stat -f -c '%S %b %f' "$tmp" | { read -r bs blocks free; echo $((bs * (blocks - free))); }; }
mkdir "$tmp/srv/more"
list=$(cd "$tmp" && find boot usr/lib usr/bin usr/sbin -type f -size +64k | LC_ALL=C sort)
while [ "$(used)" -lt "$want" ]; do
  n=$((${n:-0} + 1))
  while read -r f; do
    if [ "$(used)" -ge "$want" ]; then break; fi
    mkdir -p "$tmp/srv/more/$n/${f%/*}"
    cp "$tmp/$f" "$tmp/srv/more/$n/$f"
    sync -f "$tmp" # blocks are allocated late: without it nothing seems to be used
  done <<<"$list"
done
umount "$tmp"
losetup -d "$loop"
loop=
e2fsck -fn "$out.part?offset=$start" >/dev/null
mv "$out.part" "$out"
