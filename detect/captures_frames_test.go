package detect

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// frame is one Ethernet frame of a capture.
type frame struct {
	at   time.Time
	data []byte
	size int // on the wire
}

// readFrames reads a capture, or makes frames of a log of connections. The times
// are moved so that the first frame is at epoch.
func readFrames(path string) ([]frame, error) {
	read := readPcap
	switch {
	case strings.Contains(filepath.Base(path), "conn.log"):
		read = readZeek
	case strings.HasSuffix(path, ".binetflow"):
		read = readArgus
	}
	fs, err := read(path)
	if err != nil || len(fs) == 0 {
		return nil, fmt.Errorf("%s: %d frames, %w", path, len(fs), err)
	}
	slices.SortStableFunc(fs, func(a, b frame) int { return a.at.Compare(b.at) })
	shift := epoch.Sub(fs[0].at)
	for i := range fs {
		fs[i].at = fs[i].at.Add(shift).UTC()
	}
	return fs, nil
}

func readPcap(path string) (fs []frame, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReader(f)
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		in = bufio.NewReader(z)
	}
	var src gopacket.PacketDataSource
	magic, err := in.Peek(4)
	if err != nil {
		return nil, err
	}
	if magic[0] == 0x0a {
		src, err = pcapgo.NewNgReader(in, pcapgo.DefaultNgReaderOptions)
	} else {
		src, err = pcapgo.NewReader(in)
	}
	if err != nil {
		return nil, err
	}
	for {
		data, ci, err := src.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fs, nil
		}
		if err != nil {
			return fs, err
		}
		fs = append(fs, frame{ci.Timestamp, slices.Clone(data), ci.Length})
	}
}

// conn is one line of a log of connections. flags are the TCP flags of the
// packets in order, as Zeek's history has them: upper case is the originator's.
type conn struct {
	at          time.Time
	dur         time.Duration
	proto       string
	src, dst    netip.AddrPort
	out, in     int // packets
	outB, inB   int // bytes of IP
	history     string
	icmpT, icmC uint8
}

// mostPackets bounds what one connection becomes: a download of a gigabyte says
// no more than its first thousands of packets.
const mostPackets = 2000

// frames makes packets of a connection: those of the history in order, the rest
// as data in between, evenly over its time.
func (c *conn) frames() []frame {
	c.out, c.in = min(c.out, mostPackets), min(c.in, mostPackets)
	var seq []byte
	o, i := c.out, c.in
	add := func(ch byte) {
		if ch >= 'a' && i > 0 {
			i--
		} else if ch < 'a' && o > 0 {
			o--
		} else {
			return
		}
		seq = append(seq, ch)
	}
	head, tail := c.history, ""
	if k := strings.LastIndexAny(c.history, "AaDd"); k >= 0 {
		head, tail = c.history[:k+1], c.history[k+1:]
	}
	for _, ch := range []byte(head) {
		add(ch)
	}
	more, back := byte('D'), byte('d')
	if up := strings.Trim(strings.Map(only(false), c.history), "S"); c.proto == "tcp" && up == "" {
		more = 'S' // tried again
	}
	if down := strings.Map(only(true), c.history); c.proto == "tcp" && down != "" && strings.Trim(down, "ra") == "" {
		back = 'r' // refused again
	} else if c.proto == "tcp" && down == "h" {
		back = 'h'
	}
	nTail := func(up bool) (n int) {
		for _, ch := range tail {
			if (ch < 'a') == up {
				n++
			}
		}
		return n
	}
	for o > nTail(true) || i > nTail(false) {
		if o > nTail(true) {
			add(more)
		}
		if i > nTail(false) {
			add(back | 0x20)
		}
	}
	for _, ch := range []byte(tail) {
		add(ch)
	}
	var fs []frame
	for k, ch := range seq {
		at := c.at
		if len(seq) > 1 {
			at = at.Add(time.Duration(float64(c.dur) * float64(k) / float64(len(seq)-1)))
		}
		if ch < 'a' {
			fs = append(fs, c.frame(at, c.src, c.dst, ch, c.outB/max(c.out, 1)))
		} else {
			fs = append(fs, c.frame(at, c.dst, c.src, ch, c.inB/max(c.in, 1)))
		}
	}
	return fs
}

// only keeps the letters of one side of a history: lower case is who answers.
func only(lower bool) func(rune) rune {
	return func(r rune) rune {
		if (r >= 'a') != lower {
			return -1
		}
		return r
	}
}

func (c *conn) frame(at time.Time, src, dst netip.AddrPort, ch byte, size int) frame {
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(), Id: uint16(at.UnixMicro())}
	var l4 gopacket.SerializableLayer
	var head int
	switch c.proto {
	case "tcp":
		t := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Window: 1024}
		switch ch {
		case 'S', 's':
			t.SYN = true
		case 'H', 'h':
			t.SYN, t.ACK = true, true
		case 'F', 'f':
			t.FIN, t.ACK = true, true
		case 'R', 'r':
			t.RST, t.ACK = true, true
		default:
			t.ACK = true
		}
		_ = t.SetNetworkLayerForChecksum(ip)
		ip.Protocol, l4, head = layers.IPProtocolTCP, t, 40
	case "udp":
		u := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		_ = u.SetNetworkLayerForChecksum(ip)
		ip.Protocol, l4, head = layers.IPProtocolUDP, u, 28
	default:
		typ := layers.CreateICMPv4TypeCode(c.icmpT, c.icmC)
		if ch >= 'a' && c.icmpT == 8 {
			typ = layers.CreateICMPv4TypeCode(0, 0)
		}
		ip.Protocol, l4, head = layers.IPProtocolICMPv4, &layers.ICMPv4{TypeCode: typ}, 28
	}
	b := gopacket.NewSerializeBuffer()
	load := gopacket.Payload(make([]byte, min(max(size-head, 0), 1400)))
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, l4, load); err != nil {
		panic(err) // a mistake of this file
	}
	return frame{at, slices.Clone(b.Bytes()), len(b.Bytes())}
}

