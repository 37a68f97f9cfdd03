package passdb

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// unsupported are Dovecot's schemes that a file is refused for.
var unsupported = []string{"DES-CRYPT", "DIGEST-MD5", "OTP", "PLAIN-MD4", "PLAIN-TRUNC"}

func checkHash(t *testing.T, password, stored string) {
	t.Helper()
	name, _ := splitScheme(stored)
	v, err := parsePassword(stored)
	if slices.Contains(unsupported, name) {
		if want := "scheme " + name + " is not supported"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for try, want := range map[string]bool{password: true, "x" + password: false, password[:len(password)-1]: false, "": false} {
		if strings.HasPrefix(v.cost(), "bcrypt/") { // it looks at 72 bytes
			want = want || len(try) > 72 && try[:72] == password[:72]
		}
		got, err := v.verify(try)
		if err != nil || got != want {
			t.Errorf("verify %q: %v, %v; want %v", try, got, err, want)
		}
	}
}

func TestSchemes_RealHashes(t *testing.T) {
	data, err := os.ReadFile("testdata/doveadm-2.3.19.txt")
	if err != nil {
		t.Fatal(err)
	}
	untested := make(map[string]bool)
	for name := range schemes {
		untested[name] = true
	}
	for line := range strings.Lines(string(data)) {
		password, stored, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			continue
		}
		name, _ := splitScheme(stored)
		delete(untested, name)
		t.Run(name, func(t *testing.T) { checkHash(t, password, stored) })
	}
	if len(untested) > 0 {
		t.Errorf("no hash in testdata for %v", untested)
	}
}

func TestSchemes_LiveDoveadm(t *testing.T) {
	doveadm, err := exec.LookPath("doveadm")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("doveadm is missing: install dovecot-core")
		}
		t.Skip("doveadm is not installed")
	}
	list, err := exec.Command(doveadm, "pw", "-l").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(list)) {
		t.Run(name, func(t *testing.T) {
			const password = "s3cret ünd:more"
			out, err := exec.Command(doveadm, "pw", "-s", name, "-u", "alice@example.org", "-p", password).Output()
			if err != nil {
				t.Fatal(err)
			}
			checkHash(t, password, strings.TrimSpace(string(out)))
		})
	}
}

