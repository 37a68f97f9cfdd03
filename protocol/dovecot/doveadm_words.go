package dovecot

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"usher/proxy"
	"usher/proxy/moves"
)

// passing is an error that another try may not meet.
type passing struct{ words string }

// Error returns the words.
func (e *passing) Error() string { return e.words }

// Unwrap returns moves.ErrAgain.
func (e *passing) Unwrap() error { return moves.ErrAgain }

// explain puts an error into words for an operator, in one line, without a secret,
// that name the server and what was to be done.
func (d *Doveadm) explain(ctx context.Context, what string, err error) error {
	words := err.Error()
	var u *url.Error
	end, ends := ctx.Deadline()
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		words = "it was given up"
	case ends && !time.Now().Before(end):
		words = "no answer before the time was over"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		words = fmt.Sprintf("no answer in %s", d.timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		words = "the server closed the connection"
	case errors.As(err, &u):
		words = u.Err.Error()
	}
	words = strings.ReplaceAll(words, "\n", "; ") // of errors.Join
	words = fmt.Sprintf("doveadm %s: %s: %s", d.name, what, oneLine(d.hide(words)))
	if errors.Is(err, moves.ErrAgain) {
		return &passing{words}
	}
	return errors.New(words)
}

// hide takes secrets out of what may be the server's own words.
func (d *Doveadm) hide(s string) string {
	for _, secret := range d.secrets {
		if secret.IsEmpty() {
			continue
		}
		plain := secret.Reveal()
		for _, sent := range []string{"\x00doveadm\x00", "doveadm:", ""} {
			s = strings.ReplaceAll(s, base64.StdEncoding.EncodeToString([]byte(sent+plain)), proxy.Redacted)
		}
		s = strings.ReplaceAll(s, plain, proxy.Redacted)
	}
	return s
}
