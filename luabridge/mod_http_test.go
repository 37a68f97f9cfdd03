package luabridge

import (
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"usher/luabridge/modules"
)

// withHTTP lets policies use connections of the test's own.
func withHTTP(t testing.TB) func(*Options) {
	tr := modules.NewTransport()
	t.Cleanup(tr.CloseIdleConnections)
	return func(o *Options) { o.Deps.Network, o.Deps.HTTP, o.Limits.Time = true, tr, 5*time.Second }
}

// answers serves what the paths of TestHTTP stand for.
func answers(t testing.TB) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s|%s|%s", r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), body)
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, "|", r.Header.Get(r.URL.Query().Get("name")))
	})
	mux.HandleFunc("/cookie", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "12345"})
		w.Header().Add("X-Two", "first")
		w.Header().Add("X-Two", "second")
		fmt.Fprint(w, r.Header.Get("Cookie"))
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/echo?moved", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("url"))
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		size := 1000
		if r.URL.RawQuery == "bomb" {
			size = 50 << 20
		}
		for range size / 1000 {
			fmt.Fprint(z, strings.Repeat("z", 1000))
		}
		z.Close()
	})
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) {
		for range 2000 {
			if _, err := fmt.Fprint(w, strings.Repeat("x", 1000)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/most", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", 1<<20)) })
	mux.HandleFunc("/fields", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 300 {
			w.Header().Set(fmt.Sprint("X-", i), "x")
		}
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("x", 1000)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/noise", func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		fmt.Fprint(c, "* OK IMAP here\r\n\r\n")
		c.Close()
	})
	mux.HandleFunc("/reset", func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	})
	mux.HandleFunc("/drip", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			<-time.After(5 * time.Millisecond)
		}
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

const httpLua = `
	local http = require("glua_http")
	local function body(r, err) assert(err == nil, err) return r.body end
	local function fails(want, r, err) assert(r == nil and err:find(want, 1, true), tostring(r) .. ": " .. tostring(err)) end
`

// What scripts for gluahttp use.
func TestHTTP(t *testing.T) {
	s := answers(t)
	ask(t, strings.NewReplacer("URL/", s.URL+"/", `"URL"`, `"`+s.URL+`"`).Replace(httpLua+`
		assert(glua_http == nil)
		for _, m in ipairs({"get", "delete", "post", "put", "patch"}) do assert(body(http[m]("URL/echo", {query = "a=1"})) == m:upper() .. " /echo?a=1||", m) end
		assert(body(http.request("oPTIONS", "URL/echo?a=b")) == "OPTIONS /echo?a=b||")
		assert(body(http.post("URL/echo", {form = "a=1&b=2"})) == "POST /echo|application/x-www-form-urlencoded|a=1&b=2")
		assert(body(http.put("URL/echo", {body = "{}", headers = {["content-type"] = "application/json", ["Content-Length"] = "7", Connection = "close"}})) == "PUT /echo|application/json|{}")
		assert(body(http.post("URL/echo", {body = "x\0y", form = "z", headers = {}, other = print})) == "POST /echo||x\0y")
		assert(body(http.get("URL/echo?a=ä b", nil)) == "GET /echo?a=%C3%A4%20b||")
		assert(body(http.get("URL/echo#part", {query = "a b\r\nX: y#"})) == "GET /echo?a%20b%0D%0AX:%20y%23||")
		assert(body(http.get("URL/header?name=x-a", {headers = {["X-A"] = 5}})):match("|(.*)") == "5")
		assert(body(http.get("URL/header?name=user-agent")):match("|(.*)") == "usher")
		assert(body(http.get("URL/header", {headers = {host = "directory.example.org"}})) == "directory.example.org|")
		assert(body(http.get("URL/header?name=authorization", {auth = {user = "u", pass = "p"}})):match("|(.*)") == "Basic dTpw")
		local with = http.get(("URL"):gsub("//", "//u:p@") .. "/header?name=authorization")
		assert(with.body:match("|(.*)") == "Basic dTpw" and with.url == "URL/header?name=authorization", with.url)
		local r = http.get("URL/cookie", {cookies = {a = "1", b = "x y"}})
		assert(r.body == 'a=1; b="x y"', r.body)
		assert(r.cookies.session == "12345" and r.headers["X-Two"] == "first" and r.headers["Content-Length"] == "12" and r.headers.nothing == nil)
		assert(r.status_code == 200 and r.body_size == 12 and r.nothing == nil and type(r) == "userdata" and getmetatable(r) == nil)
		assert(not pcall(function() r.body = "x" end))
		assert(http.get("URL/status").status_code == 500 and http.get("URL/none").status_code == 404)
		local head = http.head("URL/cookie")
		assert(head.status_code == 200 and head.body == "" and head.headers["X-Two"] == "first")
		local moved = http.get("URL/redirect")
		assert(moved.status_code == 200 and moved.body == "GET /echo?moved||" and moved.url == "URL/echo?moved")
		local z = http.get("URL/gzip")
		assert(z.body == ("z"):rep(1000) and z.headers["Content-Encoding"] == nil)
		assert(body(http.get("URL/echo", {timeout = "10s"})) and body(http.get("URL/echo", {timeout = 1})) and body(http.get("URL/echo", {timeout = 1e300})))
		assert(#body(http.get("URL/most")) == 1048576)`), query("alice"), withHTTP(t))
}

