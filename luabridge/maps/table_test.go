package maps

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func parse(t testing.TB, text string) *Table {
	t.Helper()
	table, err := Parse("test.map", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

const sample = "\ufeff# users\r\n" +
	"alice@example.org   one two \t \r\n" +
	"\n" +
	"  Bob@Example.ORG\ttabbed\n" +
	"   # indented comment\n" +
	"listed\n" +
	"alice@example.org again\n" +
	"@example.org domain\n" +
	".example.org subdomains\n" +
	"@deep.example.org deep\n" +
	".org tld\n" +
	"mail.example.net host\n" +
	"192.0.2.0/24 net\n" +
	"192.0.2.128/25 half\n" +
	"192.0.2.7 address\n" +
	"2001:db8::/32 six\n" +
	"2001:DB8:0::1 six address\n" +
	"::ffff:198.51.100.0/120 mapped\n" +
	"/^test[0-9]+@/ first regex\n" +
	"/a\\/b c/ slash regex\n" +
	"/^test1/ second regex\n" +
	"a#b c # no comment"

func TestGet(t *testing.T) {
	table := parse(t, sample)
	for _, tc := range []struct {
		key, want string // "-": none
		line      int
	}{
		{"alice@example.org", "one two", 2},
		{"ALICE@example.ORG", "one two", 2},
		{"bob@example.org", "tabbed", 4},
		{"listed", "", 6},
		{"carol@example.org", "domain", 8},
		{"carol@EXAMPLE.org", "domain", 8},
		{"carol@mail.example.org", "subdomains", 9},
		{"carol@a.deep.example.org", "subdomains", 9},
		{"carol@deep.example.org", "deep", 10},
		{"mail.example.org", "subdomains", 9},
		{"example.org", "tld", 11},
		{"carol@example.com", "-", 0},
		{"carol@xexample.org", "tld", 11},
		{"c.example.org@example.com", "-", 0},
		{"a@b@example.org", "domain", 8},
		{"mail.example.net", "host", 12},
		{"192.0.2.1", "net", 13},
		{"192.0.2.7", "address", 15},
		{"192.0.2.200", "half", 14},
		{"::ffff:192.0.2.200", "half", 14},
		{"192.0.3.1", "-", 0},
		{"192.0.2.0/24", "-", 0},
		{"2001:db8::2", "six", 16},
		{"2001:db8:0:0::1", "six address", 17},
		{"2001:db8::1%eth0", "six address", 17},
		{"198.51.100.9", "mapped", 18},
		{"test12@nowhere", "first regex", 19},
		{"TEST1", "second regex", 21},
		{"xa/b cx", "slash regex", 20},
		{"test1@example.org", "domain", 8},
		{"a#b", "c # no comment", 22},
		{"@example.org", "domain", 8},
		{".example.org", "tld", 11}, // not the line of that very text
		{"/^test[0-9]+@/", "-", 0},
		{"", "-", 0},
		{"@", "-", 0},
		{".", "-", 0},
		{"alice@example.org ", "-", 0},
		{"alice", "-", 0},
		{"# users", "-", 0},
		{"#", "-", 0},
		{"a\x00b", "-", 0},
		{strings.Repeat("x", 5000) + "@example.org", "-", 0},
	} {
		got, line := "-", 0
		if hit, ok := table.Get(tc.key); ok {
			got, line = string(hit.Value()), hit.Line()
		}
		if got != tc.want || line != tc.line {
			t.Errorf("%.40q: %q on line %d, want %q on line %d", tc.key, got, line, tc.want, tc.line)
		}
	}
	if table.Duplicates != 1 || table.FirstDuplicate != 7 {
		t.Errorf("%d duplicates, the first on line %d", table.Duplicates, table.FirstDuplicate)
	}
	if table.Lines() != 18 {
		t.Errorf("%d lines", table.Lines())
	}
}

// The example of the documentation is a map.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/maps.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```\n# moved.map")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/maps.md shows no map")
	}
	if table := parse(t, "#"+example); table.Lines() != 5 {
		t.Errorf("%d lines, want 5", table.Lines())
	}
}

