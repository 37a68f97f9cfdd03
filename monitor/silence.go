package monitor

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
)

// localErrnos are what the kernel says when this machine, or its network, can't
// do what was asked: no word of the backend.
var localErrnos = []syscall.Errno{
	syscall.ETIMEDOUT, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN,
	syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM, syscall.EACCES,
}

// isSilence reports whether a check failed without a word of the backend: by a
// timeout, by an error of the local network, or for want of a name server. One
// that refuses, resets or says something wrong has spoken for itself.
func isSilence(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return !dns.IsNotFound
	}
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && slices.Contains(localErrnos, errno)
}
