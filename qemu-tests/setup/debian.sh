#!/bin/bash
# debian.sh OUT: builds the Debian disk that the tests and the demo deploy: OUT/debian.raw, a GPT disk of 3 GiB (sparse)
# with an ESP (FAT32), an ext4 root and a BIOS boot partition, and OUT/debian.env with what the system must print about
# itself. It boots from a BIOS (GRUB) and from UEFI (shim and GRUB in \EFI\debian, as Debian puts them; there is no \EFI\BOOT).
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
bios_guid=5A3B0001-0000-4000-8000-000000000006
root_fs=5a3b0001-0000-4000-8000-000000000004
mib=1048576
disk_mib=3072 esp_start=1 esp_mib=64 root_start=65 root_mib=2944
bios_first=64 bios_last=2047 # sectors of 512 bytes; a GPT with sectors of 4096 bytes ends before

stamp=$(cat "$0" "$here/report.sh" "$here/customize.sh" "$here/loaders.sh" | sha256sum | cut -c1-16)
if [ "$(cat "$out/debian.stamp" 2>/dev/null)" = "$stamp" ] && [ -e "$out/debian.raw" ]; then
  echo "debian: $out/debian.raw is there"
  exit 0
fi

tmp=$(mktemp -d "$out/.debian.XXXXXX")
trap 'rm -rf --one-file-system "$tmp"' EXIT
export SOURCE_DATE_EPOCH=$epoch E2FSPROGS_FAKE_TIME=$epoch

# mdadm is in the initramfs of the image, so that its system can start from an array. Its configuration is what Debian writes where there
# is no array, which knows of none; mkconf is left out because it would look for some on the machine that builds the image.
echo "debian: building a Debian $suite root with mmdebstrap (downloads about 90 MB)"
# What mmdebstrap mounts below the root (/proc, /sys, /dev/pts) is in a mount namespace of its own: it goes with its processes, also when
# they are killed, and no removal of the folder can reach it.
unshare --mount mmdebstrap --variant=minbase --quiet \
  --aptopt='Acquire::Retries "3"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/mdadm/mkconf' \
  --include=systemd-sysv,udev,dbus,kmod,initramfs-tools,zstd,linux-image-cloud-amd64,efibootmgr,mdadm \
  --essential-hook='mkdir -p "$1/etc/mdadm"; printf "HOMEHOST <system>\nMAILADDR root\n" >"$1/etc/mdadm/mdadm.conf"' \
  --customize-hook="$here/customize.sh \"\$1\" $root_guid $root_fs" \
  "$suite" "$tmp/root" >"$tmp/mmdebstrap.log" 2>&1 || { cat "$tmp/mmdebstrap.log" >&2; exit 1; }

echo "debian: downloading boot loaders (6 MB)"
"$here/loaders.sh" "$tmp/loaders"

echo "debian: making the disk"
raw=$tmp/debian.raw
truncate -s ${disk_mib}M "$raw"
sgdisk --clear --disk-guid=$disk_guid \
  --new=1:${esp_start}M:+${esp_mib}M --typecode=1:ef00 --change-name=1:esp --partition-guid=1:$esp_guid \
  --new=2:${root_start}M:+${root_mib}M --typecode=2:8304 --change-name=2:root --partition-guid=2:$root_guid \
  --set-alignment=1 --new=3:$bios_first:$bios_last --typecode=3:ef02 --change-name=3:bios --partition-guid=3:$bios_guid "$raw" >/dev/null
esp=$tmp/esp.img
truncate -s ${esp_mib}M "$esp"
mkfs.vfat -F 32 -s 1 -n SB-ESP -i 5A3B0005 --invariant "$esp" >/dev/null
mmd -i "$esp" ::/EFI
mmd -i "$esp" ::/EFI/debian
echo "This partition travels in the image." >"$tmp/readme.txt"
echo "search.fs_uuid $root_fs root
set prefix=(\$root)'/boot/grub'
configfile \$prefix/grub.cfg" >"$tmp/grub.cfg"
mcopy -i "$esp" "$tmp/readme.txt" "$tmp/grub.cfg" ::/EFI/debian
mcopy -i "$esp" "$tmp/loaders/usr/lib/shim/shimx64.efi.signed" ::/EFI/debian/shimx64.efi
mcopy -i "$esp" "$tmp/loaders/usr/lib/shim/mmx64.efi.signed" ::/EFI/debian/mmx64.efi
mcopy -i "$esp" "$tmp/loaders/usr/lib/shim/fbx64.efi.signed" ::/EFI/debian/fbx64.efi
mcopy -i "$esp" "$tmp/loaders/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::/EFI/debian/grubx64.efi
dd if="$esp" of="$raw" bs=1M seek=$esp_start conv=notrunc,sparse status=none
mke2fs -q -t ext4 -L sb-root -U $root_fs -E offset=$((root_start * mib)),hash_seed=$root_fs,lazy_itable_init=0 \
  -d "$tmp/root" "$raw" ${root_mib}M
"$here/loaders.sh" "$tmp/loaders" bios "$raw" $bios_first $((bios_last - bios_first + 1)) $root_fs
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
