package modules

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	lua "github.com/yuin/gopher-lua"
)

// What an answer may be.
const (
	maxBody    = 1 << 20 // bytes, unpacked
	maxAnswers = 256     // header fields
)

const responseType = "http.response"

// readBody reads an answer's body, and takes its bytes as they come.
func readBody(L *lua.LState, from io.Reader) (string, error) {
	const piece = 16 << 10
	var body []byte
	buf := make([]byte, piece)
	for {
		n, err := from.Read(buf)
		if len(body)+n > maxBody {
			return "", fmt.Errorf("the answer is longer than %d bytes", maxBody)
		}
		// Twice: the text that the script gets is a copy.
		take(L, 1+n/16, 2*n)
		body = append(body, buf[:n]...)
		switch {
		case errors.Is(err, io.EOF):
			return string(body), nil
		case err != nil:
			return "", err
		}
	}
}

// newResponse makes what scripts get: a userdata whose fields lie in a table of
// its own, so that a field that does not exist is nil.
func newResponse(L *lua.LState, r *http.Response, body string) (*lua.LUserData, error) {
	if len(r.Header) > maxAnswers {
		return nil, fmt.Errorf("the answer has over %d header fields", maxAnswers)
	}
	bytes := 1024
	for name, values := range r.Header {
		bytes += 256 + len(name)
		for _, v := range values {
			bytes += 16 + len(v)
		}
	}
	take(L, 10*len(r.Header)+bytes/64, bytes)
	headers := L.CreateTable(0, len(r.Header))
	for name := range r.Header {
		headers.RawSetString(name, lua.LString(r.Header.Get(name)))
	}
	cookies := L.CreateTable(0, 0)
	for _, c := range r.Cookies() {
		take(L, 20, 512)
		cookies.RawSetString(c.Name, lua.LString(c.Value))
	}
	end := *r.Request.URL
	end.User = nil
	fields := L.CreateTable(0, 6)
	for name, v := range map[string]lua.LValue{
		"status_code": lua.LNumber(r.StatusCode), "url": lua.LString(end.String()),
		"body": lua.LString(body), "body_size": lua.LNumber(len(body)),
		"headers": headers, "cookies": cookies,
	} {
		fields.RawSetString(name, v)
	}
	mt := Sealed(L, fields)
	mt.RawSetString("__name", lua.LString(responseType))
	return &lua.LUserData{Metatable: mt}, nil
}
