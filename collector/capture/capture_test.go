package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

var cmpOpts = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

var (
	src    = netip.MustParseAddrPort("192.0.2.9:40000")
	dst    = netip.MustParseAddrPort("192.0.2.1:2055")
	src6   = netip.MustParseAddrPort("[2001:db8::9]:40000")
	dst6   = netip.MustParseAddrPort("[2001:db8::1]:2055")
	stamp  = time.Date(2026, 11, 22, 7, 0, 0, 123456000, time.UTC)
	hello  = []byte("hello, collector")
	be     = binary.BigEndian
	ethTop = make([]byte, 12)
)

func udp(payload []byte) []byte {
	b := be.AppendUint16(nil, src.Port())
	b = be.AppendUint16(b, dst.Port())
	b = be.AppendUint16(b, uint16(8+len(payload)))
	return append(be.AppendUint16(b, 0), payload...)
}

func ip4(frag uint16, payload []byte) []byte {
	b := []byte{0x45, 0}
	b = be.AppendUint16(b, uint16(20+len(payload)))
	b = be.AppendUint16(b, 77)
	b = be.AppendUint16(b, frag)
	b = append(b, 64, 17, 0, 0)
	b = append(append(b, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	return append(b, payload...)
}

func ip6(next byte, payload []byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = be.AppendUint16(b, uint16(len(payload)))
	b = append(b, next, 64)
	b = append(append(b, src6.Addr().AsSlice()...), dst6.Addr().AsSlice()...)
	return append(b, payload...)
}

func eth(typ uint16, b []byte) []byte {
	return append(be.AppendUint16(append([]byte{}, ethTop...), typ), b...)
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pcapFile(t testing.TB, link layers.LinkType, packets ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: stamp, CaptureLength: len(p), Length: len(p)}, p); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func ngFile(t testing.TB, link layers.LinkType, packets ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, link)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: stamp, CaptureLength: len(p), Length: len(p)}, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(t testing.TB, path string) ([]Datagram, error) {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var out []Datagram
	for {
		d, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, d)
	}
}