// What the outside does wrong, and what may come of a client's words, is
// returned.
func TestHTTP_Failures(t *testing.T) {
	s := answers(t)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	ask(t, strings.NewReplacer("URL/", s.URL+"/", `"URL"`, `"`+s.URL+`"`, "CLOSED", closed.URL).Replace(httpLua+`
		fails("glua_http: GET CLOSED/: dial tcp", http.get("CLOSED"))
		fails("GET URL/loop: over 10 redirects", http.get("URL/loop?secret"))
		fails("a redirect to where usher does not go", http.get("URL/to?url=ftp://127.0.0.1/"))
		fails("a redirect to where usher does not go", http.get("URL/to?url=file:///etc/passwd"))
		fails("a redirect to no valid", http.get("URL/to?url=http://u:secret@[/"))
		fails("the answer is longer than 1048576 bytes", http.get("URL/huge"))
		fails("the answer is longer than 1048576 bytes", http.get("URL/gzip?bomb"))
		fails("the answer has over 256 header fields", http.get("URL/fields"))
		fails("server response headers exceeded 65536 bytes", http.get("URL/endless"))
		fails("malformed HTTP", http.get("URL/noise"))
		fails("connection reset by peer", http.get("URL/reset"))
		fails("GET URL/slow: no answer in time", http.get("URL/slow?secret", {timeout = "20ms"}))
		fails("GET URL/drip: no answer in time", http.get("URL/drip", {timeout = 0.02}))
		fails("the host is not found", http.get("http://nobody.invalid./", {timeout = "2s"}))
		for _, url in ipairs({"", "x", "/x", "ftp://127.0.0.1/", "file:///etc/passwd", "//127.0.0.1/"}) do fails("glua_http: unsupported protocol scheme", http.get(url)) end
		for _, url in ipairs({"http://", "http:x", "http:///x", "http://a b/", "http://u:secret@[::1%25eth0]/", "http://a\r\nX: y/", "http://a/\0", "http://%00/", "http://-/", "http://a:secret/", "http://a/%zz"}) do
			local r, err = http.get(url)
			assert(r == nil and (err:find("^glua_http: no valid") or err:find("has no valid host")), url .. ": " .. tostring(err))
		end
		fails("a URL of 100011 bytes, at most 8192", http.get("http://a.b/" .. ("x"):rep(100000)))
		fails("a query of 9000 bytes, at most 8192", http.get("URL", {query = ("x"):rep(9000)}))
		for _, h in ipairs({{["X-A"] = "b\r\nX-B: c"}, {["X-A\r\nX-B"] = "c"}, {[""] = "x"}, {["X A"] = "b"}, {["X-A:"] = "b"}, {["X-A"] = "\0"}, {["X-Ä"] = "b"}}) do
			fails("a header field has a name or value that may not be sent", http.get("URL/echo", {headers = h}))
		end
		fails("Host is no host name", http.get("URL/echo", {headers = {Host = "a/b"}}))
		fails("Host is no host name", http.get("URL/echo", {headers = {Host = "u@b"}}))
		for _, c in ipairs({{a = "b;c"}, {a = "b\r\nc"}, {["a="] = "b"}, {["a;"] = "b"}}) do fails("a cookie has a name or value that may not be sent", http.get("URL/echo", {cookies = c})) end
		local many = {}
		for i = 1, 100 do many["X-" .. i] = "x" end
		fails("a header of over 64 fields or 16384 bytes", http.get("URL/echo", {headers = many}))
		fails("a header of over 64 fields or 16384 bytes", http.get("URL/echo", {headers = {X = ("x"):rep(20000)}}))
		fails("a header of over 64 fields or 16384 bytes", http.get("URL/echo", {auth = {user = "u", pass = ("x"):rep(20000)}}))
		fails("a body of 2000000 bytes, at most 1048576", http.post("URL/echo", {body = ("x"):rep(2000000)}))
		for _, m in ipairs({"", "CONNECT", "GET /x HTTP/1.1\r\n", ("x"):rep(33), "ä"}) do fails("no method of HTTP", http.request(m, "URL")) end`),
		query("alice"), withHTTP(t), func(o *Options) { o.Limits.Memory, o.Limits.Steps = 64<<20, 1e6 })
}