func TestParsePassword(t *testing.T) {
	const md5crypt = "$1$0XKahb6s$YtWc16GJpHtszhP/EE9ke/" // correct horse
	tests := []struct {
		name   string
		field  string
		nobody bool
		err    string
	}{
		{name: "empty", field: "", nobody: true},
		{name: "empty with scheme", field: "{PLAIN}", nobody: true},
		{name: "locked by star", field: "*", nobody: true},
		{name: "locked by exclamation mark", field: "!$6$abc", nobody: true},
		{name: "shadowed", field: "x", nobody: true},
		{name: "locked with CRYPT", field: "{CRYPT}!!", nobody: true},
		{name: "scheme in lower case", field: "{plain}correct horse"},
		{name: "MD5-CRYPT without scheme", field: md5crypt},
		{name: "MD5-CRYPT with a further field", field: md5crypt + "$ignored"},
		{name: "pwdfile type 34", field: "3cb4e732631f47e6eb961f34554b7cde[34]"},
		{name: "pwdfile type 13", field: "2y0daf4p3LVYc[13]", err: "scheme CRYPT: DES hashes are not supported"},
		{name: "SHA256 in hex by its length", field: "{SHA256}4104d36f8da2c254349f85836793ebe029e0c957063a34c91c2e9203187b5631"},
		{name: "plain without scheme", field: "hunter2", err: "scheme CRYPT: neither $1$, $2a$, $2b$, $2y$, $5$ nor $6$; a plain password needs {PLAIN}"},
		{name: "DES", field: "2y0daf4p3LVYc", err: "scheme CRYPT: DES hashes are not supported"},
		{name: "yescrypt", field: "{CRYPT}$y$j9T$abc$def", err: "scheme CRYPT: neither"},
		{name: "unknown scheme", field: "{SHA265}abc", err: "scheme SHA265 is not supported"},
		{name: "a password in braces is not shown", field: "{hunter 2!}abc", err: "scheme in braces is not supported"},
		{name: "unknown encoding", field: "{SHA256.B32}abc", err: "scheme SHA256.B32: unknown encoding"},
		{name: "broken base64", field: "{SSHA}****", err: "scheme SSHA: not in the scheme's encoding"},
		{name: "short digest", field: "{SHA1}abcd", err: "scheme SHA1: 3 bytes, expected 20"},
		{name: "no salt", field: "{SMD5}PLTnMmMfR+brlh80VUt83g==", err: "scheme SMD5: 16 bytes, expected 16 and a salt"},
		{name: "$2x$", field: "$2x$05$0PFzLFuPcVR/nTj9.KK/zOxCySBooCkj935N85kQbaTOL2MlEPpUK", err: "scheme CRYPT: of bcrypt only"},
		{name: "bcrypt too dear", field: "$2y$17$0PFzLFuPcVR/nTj9.KK/zOxCySBooCkj935N85kQbaTOL2MlEPpUK", err: "scheme CRYPT: cost 17, expected 4 to 16"},
		{name: "bcrypt cut short", field: "$2y$05$0PFzLFuPcVR", err: "scheme CRYPT: not a hash of this scheme"},
		{name: "SHA-crypt too dear", field: "$5$rounds=10000001$Tp1UWbYhSG9sTuxF$YWj3MPqOXtUzpNUlw62PkS5GJvcJ/Jg0SfrYkcTL6J7", err: "scheme CRYPT: 10000001 rounds, expected 1000 to 10000000"},
		{name: "Argon2 too dear", field: "{ARGON2ID}$argon2id$v=19$m=1048577,t=3,p=1$p2NvmF5Fe7DVUF5SsBPckQ$09BfsW9PFAcT5VocKT1rHr0tCpPpP+SmF0dJv/mXLiY", err: "scheme ARGON2ID: m=1048577, expected 1 to 1048576"},
		{name: "Argon2 without version", field: "{ARGON2I}$argon2i$$m=32768,t=4,p=1$xABAtLVUUgNw8BUBIkh8LA$FZlr", err: "scheme ARGON2I: only version 19"},
		{name: "PBKDF2 is not MD5-CRYPT", field: "{PBKDF2}" + md5crypt, err: "scheme PBKDF2: not a hash of this scheme"},
		{name: "SCRAM with few rounds", field: "{SCRAM-SHA-1}4095,a,b,c", err: "scheme SCRAM-SHA-1: 4095 rounds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := parsePassword(tt.field)
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Fatalf("error %v, want %s…", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if (v == nil) != tt.nobody {
				t.Fatalf("verifier %v, want none: %v", v, tt.nobody)
			}
			if v == nil {
				return
			}
			if ok, err := v.verify("correct horse"); !ok || err != nil {
				t.Errorf("verify: %v, %v", ok, err)
			}
		})
	}
}

func TestSchemes_ErrorsHideHashes(t *testing.T) {
	const secret = "S3cretHashBody"
	for name := range schemes {
		if name == "PLAIN" || name == "CLEAR" || name == "CLEARTEXT" {
			continue
		}
		for _, stored := range []string{secret, "$2y$05$" + secret, "$6$rounds=" + secret + "$a$b", "$argon2id$v=19$m=" + secret + ",t=1,p=1$a$b", secret + ",a,b,c", "$1$a$" + secret + "$b"} {
			_, err := parsePassword("{" + name + "}" + stored)
			if err == nil {
				t.Errorf("%s: %q accepted", name, stored)
			} else if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error shows the hash: %v", name, err)
			}
		}
	}
	if _, err := parsePassword("{MD5-CRYPT}" + secret); !errors.Is(err, errForm) {
		t.Errorf("error %v", err)
	}
}
