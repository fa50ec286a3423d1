package scenario

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

var start = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)

func read(t *testing.T, text string) (*Scenario, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.scenario")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Read(path)
}

func TestMistakesSayTheirLine(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown statement", "max none\nspeed 3", "x.scenario:2: unknown statement"},
		{"unknown key", "max none\n\ntcp rate=1 prot=2", "x.scenario:3: prot=2: unknown key"},
		{"no number", "max none\nudp rate=fast", "x.scenario:2: rate=fast"},
		{"unknown tier", "max nothing", "x.scenario:1: unknown tier"},
		{"no duration", "by 1:256 suspend soon", "x.scenario:1"},
		{"nothing asked", "tcp rate=1", "neither max nor by"},
		{"no pool", "max none\ntcp rate=1 dst=many", "x.scenario:2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := read(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestExpectations(t *testing.T) {
	s, err := read(t, "by 1:1 suspend 60s netscan\nby 1:1/sflow notify 90s\nexport netflow")
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := s.Expects(1, flow.NetFlow9); !ok || e != (Expectation{flow.TierSuspend, time.Minute, flow.RuleNetscan}) {
		t.Errorf("by NetFlow %+v, %t", e, ok)
	}
	if e, ok := s.Expects(1, flow.SFlow5); !ok || e != (Expectation{flow.TierNotify, 90 * time.Second, ""}) {
		t.Errorf("by sFlow %+v, %t", e, ok)
	}
	if _, ok := s.Expects(256, flow.SFlow5); ok {
		t.Error("something is expected at 1:256")
	}
	if got := s.Exports(); !reflect.DeepEqual(got, []flow.Protocol{flow.NetFlow9}) {
		t.Errorf("exported by %v", got)
	}
}

// records are those of a source, over a minute and the timeouts.
func records(t *testing.T, line string, n, seed int, netflow bool) []flow.Record {
	t.Helper()
	sources, err := Sources(line, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	g := NewGenerator(uint64(seed), uint32(n), netflow)
	var all []flow.Record
	for e := time.Duration(0); e < 3*time.Minute; e += Step {
		for i := range sources {
			g.Run(&sources[i], start, e)
		}
		all = append(all, g.Take(start.Add(e+Step))...)
	}
	if len(all) != g.Records() {
		t.Errorf("%d of %d records were handed out", len(all), g.Records())
	}
	return all
}

func TestSameSeedSameRecords(t *testing.T) {
	const line = "tcp rate=50 port=443 ok=0.8 syn=3"
	for _, netflow := range []bool{false, true} {
		a, b, c := records(t, line, 10, 1, netflow), records(t, line, 10, 1, netflow), records(t, line, 10, 2, netflow)
		if len(a) == 0 || !reflect.DeepEqual(a, b) {
			t.Errorf("NetFlow %t: %d and %d records differ", netflow, len(a), len(b))
		}
		if reflect.DeepEqual(a, c) {
			t.Errorf("NetFlow %t: another seed gives the same", netflow)
		}
	}
}

func TestShapes(t *testing.T) {
	for _, c := range []struct {
		name, line string
		n          int
		netflow    bool
		count      func(*flow.Record) bool
		least      int
		most       int
	}{
		{"SYNs are sent again", "tcp rate=10 port=22 ok=0 syn=3", 1, false, func(r *flow.Record) bool { return r.TCPFlags == flow.SYN }, 1500, 2100},
		{"and are one record of a cache", "tcp rate=10 port=22 ok=0 syn=3", 1, true, func(r *flow.Record) bool { return r.Packets == 3 && r.TCPFlags == flow.SYN }, 500, 700},
		{"a tenth is sampled", "stream rate=1000 port=80", 10, false, func(r *flow.Record) bool { return r.Src == Tenant4 && r.IPProto == flow.ProtoUDP }, 5600, 6400},
		{"a scanner's SYNs", "tcp rate=100 port=22 ok=0 len=44 ttl=255", 1, false, func(r *flow.Record) bool { return r.IPLen == 44 && r.TTL == 255 }, 5700, 6300},
		{"servers answer", "tcp rate=10 port=443 server ok=1 out=6 in=5", 1, false, func(r *flow.Record) bool { return r.TCPFlags == flow.SYN|flow.ACK && r.Src == Tenant4 }, 500, 700},
		{"pulses: 10 s of 30", "stream rate=1000 port=80 every=30s on=10s", 10, false, func(r *flow.Record) bool { return true }, 1850, 2150},
		{"forged by its port", "udp rate=10 port=53 forged=any ok=0", 1, false, func(r *flow.Record) bool { return r.Src != Tenant4 && r.InIf == IfForger && r.SrcMAC == ForgerMAC }, 500, 700},
		{"errors of routers", "udp rate=10 port=33434 ok=1 errors", 1, true, func(r *flow.Record) bool { return r.Dst == Tenant4 && r.ICMPType == 11 }, 500, 700},
		{"resets", "stream proto=tcp rate=1000 port=80 flags=rst+ack", 100, false, func(r *flow.Record) bool { return r.TCPFlags == flow.RST|flow.ACK && r.Src == Tenant4 }, 500, 700},
		{"a second tenant", "stream rate=1000 port=80 second", 100, true, func(r *flow.Record) bool { return r.Src == Second4 }, 1, 1},
		{"a cache's active timeout", "stream rate=1000 port=80", 1, true, func(r *flow.Record) bool { return r.End-r.Start == int64(time.Minute) }, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := 0
			for _, r := range records(t, c.line, c.n, 1, c.netflow) {
				if c.count(&r) {
					n++
				}
			}
			if n < c.least || n > c.most {
				t.Errorf("%d records, want %d to %d", n, c.least, c.most)
			}
		})
	}
}

// What goes over the wire comes out as it was: addresses, ports, flags, lengths;
// times to the second where NetFlow v9 says no more.
func TestSpreadPoolsAreOfAsManyNetworks(t *testing.T) {
	for _, keys := range []string{"", " v6"} {
		nets := map[netip.Prefix]bool{}
		for _, r := range records(t, "udp rate=1000 port=80 dst=300 spread ok=0"+keys, 1, 1, false) {
			bits := 24
			if r.Dst.Is6() {
				bits = 48
			}
			n, err := r.Dst.Prefix(bits)
			if err != nil {
				t.Fatal(err)
			}
			nets[n] = true
		}
		if len(nets) < 295 || len(nets) > 300 {
			t.Errorf("%q: %d networks of 300 addresses", keys, len(nets))
		}
	}
}

func TestWire(t *testing.T) {
	for _, netflow := range []bool{false, true} {
		for _, line := range []string{"tcp rate=20 port=443 ok=0.7 syn=2 ttl=255 len=44", "tcp rate=20 port=443 dst=v6 v6 ok=0.7", "udp rate=20 port=53 ok=0.9", "icmp rate=20 dst=v6 v6 ok=0.9", "stream proto=47 rate=200"} {
			want := records(t, line, 1, 1, netflow)
			var got []flow.Record
			d := decode.New(decode.Config{}, decode.Deps{})
			w, err := NewWire(1, netflow, start.Add(-time.Hour), func(payload []byte, received int64) {
				d.Decode(decode.Datagram{Exporter: netip.AddrPortFrom(Exporter, 1), Received: received, Payload: payload}, func(rs []flow.Record) { got = append(got, rs...) })
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Send(want, start.Add(10*time.Minute).UnixNano()); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) || len(got) == 0 {
				t.Fatalf("%s, NetFlow %t: %d records of %d", line, netflow, len(got), len(want))
			}
			for i := range want {
				a, b := &want[i], &got[i]
				size := a.Bytes
				if a.Src.Is6() {
					size += 20 * a.Packets
				}
				if a.Src != b.Src || a.Dst != b.Dst || a.SrcPort != b.SrcPort || a.DstPort != b.DstPort || a.IPProto != b.IPProto || a.TCPFlags != b.TCPFlags ||
					a.ICMPType != b.ICMPType || a.Packets != b.Packets || b.Bytes != size || a.InIf != b.InIf || b.SamplingRate != 1 {
					t.Fatalf("%s, NetFlow %t, record %d:\nsent %+v\ncame %+v", line, netflow, i, *a, *b)
				}
				if late := b.Received - a.Received; late < 0 || late > 600*int64(time.Second) {
					t.Fatalf("%s: received %d ns after it was sent", line, late)
				}
				if off := a.End - b.End; netflow && (off < -int64(time.Second) || off > 2*int64(time.Second)) {
					t.Fatalf("%s: ends %d ns off", line, off)
				}
			}
		}
	}
}
