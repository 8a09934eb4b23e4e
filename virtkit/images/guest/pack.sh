#!/bin/sh
# Turns the tree that mmdebstrap made into what boots: root.img, vmlinuz and initrd, in the current folder.
# $1: the tree as a tar archive; $2: the size of root.img in bytes. Runs as root, or as root of a user namespace.
set -eu
trap 'rm -rf tree' EXIT
trap 'exit 143' HUP INT TERM

mkdir tree
# The kernel fills /dev; and a user namespace may not make the nodes.
tar --extract --file "$1" --directory tree --numeric-owner --same-owner --preserve-permissions \
    --xattrs --xattrs-include='*' --exclude='./dev/*'
rm "$1"
chmod 755 tree
mv tree/boot/vmlinuz vmlinuz
mv tree/boot/initrd initrd
# Inode tables are zero in a new sparse file; left for later, each guest's kernel would write them into its own disk.
mke2fs -q -t ext4 -L virtkit-root -m 1 -E lazy_itable_init=0,root_owner=0:0 -d tree root.img "$(($2 / 1024))k"
