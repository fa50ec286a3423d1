package bulk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/flowcordon/flowcordon/flow"
)

// count adds up v9 or IPFIX datagrams by internal address with goflow2.
type counter struct {
	templates netflow.NetFlowTemplateSystem
	hosts     map[netip.Addr]flow.Counts
}

func (c *counter) add(b []byte) error {
	var v9 netflow.NFv9Packet
	var ipfix netflow.IPFIXPacket
	if err := netflow.DecodeMessageVersion(bytes.NewBuffer(b), c.templates, &v9, &ipfix); err != nil {
		return err
	}
	for _, set := range append(v9.FlowSets, ipfix.FlowSets...) {
		data, ok := set.(netflow.DataFlowSet)
		if !ok {
			continue
		}
		for _, rec := range data.Records {
			var src, dst netip.Addr
			var packets, octets uint64
			for _, v := range rec.Values {
				raw := v.Value.([]byte)
				switch v.Type {
				case 8, 27:
					src, _ = netip.AddrFromSlice(raw)
				case 12, 28:
					dst, _ = netip.AddrFromSlice(raw)
				case 2:
					packets = binary.BigEndian.Uint64(raw)
				case 1:
					octets = binary.BigEndian.Uint64(raw)
				}
			}
			internal := func(a netip.Addr) bool { return DefaultPrefix4.Contains(a) || DefaultPrefix6.Contains(a) }
			switch {
			case internal(src) && !internal(dst):
				n := c.hosts[src]
				n.Add(flow.Counts{OutRecords: 1, OutPackets: packets, OutBytes: octets})
				c.hosts[src] = n
			case internal(dst) && !internal(src):
				n := c.hosts[dst]
				n.Add(flow.Counts{InRecords: 1, InPackets: packets, InBytes: octets})
				c.hosts[dst] = n
			default:
				return fmt.Errorf("record from %s to %s", src, dst)
			}
		}
	}
	return nil
}

func TestTruthIsWhatADecoderCounts(t *testing.T) {
	for _, p := range []flow.Protocol{flow.NetFlow9, flow.IPFIX} {
		t.Run(p.String(), func(t *testing.T) {
			c := counter{netflow.CreateTemplateSystem(), map[netip.Addr]flow.Counts{}}
			truth, err := Run(t.Context(), Config{
				Protocol: p, Records: 30_000, Hosts: 700, Seed: 3, V6Share: 0.2, MaxDuration: 40 * time.Second, Write: c.add,
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(truth.Hosts, c.hosts, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("counts (-truth +decoded):\n%.1500s", diff)
			}
			v6 := 0
			for ip := range truth.Hosts {
				if ip.Is6() {
					v6++
				}
			}
			if len(truth.Hosts) != 700 || v6 != 140 {
				t.Errorf("%d hosts, %d of them v6, want 700 and 140", len(truth.Hosts), v6)
			}
			if truth.Records != 30_000 || truth.Total.OutRecords+truth.Total.InRecords != 30_000 {
				t.Errorf("records %d, total %+v", truth.Records, truth.Total)
			}
		})
	}
}

func TestOverUDPWithPace(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, p := range []flow.Protocol{flow.NetFlow5, flow.SFlow5} {
		var got, sent uint64
		buf := make([]byte, 2000)
		read := func() {
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatalf("%s: after %d of %d records: %v", p, got, sent, err)
			}
			if from.Addr() != netip.MustParseAddr("127.0.0.11") || n > 1400 {
				t.Fatalf("%d bytes from %s", n, from)
			}
			if p == flow.NetFlow5 {
				got += uint64(binary.BigEndian.Uint16(buf[2:]))
			} else {
				got += uint64(binary.BigEndian.Uint32(buf[24:]))
			}
		}
		paced := 0
		truth, err := Run(t.Context(), Config{
			Protocol: p, Records: 20_001, Hosts: 10, Source: netip.MustParseAddr("127.0.0.11"),
			Target: conn.LocalAddr().(*net.UDPAddr).AddrPort(), PaceEvery: 16,
			Pace: func(s uint64) {
				paced++
				for sent = s; got < sent; {
					read()
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for sent = truth.Records; got < sent; {
			read()
		}
		if got != 20_001 || paced < 20 {
			t.Errorf("%s: %d records received, paced %d times", p, got, paced)
		}
	}
}

func TestSameSeedSameRecords(t *testing.T) {
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	run := func(seed uint64) (all []byte) {
		_, err := Run(t.Context(), Config{
			Protocol: flow.NetFlow5, Records: 500, Hosts: 50, Seed: seed, Now: func() time.Time { return at },
			Write: func(b []byte) error { all = append(all, b...); return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if a, b := run(1), run(1); !bytes.Equal(a, b) {
		t.Error("one seed gave two streams")
	}
	if a, b := run(1), run(2); bytes.Equal(a, b) {
		t.Error("two seeds gave one stream")
	}
}

func TestRateAndCancel(t *testing.T) {
	synctest.Test(t, rateAndCancel)
}

func rateAndCancel(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	sent := uint64(0)
	truth, err := Run(ctx, Config{
		Protocol: flow.NetFlow5, Records: 1e9, Hosts: 10, Rate: 20_000,
		Write: func(b []byte) error { sent += uint64(binary.BigEndian.Uint16(b[2:])); return nil },
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
	if truth.Records != sent || truth.Total.InRecords+truth.Total.OutRecords != sent {
		t.Errorf("sent %d, truth %d, counted %+v", sent, truth.Records, truth.Total)
	}
	if sent < 9_900 || sent > 10_500 {
		t.Errorf("%d records in half a second at 20,000/s", sent)
	}
}

func TestWriteTSV(t *testing.T) {
	truth := Truth{Hosts: map[netip.Addr]flow.Counts{
		netip.MustParseAddr("198.18.0.10"): {OutRecords: 1, InRecords: 2, OutPackets: 3, InPackets: 4, OutBytes: 5, InBytes: 6},
		netip.MustParseAddr("198.18.0.9"):  {OutRecords: 1},
	}}
	var b strings.Builder
	if err := truth.WriteTSV(&b); err != nil {
		t.Fatal(err)
	}
	want := Columns + "\n198.18.0.9\t0\t0\t0\t0\t1\t0\n198.18.0.10\t3\t5\t4\t6\t1\t2\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestConfigErrors(t *testing.T) {
	good := Config{Protocol: flow.NetFlow9, Records: 1, Hosts: 131070, Write: func([]byte) error { return nil }}
	for _, tc := range []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"as many hosts as fit", func(*Config) {}, ""},
		{"one host more", func(c *Config) { c.Hosts++ }, "do not fit"},
		{"v5 with v6", func(c *Config) { c.Protocol, c.V6Share = flow.NetFlow5, 0.1 }, "no IPv6"},
		{"no protocol", func(c *Config) { c.Protocol = 0 }, "protocol"},
		{"no records", func(c *Config) { c.Records = 0 }, "records"},
		{"no target", func(c *Config) { c.Write = nil }, "target"},
		{"share", func(c *Config) { c.V6Share = 1.5 }, "v6-share"},
		{"families", func(c *Config) {
			c.Target, c.Source = netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddr("::1")
		}, "family"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := good
			tc.edit(&cfg)
			_, err := Run(t.Context(), cfg)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want %q", err, tc.want)
			}
		})
	}
}
