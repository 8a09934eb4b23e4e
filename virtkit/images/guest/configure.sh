#!/bin/sh
# Runs in the new system, as its root, after the packages: makes it an image, and an initrd for it.
# $1: the folder with this script and initrd-init.
set -eu
here=$1

mkdir -p /.oldroot /.virtkit /var/lib/cloud/seed/nocloud

# --- Nothing that would be the same on every guest.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/ssh/ssh_host_* /etc/hostname
rm -rf /var/log/journal
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
echo '127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters' >/etc/hosts
: >/etc/fstab
echo 'LANG=C.UTF-8' >/etc/default/locale
echo 'Made by virtkit. Log in with a key: virtkit ssh, or virtkit exec.
\n \l
' >/etc/issue
# What tells the kernel's name at each login: five programs for every `virtkit exec` by ssh.
rm -rf /etc/update-motd.d

# --- The guest boots the kernel and initrd that lie beside its image.
echo 'update_initramfs=no' >/etc/initramfs-tools/update-initramfs.conf

# --- Units: what costs time or fails in a container is left out.
systemctl enable systemd-networkd.service virtkit-seed.service
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-network-generator.service systemd-pstore.service systemd-random-seed.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service kmod-static-nodes.service \
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@fuse.service modprobe@loop.service \
    dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount \
    sys-fs-fuse-connections.mount sys-kernel-debug.mount sys-kernel-tracing.mount
# Generators of units for what no guest of ours has: each is a program to start, at every boot and reload.
mkdir -p /etc/systemd/system-generators
for name in gpt-auto hibernate-resume integritysetup run system-update veritysetup; do
    ln -s /dev/null "/etc/systemd/system-generators/systemd-$name-generator"
done
# Nothing early needs host names, and sshd would wait for it: seconds under emulation.
systemctl disable systemd-resolved.service
sed -e '/^Before=/d' -e '/^DefaultDependencies=no/d' -e 's/^WantedBy=.*/WantedBy=multi-user.target/' \
    /lib/systemd/system/systemd-resolved.service >/etc/systemd/system/systemd-resolved.service
systemctl enable systemd-resolved.service

# --- The initrd: a shell, and the modules between a kernel and its root disk.
kernel=$(basename /lib/modules/*)
tree=$(mktemp -d)
mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/root" "$tree/modules"
cp /bin/busybox "$tree/bin/"
for name in sh mount umount insmod cat findfs sleep ls tr switch_root; do
    ln -s busybox "$tree/bin/$name"
done
cp "$here/initrd-init" "$tree/init"
chmod 755 "$tree/init"
for module in virtio_pci virtio_mmio virtio_blk virtio_scsi sd_mod xen-blkfront; do
    modprobe --set-version "$kernel" --show-depends "$module"
done | while read -r word path _; do
    [ "$word" = insmod ] || continue
    name=$(basename "$path")
    [ -e "$tree/modules/$name" ] && continue
    cp "$path" "$tree/modules/$name"
    echo "$name" >>"$tree/modules/order"
done
(cd "$tree" && find . | busybox cpio -o -H newc -R 0:0 | gzip -9n) >/boot/initrd
rm -rf "$tree"
mv "/boot/vmlinuz-$kernel" /boot/vmlinuz
rm -f /vmlinuz* /initrd.img*