func TestPackets(t *testing.T) {
	whole := udp(hello)
	want := []Datagram{{Exporter: src, Dest: dst, Time: stamp.UnixNano(), Payload: hello}}
	want6 := []Datagram{{Exporter: src6, Dest: dst6, Time: stamp.UnixNano(), Payload: hello}}
	fragHead := func(next byte, off uint16) []byte {
		return append([]byte{next, 0}, be.AppendUint32(be.AppendUint16(nil, off), 5)...)
	}
	tests := []struct {
		name    string
		link    layers.LinkType
		packets [][]byte
		want    []Datagram
	}{
		{"Ethernet", layers.LinkTypeEthernet, [][]byte{eth(0x0800, ip4(0, whole))}, want},
		{"Ethernet padding after the packet", layers.LinkTypeEthernet, [][]byte{append(eth(0x0800, ip4(0, whole)), 0, 0, 0)}, want},
		{"VLAN in VLAN", layers.LinkTypeEthernet, [][]byte{eth(0x88a8, append([]byte{0, 5, 0x81, 0, 0, 6, 8, 0}, ip4(0, whole)...))}, want},
		{"IPv6", layers.LinkTypeEthernet, [][]byte{eth(0x86dd, ip6(17, whole))}, want6},
		{"IPv6, destination options", layers.LinkTypeEthernet, [][]byte{eth(0x86dd, ip6(60, append([]byte{17, 0, 0, 0, 0, 0, 0, 0}, whole...)))}, want6},
		{"Linux cooked", layers.LinkTypeLinuxSLL, [][]byte{append(append(make([]byte, 14), 8, 0), ip4(0, whole)...)}, want},
		{"Linux cooked v2", linkLinuxSLL2, [][]byte{append(append([]byte{8, 0}, make([]byte, 18)...), ip4(0, whole)...)}, want},
		{"raw IP", layers.LinkTypeRaw, [][]byte{ip4(0, whole)}, want},
		{"loopback", layers.LinkTypeNull, [][]byte{append([]byte{2, 0, 0, 0}, ip4(0, whole)...)}, want},
		{"fragments in order", layers.LinkTypeRaw, [][]byte{ip4(0x2000, whole[:16]), ip4(2, whole[16:])}, want},
		{"fragments in reverse", layers.LinkTypeRaw, [][]byte{ip4(2, whole[16:]), ip4(0x2000, whole[:16])}, want},
		{"a fragment twice", layers.LinkTypeRaw, [][]byte{ip4(0x2000, whole[:16]), ip4(0x2000, whole[:16]), ip4(2, whole[16:])}, want},
		{"overlapping fragments are nobody's", layers.LinkTypeRaw, [][]byte{ip4(0x2000, whole[:16]), ip4(1, whole[8:])}, nil},
		{"a fragment alone", layers.LinkTypeRaw, [][]byte{ip4(0x2000, whole[:16])}, nil},
		{"IPv6 fragments", layers.LinkTypeRaw, [][]byte{
			ip6(44, append(fragHead(17, 1), whole[:16]...)), ip6(44, append(fragHead(17, 16), whole[16:]...))}, want6},
		{"TCP", layers.LinkTypeRaw, [][]byte{func() []byte { b := ip4(0, whole); b[9] = 6; return b }()}, nil},
		{"cut by the snap length", layers.LinkTypeRaw, [][]byte{ip4(0, whole)[:40]}, nil},
		{"ARP", layers.LinkTypeEthernet, [][]byte{eth(0x0806, make([]byte, 28))}, nil},
		{"no header at all", layers.LinkTypeEthernet, [][]byte{{1, 2, 3}}, nil},
	}
	for _, tt := range tests {
		for format, file := range map[string]func(testing.TB, layers.LinkType, ...[]byte) []byte{"pcap": pcapFile, "pcapng": ngFile} {
			t.Run(tt.name+"/"+format, func(t *testing.T) {
				got, err := readAll(t, write(t, "x", file(t, tt.link, tt.packets...)))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got, cmpOpts); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func v5(records int, sec uint32) []byte {
	b := be.AppendUint16([]byte{0, 5}, uint16(records))
	b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, 1000), sec), 500)
	return append(b, make([]byte, 8+48*records)...)
}

func TestRaw(t *testing.T) {
	ipfix := be.AppendUint32([]byte{0, 10, 0, 16}, 300)
	ipfix = append(ipfix, make([]byte, 8)...)
	nine := be.AppendUint32([]byte{0, 9, 0, 1, 0, 0, 0, 1}, 400)
	nine = append(nine, make([]byte, 8)...)
	sflow := []byte{0, 0, 0, 5, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 4, 0, 0, 0, 0, 0}
	dg := func(sec, ns int64, b []byte) Datagram {
		return Datagram{Exporter: RawExporter, Time: sec*1e9 + ns, Payload: b}
	}
	cat := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	tests := []struct {
		name string
		in   []byte
		want []Datagram
	}{
		{"one v5", v5(2, 100), []Datagram{dg(100, 500, v5(2, 100))}},
		{"three v5", cat(v5(2, 100), v5(1, 101), v5(3, 102)), []Datagram{dg(100, 500, v5(2, 100)), dg(101, 500, v5(1, 101)), dg(102, 500, v5(3, 102))}},
		{"v5 with bytes after it that are no header", cat(v5(1, 100), []byte("trailing bytes that are no header")), []Datagram{dg(100, 500, cat(v5(1, 100), []byte("trailing bytes that are no header")))}},
		{"v5 whose follower does not fit", cat(v5(1, 100), v5(9, 100)[:60]), []Datagram{dg(100, 500, cat(v5(1, 100), v5(9, 100)[:60]))}},
		{"v5 with an impossible count", func() []byte { b := v5(1, 100); b[2] = 255; return b }(), []Datagram{dg(100, 500, func() []byte { b := v5(1, 100); b[2] = 255; return b }())}},
		{"IPFIX messages", cat(ipfix, ipfix), []Datagram{dg(300, 0, ipfix), dg(300, 0, ipfix)}},
		{"v9 is never cut", cat(nine, nine), []Datagram{dg(400, 0, cat(nine, nine))}},
		{"sFlow is timed by uptime", sflow, []Datagram{dg(0, 1024*1e6, sflow)}},
		{"garbage", []byte("x"), []Datagram{dg(0, 0, []byte("x"))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readAll(t, write(t, "x.dat", tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpOpts); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, b := range map[string]string{"a.dat": "first", "b.dat": "second"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "expected"), 0o700); err != nil {
		t.Fatal(err)
	}
	payloads := func() string {
		t.Helper()
		ds, err := readAll(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, d := range ds {
			s = append(s, string(d.Payload))
		}
		return strings.Join(s, " ")
	}
	if got := payloads(); got != "first second" {
		t.Errorf("by name: %q", got)
	}
	order := func(s string) {
		if err := os.WriteFile(filepath.Join(dir, "ORDER.txt"), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	order("b.dat\na.dat\n\nb.dat\n")
	if got := payloads(); got != "second first second" {
		t.Errorf("by ORDER.txt: %q", got)
	}
	order("../../etc/passwd\n")
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("ORDER.txt that leads outside: %v", err)
	}
}

func TestErrors(t *testing.T) {
	good := pcapFile(t, layers.LinkTypeRaw, ip4(0, udp(hello)), ip4(0, udp(hello)))
	ng := ngFile(t, layers.LinkTypeRaw, ip4(0, udp(hello)))
	tests := []struct {
		name string
		in   []byte
		n    int // datagrams before the error
	}{
		{"empty", nil, 0},
		{"pcap header cut", good[:20], 0},
		{"pcap cut in the second packet", good[:len(good)-5], 1},
		{"pcapng cut", ng[:len(ng)-5], 0},
		{"pcapng with a block of no length", append(bytes.Clone(ng), 6, 0, 0, 0, 0, 0, 0, 0), 1},
		{"pcapng packet block of 4 GB", append(bytes.Clone(ng), 6, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, "x", tt.in)
			got, err := readAll(t, path)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not name the file: %v", err)
			}
			if len(got) != tt.n {
				t.Errorf("%d datagrams before it, want %d", len(got), tt.n)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

// FuzzCapture: any file is read to an end or an error, within bounds of memory
// and time, and never gives the same bytes twice over.
func FuzzCapture(f *testing.F) {
	f.Add(pcapFile(f, layers.LinkTypeEthernet, eth(0x0800, ip4(0, udp(hello)))))
	f.Add(pcapFile(f, layers.LinkTypeRaw, ip4(0x2000, udp(hello)[:16]), ip4(2, udp(hello)[16:])))
	f.Add(ngFile(f, layers.LinkTypeEthernet, eth(0x86dd, ip6(17, udp(hello)))))
	f.Add(append(v5(1, 1), v5(2, 2)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		ds, _ := readAll(t, path)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		total := 0
		for _, d := range ds {
			total += len(d.Payload)
		}
		if total > len(b) {
			t.Errorf("%d bytes of payload from %d", total, len(b))
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > uint64(2<<20+64*len(b)) {
			t.Errorf("%d bytes allocated for a file of %d", used, len(b))
		}
		if took > 20*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