// What the policy's author got wrong raises.
func TestHTTP_WrongArguments(t *testing.T) {
	for statement, want := range map[string]string{
		`get()`:                                       "bad argument #1 to glua_http (URL (string) expected, got no value)",
		`get({})`:                                     "bad argument #1 to glua_http (URL (string) expected, got table)",
		`get("http://a", "x")`:                        "bad argument #2 to glua_http (table of options expected, got string): \"x\"",
		`request(nil, "http://a")`:                    "bad argument #1 to glua_http (method (string) expected, got nil)",
		`request("get")`:                              "bad argument #2 to glua_http (URL (string) expected, got no value)",
		`get("http://a", {headers = "x"})`:            "glua_http: headers is a string; expected a table",
		`get("http://a", {headers = {"x"}})`:          "glua_http: headers has a string under a number; expected strings under strings",
		`get("http://a", {headers = {x = {}}})`:       "glua_http: headers has a table under a string; expected strings under strings",
		`get("http://a", {query = {}})`:               "glua_http: query is a table; expected a string",
		`get("http://a", {body = print})`:             "glua_http: body is a function; expected a string",
		`get("http://a", {timeout = "soon"})`:         "glua_http: timeout is soon; expected seconds above 0, or a text like \"10s\"",
		`get("http://a", {timeout = 0/0})`:            "glua_http: timeout is nan; expected seconds above 0, or a text like \"10s\"",
		`get("http://a", {timeout = -1})`:             "glua_http: timeout is -1; expected seconds above 0, or a text like \"10s\"",
		`get("http://a", {auth = "x"})`:               "glua_http: auth is a string; expected a table",
		`request_batch({{"get", "http://a"}})`:        "glua_http: request_batch is not in usher; ask one after the other",
		`get(setmetatable({}, {__tostring = print}))`: "bad argument #1 to glua_http (URL (string) expected, got table)",
	} {
		if got := strings.ToLower(luaError(t, `require("glua_http").`+statement, withHTTP(t))); got != strings.ToLower(want) {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
	const want = "glua_http: director.network is false, so that policies reach no network"
	if got := luaError(t, `require("glua_http").get("http://127.0.0.1:1/")`); got != want {
		t.Errorf("without director.network\n got %s\nwant %s", got, want)
	}
}

// A server that says nothing, one that nobody hears of, and one that drips leave
// the script the time to decide without them.
func TestHTTP_Deadline(t *testing.T) {
	s := answers(t)
	full, err := net.Listen("tcp", "127.0.0.1:0") // its queue gets full: nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for name, url := range map[string]string{"slow": s.URL + "/slow", "drip": s.URL + "/drip", "mute": "http://" + full.Addr().String(), "tls": "https://" + full.Addr().String(), "black hole": "http://192.0.2.1/"} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			v := ask(t, httpLua+`
				fails("", http.get("`+url+`"))
				nauthilus_backend.select_backend_server("127.0.0.3", 143)`, query("alice"), withHTTP(t), func(o *Options) { o.Limits.Time = 400 * time.Millisecond })
			if took := time.Since(begin); v.Host != "127.0.0.3" || took > 390*time.Millisecond {
				t.Errorf("after %s: %+v", took, v)
			}
		})
	}
}

// Requests share a few connections, and one more after the server is back.
func TestHTTP_KeepAlive(t *testing.T) {
	var opened atomic.Int32
	serve := func(l net.Listener) *httptest.Server {
		s := &httptest.Server{Listener: l, Config: &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") }),
			ConnState: func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					opened.Add(1)
				}
			},
		}}
		s.Start()
		return s
	}
	listen := func(addr string) net.Listener {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	s := serve(listen("127.0.0.1:0"))
	addr := s.Listener.Addr().String()
	d := newDirector(t, inFilter(httpLua+`
		local r, err = http.request(request.username, "http://`+addr+`/", {body = "x"})
		nauthilus_builtin.custom_log_add("got", r and r.body or err)`), withHTTP(t))
	got := func(method string) string { return direct(t, d, query(method)).Logs[0].Value }
	for i := range 100 {
		if g := got("POST"); g != "here" {
			t.Fatalf("request %d: %s", i, g)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("100 requests, %d connections", n)
	}
	s.CloseClientConnections()
	s.Close()
	if g := got("GET"); !strings.Contains(g, "connection refused") {
		t.Errorf("after its end: %s", g)
	}
	s = serve(listen(addr))
	defer s.Close()
	if g := got("GET"); g != "here" {
		t.Errorf("after its return: %s", g)
	}
}

// User and password of an URL, and a query, stand in no error, trace or log.
func TestHTTP_Secrets(t *testing.T) {
	s := answers(t)
	with := strings.Replace(s.URL, "//", "//somebody:hidden@", 1)
	logs, logged := logTo(zapcore.DebugLevel)
	d := newDirector(t, inFilter(fmt.Sprintf(httpLua+`
		for _, url in ipairs({"%[1]s/status?hidden", "%[1]s/loop?hidden", "%[1]s/reset?hidden", "http://somebody:hidden@ /", "http://somebody:hidden@127.0.0.1:1/?hidden", "http://somebody:hid/den@x"}) do
			local r, err = http.get(url, {auth = {user = "somebody", pass = "hidden"}, headers = {["X-Token"] = "hidden"}})
			usher.log(err or r.url:match("^[^?]*"))
		end`, with)), withHTTP(t), logged)
	q := query("alice")
	var steps []string
	q.Trace = func(s string) { steps = append(steps, s) }
	direct(t, d, q)
	all := logText(logs) + strings.Join(steps, "\n")
	if strings.Contains(all, "hidden") || strings.Contains(all, "somebody") || strings.Contains(all, "hid") {
		t.Errorf("shown: %s", all)
	}
	if !strings.Contains(all, "glua_http GET "+s.URL+"/status: Internal Server Error (") {
		t.Errorf("trace: %s", all)
	}
}

// Many at once share the connections, too.
func TestHTTP_Concurrent(t *testing.T) {
	s := answers(t)
	d := newDirector(t, inFilter(httpLua+`assert(body(http.get("`+s.URL+`/echo?" .. request.username)) == "GET /echo?" .. request.username .. "||")`),
		withHTTP(t), func(o *Options) { o.PoolSize = 0 })
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 25 {
				if _, err := d.Direct(t.Context(), query(fmt.Sprint("user", i, "-", n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// Certificates count, https does not redirect to http, and no proxy is asked
// whatever the environment says.
func TestHTTP_TLS(t *testing.T) {
	plain := answers(t)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/plain" {
			http.Redirect(w, r, plain.URL+"/echo", http.StatusFound)
			return
		}
		fmt.Fprint(w, "safe", r.Header.Get("Referer"))
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	defer s.Close()
	ask(t, httpLua+`fails("failed to verify certificate", http.get("`+s.URL+`"))`, query("alice"), withHTTP(t))
	trusting := modules.NewTransport()
	defer trusting.CloseIdleConnections()
	trusting.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	ask(t, strings.ReplaceAll(httpLua+`
		assert(body(http.get("URL/")) == "safe")
		fails("a redirect from https to http", http.get("URL/plain"))
		assert(body(http.get("`+plain.URL+`/to?url=URL/")) == "safe")`, "URL/", s.URL+"/"), query("alice"), withHTTP(t), func(o *Options) { o.Deps.HTTP = trusting })
	if trusting.Proxy != nil {
		t.Error("proxies of the environment are asked")
	}
}

// A dry run asks nobody.
func TestHTTP_DryRun(t *testing.T) {
	q := query("alice")
	q.DryRun = true
	var steps []string
	q.Trace = func(s string) { steps = append(steps, s) }
	ask(t, httpLua+`fails("glua_http: not tried: a dry run reaches no network (usher route --network does)", http.get("http://127.0.0.1:1/x"))`, q, withHTTP(t))
	if s := strings.Join(steps, "\n"); !strings.HasPrefix(s, "test: glua_http GET http://127.0.0.1:1/x: not tried: a dry run reaches no network (usher route --network does)") {
		t.Errorf("trace: %s", s)
	}
}

// What is read counts as the script's memory.
func TestHTTP_Memory(t *testing.T) {
	s := answers(t)
	fault := askFault(t, newDirector(t, inFilter(httpLua+`
		local all = {}
		for i = 1, 100 do all[i] = http.get("`+s.URL+`/most") end`), withHTTP(t), func(o *Options) { o.Limits.Steps = 1e8 }), query("alice"))
	if !strings.Contains(fault.Error(), "budget of memory used up") {
		t.Error(fault)
	}
}

// FuzzHTTPRequest: whatever stands in URL, options and names, nothing panics, and
// on the wire is one request, whose header has no line that the policy did not
// mean.
func FuzzHTTPRequest(f *testing.F) {
	seen := make(chan *http.Request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case seen <- r:
		default:
			seen <- nil // a second one
		}
	}))
	f.Cleanup(s.Close)
	d := newDirector(f, inFilter(fmt.Sprintf(`
		local value = request.username
		local r, err = require("glua_http").request(request.method, "%s/" .. request.client_hostname, {
			query = request.ssl_client_dn ~= "" and request.ssl_client_dn or nil,
			headers = {[request.client_id] = value, ["X-Value"] = value}, cookies = {c = value, [request.client_id] = "x"},
			auth = {user = value, pass = value}, body = value,
		})
		assert(r or err:find("^glua_http: "))`, s.URL)), withHTTP(f))
	f.Add("GET", "path", "X-A", "value", "a=b")
	f.Add("POST", "a b?c d", "X-A\r\nX-Injected", "v\r\nX-Injected: yes", "q HTTP/1.1\r\nX-Injected: yes")
	f.Add("GET /\r\nX-Injected: yes", "\r\nX-Injected: yes", "Host", "127.0.0.1", "")
	f.Add("HEAD", "%0d%0aX-Injected:1", "Transfer-Encoding", "chunked", "\x00")
	f.Add("PUT", "..//", "Content-Length", "7\n", "é")
	f.Add("TRACE", "@example.org/", "Cookie", "a=b; c=d", "#")
	f.Fuzz(func(t *testing.T, method, path, name, value, rawQuery string) {
		q := query(value)
		q.Request.Method, q.Request.ClientHost, q.Request.ClientID, q.Request.TLS.ClientDN = method, path, name, rawQuery
		direct(t, d, q)
		select {
		case r := <-seen:
			if r == nil {
				t.Fatal("two requests")
			}
			for got, values := range r.Header {
				switch got {
				case "User-Agent", "Accept-Encoding", "Authorization", "Content-Length", "Cookie", "X-Value", "Connection":
				default:
					if !strings.EqualFold(got, name) {
						t.Errorf("a field that nobody set: %q: %q", got, values)
					}
				}
				if len(values) > 1 {
					t.Errorf("%q twice: %q", got, values)
				}
			}
			select {
			case <-seen:
				t.Error("two requests")
			default:
			}
		default:
		}
	})
}
