#!/bin/bash
# kernels.sh OUT: downloads Debian's generic and cloud kernels and unpacks them to OUT/generic and OUT/cloud;
# nothing is installed. OUT/KIND/vmlinuz and OUT/KIND/modules are links to the versioned names.
set -euo pipefail
out=$1
mkdir -p "$out"
out=$(realpath "$out")

# The package that the metapackage $1 depends on.
image_of() { apt-cache depends "$1" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1; }

fetch() {
  local kind=$1 meta=$2 pkg tmp
  [ -e "$out/$kind/vmlinuz" ] && return
  pkg=$(image_of "$meta")
  if [ -z "$pkg" ]; then
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    echo "kernels: package lists are missing: ${sudo:+sudo }apt-get update"
    $sudo apt-get -q -o Acquire::Retries=3 update >/dev/null
    pkg=$(image_of "$meta")
  fi
  tmp=$(mktemp -d "$out/.$kind.XXXXXX")
  echo "kernels: downloading $pkg and unpacking it to $out/$kind (not installing it)"
  # _apt cannot write to a folder of ours: the download runs unsandboxed, and apt warns about it.
  (cd "$tmp" && apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)" download "$pkg" >/dev/null && dpkg -x ./*.deb . && rm ./*.deb)
  local version=${pkg#linux-image-}
  depmod -b "$tmp" "$version"
  ln -s "boot/vmlinuz-$version" "$tmp/vmlinuz"
  ln -s "lib/modules/$version" "$tmp/modules"
  rm -rf "${out:?}/$kind"
  chmod 755 "$tmp"
  mv "$tmp" "$out/$kind"
}
fetch generic linux-image-amd64
fetch cloud linux-image-cloud-amd64
