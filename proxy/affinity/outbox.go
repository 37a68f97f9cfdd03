package affinity

import (
	"encoding/binary"
	"sync/atomic"
)

const (
	chunkSize  = 8 << 10  // bytes of records that a shard gathers in one piece
	maxPending = 64 << 20 // bytes of records of all shards that wait to be written
)

// A pending counts what waits in the outboxes of all shards.
type pending struct {
	most  int64 // bytes
	bytes atomic.Int64
	lost  atomic.Bool // an outbox had no room: what it held, and holds no more, is missing
}

// An outbox gathers what changes in a shard until it is written to a journal. The
// shard's lock guards it.
type outbox struct {
	to    *pending // nil: nobody wants it
	chunk []byte   // being filled: room for a block's head, then records
	full  [][]byte // chunks, in order
}

// start begins to gather.
func (o *outbox) start(to *pending) { *o = outbox{to: to} }

// room makes place for a record of n bytes, if it is to be gathered.
func (o *outbox) room(n int) bool {
	if o.to == nil {
		return false
	}
	if cap(o.chunk)-len(o.chunk) >= n {
		return true
	}
	size := max(chunkSize, blockHead+n)
	if o.to.bytes.Add(int64(size)) > o.to.most {
		o.to.lost.Store(true)
		o.start(nil)
		return false
	}
	if len(o.chunk) > 0 {
		o.full = append(o.full, o.chunk)
	}
	o.chunk = make([]byte, blockHead, size)
	return true
}

func (o *outbox) put(op byte, tag, host, expires uint32, name string) {
	if o.room(1 + 4*binary.MaxVarintLen32 + len(name)) {
		o.chunk = appendPut(o.chunk, op, tag, host, expires, name)
	}
}

func (o *outbox) drop(tag, expires uint32, name string) {
	if o.room(1 + 3*binary.MaxVarintLen32 + len(name)) {
		o.chunk = appendDrop(o.chunk, tag, expires, name)
	}
}

func (o *outbox) user(tag uint32, name, user string) {
	if o.room(1 + 3*binary.MaxVarintLen32 + len(name) + len(user)) {
		o.chunk = appendUser(o.chunk, tag, name, user)
	}
}

// take returns the full chunks and adds the records of the one that is being
// filled to part.
func (o *outbox) take(part []byte) (full [][]byte, _ []byte) {
	if len(o.chunk) > blockHead {
		part = append(part, o.chunk...)
		o.chunk = o.chunk[:blockHead]
	}
	full, o.full = o.full, nil
	return full, part
}
