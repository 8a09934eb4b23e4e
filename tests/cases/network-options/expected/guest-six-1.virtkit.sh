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
echo six-1 >/etc/hostname
# A container's init has done it: only sys_admin may.
hostname six-1 2>/dev/null || true

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
cat >/run/systemd/network/50-virtkit-1.network <<'VIRTKIT'
# six
[Match]
MACAddress=52:54:00:8a:b3:c9

[Network]
DHCP=no
IPv6AcceptRA=no
IPv6LinkLocalAddressGenerationMode=eui64
IPv6PrivacyExtensions=no
Address=fd00:22::10/64
Gateway=fd00:22::1
DNS=fd00:22::1
Domains=six.test

[DHCPv4]
ClientIdentifier=mac
UseDomains=yes
# Setting it would start systemd-hostnamed.
UseHostname=no

[IPv6AcceptRA]
Token=eui64
UseDomains=yes
VIRTKIT
cat >/run/systemd/network/50-virtkit-2.network <<'VIRTKIT'
# front
[Match]
MACAddress=52:54:00:17:50:24

[Network]
DHCP=ipv4
IPv6AcceptRA=yes
IPv6LinkLocalAddressGenerationMode=eui64
IPv6PrivacyExtensions=no
Domains=lab.test

[DHCPv4]
ClientIdentifier=mac
UseDomains=yes
# Setting it would start systemd-hostnamed.
UseHostname=no

[IPv6AcceptRA]
Token=eui64
UseDomains=yes
VIRTKIT

# --- Once for each instance: what the guest's own root may change later
if [ "$(cat $state/instance 2>/dev/null || true)" != one-life ]; then
    replace /etc/hosts <<'VIRTKIT'
127.0.0.1 localhost
127.0.1.1 six-1.six.test six-1
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
