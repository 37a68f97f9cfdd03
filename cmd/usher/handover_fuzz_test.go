package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzAdopt: any bytes, with any number of descriptors that are sockets or not,
// are connections or an error, and no descriptor stays open.
func FuzzAdopt(f *testing.F) {
	frame := func(size uint32, count byte, state string) []byte {
		return append(append(binary.BigEndian.AppendUint32([]byte(handoverMagic), size), count), state...)
	}
	f.Add(frame(5, 1, "state"), byte(1), false)
	f.Add(frame(5, 2, "state"), byte(1), false)
	f.Add(frame(5, 1, "state"), byte(2), true)
	f.Add(frame(1<<31, 1, "state"), byte(8), false)
	f.Add(frame(0, 0, ""), byte(0), false)
	f.Add([]byte(handoverMagic[:5]), byte(1), true)
	null, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { null.Close() })
	f.Fuzz(func(t *testing.T, in []byte, n byte, other bool) {
		server, client := clients(t, 2)
		fds := make([]int, 0, n%12)
		sent, err := duplicate(server[0])
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(n % 12) {
			if other && i%2 == 1 {
				fds = append(fds, int(null.Fd()))
			} else {
				fds = append(fds, sent)
			}
		}
		u := server[1].(*net.UnixConn)
		if len(in) > 0 {
			if _, _, err := u.WriteMsgUnix(in, unix.UnixRights(fds...), nil); err != nil {
				t.Skip(err)
			}
		}
		u.Close()
		unix.Close(sent)
		server[0].Close()
		conns, err := adopt(client[1].(*net.UnixConn))
		if err == nil && len(conns) > 0 && len(fds) == 0 {
			t.Errorf("%d connections of no descriptor", len(conns))
		}
		for _, c := range conns {
			a := c.(*adopted)
			for _, m := range a.more {
				m.Close()
			}
			c.Close()
		}
		// All copies are closed: the other end tells.
		if err := client[0].SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := client[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the other end reads %v, want its end", err)
		}
	})
}
