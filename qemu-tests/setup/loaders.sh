#!/bin/bash
# loaders.sh DIR: downloads Debian's boot loaders and unpacks them below DIR; nothing is installed, so that the boot
# loader of this machine stays as it is.
#   DIR/usr/lib/shim/shimx64.efi.signed, DIR/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed, DIR/usr/lib/grub/i386-pc
#
# loaders.sh DIR bios DISK FIRST SECTORS FSUUID: puts GRUB for a BIOS on DISK (a file, GPT): boot code into sector 0,
# core.img into the BIOS boot partition of SECTORS sectors of 512 bytes from FIRST. It reads /boot/grub/grub.cfg of the file
# system FSUUID. This is what grub-bios-setup does, which wants a device that is mounted.
set -euo pipefail
dir=$1

unpack() {
  local tmp
  mkdir -p "$dir"
  tmp=$(mktemp -d "$dir/.debs.XXXXXX")
  # _apt cannot write to a folder of ours: the download runs unsandboxed, and apt warns about it.
  (cd "$tmp" && apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)" download \
    shim-signed shim-helpers-amd64-signed grub-efi-amd64-signed grub-pc-bin grub-common libdevmapper1.02.1 >/dev/null)
  for deb in "$tmp"/*.deb; do dpkg -x "$deb" "$dir"; done
  rm -r "$tmp"
}

# number VALUE BYTES: little endian, for poke.
number() {
  local v=$1 n=$2
  while [ "$n" -gt 0 ]; do printf '%b' "\\x$(printf %02x $((v & 255)))"; v=$((v >> 8)) n=$((n - 1)); done
}

# poke FILE OFFSET: overwrites bytes of FILE with standard input.
poke() { dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

bios() {
  local disk=$1 first=$2 room=$3 fs=$4 tmp sectors
  tmp=$(mktemp -d "$dir/.bios.XXXXXX")
  echo "search.fs_uuid $fs root
set prefix=(\$root)/boot/grub" >"$tmp/early.cfg"
  # Every module that grub.cfg needs is inside: the file system of the image has none.
  LD_LIBRARY_PATH=$dir/lib/x86_64-linux-gnu "$dir/usr/bin/grub-mkimage" -O i386-pc -d "$dir/usr/lib/grub/i386-pc" \
    -c "$tmp/early.cfg" -p /boot/grub -o "$tmp/core.img" \
    biosdisk part_gpt part_msdos ext2 diskfilter mdraid1x search search_fs_uuid normal configfile linux test echo serial terminal
  sectors=$((($(stat -c %s "$tmp/core.img") + 511) / 512))
  [ "$sectors" -le "$room" ] || { echo "loaders: core.img of $sectors sectors, there is room for $room" >&2; exit 1; }
  cp "$dir/usr/lib/grub/i386-pc/boot.img" "$tmp/boot.img"
  # include/grub/i386/pc/boot.h: where core.img is (0x5c); jump over the check for a drive number that a BIOS left out (0x66).
  number "$first" 8 | poke "$tmp/boot.img" $((0x5c))
  printf '\x90\x90' | poke "$tmp/boot.img" $((0x66))
  # The block list at the end of core.img's first sector: start, and number of sectors, of the rest.
  number $((first + 1)) 8 | poke "$tmp/core.img" $((512 - 12))
  number $((sectors - 1)) 2 | poke "$tmp/core.img" $((512 - 4))
  dd if="$tmp/boot.img" of="$disk" bs=1 count=440 conv=notrunc status=none
  dd if="$tmp/core.img" of="$disk" bs=512 seek="$first" conv=notrunc status=none
  rm -r "$tmp"
}

case ${2:-} in
  "") unpack ;;
  bios) bios "$3" "$4" "$5" "$6" ;;
  *) echo "usage: loaders.sh DIR [bios DISK FIRST SECTORS FSUUID]" >&2; exit 2 ;;
esac
