#!/bin/bash
# debian.sh OUT: builds the Debian disk that the tests and the demo deploy: OUT/debian.raw, a GPT disk of 3 GiB (sparse)
# with an ESP (FAT32) and an ext4 root, and OUT/debian.env with what the system must print about itself.
# No file system is mounted; root is needed for the owners of the files (mmdebstrap, mke2fs -d).
set -euo pipefail
out=$1
mkdir -p "$out"
out=$(realpath "$out")
here=$(dirname "$(realpath "$0")")

suite=bookworm
epoch=1700000000
disk_guid=5A3B0001-0000-4000-8000-000000000001
esp_guid=5A3B0001-0000-4000-8000-000000000002
root_guid=5A3B0001-0000-4000-8000-000000000003
root_fs=5a3b0001-0000-4000-8000-000000000004
mib=1048576
disk_mib=3072 esp_start=1 esp_mib=64 root_start=65 root_mib=2944

stamp=$(cat "$0" "$here/report.sh" | sha256sum | cut -c1-16)
if [ "$(cat "$out/debian.stamp" 2>/dev/null)" = "$stamp" ] && [ -e "$out/debian.raw" ]; then
  echo "debian: $out/debian.raw is there"
  exit 0
fi

tmp=$(mktemp -d "$out/.debian.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export SOURCE_DATE_EPOCH=$epoch E2FSPROGS_FAKE_TIME=$epoch

echo "debian: building a Debian $suite root with mmdebstrap (downloads about 90 MB)"
mmdebstrap --variant=minbase --quiet \
  --aptopt='Acquire::Retries "3"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --include=systemd-sysv,udev,dbus,kmod,initramfs-tools,zstd,linux-image-cloud-amd64 \
  --customize-hook="$here/customize.sh \"\$1\" $root_guid" \
  "$suite" "$tmp/root" >"$tmp/mmdebstrap.log" 2>&1 || { cat "$tmp/mmdebstrap.log" >&2; exit 1; }

echo "debian: making the disk"
raw=$tmp/debian.raw
truncate -s ${disk_mib}M "$raw"
sgdisk --clear --disk-guid=$disk_guid \
  --new=1:${esp_start}M:+${esp_mib}M --typecode=1:ef00 --change-name=1:esp --partition-guid=1:$esp_guid \
  --new=2:${root_start}M:+${root_mib}M --typecode=2:8304 --change-name=2:root --partition-guid=2:$root_guid "$raw" >/dev/null
esp=$tmp/esp.img
truncate -s ${esp_mib}M "$esp"
mkfs.vfat -F 32 -s 1 -n SB-ESP -i 5A3B0005 --invariant "$esp" >/dev/null
mmd -i "$esp" ::/EFI
mmd -i "$esp" ::/EFI/debian
echo "This partition travels in the image." >"$tmp/readme.txt"
mcopy -i "$esp" "$tmp/readme.txt" ::/EFI/debian/readme.txt
dd if="$esp" of="$raw" bs=1M seek=$esp_start conv=notrunc,sparse status=none
mke2fs -q -t ext4 -L sb-root -U $root_fs -E offset=$((root_start * mib)),hash_seed=$root_fs,lazy_itable_init=0 \
  -d "$tmp/root" "$raw" ${root_mib}M
sgdisk --verify "$raw" >/dev/null

known=$(sha256sum "$tmp/root/usr/share/swarmboot-test/known" | cut -d' ' -f1)
{
  echo "ROOT_PARTUUID=${root_guid,,}"
  echo "KNOWN_SHA256=$known"
  echo "HOSTNAME=$(cat "$tmp/root/etc/hostname")"
} >"$tmp/debian.env"
mv "$raw" "$tmp/debian.env" "$out/"
echo "$stamp" >"$out/debian.stamp"
echo "debian: $out/debian.raw: $(du -m "$out/debian.raw" | cut -f1) MiB used of $disk_mib MiB"
