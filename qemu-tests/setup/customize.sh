#!/bin/bash
# customize.sh ROOT PARTUUID FSUUID: what the test image has beyond Debian's packages. Called by mmdebstrap.
set -euo pipefail
root=$1 partuuid=$2 fsuuid=$3
here=$(dirname "$(realpath "$0")")

echo sb-debian >"$root/etc/hostname"
cat >"$root/etc/fstab" <<END
PARTUUID=${partuuid,,} / ext4 errors=remount-ro 0 1
END
kernel=$(basename "$root"/boot/vmlinuz-*)
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<END
set timeout=0
menuentry Debian {
  search --no-floppy --fs-uuid --set=root $fsuuid
  linux /boot/$kernel root=PARTUUID=${partuuid,,} ro console=ttyS0
  initrd /boot/initrd.img-${kernel#vmlinuz-}
}
END
chroot "$root" passwd -q -d root
mkdir -p "$root/usr/share/swarmboot-test"
seq 1 2400000 >"$root/usr/share/swarmboot-test/known"   # 17 MB that a test can check

# Prints what the system is on the serial console once multi-user.target is reached.
install -m 755 "$here/report.sh" "$root/usr/sbin/swarmboot-test-report"
cat >"$root/etc/systemd/system/swarmboot-test-report.service" <<'END'
[Unit]
Description=Print what was deployed on the serial console
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/sbin/swarmboot-test-report
[Install]
WantedBy=multi-user.target
END
mkdir -p "$root/etc/systemd/system/serial-getty@ttyS0.service.d"
cat >"$root/etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf" <<'END'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --keep-baud 115200 - $TERM
END
chroot "$root" systemctl -q enable swarmboot-test-report.service serial-getty@ttyS0.service
# No machine id in an image: each machine makes its own at first boot.
: >"$root/etc/machine-id"
rm -f "$root/etc/resolv.conf"
rm -rf "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/* "$root"/var/log/*.log