func TestParse_Faults(t *testing.T) {
	many := strings.Repeat("/x/ y\n", MaxRegexes+1)
	for text, want := range map[string]string{
		"a b\nc\x00d e\n":                     "test.map:2: control byte 0x00",
		"a b\rc\n":                            "test.map:1: control byte 0x0d",
		"# x\n\n@ y\n":                        "test.map:3: expected a domain after @",
		". y":                                 "test.map:1: expected a domain after .",
		"@a@b y":                              `test.map:1: expected a domain after @, not "a@b"`,
		"192.0.2.0/33 x":                      "test.map:1: 192.0.2.0/33 is no network: its length must be 0 to 32",
		"192.0.2.300/24 x":                    "test.map:1: 192.0.2.300/24 is no network: expected an address before the /",
		"192.0.2.7/24 x":                      "test.map:1: 192.0.2.7/24 is no network: expected 192.0.2.0/24",
		"2001:db8::1/32 x":                    "test.map:1: 2001:db8::1/32 is no network: expected 2001:db8::/32",
		"/abc x":                              `test.map:1: expected /regex/ and a blank; a / within it is \/`,
		"/abc/x y":                            `test.map:1: expected /regex/ and a blank; a / within it is \/`,
		"/a(b/ y":                             "test.map:1: regular expression: missing closing ): `(?i)a(b`",
		"a b\n" + many:                        "test.map:1002: over 1000 regular expressions",
		strings.Repeat("x", MaxKey+1) + " y":  "test.map:1: the key has 1025 bytes, at most 1024",
		"x " + strings.Repeat("y", MaxLine):   "test.map:1: the line has 65538 bytes, at most 65536",
		"/" + strings.Repeat("x", 1100) + "/": "test.map:1: the regular expression has 1102 bytes, at most 1024",
	} {
		if _, err := Parse("test.map", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%.40q\n got %v\nwant %s", text, err, want)
		}
	}
	for _, text := range []string{"", "\n\n", "#", "\r\n", "# only comments\n#\n", "cafe.de x", "a/b c", "deadbeef", "10 x", "1.2.3 x"} {
		if _, err := Parse("test.map", []byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A file that is mostly comments, and one of as many keys as lines.
func TestParse_Sizes(t *testing.T) {
	for _, every := range []int{1, 2, 50} {
		var b strings.Builder
		for i := range 20_000 {
			if i%every == 0 {
				fmt.Fprintf(&b, "user%d@example.org backend%d\n", i, i)
			} else {
				b.WriteString("# nothing\n")
			}
		}
		table := parse(t, b.String())
		for i := range 20_000 {
			hit, ok := table.Get("USER" + strconv.Itoa(i) + "@example.org")
			if ok != (i%every == 0) || ok && string(hit.Value()) != "backend"+strconv.Itoa(i) {
				t.Fatalf("every %d: user%d: %v", every, i, ok)
			}
		}
		if index := len(table.slots); index > 2*table.Lines()+20 {
			t.Errorf("every %d: %d slots for %d lines", every, index, table.Lines())
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, key := range []string{"alice@example.org", "192.0.2.9", "test1@x", "a.b.example.org"} {
		f.Add(sample, key)
	}
	f.Add("/", "/")
	f.Add("/\\", "a")
	f.Add("@x\n.x\n0::/0 a\n0.0.0.0/0 b\n", "::1%x")
	f.Fuzz(func(t *testing.T, text, key string) {
		table, err := Parse("fuzz.map", []byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fuzz.map:") {
				t.Fatalf("no line: %v", err)
			}
			return
		}
		if hit, ok := table.Get(key); ok {
			if line := hit.Line(); line < 1 || line > strings.Count(text, "\n")+1 {
				t.Fatalf("line %d", line)
			}
			if strings.ContainsAny(string(hit.Value()), "\n\r\x00") && !strings.Contains(text, "\r") {
				t.Fatalf("value %q", hit.Value())
			}
		}
		// Every exact key is found, whatever else is there.
		number := 0
		for line := range strings.SplitSeq(strings.TrimPrefix(text, "\ufeff"), "\n") {
			number++
			words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' })
			if len(words) == 0 || strings.ContainsAny(words[0][:1], "#/@.") || strings.Contains(words[0], "/") {
				continue
			}
			hit, ok := table.Get(words[0])
			if !ok || hit.Line() > number {
				t.Fatalf("line %d, %q: found %v", number, words[0], ok)
			}
		}
	})
}

func TestGet_Allocs(t *testing.T) {
	table := parse(t, sample)
	table.regexes = nil // which allocate now and then
	for _, key := range []string{"alice@example.org", "carol@mail.example.org", "192.0.2.200", "2001:db8::2", "nobody@nowhere.example"} {
		if n := testing.AllocsPerRun(100, func() { table.Get(key) }); n != 0 {
			t.Errorf("%s: %v allocations", key, n)
		}
	}
}

// large writes a map of n users.
func large(b *testing.B, n int) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "large.map")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var line []byte
	for i := range n {
		line = fmt.Appendf(line, "user%d@example.org backend%d.example.org\n", i, i%100)
		if len(line) > 1<<20 || i == n-1 {
			if _, err := f.Write(line); err != nil {
				b.Fatal(err)
			}
			line = line[:0]
		}
	}
	return path
}

func BenchmarkLoad(b *testing.B) {
	const lines = 5_000_000
	b.Run("lines=5e6", func(b *testing.B) {
		path := large(b, lines)
		var before, after runtime.MemStats
		keep := new(Table)
		for b.Loop() {
			*keep = Table{} // the one before
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, t, err := read(path)
			if err != nil {
				b.Fatal(err)
			}
			*keep = *t
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/lines, "B/line")
		b.ReportMetric(float64(len(keep.data))/lines, "file-B/line")
	})
}

func BenchmarkGet(b *testing.B) {
	const lines = 5_000_000
	path := large(b, lines)
	_, t, err := read(path)
	if err != nil {
		b.Fatal(err)
	}
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = fmt.Sprintf("user%d@example.org", (i*7919)%lines)
	}
	b.Run("lines=5e6/hit", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, ok := t.Get(keys[i&(1<<16-1)]); !ok {
				b.Fatal("not found")
			}
			i++
		}
	})
	b.Run("lines=5e6/miss", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			t.Get("nobody@nowhere.example")
		}
	})
}

// A key pays for what an expression may cost, not for its length.
func TestCost_Regexes(t *testing.T) {
	cost := func(re string) int {
		table, err := Parse("m", []byte("/"+re+"/ v\n"))
		if err != nil {
			t.Fatal(err)
		}
		return table.Cost(255)
	}
	if plain, heavy := cost(`^a+b`), cost(`(.{1,500}){1,2}$`); plain > 2000 || heavy < 50*plain {
		t.Errorf("a plain one costs %d, a heavy one %d", plain, heavy)
	}
}
