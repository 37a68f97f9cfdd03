package dovecot

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"usher/proxy"
)

var errNoAPI = errors.New("the server does not speak doveadm's HTTP API")

// A doveadmHTTP asks by the HTTP API (doveadm/client-connection-http.c).
type doveadmHTTP struct {
	url    string
	scheme string // of Authorization
	secret proxy.Secret
	client *http.Client
}

func newDoveadmHTTP(base string, opt DoveadmOptions) *doveadmHTTP {
	w := &doveadmHTTP{
		url: base + "/doveadm/v1", scheme: "X-Dovecot-API", secret: opt.APIKey,
		client: &http.Client{
			// Dovecot closes each connection after its answer.
			Transport:     &http.Transport{TLSClientConfig: opt.TLS, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if opt.APIKey.IsEmpty() {
		w.scheme, w.secret = "Basic", proxy.NewSecret("doveadm:"+opt.Password.Reveal())
	}
	return w
}

// ask sends a request and has read read the answer's body.
func (w *doveadmHTTP) ask(ctx context.Context, method string, body []byte, read func(*json.Decoder) error) error {
	req, err := http.NewRequestWithContext(ctx, method, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", w.scheme+" "+base64.StdEncoding.EncodeToString([]byte(w.secret.Reveal())))
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return read(json.NewDecoder(&cappedReader{resp.Body, maxDoveadmReply}))
	case http.StatusUnauthorized:
		if w.scheme == "Basic" {
			return errors.New("the server does not take the password (doveadm_password)")
		}
		return errors.New("the server does not take the key (doveadm_api_key)")
	}
	return fmt.Errorf("HTTP status %d", resp.StatusCode)
}

// dialect looks which parameters `proxy kick` has.
func (w *doveadmHTTP) dialect(ctx context.Context) (dialect doveadmDialect, err error) {
	err = w.ask(ctx, http.MethodGet, nil, func(in *json.Decoder) error {
		dialect, err = readCommands(in)
		return err
	})
	return dialect, err
}

// run names commands by their place in the request.
func (w *doveadmHTTP) run(ctx context.Context, commands []doveadmCommand) (replies []doveadmReply, err error) {
	var request []any
	for i, c := range commands {
		params := map[string]any{}
		if c.each {
			params["separateConnections"] = true
		}
		if c.host != "" {
			params["destHost"] = c.host
		}
		if len(c.names) > 0 {
			key := "mask"
			if c.users {
				key = "user"
			}
			params[key] = c.names
		}
		request = append(request, []any{camelCase(c.name), params, strconv.Itoa(i)})
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	err = w.ask(ctx, http.MethodPost, body, func(in *json.Decoder) error {
		replies, err = readReplies(in, len(commands))
		return err
	})
	return replies, err
}

// camelCase is a command as the API has it: proxyKick.
func camelCase(name string) string {
	first, second, ok := strings.Cut(name, " ")
	if !ok {
		return name
	}
	return first + strings.ToUpper(second[:1]) + second[1:]
}

// readCommands reads [{"command":…,"parameters":[{"name":…,"type":…},…]},…].
func readCommands(in *json.Decoder) (doveadmDialect, error) {
	if err := expectDelim(in, '['); err != nil {
		return 0, err
	}
	for in.More() {
		var c struct {
			Command    string
			Parameters []struct{ Name string }
		}
		if err := in.Decode(&c); err != nil {
			return 0, inJSON(err)
		}
		if c.Command != "proxyKick" {
			continue
		}
		for _, p := range c.Parameters {
			switch p.Name {
			case "user":
				return doveadm23, nil
			case "mask":
				return doveadm24, nil
			}
		}
	}
	return 0, errors.New("the server has no command proxyKick as Dovecot 2.3 or 2.4 has it")
}

// readReplies reads the answers to n commands:
//
//	[["doveadmResponse",[{"username":"a","service":"imap",…},…],"0"],
//	 ["error",{"type":"exitCode","exitCode":68},"1"]]
func readReplies(in *json.Decoder, n int) ([]doveadmReply, error) {
	if err := expectDelim(in, '['); err != nil {
		return nil, err
	}
	replies, seen := make([]doveadmReply, n), 0
	for in.More() {
		if err := expectDelim(in, '['); err != nil {
			return nil, err
		}
		kind, err := readString(in)
		if err != nil {
			return nil, err
		}
		var r doveadmReply
		switch kind {
		case "doveadmResponse":
			r, err = readTable(in)
		case "error":
			r, err = readFault(in)
		default:
			err = errNoAPI
		}
		if err != nil {
			return nil, err
		}
		id, err := readString(in)
		if err != nil {
			return nil, err
		}
		if err := expectDelim(in, ']'); err != nil {
			return nil, err
		}
		if seen == n || id != strconv.Itoa(seen) { // Dovecot answers in order
			return nil, errNoAPI
		}
		replies[seen] = r
		seen++
	}
	if err := expectDelim(in, ']'); err != nil {
		return nil, err
	}
	if seen != n {
		return nil, errNoAPI
	}
	return replies, nil
}

// readTable reads rows, whose names of columns count for nothing: in 2.3 they are
// often those of another row.
func readTable(in *json.Decoder) (r doveadmReply, err error) {
	if err := expectDelim(in, '['); err != nil {
		return r, err
	}
	for in.More() {
		if err := expectDelim(in, '{'); err != nil {
			return r, err
		}
		width := 0
		for ; in.More(); width++ {
			if _, err := in.Token(); err != nil {
				return r, inJSON(err)
			}
			value, err := readScalar(in)
			if err != nil {
				return r, err
			}
			r.values = append(appendEscaped(r.values, value), '\t')
		}
		if r.width == 0 {
			r.width = width
		}
		if err := expectDelim(in, '}'); err != nil {
			return r, err
		}
	}
	return r, expectDelim(in, ']')
}

// Exit codes of doveadm: DOVEADM_EX_NOTFOUND and EX_TEMPFAIL (sysexits.h).
const exitNotFound, exitTempFail = 68, 75

func readFault(in *json.Decoder) (r doveadmReply, err error) {
	var fault struct {
		Type     string
		ExitCode int
	}
	if err := in.Decode(&fault); err != nil {
		return r, inJSON(err)
	}
	switch {
	case fault.Type == "exitCode" && fault.ExitCode == exitNotFound:
		r.fault = notFound
	case fault.Type == "exitCode" && fault.ExitCode == exitTempFail:
		r.fault = tempFail
	case fault.Type == "exitCode":
		r.fault = fmt.Sprintf("exit code %d", fault.ExitCode)
	case fault.Type == "unAuthorized":
		r.fault = "doveadm_allowed_commands is without it"
	default:
		r.fault = oneLine(strconv.Quote(fault.Type))
	}
	return r, nil
}

// readScalar reads a value that is no list and no object, as text; null is "".
func readScalar(in *json.Decoder) (string, error) {
	t, err := in.Token()
	if err != nil {
		return "", inJSON(err)
	}
	switch v := t.(type) {
	case string:
		return v, nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	case nil:
		return "", nil
	}
	return "", errNoAPI
}

func readString(in *json.Decoder) (string, error) {
	t, err := in.Token()
	if err != nil {
		return "", inJSON(err)
	}
	s, ok := t.(string)
	if !ok {
		return "", errNoAPI
	}
	return s, nil
}

func expectDelim(in *json.Decoder, want json.Delim) error {
	t, err := in.Token()
	if err != nil {
		return inJSON(err)
	}
	if t != want {
		return errNoAPI
	}
	return nil
}

// inJSON returns why JSON could not be read: a fault of its own, or the
// connection's.
func inJSON(err error) error {
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &typed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errNoAPI
	}
	return err
}
