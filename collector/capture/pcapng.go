package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// ngSource reads the packets of a pcapng file (draft-ietf-opsawg-pcapng). It is
// our own because gopacket v1.4.0's reader passes lengths from the file to
// make() and lets block lengths run below zero; here a block is read whole,
// within a bound, and only then looked into.
type ngSource struct {
	br     *bufio.Reader
	order  binary.ByteOrder
	ifaces []ngIface
	buf    []byte
}

type ngIface struct {
	link    layers.LinkType
	snaplen uint32
	perSec  uint64 // ticks in a second where that is whole, else 0
	offset  int64  // s
}

// Block types.
const (
	ngSection   = 0x0a0d0d0a
	ngInterface = 1
	ngPacketOld = 2
	ngSimple    = 3
	ngEnhanced  = 6
)

// maxBlock bounds a block: the largest packet with room for options.
const maxBlock = maxPacket + 64<<10

// maxIfaces bounds the interfaces of a section.
const maxIfaces = 1024

var errNg = errors.New("damaged pcapng block")

func newNgSource(br *bufio.Reader) (*ngSource, error) {
	s := &ngSource{br: br, order: binary.LittleEndian}
	typ, _, err := s.block()
	if err != nil {
		return nil, err
	}
	if typ != ngSection {
		return nil, errNg
	}
	return s, nil
}

// block reads the next block and returns its type and body. Blocks that are not
// packets and over the bound are skipped.
func (s *ngSource) block() (uint32, []byte, error) {
	var head [12]byte
	if _, err := io.ReadFull(s.br, head[:8]); err != nil {
		return 0, nil, err
	}
	typ := binary.LittleEndian.Uint32(head[:]) // the section's type reads the same both ways
	if typ == ngSection {
		magic, err := s.br.Peek(4)
		if err != nil {
			return 0, nil, unexpected(err)
		}
		switch {
		case binary.LittleEndian.Uint32(magic) == 0x1a2b3c4d:
			s.order = binary.LittleEndian
		case binary.BigEndian.Uint32(magic) == 0x1a2b3c4d:
			s.order = binary.BigEndian
		default:
			return 0, nil, fmt.Errorf("%w: no byte order magic", errNg)
		}
		s.ifaces = nil
	} else {
		typ = s.order.Uint32(head[:])
	}
	length := s.order.Uint32(head[4:])
	if length < 12 || length%4 != 0 {
		return 0, nil, fmt.Errorf("%w: length %d", errNg, length)
	}
	n := int64(length) - 8 // body and the trailing length
	if n > maxBlock {
		if typ == ngEnhanced || typ == ngSimple || typ == ngPacketOld {
			return 0, nil, fmt.Errorf("%w: packet block of %d bytes", errNg, length)
		}
		_, err := io.CopyN(io.Discard, s.br, n)
		return typ, nil, unexpected(err)
	}
	if int64(cap(s.buf)) < n {
		s.buf = make([]byte, n)
	}
	b := s.buf[:n]
	if _, err := io.ReadFull(s.br, b); err != nil {
		return 0, nil, unexpected(err)
	}
	return typ, b[:n-4], nil
}

// unexpected: the end of the file within a block is damage, not the end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadPacketData returns the next packet; its interface's link type is in the
// first entry of AncillaryData.
func (s *ngSource) ReadPacketData() ([]byte, gopacket.CaptureInfo, error) {
	for {
		typ, b, err := s.block()
		if err != nil {
			return nil, gopacket.CaptureInfo{}, err
		}
		switch typ {
		case ngInterface:
			err = s.addInterface(b)
		case ngEnhanced:
			if len(b) < 20 {
				err = errNg
				break
			}
			return s.packet(s.order.Uint32(b), s.ticks(b[4:]), s.order.Uint32(b[12:]), s.order.Uint32(b[16:]), b[20:])
		case ngPacketOld:
			if len(b) < 20 {
				err = errNg
				break
			}
			return s.packet(uint32(s.order.Uint16(b)), s.ticks(b[4:]), s.order.Uint32(b[12:]), s.order.Uint32(b[16:]), b[20:])
		case ngSimple: // no time, first interface
			if len(b) < 4 || len(s.ifaces) == 0 {
				err = errNg
				break
			}
			n := s.order.Uint32(b)
			captured := min(n, uint32(len(b)-4))
			if snap := s.ifaces[0].snaplen; snap > 0 {
				captured = min(captured, snap)
			}
			return s.packet(0, 0, captured, n, b[4:])
		}
		if err != nil {
			return nil, gopacket.CaptureInfo{}, err
		}
	}
}

// ticks reads a time stamp: the upper 32 bits come first in either byte order.
func (s *ngSource) ticks(b []byte) uint64 {
	return uint64(s.order.Uint32(b))<<32 | uint64(s.order.Uint32(b[4:]))
}

func (s *ngSource) packet(iface uint32, ticks uint64, captured, length uint32, data []byte) ([]byte, gopacket.CaptureInfo, error) {
	if uint64(iface) >= uint64(len(s.ifaces)) || uint64(captured) > uint64(len(data)) {
		return nil, gopacket.CaptureInfo{}, fmt.Errorf("%w: packet of interface %d, %d bytes", errNg, iface, captured)
	}
	i := &s.ifaces[iface]
	out := make([]byte, captured)
	copy(out, data)
	return out, gopacket.CaptureInfo{
		Timestamp:      i.time(ticks),
		CaptureLength:  int(captured),
		Length:         int(length),
		InterfaceIndex: int(iface),
		AncillaryData:  []any{i.link},
	}, nil
}

func (i *ngIface) time(ticks uint64) time.Time {
	if i.perSec > 0 {
		sec, rest := ticks/i.perSec, ticks%i.perSec
		if sec > math.MaxInt32*4 {
			return time.Unix(0, 0)
		}
		return time.Unix(int64(sec)+i.offset, int64(float64(rest)*1e9/float64(i.perSec)))
	}
	return time.Unix(i.offset, 0)
}

// addInterface reads an interface description block: link type, snap length and
// the options that say how time is counted.
func (s *ngSource) addInterface(b []byte) error {
	if len(b) < 8 || len(s.ifaces) >= maxIfaces {
		return errNg
	}
	i := ngIface{link: layers.LinkType(s.order.Uint16(b)), snaplen: s.order.Uint32(b[4:]), perSec: 1e6}
	for b = b[8:]; len(b) >= 4; {
		code, n := s.order.Uint16(b), int(s.order.Uint16(b[2:]))
		padded := (n + 3) &^ 3
		if code == 0 || len(b)-4 < padded {
			break
		}
		v := b[4 : 4+n]
		b = b[4+padded:]
		switch {
		case code == 9 && n == 1: // if_tsresol: powers of 10, or of 2 with the top bit set
			i.perSec = resolution(v[0])
		case code == 14 && n == 8: // if_tsoffset
			if off := int64(s.order.Uint64(v)); off > -1<<40 && off < 1<<40 {
				i.offset = off
			}
		}
	}
	s.ifaces = append(s.ifaces, i)
	return nil
}

func resolution(r byte) uint64 {
	if r&0x80 != 0 {
		if r&0x7f > 62 {
			return 0
		}
		return 1 << (r & 0x7f)
	}
	if r > 18 {
		return 0
	}
	n := uint64(1)
	for range r {
		n *= 10
	}
	return n
}
