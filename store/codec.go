package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// A spool file is a sequence of frames, one for each Write:
//
//	magic "FCS1" | payload length uint32 | CRC-32C of the payload uint32 | payload
//
// all little endian. A payload is, for each table that has rows, the table's id
// (one byte), the number of rows (uvarint) and the columns in the order of the
// schema. The digit in the magic is the version of all this, schema included.
const frameMagic = "FCS1"

const frameHeader = len(frameMagic) + 8

var crcTable = crc32.MakeTable(crc32.Castagnoli)

var (
	// errTorn: the last frame is incomplete, as a crash in the middle of a
	// Write leaves it. That Write was never acknowledged.
	errTorn    = errors.New("spool frame is incomplete")
	errCorrupt = errors.New("spool frame is damaged")
)

// appendFrame appends b as one frame.
func appendFrame(buf []byte, b *flow.Batch) []byte {
	at := len(buf)
	buf = append(buf, frameMagic+"\x00\x00\x00\x00\x00\x00\x00\x00"...)
	buf = hostTable.put(buf, b.Hosts)
	buf = serviceTable.put(buf, b.Services)
	buf = pairTable.put(buf, b.Pairs)
	buf = flowTable.put(buf, b.Flows)
	payload := buf[at+frameHeader:]
	binary.LittleEndian.PutUint32(buf[at+4:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(buf[at+8:], crc32.Checksum(payload, crcTable))
	return buf
}

// nextFrame returns the payload of the first frame of buf and what follows.
func nextFrame(buf []byte) (payload, rest []byte, err error) {
	if len(buf) < frameHeader {
		return nil, nil, errTorn
	}
	if string(buf[:len(frameMagic)]) != frameMagic {
		return nil, nil, fmt.Errorf("%w: magic %q, want %q", errCorrupt, buf[:len(frameMagic)], frameMagic)
	}
	n := int(binary.LittleEndian.Uint32(buf[4:]))
	if n > len(buf)-frameHeader {
		return nil, nil, errTorn
	}
	payload = buf[frameHeader : frameHeader+n]
	if crc32.Checksum(payload, crcTable) != binary.LittleEndian.Uint32(buf[8:]) {
		return nil, nil, fmt.Errorf("%w: checksum", errCorrupt)
	}
	return payload, buf[frameHeader+n:], nil
}

// decodeFrames appends the rows of every frame of buf to b.
func decodeFrames(buf []byte, b *flow.Batch) error {
	for len(buf) > 0 {
		payload, rest, err := nextFrame(buf)
		if err != nil {
			return err
		}
		if err := decodePayload(payload, b); err != nil {
			return err
		}
		buf = rest
	}
	return nil
}

func decodePayload(p []byte, b *flow.Batch) error {
	d := &decoder{b: p}
	for len(d.b) > 0 && d.err == nil {
		switch id := d.take(1)[0]; id {
		case hostTable.id:
			b.Hosts = hostTable.get(d, b.Hosts)
		case serviceTable.id:
			b.Services = serviceTable.get(d, b.Services)
		case pairTable.id:
			b.Pairs = pairTable.get(d, b.Pairs)
		case flowTable.id:
			b.Flows = flowTable.get(d, b.Flows)
		default:
			return fmt.Errorf("%w: unknown table %d", errCorrupt, id)
		}
	}
	return d.err
}

func (t *table[T]) put(buf []byte, rows []T) []byte {
	if len(rows) == 0 {
		return buf
	}
	buf = append(buf, t.id)
	buf = binary.AppendUvarint(buf, uint64(len(rows)))
	for _, c := range t.cols {
		buf = c.put(buf, rows)
	}
	return buf
}

// get appends the rows to dst; d.err says whether they are whole.
func (t *table[T]) get(d *decoder, dst []T) []T {
	n := d.count(len(t.cols)) // every column takes at least a byte a row
	at := len(dst)
	dst = append(dst, make([]T, n)...)
	for _, c := range t.cols {
		c.get(d, dst[at:])
		if d.err != nil {
			return dst[:at]
		}
	}
	return dst
}

// decoder reads a payload. After the first error it returns zeros only.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(why string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errCorrupt, why)
	}
	d.b = nil
}

var zeros [16]byte

// take returns the next n ≤ 16 bytes, zeros after an error.
func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.fail("ends early")
		return zeros[:n]
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) uint64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

// uvarint reads a number of at most max.
func (d *decoder) uvarint(max uint64) uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 && uint64(d.b[0]) <= max { // most are small
		v := uint64(d.b[0])
		d.b = d.b[1:]
		return v
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > max {
		d.fail("number out of range")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many elements of at least size bytes follow, and checks it
// against what is left before anybody allocates.
func (d *decoder) count(size int) int {
	n := d.uvarint(1 << 40)
	if n > uint64(len(d.b)/size) {
		d.fail("count exceeds what follows")
		return 0
	}
	return int(n)
}

func (d *decoder) addr() netip.Addr {
	switch n := d.take(1)[0]; n {
	case 0:
		return netip.Addr{}
	case 4, 16:
		a, _ := netip.AddrFromSlice(d.take(int(n)))
		return a
	default:
		d.fail("address length")
		return netip.Addr{}
	}
}
