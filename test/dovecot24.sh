#!/usr/bin/env bash
# Runs the end-to-end tests that need no other servers than Dovecot and Redis
# against Dovecot 2.4 and Valkey, those of the current Debian stable, in a chroot
# that debootstrap makes once (300 MB). Nothing is mounted, and no server runs,
# after it ended: both live in namespaces of this run alone, however it ends.
#
# Usage: dovecot24.sh [FLAG OF THE TEST BINARY]...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

suite=trixie
mirror=http://deb.debian.org/debian
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
packages=dovecot-core,dovecot-imapd,dovecot-pop3d,dovecot-lmtpd,dovecot-managesieved,dovecot-submissiond,valkey-server
cache=/var/cache/usher-test
root=$cache/$suite

skip() {
	echo "test-dovecot24: SKIPPED: $*"
	exit 0
}

# What runs a command with mounts and processes of its own.
apart=(unshare --mount --pid --fork --kill-child --propagation private)

[ "$(id -u)" -eq 0 ] || skip "needs root, for chroot and mount"
# shellcheck disable=SC2016
why=$("${apart[@]}" bash -c 'mount -t tmpfs none /mnt && mount -t proc proc /proc && chroot / true' 2>&1) ||
	skip "no right to mount and chroot here: ${why//$'\n'/; }"

# complete says whether the chroot is there and its programs run.
complete() {
	[ -d "$root" ] || return 1
	[ -x "$root/usr/bin/valkey-server" ] || return 1
	local version program
	version=$(chroot "$root" dovecot --version 2>&1) && [[ $version == 2.4.* ]] || return 1
	for program in imap-login pop3-login submission-login managesieve-login lmtp; do
		[ -x "$root/usr/lib/dovecot/$program" ] || return 1
	done
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if ! complete; then
	if ! command -v debootstrap >/dev/null; then
		command -v apt-get >/dev/null || skip "no debootstrap, and no apt-get to install it with"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap
	fi
	echo "test-dovecot24: making $root"
	rm -rf --one-file-system "$root" "$root.new"
	"${apart[@]}" debootstrap --variant=minbase --include="$packages" --keyring="$keyring" "$suite" "$root.new" "$mirror" \
		>"$root.log" 2>&1 || {
		tail -n 20 "$root.log" >&2
		echo "test-dovecot24: debootstrap failed, see $root.log" >&2
		exit 1
	}
	rm -f "$root.new"/var/cache/apt/archives/*.deb
	mv "$root.new" "$root"
	complete || {
		echo "test-dovecot24: $root has no working Dovecot 2.4" >&2
		exit 1
	}
fi
flock -u 9
echo "test-dovecot24: Dovecot $(chroot "$root" dovecot --version)"

build=$(mktemp -d)
tests=
# unshare waits for its child whatever comes, but takes it along when killed.
trap '[ -z "$tests" ] || kill -KILL "$tests" 2>/dev/null || :; rm -rf "$build"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$build/test/servers"
cp -r go.mod deploy "$build"
cp -r test/testdata "$build/test"
go build -race -o "$build/usher" ./cmd/usher
go test -c -race -o "$build/test/test.bin" ./test
go test -c -race -o "$build/test/servers/test.bin" ./test/servers

# The chroot's own files stay as they are; what the tests write is gone with its
# /tmp.
# shellcheck disable=SC2016
"${apart[@]}" bash -euc '
	root=$1 build=$2
	shift 2
	mount --bind -o ro "$root" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
	cp -r "$build" "$root/tmp/usher"
	for folder in test/servers test; do
		chroot "$root" sh -c "cd /tmp/usher/$folder && exec ./test.bin \"\$@\"" sh "$@"
	done
' bash "$root" "$build" -usher /tmp/usher/usher -only-dovecot -test.timeout 8m "$@" &
tests=$!
status=0
wait "$tests" || status=$?
tests=
exit "$status"
