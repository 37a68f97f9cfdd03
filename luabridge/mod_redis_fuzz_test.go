package luabridge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"usher/luabridge/modules"
	"usher/proxy"
)

// A fussy Redis answers every well-formed command, in ways that fit none perhaps,
// and notes what is no command.
type fussy struct {
	net.Listener
	mu     sync.Mutex
	faults []string
	conns  sync.WaitGroup
}

var fussyAnswers = []string{
	"+OK\r\n", ":7\r\n", "$-1\r\n", "$0\r\n\r\n", "$3\r\n1.5\r\n", "*2\r\n$1\r\na\r\n$-1\r\n", "*0\r\n", "-ERR no\r\n", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n", "*3\r\n:1\r\n*1\r\n:2\r\n-ERR in a list\r\n",
	"-NOSCRIPT No matching script\r\n",
}

func newFussy(t testing.TB) *fussy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fussy{Listener: l}
	f.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.conns.Go(func() { f.serve(c) })
		}
	})
	return f
}

func (f *fussy) serve(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for n := 0; ; n++ {
		words, err := readCommand(br)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
				f.mu.Lock()
				f.faults = append(f.faults, err.Error())
				f.mu.Unlock()
			}
			return
		}
		answer := fussyAnswers[n%len(fussyAnswers)]
		switch words[0] {
		case "HELLO":
			answer = "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
		case "CLIENT", "SELECT", "AUTH":
			answer = "+OK\r\n"
		case "PING":
			answer = "+PONG\r\n"
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

func readCommand(br *bufio.Reader) ([]string, error) {
	number := func(mark byte) (int, error) {
		line, err := br.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != mark || !strings.HasSuffix(line, "\r\n") {
			return 0, fmt.Errorf("line %q", line)
		}
		return strconv.Atoi(line[1 : len(line)-2])
	}
	n, err := number('*')
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, fmt.Errorf("%d words", n)
	}
	words := make([]string, n)
	for i := range words {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(br, text); err != nil {
			return nil, err
		}
		if string(text[size:]) != "\r\n" {
			return nil, fmt.Errorf("word %q", text)
		}
		words[i] = string(text[:size])
	}
	return words, nil
}

// FuzzRedis calls each function with all kinds of values: none panics, none sends
// what is no command, and none stops the next request.
func FuzzRedis(f *testing.F) {
	f.Add("\x00key", -1.5, byte(0))
	f.Add("a\r\nFLUSHALL\r\n", 1e308, byte(7))
	f.Add("+inf", 12.0, byte(99))
	server := newFussy(f)
	r, err := modules.NewRedis(modules.RedisOptions{Addresses: []string{server.Addr().String()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		r.Close()
		_ = server.Close()
		server.conns.Wait()
	})
	d := newDirector(f, inFilter(`
		local s, n, pick = request.username, request.client_id:match("^(%S+) (%d+)$")
		n, pick = tonumber(n), tonumber(pick)
		local deep = {} deep[1] = {deep}
		local values = {s, n, true, print, {}, {s, n}, {[s] = n}, {{"get", s}}, {{s, n}}, {{"zadd", s, n, s}, {"run_script", s, "", {s}, n}}, deep, 0/0, 1/0, "string", "read", {ex = n, nx = true, get = s}, {ex = n, xx = true}, {address = s}, {address = "127.0.0.1:1"}, coroutine.create(function() end), nauthilus_redis.get_redis_connection("default")}
		local names = {}
		for name in pairs(nauthilus_redis) do names[#names + 1] = name end
		table.sort(names)
		for i, name in ipairs(names) do
			local function v(k) return values[(pick * 7 + i * 3 + k * (pick % 5 + 1)) % (#values + 1) + 1] end
			pcall(nauthilus_redis[name], v(1), v(2), v(3), v(4), v(5))
			pcall(nauthilus_redis[name], "default", s, n, s)
		end`), func(o *Options) {
		o.Deps.Redis, o.Deps.Network = r, true
		o.Limits.Steps = 2_000_000
	})
	f.Fuzz(func(t *testing.T, s string, n float64, pick byte) {
		q := query(s)
		q.Request.ClientID = strconv.FormatFloat(n, 'g', -1, 64) + " " + strconv.Itoa(int(pick))
		_, err := d.Direct(t.Context(), q)
		var fault *proxy.PolicyFault
		if err != nil && (!errors.As(err, &fault) || fault.Kind == proxy.PolicyError) {
			t.Error(err)
		}
		server.mu.Lock()
		defer server.mu.Unlock()
		if server.faults != nil {
			t.Errorf("what is no command: %q", server.faults)
		}
	})
}
