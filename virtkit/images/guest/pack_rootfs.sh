#!/bin/sh
# Turns the archive of a root file system into root.img, in the current folder: what virtkit's containers start from.
# $1: the archive, a plain tar; $2: Python; $3: prepare_tree.py's text; $4: an archive of virtkit's own files.
# Runs as root, or as root of a user namespace.
set -eu
trap 'rm -rf tree' EXIT
trap 'exit 143' HUP INT TERM

mkdir tree
# The container gets its own /dev; and a user namespace may not make the nodes.
tar --extract --file "$1" --directory tree --numeric-owner --same-owner --preserve-permissions \
    --xattrs --xattrs-include='*' --anchored --exclude='./dev/*' --exclude='dev/*' --exclude='rootfs/dev/*' \
    --exclude='./rootfs/dev/*'
# Incus and LXD have it in a folder of their archive.
root=tree
if [ ! -e tree/usr ] && [ -d tree/rootfs ] && [ ! -L tree/rootfs ]; then
    root=tree/rootfs
fi
find "$root" \( -type b -o -type c \) -delete
chmod 755 "$root"
"$2" -ISc "$3" "$root" "$4"
# Room for what the file system itself takes, and for a guest whose copy of it is its disk.
kib=$(du -sk "$root" | cut -f1)
mke2fs -q -t ext4 -L virtkit-root -m 1 -E lazy_itable_init=0,root_owner=0:0 -d "$root" root.img "$((kib * 5 / 4 + 1048576))k"