// readZeek reads conn.log as TSV or JSON lines.
func readZeek(path string) (fs []frame, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var fields []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		var get func(string) string
		switch {
		case strings.HasPrefix(line, "#fields"):
			fields = strings.Fields(line)[1:]
			continue
		case line == "" || line[0] == '#':
			continue
		case line[0] == '{':
			m := map[string]any{}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				return nil, err
			}
			get = func(k string) string {
				switch v := m[k].(type) {
				case float64:
					return strconv.FormatFloat(v, 'f', -1, 64)
				case string:
					return v
				}
				return ""
			}
		default:
			cols := strings.Split(line, "\t")
			get = func(k string) string {
				if i := slices.Index(fields, k); i >= 0 && i < len(cols) && cols[i] != "-" {
					return cols[i]
				}
				return ""
			}
		}
		if c, ok := zeekConn(get); ok {
			fs = append(fs, c.frames()...)
		}
	}
	return fs, nil
}

func zeekConn(get func(string) string) (*conn, bool) {
	num := func(k string) float64 { v, _ := strconv.ParseFloat(get(k), 64); return v }
	c := &conn{
		at: time.UnixMicro(int64(num("ts") * 1e6)), dur: time.Duration(num("duration") * 1e9), proto: get("proto"), history: get("history"),
		out: int(num("orig_pkts")), in: int(num("resp_pkts")), outB: int(num("orig_ip_bytes")), inB: int(num("resp_ip_bytes")),
	}
	src, err1 := netip.ParseAddr(get("id.orig_h"))
	dst, err2 := netip.ParseAddr(get("id.resp_h"))
	if err1 != nil || err2 != nil || !src.Is4() || !dst.Is4() || c.out+c.in == 0 {
		return nil, false // a few of IPv6's neighbour discovery
	}
	// Zeek's history ends a record of the kind "ShADadttFr" with what it infers.
	c.history = strings.Map(func(r rune) rune {
		if strings.ContainsRune("SsHhAaDdFfRr", r) {
			return r
		}
		return -1
	}, c.history)
	if c.proto == "tcp" && c.history == "" {
		c.history = "A"
	}
	c.src, c.dst = netip.AddrPortFrom(src, uint16(num("id.orig_p"))), netip.AddrPortFrom(dst, uint16(num("id.resp_p")))
	c.icmpT, c.icmC = uint8(num("id.orig_p")), uint8(num("id.resp_p"))
	return c, true
}

// readArgus reads a binetflow. Its state holds both sides' flags; of what side
// the packets were it tells by bytes only.
func readArgus(path string) (fs []frame, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) < 14 {
			continue
		}
		at, err := time.Parse("2006/01/02 15:04:05.000000", f[0])
		src, err1 := netip.ParseAddr(f[3])
		dst, err2 := netip.ParseAddr(f[6])
		if err != nil || err1 != nil || err2 != nil || !src.Is4() || !dst.Is4() {
			continue
		}
		n := func(i int) int { v, _ := strconv.ParseFloat(strings.TrimPrefix(f[i], "0x"), 64); return int(v) }
		dur, _ := strconv.ParseFloat(f[1], 64)
		c := &conn{at: at, dur: time.Duration(dur * 1e9), proto: f[2], src: netip.AddrPortFrom(src, uint16(n(4))), dst: netip.AddrPortFrom(dst, uint16(n(7))), icmpT: 8}
		all, bytes, from := n(11), n(12), n(13)
		c.out, c.outB, c.inB = all, from, bytes-from
		if c.inB > 0 {
			c.in = max(all/2, 1)
			c.out = max(all-c.in, 1)
		}
		mine, theirs, flags := strings.Cut(f[8], "_")
		if !flags { // an older Argus names what became of it
			c.history = map[string]string{"REQ": "S", "ACC": "Sh", "CON": "ShAa", "EST": "Aa", "FIN": "ShAaDdFf", "CLO": "ShAaDdFf", "RST": "Sr", "TIM": "S"}[f[8]]
			mine = ""
		}
		for _, s := range []struct{ flags, letters string }{{mine, "SADFR"}, {theirs, "hadfr"}} {
			for i, name := range []string{"S", "A", "P", "F", "R"} {
				if c.proto == "tcp" && strings.Contains(s.flags, name) {
					c.history += s.letters[i : i+1]
				}
			}
		}
		if strings.Contains(c.history, "h") && strings.Contains(c.history, "S") { // the answer comes second
			c.history = "Sh" + strings.NewReplacer("S", "", "h", "").Replace(c.history)
		}
		if c.proto != "tcp" {
			c.history = ""
		}
		if all > 0 && (c.proto == "tcp" || c.proto == "udp" || c.proto == "icmp") {
			fs = append(fs, c.frames()...)
		}
	}
	return fs, nil
}

// writePcap writes frames for exporters that read files.
func writePcap(path string, fs []frame) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := pcapgo.NewWriter(f)
	err = w.WriteFileHeader(65535, layers.LinkTypeEthernet)
	for i := range fs {
		if err == nil {
			err = w.WritePacket(gopacket.CaptureInfo{Timestamp: fs[i].at, CaptureLength: len(fs[i].data), Length: max(fs[i].size, len(fs[i].data))}, fs[i].data)
		}
	}
	return errors.Join(err, f.Close())
}
