package affinity

import (
	"bufio"
	"errors"
	"os"
)

// syncStep is how many bytes of a snapshot are written before the disk is waited
// for, so that what others write doesn't wait for all of it.
const syncStep = 16 << 20

// A blockFile is a file of assignments that is being written.
type blockFile struct {
	f     *os.File
	w     *bufio.Writer
	size  int64
	hosts int // that it defines
	tags  int
}

// createBlocks makes a file that is not there, for this user only.
func createBlocks(path string, h head) (*blockFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	b := &blockFile{f: f, w: bufio.NewWriterSize(f, 256<<10), size: headLen}
	if _, err := b.w.Write(h.bytes()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

// block writes a block: room for its head, then records.
func (b *blockFile) block(block []byte) error {
	sealBlock(block)
	b.size += int64(len(block))
	_, err := b.w.Write(block)
	return err
}

// define writes the hosts and tags that are new.
func (b *blockFile) define(m *Memory) error {
	define := func(op byte, all []interned, done *int) error {
		for ; *done < len(all); *done++ {
			block := append(make([]byte, blockHead, 64), op)
			if err := b.block(appendName(block, all[*done].name)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := define(opHost, m.hosts.all(), &b.hosts); err != nil {
		return err
	}
	return define(opTag, m.tags.all(), &b.tags)
}

// sync waits for the disk.
func (b *blockFile) sync() error {
	if err := b.w.Flush(); err != nil {
		return err
	}
	return b.f.Sync()
}

// close closes the file, and waits for the disk before if sync is true.
func (b *blockFile) close(sync bool) error {
	err := b.w.Flush()
	if err == nil && sync {
		err = b.f.Sync()
	}
	return errors.Join(err, b.f.Close())
}
