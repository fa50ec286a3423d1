package capture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Datagram is one UDP payload.
type Datagram struct {
	Exporter netip.AddrPort // source; RawExporter for raw files
	Dest     netip.AddrPort // destination; zero for raw files
	Time     int64          // ns since the epoch: the capture's clock, or the export header's
	Payload  []byte         // the caller's to keep
}

// RawExporter stands for the unknown source of a raw file. It is one for all of
// them, so that a template in one file serves data in the next.
var RawExporter = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)

// Reader yields the datagrams of one file or directory. Errors name the file.
type Reader struct {
	paths   []string // still to be opened
	file    *os.File
	path    string
	packets packetSource
	link    layers.LinkType
	perPkt  bool // pcapng: each packet has its interface's link type
	raw     []Datagram
	frags   fragments
	skipped uint64
}

type packetSource interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
}

// Open opens a file, or a directory: then its files in the order of its
// ORDER.txt (one name a line) or, without one, by name. Sub-directories of a
// directory are not entered.
func Open(path string) (*Reader, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	r := &Reader{paths: []string{path}}
	if st.IsDir() {
		if r.paths, err = listDir(path); err != nil {
			return nil, err
		}
	}
	if err := r.advance(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return r, nil
}

func listDir(dir string) ([]string, error) {
	order, err := os.ReadFile(filepath.Join(dir, "ORDER.txt"))
	var paths []string
	switch {
	case err == nil:
		for line := range strings.Lines(string(order)) {
			if name := strings.TrimSpace(line); name != "" {
				if !filepath.IsLocal(name) {
					return nil, fmt.Errorf("%s: ORDER.txt names %q, which is outside the directory", dir, name)
				}
				paths = append(paths, filepath.Join(dir, name))
			}
		}
	case errors.Is(err, os.ErrNotExist):
		entries, err := os.ReadDir(dir) // sorted by name
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Type().IsRegular() {
				paths = append(paths, filepath.Join(dir, e.Name()))
			}
		}
	default:
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s: no files in this directory", dir)
	}
	if len(paths) > maxFiles {
		return nil, fmt.Errorf("%s: %d files, at most %d are read", dir, len(paths), maxFiles)
	}
	return paths, nil
}

// Close releases the file that is open.
func (r *Reader) Close() error {
	r.paths, r.raw, r.packets = nil, nil, nil
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

// Skipped is the number of packets so far that held no whole UDP datagram.
func (r *Reader) Skipped() uint64 { return r.skipped + uint64(r.frags.pending()) }

// Next returns the next datagram, or io.EOF after the last. An error of a
// damaged file comes after the datagrams before the damage.
func (r *Reader) Next() (Datagram, error) {
	for {
		if len(r.raw) > 0 {
			d := r.raw[0]
			r.raw = r.raw[1:]
			return d, nil
		}
		if r.packets == nil {
			if err := r.advance(); err != nil {
				return Datagram{}, err
			}
			continue
		}
		d, ok, err := r.nextPacket()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return Datagram{}, fmt.Errorf("%s: %w", r.path, err)
			}
			r.packets = nil
			continue
		}
		if ok {
			return d, nil
		}
		r.skipped++
	}
}

// advance opens the next file.
func (r *Reader) advance() error {
	if r.file != nil {
		_ = r.file.Close() // read only
		r.file = nil
	}
	if len(r.paths) == 0 {
		return io.EOF
	}
	r.path, r.paths = r.paths[0], r.paths[1:]
	f, err := os.Open(r.path)
	if err != nil {
		return err
	}
	r.file = f
	r.skipped += uint64(r.frags.pending())
	r.frags = fragments{}
	if err := r.sniff(bufio.NewReaderSize(f, 1<<16)); err != nil {
		return fmt.Errorf("%s: %w", r.path, err)
	}
	return nil
}

// sniff tells the formats apart by their first bytes, not by their names.
func (r *Reader) sniff(br *bufio.Reader) error {
	magic, _ := br.Peek(4)
	switch {
	case isPcap(magic):
		pr, err := pcapgo.NewReader(br)
		if err != nil {
			return fmt.Errorf("pcap header: %w", err)
		}
		if pr.Snaplen() == 0 || pr.Snaplen() > maxPacket {
			// Old tcpdump wrote 65535 or 262144; anything else is replaced so
			// that a packet header cannot ask for gigabytes.
			pr.SetSnaplen(maxPacket)
		}
		r.packets, r.link, r.perPkt = pr, pr.LinkType(), false
		return nil
	case bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}):
		src, err := newNgSource(br)
		if err != nil {
			return fmt.Errorf("pcapng header: %w", err)
		}
		r.packets, r.perPkt = src, true
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(br, maxRawFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxRawFile {
		return fmt.Errorf("raw file of over %d bytes: convert it to pcap", maxRawFile)
	}
	if len(b) == 0 {
		return errors.New("empty file")
	}
	r.packets = nil
	r.raw = splitRaw(b)
	return nil
}

func isPcap(magic []byte) bool {
	for _, m := range [][]byte{
		{0xd4, 0xc3, 0xb2, 0xa1}, {0xa1, 0xb2, 0xc3, 0xd4}, // microseconds
		{0x4d, 0x3c, 0xb2, 0xa1}, {0xa1, 0xb2, 0x3c, 0x4d}, // nanoseconds
	} {
		if slices.Equal(magic, m) {
			return true
		}
	}
	return false
}
