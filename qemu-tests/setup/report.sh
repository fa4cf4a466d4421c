#!/bin/sh
# Runs in the deployed system; the tests look for this line on the serial console.
device=$(findmnt -no SOURCE /)
root=$(findmnt -no PARTUUID /)
sum=$(sha256sum /usr/share/swarmboot-test/known | cut -d' ' -f1)
target=$(systemctl is-active multi-user.target)
printf '\nSWARMBOOT-TEST root=%s sha256=%s hostname=%s kernel=%s multi-user=%s device=%s\n' "$root" "$sum" "$(hostname)" "$(uname -r)" "$target" "$device" >/dev/ttyS0
