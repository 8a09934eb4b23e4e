# Rendered by virtkit, run as root by the image's virtkit-seed.service on each boot. Every step may be repeated.
set -eu
umask 022

user=virtkit
state=/var/lib/virtkit
mkdir -p $state /run/systemd/network

# replace FILE: its content from standard input, in one step
replace() {
    cat >"$1.virtkit"
    mv "$1.virtkit" "$1"
}

# --- Name
echo kernel >/etc/hostname
# A container's init has done it: only sys_admin may.
hostname kernel 2>/dev/null || true

# --- Host key
(
    umask 077
    replace /etc/ssh/ssh_host_ed25519_key <<'VIRTKIT'
-----BEGIN KEY-----
AAAAhost
-----END KEY-----
VIRTKIT
)
echo 'ssh-ed25519 AAAAhost' >/etc/ssh/ssh_host_ed25519_key.pub

# --- Network: matched by MAC, as names of devices differ between hypervisors
rm -f /run/systemd/network/50-virtkit-*

# --- Once for each instance: what the guest's own root may change later
if [ "$(cat $state/instance 2>/dev/null || true)" != one-life ]; then
    replace /etc/hosts <<'VIRTKIT'
127.0.0.1 localhost
127.0.1.1 kernel
::1 localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
VIRTKIT
    if [ "$user" != root ]; then
        id -u "$user" >/dev/null 2>&1 || \
            useradd --create-home --groups adm --shell /bin/bash --comment virtkit "$user"
        (
            umask 077
            printf '%s ALL=(ALL) NOPASSWD:ALL\n' "$user" >/etc/sudoers.d/90-virtkit
        )
    fi
    echo one-life >$state/instance
fi

# --- Keys: between our two marks, so that those put there by hand stay
home=$(sed -n "s/^$user:.*:\([^:]*\):[^:]*$/\1/p" /etc/passwd)
keys=$home/.ssh/authorized_keys
if [ ! -d "$home/.ssh" ]; then
    mkdir -m 700 "$home/.ssh"
    chown "$user:" "$home/.ssh"
fi
(
    umask 077
    # from an empty file: an interrupted run may have left keys in it that are no longer to be let in
    if [ -e "$keys" ]; then sed '/^# virtkit: begin$/,/^# virtkit: end$/d' "$keys"; fi >"$keys.virtkit"
    cat >>"$keys.virtkit" <<'VIRTKIT'
# virtkit: begin
ssh-ed25519 AAAAcaller caller@example.org
# virtkit: end
VIRTKIT
    chown "$user:" "$keys.virtkit"
    mv "$keys.virtkit" "$keys"
)

# --- Disks: /etc/fstab has those that the spec mounts, and lines of others stay
if [ -e /etc/fstab ]; then
    sed -n 's/^LABEL=\([^ ]*\) \([^ ]*\) ext4 [^ ]*x-virtkit.*/\1 \2/p' /etc/fstab | while read -r label path; do
        case ' ' in
        *" $label:$path "*) ;;
        *)
            ! findmnt -n "$path" >/dev/null || umount "$path"
            sed -i "\\#^LABEL=$label $path #d" /etc/fstab
            ;;
        esac
    done
fi
# mounted LABEL PATH: whether it is, or can be
mounted() {
    findmnt -n "$2" >/dev/null || mount "$2" 2>/dev/null
}
# a disk that was plugged in just now takes a moment
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "${late:-}" ] || break
    sleep 0.5
    still=
    for each in $late; do
        mounted "${each%%:*}" "${each#*:}" || still="$still $each"
    done
    late=$still
done
[ -z "${late:-}" ] || echo "virtkit: these disks did not mount:$late" >&2

# --- Disks that were grown: their partition and file system follow
# grow MOUNTPOINT
grow() {
    device=$(findmnt -n -o SOURCE "$1") || return 0
    part=/sys/class/block/${device##*/}
    [ -e "$part/size" ] || return 0
    whole=$part
    [ ! -e "$part/partition" ] || whole=$(dirname "$(readlink -f "$part")")
    known=$state/size$(echo "$1" | tr / -)
    [ "$(cat "$known" 2>/dev/null || true)" != "$(cat "$whole/size")" ] || return 0
    # growpart exits with 1 where there is nothing to grow
    [ ! -e "$part/partition" ] || growpart "/dev/${whole##*/}" "$(cat "$part/partition")" || true
    case $(findmnt -n -o FSTYPE "$1") in
    ext*) resize2fs "$device" ;;
    xfs) xfs_growfs "$1" ;;
    btrfs) btrfs filesystem resize max "$1" ;;
    esac >/dev/null 2>&1 || echo "virtkit: the file system on $1 did not grow" >&2
    cat "$whole/size" >"$known"
}
grow /

# --- Files and the login's password: each is given once, so that what the guest itself makes of it later stays.
# The tokens of those that it has are in /var/lib/virtkit/given.
given=
failed=
# has TOKEN: whether the guest was given it
has() {
    grep -qxF -e "$1" /var/lib/virtkit/given 2>/dev/null
}
# write PATH MODE OWNER: a file whose content comes from standard input, in base64
write() {
    if [ -d "$1" ]; then
        echo "virtkit: $1 is a folder in the guest, and no file" >&2
        return 1
    fi
    mkdir -p "$(dirname "$1")" && new=$(mktemp "$1.XXXXXX") || return 1
    if base64 -d >"$new" && chown -h "$3" "$new" && chmod "$2" "$new" && mv "$new" "$1"; then
        ! command -v restorecon >/dev/null || restorecon "$1" || true
        return 0
    fi
    rm -f "$new"
    echo "virtkit: $1 was not written" >&2
    return 1
}
if grep -qs '^password:' /var/lib/virtkit/given; then
    passwd -l "$user" >/dev/null || failed=yes
fi
if [ -n "$given" ]; then
    # shellcheck disable=SC2086 # a list of words
    (umask 077; printf '%s\n' $given | replace /var/lib/virtkit/given)
else
    rm -f /var/lib/virtkit/given
fi
[ -z "$failed" ] || exit 1

# --- Folders of the host: /etc/fstab has those that the spec gives, and lines of others stay
if [ -e /etc/fstab ]; then
    while read -r tag path _ options _; do
        case $tag,$options in folder-*,*x-virtkit*) ;; *) continue ;; esac
        case ' folder-29b6f3d4 ' in *" $tag "*) continue ;; esac
        ! findmnt -n "$path" >/dev/null || umount "$path"
        sed -i "/^$tag[[:space:]]/d" /etc/fstab
    done </etc/fstab
fi
mkdir -p /srv/src
if ! grep -q '^folder-29b6f3d4[[:space:]]' /etc/fstab; then
    echo 'folder-29b6f3d4 /srv/src hostfs rw,nofail,x-virtkit,/virtkit/folder-29b6f3d4 0 0' >>/etc/fstab
fi
# one that was plugged in just now takes a moment
for _ in 1 2 3 4 5 6 7 8 9 10; do
    missing=
    for path in /srv/src; do
        findmnt -n "$path" >/dev/null || mount "$path" 2>/dev/null || missing="$missing $path"
    done
    [ -n "$missing" ] || break
    sleep 0.3
done
[ -z "$missing" ] || echo "virtkit: these folders of the host did not mount:$missing" >&2
