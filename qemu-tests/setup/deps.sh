#!/bin/bash
# deps.sh [demo|test|compare]: installs the Debian packages that are missing for building and the demo, for all tests
# (the default), or also for comparisons with other tools. Needs root (or sudo). Kernels are not installed: see kernels.sh.
set -euo pipefail

# package:file that proves it is there
need=(
  "qemu-system-x86:/usr/bin/qemu-system-x86_64"   # virtual machines
  "qemu-utils:/usr/bin/qemu-img"                  # their disks
  "ipxe-qemu:/usr/lib/ipxe/qemu/efi-virtio.rom"   # PXE ROMs of their network cards
  "iproute2:/usr/share/doc/iproute2"              # network namespaces, bridges, taps
  "mmdebstrap:/usr/bin/mmdebstrap"                # the Debian test image
  "e2fsprogs:/usr/share/doc/e2fsprogs"            # mke2fs, e2fsck
  "dosfstools:/usr/share/doc/dosfstools"          # mkfs.vfat, fsck.fat
  "mtools:/usr/bin/mcopy"                         # files into a FAT without mounting it
  "gdisk:/usr/share/doc/gdisk"                    # sgdisk
  "fdisk:/usr/share/doc/fdisk"                    # sfdisk
  "kmod:/usr/share/doc/kmod"                      # depmod
  "zstd:/usr/bin/zstd"
)
for_tests=(
  "util-linux:/usr/share/doc/util-linux"          # losetup, mkswap
  "bsdutils:/usr/share/doc/bsdutils"              # script, a terminal for tests
  "ipxe:/usr/lib/ipxe/undionly.kpxe"              # iPXE for cards whose ROM is not iPXE
  "ovmf:/usr/share/OVMF/OVMF_CODE_4M.fd"          # UEFI for virtual machines
  "efibootmgr:/usr/bin/efibootmgr"                # reads boot entries
  "xz-utils:/usr/bin/xz"
  "lz4:/usr/bin/lz4"
  "cpio:/usr/bin/cpio"
  "xfsprogs:/usr/sbin/mkfs.xfs"                   # file systems and old signatures that tests put on disks
  "btrfs-progs:/usr/sbin/mkfs.btrfs"
  "mdadm:/usr/sbin/mdadm"
  "lvm2:/usr/sbin/lvm"
  "cryptsetup-bin:/usr/sbin/cryptsetup"
  "f2fs-tools:/usr/sbin/mkfs.f2fs"
  "nilfs-tools:/usr/sbin/mkfs.nilfs2"
  "jfsutils:/usr/sbin/mkfs.jfs"
  "reiserfsprogs:/usr/sbin/mkreiserfs"
  "bcache-tools:/usr/sbin/make-bcache"
  "exfatprogs:/usr/sbin/mkfs.exfat"
  "ntfs-3g:/usr/sbin/mkfs.ntfs"
  "squashfs-tools:/usr/bin/mksquashfs"
  "erofs-utils:/usr/bin/mkfs.erofs"
  "udftools:/usr/sbin/mkudffs"
  "parted:/usr/sbin/parted"
  "file:/usr/bin/file"
  "aria2:/usr/bin/aria2c"                         # a foreign BitTorrent client
  "python3-libtorrent:/usr/share/doc/python3-libtorrent" # another one, of EZIO and qBittorrent
  "udpcast:/usr/bin/udp-sender"                   # one of the tools that the swarm is compared with
  "dnsmasq-base:/usr/sbin/dnsmasq"                # a foreign DHCP server
  "lldpd:/usr/sbin/lldpd"                         # plays a switch that speaks LLDP
  "tcpdump:/usr/bin/tcpdump"                      # sees router advertisements
  "curl:/usr/bin/curl"                            # TFTP and HTTP client
  "procps:/usr/sbin/sysctl"
  "strace:/usr/bin/strace"                        # sees whether folders are synced
)
for_comparison=(
  "opentracker:/usr/bin/opentracker"
)
case ${1:-test} in
  demo) ;;
  test) need+=("${for_tests[@]}") ;;
  compare) need+=("${for_tests[@]}" "${for_comparison[@]}") ;;
  *) echo "usage: deps.sh [demo|test|compare]" >&2; exit 2 ;;
esac
missing=()
for n in "${need[@]}"; do
  [ -e "${n#*:}" ] || missing+=("${n%%:*}")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "deps: all ${#need[@]} Debian packages are there"
  exit 0
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "deps: installing ${missing[*]} with ${sudo:+sudo }apt-get"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get -q -o Acquire::Retries=3 update >/dev/null
$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 --no-install-recommends install "${missing[@]}" >/dev/null
