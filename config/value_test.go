package config

import (
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		in    string
		bytes int64 // -1: refused
		out   string
	}{
		{"0", 0, "0B"},
		{"1", 1, "1B"},
		{"1024", 1024, "1KiB"},
		{"1536B", 1536, "1536B"},
		{"512KiB", 512 << 10, "512KiB"},
		{"16MiB", 16 << 20, "16MiB"},
		{"2048MiB", 2 << 30, "2GiB"},
		{"8589934591GiB", 8589934591 << 30, "8589934591GiB"},
		{"8589934592GiB", -1, ""},
		{"16MB", -1, ""},
		{"16 MiB", -1, ""},
		{"-1", -1, ""},
		{"+1", -1, ""},
		{"1.5MiB", -1, ""},
		{"MiB", -1, ""},
		{"", -1, ""},
	} {
		t.Run(tt.in, func(t *testing.T) {
			var s Size
			err := s.UnmarshalText([]byte(tt.in))
			if tt.bytes < 0 {
				if err == nil {
					t.Errorf("taken as %d", s)
				}
				return
			}
			if err != nil || int64(s) != tt.bytes || s.String() != tt.out {
				t.Errorf("got %d %q, %v; want %d %q", s, s, err, tt.bytes, tt.out)
			}
		})
	}
}

func TestMode(t *testing.T) {
	for in, want := range map[string]string{
		"0666": "0666", "660": "0660", "0007": "0007", "": "", "0777": "0777",
		"1777": "-", "888": "-", "66": "-", "00666": "-", "rw-": "-", "0o666": "-",
	} {
		t.Run(in, func(t *testing.T) {
			var m Mode
			got := "-"
			if err := m.UnmarshalText([]byte(in)); err == nil {
				got = m.String()
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		in      string
		code    int
		matches bool
	}{
		{"2xx", 204, true}, {"2xx", 302, false}, {"200", 200, true}, {"200", 201, false}, {"5xx", 599, true},
	} {
		var s Status
		if err := s.UnmarshalText([]byte(tt.in)); err != nil {
			t.Fatal(err)
		}
		if s.Matches(tt.code) != tt.matches {
			t.Errorf("%s matches %d: %v", tt.in, tt.code, !tt.matches)
		}
	}
	for _, in := range []string{"", "6xx", "0xx", "2XX", "20x", "99", "600", "2000", "+20"} {
		var s Status
		if err := s.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q is taken", in)
		}
	}
}

func TestHumanDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", 15 * time.Minute: "15m", time.Hour: "1h",
		90 * time.Minute: "1h30m", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", 20 * time.Hour: "20h",
		100 * time.Millisecond: "100ms", time.Hour + 10*time.Second: "1h0m10s",
	} {
		if got := humanDuration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
		if back, err := time.ParseDuration(humanDuration(d)); err != nil || back != d {
			t.Errorf("%v: read back as %v, %v", d, back, err)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]Address{
		"127.0.0.1:9080":            {"tcp", "127.0.0.1:9080"},
		"tcp:127.0.0.1:9080":        {"tcp", "127.0.0.1:9080"},
		":9080":                     {"tcp", ":9080"},
		"*:9080":                    {"tcp", ":9080"},
		"[::1]:9080":                {"tcp", "[::1]:9080"},
		"[fe80::1%eth0]:9080":       {"tcp", "[fe80::1%eth0]:9080"},
		"mail.example.org:143":      {"tcp", "mail.example.org:143"},
		"localhost:0":               {"tcp", "localhost:0"},
		"unix:/run/usher/auth.sock": {"unix", "/run/usher/auth.sock"},
		"fd:auth-http.socket":       {"fd", "auth-http.socket"},
	} {
		got, err := ParseAddress(in)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", in, got, err, want)
			continue
		}
		if back, err := ParseAddress(got.String()); err != nil || back != got {
			t.Errorf("%s: %q read back as %+v, %v", in, got, back, err)
		}
	}
	for _, in := range []string{
		"", "127.0.0.1", "::1:80", "127.0.0.1:http", "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1:65536",
		"unix:", "unix:x", "unix:@abstract", "unix:/a\x00b", "fd:", "fd:a b", "tcp:", "1.2.3.999:80", "a b:80", "a/b:80",
	} {
		if got, err := ParseAddress(in); err == nil {
			t.Errorf("%q is taken as %+v", in, got)
		}
	}
}

func TestGuard(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	var nginx NginxListener
	var dovecot DovecotListener
	for name, tt := range map[string]struct {
		addr net.Addr
		open bool
	}{
		"unix":          {&net.UnixAddr{Name: "/run/x", Net: "unix"}, true},
		"loopback":      {tcp("127.0.0.2:1"), true},
		"loopback v6":   {tcp("[::1]:1"), true},
		"other":         {tcp("192.0.2.1:1"), false},
		"wildcard":      {tcp("0.0.0.0:1"), false},
		"wildcard v6":   {tcp("[::]:1"), false},
		"without an IP": {&net.TCPAddr{Port: 1}, false},
		"unknown":       {&net.UDPAddr{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := nginx.Guard(tt.addr); (err == nil) != tt.open {
				t.Error("nginx:", err)
			}
			if err := dovecot.Guard(tt.addr); (err == nil) != tt.open {
				t.Error("dovecot:", err)
			}
			if err := (&NginxListener{Insecure: true}).Guard(tt.addr); err != nil {
				t.Error("insecure:", err)
			}
		})
	}
}

// TestBounds: every min and max reads as a value of its key.
func TestBounds(t *testing.T) {
	for _, s := range []reflect.Type{reflect.TypeFor[Config](), reflect.TypeFor[Backend]()} {
		v := reflect.New(s).Elem()
		walk(v, "", func(path string, tag reflect.StructTag, v reflect.Value) {
			low, has := tag.Lookup("min")
			if has && limit(v.Type(), low) >= limit(v.Type(), tag.Get("max")) {
				t.Errorf("%s: bounds %q", path, tag)
			}
		})
	}
}
