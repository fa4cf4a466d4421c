#!/bin/bash
# ext4template.sh OUT: makes the empty ext4 of 128 MiB that MakeExt4 writes. One block group, so that there is one superblock to
# change; metadata_csum_seed, so that the UUID can be; room for the descriptors of 8 TiB; one inode for 64 KiB, since
# the number of inodes in a group stays and 100 TB must not have more than 2^32; as much journal as fits.
set -euo pipefail
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
export E2FSPROGS_FAKE_TIME=1700000000
rm -f "$tmp"
truncate -s 128M "$tmp"
mke2fs -q -t ext4 -b 4096 -g 32768 -i 65536 -I 256 -m 0 -J size=32 -U 5a3b0000-0000-4000-8000-000000000000 \
  -O 64bit,metadata_csum,metadata_csum_seed,resize_inode \
  -E resize=2147483647,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed=5a3b0000-0000-4000-8000-000000000001 "$tmp"
e2fsck -fn "$tmp" >/dev/null
zstd -q -19 -f "$tmp" -o "$1"
