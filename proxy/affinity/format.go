package affinity

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A file of assignments, snapshot or journal, is a head and blocks:
//
//	head   magic (8 bytes), version (32 bits), process (64), base (64), CRC-32C
//	       of these (32); the low byte first
//	block  length of the records (32 bits), their CRC-32C (32), records
//
// process is a random number of the process that wrote the file. base is the
// time, in milliseconds since 1970, at which its seconds began to count; records
// give expiry in these seconds. Of several files of one process the base of the
// last one holds: the clock may have been set meanwhile.
const (
	magic   = "USHERAFF"
	version = 1
	headLen = 32

	// maxBlock bounds the records of a block that is read, in bytes.
	maxBlock = 64 << 10
	// maxDefined bounds the hosts and the tags of one file.
	maxDefined = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A head begins a file.
type head struct {
	process uint64
	base    int64 // Unix milliseconds
}

func (h head) bytes() []byte {
	b := append(make([]byte, 0, headLen), magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, h.process)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.base))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// sealBlock fills in what stands before the records of a block.
func sealBlock(b []byte) {
	binary.LittleEndian.PutUint32(b, uint32(len(b)-blockHead))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[blockHead:], castagnoli))
}

// errTorn means that a file ends within its head or within a block, as one does
// whose process was killed.
var errTorn = errors.New("ends in the middle")

// readHead reads a file's head. It returns errTorn, what is wrong with the head,
// or the reader's error.
func readHead(r io.Reader) (head, error) {
	var b [headLen]byte
	if err := readFull(r, b[:]); err != nil {
		return head{}, err
	}
	switch v := binary.LittleEndian.Uint32(b[8:]); {
	case string(b[:8]) != magic:
		return head{}, errors.New("is no file of assignments")
	case v != version:
		return head{}, fmt.Errorf("has version %d; expected %d", v, version)
	case binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli):
		return head{}, errors.New("its head has a wrong checksum")
	}
	h := head{binary.LittleEndian.Uint64(b[12:]), int64(binary.LittleEndian.Uint64(b[20:]))}
	if h.base < 0 || h.base > maxBase {
		return head{}, errors.New("its head has an impossible time")
	}
	return h, nil
}

// maxBase is the year 10000, in milliseconds.
const maxBase = 253402300800000

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errTorn
	}
	return err
}

// A recordHandler takes what a file says. Tags and hosts are numbers of the file;
// names are good during the call only.
type recordHandler interface {
	host(name string)
	tag(name string)
	put(fresh bool, tag, host, expires uint32, name []byte)
	drop(tag, expires uint32, name []byte)
	user(tag uint32, name, user []byte)
	size(count uint32)
}

// readBlocks reads what follows the head. ended is true where it was an opEnd. It
// returns the offset, from the first block, of the block that is wrong, and
// errTorn, what is wrong, or the reader's error. All blocks before were handled,
// and of that one none or some records.
func readBlocks(r *bufio.Reader, to recordHandler) (ended bool, at int64, err error) {
	d := decoder{to: to}
	var buf []byte
	for !d.ended {
		var h [blockHead]byte
		if _, err := r.Peek(1); errors.Is(err, io.EOF) {
			return false, at, nil
		}
		if err := readFull(r, h[:]); err != nil {
			return false, at, err
		}
		n := int(binary.LittleEndian.Uint32(h[:]))
		if n == 0 || n > maxBlock {
			return false, at, fmt.Errorf("a block of %d bytes", n)
		}
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if err := readFull(r, buf); err != nil {
			return false, at, err
		}
		if binary.LittleEndian.Uint32(h[4:]) != crc32.Checksum(buf, castagnoli) {
			return false, at, errors.New("wrong checksum")
		}
		if err := d.block(buf); err != nil {
			return false, at, err
		}
		at += blockHead + int64(n)
	}
	if _, err := r.Peek(1); !errors.Is(err, io.EOF) {
		return true, at, errors.Join(errors.New("something follows its end"), err)
	}
	return true, at, nil
}

// A decoder reads the records of one file.
type decoder struct {
	to    recordHandler
	hosts uint32 // defined
	tags  uint32
	puts  uint64
	ended bool

	b   []byte // what is left of the block
	bad bool   // something was not there
}

var errRecord = errors.New("a record is wrong")

func (d *decoder) block(b []byte) error {
	for d.b = b; len(d.b) > 0 && !d.bad; {
		op := d.b[0]
		d.b = d.b[1:]
		switch op {
		case opHost:
			d.define(&d.hosts, d.to.host)
		case opTag:
			d.define(&d.tags, d.to.tag)
		case opNew, opPut:
			tag, host, expires, name := d.below(d.tags), d.below(d.hosts), d.number(), d.name()
			if !d.bad {
				d.puts++
				d.to.put(op == opNew, tag, host, expires, name)
			}
		case opDrop:
			if tag, expires, name := d.below(d.tags), d.number(), d.name(); !d.bad {
				d.to.drop(tag, expires, name)
			}
		case opUser:
			if tag, name, user := d.below(d.tags), d.name(), d.name(); !d.bad {
				d.to.user(tag, name, user)
			}
		case opSize:
			if n := d.number(); !d.bad {
				d.to.size(n)
			}
		case opEnd:
			n, size := binary.Uvarint(d.b)
			if size != len(d.b) || n != d.puts {
				return errors.New("its end doesn't fit what was before")
			}
			d.ended = true
			return nil
		default:
			d.bad = true
		}
	}
	if d.bad {
		return errRecord
	}
	return nil
}

func (d *decoder) define(count *uint32, to func(string)) {
	name := d.name()
	if d.bad = d.bad || *count == maxDefined; !d.bad {
		*count++
		to(string(name))
	}
}

func (d *decoder) number() uint32 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 || n > 1<<32-1 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[size:]
	return uint32(n)
}

// below reads the number of something of which so many are defined.
func (d *decoder) below(defined uint32) uint32 {
	n := d.number()
	d.bad = d.bad || n >= defined
	return n
}

func (d *decoder) name() []byte {
	n := d.number()
	if d.bad || n > maxName || int(n) > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	name := d.b[:n]
	d.b = d.b[n:]
	return name
}
