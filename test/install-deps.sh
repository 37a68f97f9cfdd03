#!/bin/sh
# Installs what `make test` needs and is missing, from Debian's packages: the
# servers that the end-to-end tests log in through, and the C compiler of the
# race detector. Does nothing, and needs no root, when everything is there.
#
# Exim's package and Postfix's exclude each other, so Exim is unpacked below
# /var/cache/usher-test, and the libraries that it depends on are installed.
set -eu

packages="nginx libnginx-mod-mail dovecot-core dovecot-imapd dovecot-pop3d dovecot-lmtpd dovecot-submissiond dovecot-managesieved redis-server postfix lua5.1 gcc libc6-dev"
cache=/var/cache/usher-test
exim=$cache/exim/usr/sbin/exim4

die() {
	echo "install-deps: $*" >&2
	exit 1
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
	die "no dpkg and apt-get here; install by hand what Debian calls: $packages, and Exim with its dovecot driver below $cache/exim"

missing=
for p in $packages; do
	installed "$p" || missing="$missing $p"
done

# Exim tells its version only when all its libraries and its user are there.
"$exim" -bV -C /dev/null >/dev/null 2>&1 || missing="$missing exim4-daemon-heavy"

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
work=
if [ -e "$policy" ] || [ -L "$policy" ]; then
	saved=$(mktemp -u "$policy.usher.XXXXXX")
	mv "$policy" "$saved"
fi
restore() {
	rm -f "$policy"
	[ -z "$work" ] || rm -rf "$work"
	[ -z "$saved" ] || mv "$saved" "$policy"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
echo "install-deps: installing$missing"
apt-get update -qq

# Unpacks Exim, and adds the libraries it depends on to $missing. Of the other
# packages that it names (exim4-base, debconf) it needs nothing to run.
unpack_exim() {
	work=$(mktemp -d)
	# apt downloads as a user of its own, where there is one.
	! getent passwd _apt >/dev/null || chown _apt "$work"
	(cd "$work" && apt-get download -qq exim4-daemon-heavy)
	deb=$(echo "$work"/exim4-daemon-heavy_*.deb)
	for p in $(dpkg-deb -f "$deb" Depends | tr , '\n' | sed -n 's/^ *\(lib[^ (|:]*\).*/\1/p'); do
		installed "$p" || missing="$missing $p"
	done
	new=exim-$(dpkg-deb -f "$deb" Version)
	mkdir -p "$cache"
	rm -rf "${cache:?}/$new" "$cache/exim.new"
	dpkg-deb -x "$deb" "$cache/$new"
	# The tests start it as root; nobody else may become root by it.
	chmod u-s "$cache/$new/usr/sbin/exim4"
	ln -s "$new" "$cache/exim.new"
	mv -T "$cache/exim.new" "$cache/exim"
	# Its name is compiled in: without this user Exim does not start.
	getent passwd Debian-exim >/dev/null ||
		useradd --system --user-group --home-dir /var/spool/exim4 --no-create-home --shell /usr/sbin/nologin Debian-exim
}
case $missing in
*" exim4-daemon-heavy"*)
	missing=${missing%" exim4-daemon-heavy"}
	unpack_exim
	;;
esac

# Unquoted on purpose: one word a package.
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing

said=$("$exim" -bV -C /dev/null 2>&1) || die "Exim does not run: $said"
