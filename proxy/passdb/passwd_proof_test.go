package passdb

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy"
)

// Users whose passwords the file has as they are prove that they know them; the
// examples are those of the RFCs.
func TestPasswdFile_Proof(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	f := open(t, strings.Join([]string{
		"mrose:{PLAIN}tanstaaf",
		"tim:{PLAIN}tanstaaftanstaaf",
		"hashed:" + blf,
		"hashedtoo:" + blf + "::::::pass=forthebackend",
		"states:{CRAM-MD5}38b57fd1a0c4b46c814aa05f20318edd71c455380655f2c0ac35c5b359528d29::::::pass=forthebackend", // correct horse
		"stateless:{CRAM-MD5}38b57fd1a0c4b46c814aa05f20318edd71c455380655f2c0ac35c5b359528d29",
		"card:::::::nopassword pass=forthebackend",
		"renamed:{PLAIN}tanstaaf::::::pass=forthebackend user=other",
		"disabled:{PLAIN}tanstaaf::::::nologin",
		"locked:!::::::pass=forthebackend",
	}, "\n"), NewWorkers(), zap.New(core))
	const (
		apopSalt = "<1896.697170952@dbc.mtview.ca.us>"
		apop     = "c4c9334bac560ecc979e58001b3e22fb"
		cramSalt = "<1896.697170952@postoffice.reston.mci.net>"
		cram     = "b913a602c7eda7a495b4e6e7334d3890"
		horse    = "97d561e0adbde117e9085dda9a7b7a0f" // HMAC-MD5 of cramSalt
	)
	for _, tc := range []struct {
		name, user, method, salt, said, cn string
		verify                             string // "": SUCCESS
		backend                            string // "": refused
		reason                             proxy.Reason
	}{
		{name: "apop", user: "mrose", method: "apop", salt: apopSalt, said: apop, backend: "tanstaaf"},
		{name: "apop in capitals", user: "MROSE", method: "apop", salt: apopSalt, said: strings.ToUpper(apop), backend: "tanstaaf"},
		{name: "apop, wrong", user: "mrose", method: "apop", salt: apopSalt, said: "d" + apop[1:], reason: proxy.BadPassword},
		{name: "apop, another salt", user: "mrose", method: "apop", salt: cramSalt, said: apop, reason: proxy.BadPassword},
		{name: "apop without salt", user: "mrose", method: "apop", said: "6c8a1d2a8a62b1a0bd3d2fc1c0f0b8b5", reason: proxy.BadPassword},
		{name: "apop, nothing said", user: "mrose", method: "apop", salt: apopSalt, reason: proxy.BadPassword},
		{name: "apop, the password itself", user: "mrose", method: "apop", salt: apopSalt, said: "tanstaaf", reason: proxy.BadPassword},
		{name: "apop, a hashed password", user: "hashed", method: "apop", salt: apopSalt, said: apop, reason: proxy.BadPassword},
		{name: "apop, unknown", user: "nobody", method: "apop", salt: apopSalt, said: apop, reason: proxy.BadPassword},
		{name: "apop, disabled", user: "disabled", method: "apop", salt: apopSalt, said: apop, reason: proxy.UserDisabled},
		{name: "apop, another password at the backend", user: "renamed", method: "apop", salt: apopSalt, said: apop, backend: "forthebackend"},
		{name: "cram-md5", user: "tim", method: "cram-md5", salt: cramSalt, said: cram, backend: "tanstaaftanstaaf"},
		{name: "cram-md5, wrong", user: "tim", method: "cram-md5", salt: apopSalt, said: cram, reason: proxy.BadPassword},
		{name: "cram-md5, its own scheme", user: "states", method: "cram-md5", salt: cramSalt, said: horse, backend: "forthebackend"},
		{name: "cram-md5, its own scheme, wrong", user: "states", method: "cram-md5", salt: apopSalt, said: horse, reason: proxy.BadPassword},
		{name: "cram-md5, its own scheme, nothing for the backend", user: "stateless", method: "cram-md5", salt: cramSalt, said: horse, reason: proxy.BadPassword},
		{name: "apop, the scheme of cram-md5", user: "states", method: "apop", salt: apopSalt, said: horse, reason: proxy.BadPassword},
		{name: "cram-md5, a hashed password", user: "hashedtoo", method: "cram-md5", salt: cramSalt, said: cram, reason: proxy.BadPassword},

		{name: "external", user: "tim", method: "external", cn: "Tim", backend: "tanstaaftanstaaf"},
		{name: "external, another's certificate", user: "tim", method: "external", cn: "tom", reason: proxy.BadPassword},
		{name: "external, no certificate", user: "tim", method: "external", verify: "NONE", reason: proxy.BadPassword},
		{name: "external, not verified", user: "tim", method: "external", cn: "tim", verify: "FAILED:self signed", reason: proxy.BadPassword},
		{name: "external, nothing for the backend", user: "hashed", method: "external", cn: "hashed", reason: proxy.BadPassword},
		{name: "external, a hashed password and one for the backend", user: "hashedtoo", method: "external", cn: "hashedtoo", backend: "forthebackend"},
		{name: "external, locked", user: "locked", method: "external", cn: "locked", reason: proxy.BadPassword},
		{name: "external, no password at all", user: "card", method: "external", cn: "card", backend: "forthebackend"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := login(tc.user, tc.said)
			r.Method, r.Salt = tc.method, tc.salt
			if tc.method == "external" {
				r.TLS.ClientVerify, r.TLS.ClientCN = "SUCCESS", tc.cn
				if tc.verify != "" {
					r.TLS.ClientVerify = tc.verify
				}
			}
			id, err := New(f).Verify(t.Context(), r)
			if tc.backend == "" {
				if got := reason(t, err); got != tc.reason {
					t.Errorf("reason %q, want %q", got, tc.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := id.Password.Reveal(); got != tc.backend || !id.Verified {
				t.Errorf("password for the backend %q, verified %t; want %q, true", got, id.Verified, tc.backend)
			}
		})
	}
	// What only the operator can mend he is told.
	if all := logs.All(); len(all) != 1 || all[0].ContextMap()["user"] != "hashed" {
		t.Errorf("logged %v", all)
	}
}
