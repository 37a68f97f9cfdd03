#!/bin/sh
# Installs what `make test` needs and is missing, from Debian's packages: the
# servers that the end-to-end tests log in through, and the C compiler of the
# race detector. Does nothing, and needs no root, when everything is there.
set -eu

packages="nginx libnginx-mod-mail dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-submissiond dovecot-managesieved postfix lua5.1 gcc libc6-dev"

die() {
	echo "install-deps: $*" >&2
	exit 1
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
	die "no dpkg and apt-get here; install by hand what Debian calls: $packages"

missing=
for p in $packages; do
	installed "$p" || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null && sudo -n true 2>/dev/null ||
		die "missing:$missing. Run as root: $0"
	exec sudo -n "$0"
fi

# Packages start their daemons when they are installed, on the ports of real
# mail. Exit status 101 of this hook forbids it; what stood there comes back.
policy=/usr/sbin/policy-rc.d
saved=
if [ -e "$policy" ] || [ -L "$policy" ]; then
	saved=$(mktemp -u "$policy.usher.XXXXXX")
	mv "$policy" "$saved"
fi
restore() {
	rm -f "$policy"
	[ -z "$saved" ] || mv "$saved" "$policy"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
echo "install-deps: installing$missing"
apt-get update -qq
# Unquoted on purpose: one word a package.
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing
