package affinity

import "encoding/binary"

// What a record says. Numbers are uvarints, names stand after their length. Tags
// and hosts have the number of their opTag or opHost in the file, from 0.
const (
	opHost byte = 1 + iota // name
	opTag                  // name
	opNew                  // tag, host, expires, name: an assignment begins
	opPut                  // the same: one is prolonged or moved
	opDrop                 // tag, expires, name: one is forgotten
	opUser                 // tag, name, user: Remember
	opEnd                  // how many opNew and opPut were before: a snapshot is whole
	opSize                 // about how many will come
)

// blockHead is the length of what stands before the records of a block: their
// length and their CRC-32C, 32 bits each, low byte first.
const blockHead = 8

func appendName(b []byte, name string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(name))), name...)
}

func appendPut(b []byte, op byte, tag, host, expires uint32, name string) []byte {
	b = binary.AppendUvarint(append(b, op), uint64(tag))
	b = binary.AppendUvarint(b, uint64(host))
	b = binary.AppendUvarint(b, uint64(expires))
	return appendName(b, name)
}

func appendDrop(b []byte, tag, expires uint32, name string) []byte {
	b = binary.AppendUvarint(append(b, opDrop), uint64(tag))
	b = binary.AppendUvarint(b, uint64(expires))
	return appendName(b, name)
}

func appendUser(b []byte, tag uint32, name, user string) []byte {
	b = binary.AppendUvarint(append(b, opUser), uint64(tag))
	return appendName(appendName(b, name), user)
}
