package dovecot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"usher/proxy"
)

const (
	// maxLookups bounds the connections of a userdbClient; who comes after waits.
	maxLookups = 64
	// lookupTimeout bounds one look-up, and the silence in a list
	// (lib-auth/auth-master.c waits 155 s).
	lookupTimeout = 150 * time.Second
)

// A userdbClient looks users up at an auth-userdb socket, each time on a
// connection of its own.
type userdbClient struct {
	*upstream
	slots chan struct{}
}

func newUserdbClient(address string, log *zap.Logger) *userdbClient {
	return &userdbClient{newUpstream(address, log), make(chan struct{}, maxLookups)}
}

// look sends a PASS or USER and returns what stands behind the number of its
// answer. An error wraps proxy.ErrUnknownUser, or is temporary.
func (c *userdbClient) look(ctx context.Context, verb string, r *proxy.Request) (rest string, err error) {
	if err := proxy.ValidUser(r.User); err != nil {
		return "", fmt.Errorf("%w: %w", proxy.ErrUnknownUser, err)
	}
	b := append(appendCommand(nil, verb, 1), '\t')
	b = append(appendEscaped(b, r.User), '\t')
	b = append(appendParams(b, r), '\n')
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	err = c.ask(ctx, b, func(in *lineReader) error {
		got, text, err := nextAnswer(in, 0)
		switch {
		case err != nil:
			return err
		case got == verb:
			rest = text
			return nil
		case got == "NOTFOUND":
			return proxy.ErrUnknownUser
		}
		return refused(got, text)
	})
	return rest, err
}

// list sends a LIST and calls yield as passdb.Directory has it. An auth server
// lists all names whatever the mask.
func (c *userdbClient) list(ctx context.Context, mask string, yield func(user string) bool) error {
	b := append(appendField(appendCommand(nil, "LIST", 1), "user", "*"), '\n')
	return c.ask(ctx, b, func(in *lineReader) error {
		for {
			got, text, err := nextAnswer(in, lookupTimeout)
			switch {
			case err != nil:
				return err
			case got == "DONE" && text == "":
				return nil
			case got != "LIST":
				return refused(got, text)
			}
			if user := unescape(text); (mask == "" || proxy.FitsMask(mask, user)) && !yield(user) {
				return nil
			}
		}
	})
}

// ask sends a line on a new connection and has its answer read.
func (c *userdbClient) ask(ctx context.Context, line []byte, read func(*lineReader) error) error {
	if len(line) > maxUserdbLine {
		return errors.New("a look-up that does not fit into a line")
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", proxy.ErrOverload, ctx.Err())
	}
	_, err := c.once(ctx, func(_ context.Context, conn net.Conn) (bool, error) {
		if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return false, err
		}
		if _, err := conn.Write(append([]byte("VERSION\t1\t0\n"), line...)); err != nil {
			return false, err
		}
		return true, read(newLineReader(conn, maxUpstreamLine))
	})
	switch {
	case ctx.Err() != nil && err != nil:
		err = ctx.Err() // it closed the connection
	case errors.Is(err, proxy.ErrUnknownUser), err == nil:
		return err
	}
	return fmt.Errorf("%s: %w", c.address, err)
}

// nextAnswer returns the next line that is none of the greeting, without its
// number: all are of one request. idle bounds the wait for it; 0: nothing does.
func nextAnswer(in *lineReader, idle time.Duration) (verb, rest string, err error) {
	for range greetLines {
		line, tooLong, err := in.next(idle)
		switch {
		case err != nil:
			return "", "", err
		case tooLong:
			return "", "", errors.New("a line of the auth server is over the limit")
		}
		verb, id, rest := command(text(line))
		switch verb {
		case "SPID":
		case "VERSION":
			if id != "1" {
				return "", "", fmt.Errorf("version %.20q of the auth-master protocol, expected 1", id)
			}
		case "MECH":
			return "", "", errors.New("the socket is one for logins; expected one for userdb look-ups (auth-userdb)")
		default:
			return verb, rest, nil
		}
	}
	return "", "", errors.New("a greeting without an end")
}

// refused is an answer that is none.
func refused(verb, rest string) error {
	for field := range strings.SplitSeq(rest, "\t") {
		if reason, ok := strings.CutPrefix(field, "reason="); ok {
			return fmt.Errorf("the auth server says: %s", oneLine(unescape(reason)))
		}
	}
	if verb == "FAIL" || verb == "DONE" {
		return errors.New("the auth server has a temporary failure, or does not let usher ask")
	}
	return fmt.Errorf("an unexpected answer: %.20q", verb)
}
