package dovecot

import (
	"crypto/md5" //nolint:gosec // the director's number of a user, no secret
	"encoding/binary"
)

// DirectorHash is the number by which Dovecot's director knows a user: the first
// four bytes of the MD5 of the name in ASCII lower case, 1 for 0 (mail_user_hash
// with director_username_hash %Lu). What doveadm sends of a user that it moves is
// this alone.
func DirectorHash(user string) uint32 {
	b := []byte(user)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	sum := md5.Sum(b) //nolint:gosec // see above
	return max(1, binary.BigEndian.Uint32(sum[:4]))
}
