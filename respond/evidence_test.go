package respond

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

var update = flag.Bool("update", false, "write the golden files anew")

var eventTime = time.Date(2026, 11, 22, 6, 53, 16, 123456000, time.UTC)

// row is an outgoing row i seconds after eventTime.
func row(i int, host, remote string, proto uint8, class flow.Class, change func(*flow.FlowRow)) flow.FlowRow {
	at := eventTime.Add(time.Duration(i) * time.Second).UnixNano()
	r := flow.FlowRow{
		Time: at, Start: at, End: at, Tenant: netip.MustParseAddr(host), Host: netip.MustParseAddr(host), Remote: netip.MustParseAddr(remote),
		HostPort: 40001, RemotePort: 22, SvcPort: 22, Dir: flow.Out, IPProto: proto, Role: flow.RoleClient, Class: class,
		Packets: 1, Bytes: 44, IPLen: 44, TTL: 243, Rate: 1000,
	}
	if class == flow.ClassSYN {
		r.TCPFlags = flow.SYN
	}
	if change != nil {
		change(&r)
	}
	return r
}

func proofOf(tenant string, rules []flow.Rule, rows ...flow.FlowRow) proof {
	f := scan(netip.MustParseAddr(tenant), eventTime)
	f.Rule = rules[0]
	inc := flow.Incident{ID: "FC-ABCDEFGHIJ", Tenant: f.Tenant, Rules: rules, Findings: []flow.Finding{f}, Tier: flow.TierSuspend}
	return proof{Incident: inc, Range: flow.Range{From: eventTime.Add(-time.Minute), To: eventTime.Add(time.Minute)}, Rows: rows, Frozen: eventTime}
}

func proofs() map[string]proof {
	const host, six = "198.18.0.7", "2001:db8::"
	flood := func(i int, remote string) flow.FlowRow {
		return row(i, host, remote, flow.ProtoUDP, flow.ClassUDP, func(r *flow.FlowRow) {
			r.RemotePort, r.SvcPort, r.Packets, r.Bytes, r.IPLen, r.Rate = 53, 53, 120000, 120000*512, 0, 1
			r.End += int64(1500 * time.Millisecond)
			r.Time = r.End
		})
	}
	v6 := func(i int, h, remote string, proto uint8, class flow.Class, typ uint8) flow.FlowRow {
		return row(i, h, remote, proto, class, func(r *flow.FlowRow) {
			r.Tenant, r.ICMPType, r.IPLen = netip.MustParseAddr(six), typ, 64
			if proto == flow.ProtoICMPv6 {
				r.HostPort, r.RemotePort, r.SvcPort = 0, 0, 0
			}
		})
	}
	truncated := proofOf(host, []flow.Rule{flow.RuleNetscan}, row(0, host, "203.0.113.5", flow.ProtoTCP, flow.ClassSYN, nil))
	truncated.Truncated = true
	return map[string]proof{
		"netscan": proofOf(host, []flow.Rule{flow.RuleNetscan},
			row(0, host, "203.0.113.5", flow.ProtoTCP, flow.ClassSYN, nil),
			row(0, host, "192.0.2.254", flow.ProtoTCP, flow.ClassSYN, func(r *flow.FlowRow) { r.HostPort = 51544 }),
			row(1, host, "203.0.113.200", flow.ProtoTCP, flow.ClassSYN, func(r *flow.FlowRow) { r.Rate = 2048 }),
			row(2, host, "10.1.2.3", flow.ProtoTCP, flow.ClassSYN, func(r *flow.FlowRow) { r.Bogon = true }),
			row(3, host, "203.0.113.9", flow.ProtoTCP, flow.ClassRST, func(r *flow.FlowRow) { r.TCPFlags = flow.RST | flow.ACK })),
		"flood": proofOf(host, []flow.Rule{flow.RuleUDPFlood}, flood(0, "203.0.113.5"), flood(2, "203.0.113.5"), flood(3, "203.0.113.77")),
		"v6": proofOf(six, []flow.Rule{flow.RuleNetscan, flow.RuleICMPSweep},
			v6(0, "2001:db8::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe", flow.ProtoTCP, flow.ClassSYN, 0),
			v6(1, "2001:db8::beef", "2001:db8:1::2", flow.ProtoICMPv6, flow.ClassEcho, 128)),
		"forms": proofOf(host, []flow.Rule{flow.RuleUDPSweep},
			row(0, host, "203.0.113.5", flow.ProtoTCP, flow.ClassNoFlags, nil),
			row(1, host, "203.0.113.5", flow.ProtoTCP, flow.ClassEst, func(r *flow.FlowRow) {
				r.TCPFlags = flow.SYN | flow.ACK | flow.PSH | flow.FIN
				r.Packets, r.Bytes, r.IPLen = 9, 4000, 0
				r.End += int64(time.Second)
			}),
			row(2, host, "203.0.113.5", flow.ProtoUDP, flow.ClassUDP, nil),
			row(3, host, "203.0.113.5", flow.ProtoICMP, flow.ClassEcho, func(r *flow.FlowRow) { r.ICMPType = 8 }),
			row(4, host, "203.0.113.5", flow.ProtoICMP, flow.ClassICMPErr, func(r *flow.FlowRow) { r.ICMPType, r.ICMPCode = 3, 1 }),
			row(5, host, "203.0.113.5", 47, flow.ClassOther, nil),
			row(6, host, "203.0.113.5", flow.ProtoTCP, flow.ClassSYNACK, func(r *flow.FlowRow) { r.Dir, r.TCPFlags = flow.In, flow.SYN|flow.ACK })),
		"truncated": truncated,
		"empty":     proofOf(host, []flow.Rule{flow.RuleNetscan}),
	}
}

func TestEvidenceGolden(t *testing.T) {
	for name, p := range proofs() {
		e := render(p)
		if len(e.Logs) < 2 {
			t.Errorf("%s: %d logs, always two at least", name, len(e.Logs))
		}
		for _, l := range e.Logs {
			sum := sha256.Sum256([]byte(l.Text))
			if l.SHA256 != hex.EncodeToString(sum[:]) || l.Name != "FC-ABCDEFGHIJ-"+l.Form+".txt" {
				t.Errorf("%s: %s %s", name, l.Name, l.SHA256)
			}
			file := filepath.Join("testdata", "evidence", name+"-"+l.Form+".golden")
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(l.Text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), l.Text); d != "" {
				t.Errorf("%s (-want +got):\n%s", file, d)
			}
		}
	}
}

func TestEvidenceForms(t *testing.T) {
	forms := func(p proof) (out []string) {
		for _, l := range render(p).Logs {
			out = append(out, l.Form)
		}
		return out
	}
	all := proofs()
	if d := cmp.Diff([]string{"netscan", "summary", "packets"}, forms(all["netscan"])); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"summary", "packets"}, forms(all["flood"])); d != "" {
		t.Error(d)
	}
	list := render(all["netscan"]).Logs[0].Text
	for _, want := range []string{
		"Netscan detected from host 198.18.0.7", "All times are UTC", "estimated from 1:1000, 1:2048 samples",
		"2026-11-22 06:53:16 TCP      198.18.0.7 40001    =>   203.0.113.5 22\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %q:\n%s", want, list)
		}
	}
	for _, not := range []string{"10.1.2.3", "203.0.113.9 "} { // a bogon destination and an answer are no attempts
		if strings.Contains(list, not) {
			t.Errorf("the list shows %q", not)
		}
	}
	packets := render(all["netscan"]).Logs[2].Text
	if want := "2026-11-22 06:53:16.123456 IP 198.18.0.7.40001 > 203.0.113.5.22: Flags [S], length 44"; !strings.Contains(packets, want) {
		t.Errorf("the excerpt lacks %q:\n%s", want, packets)
	}
}

// Many rows: the rows and lines kept are bounded, and the texts say so.
func TestEvidenceBounds(t *testing.T) {
	p := proofs()["netscan"]
	one := p.Rows[0]
	p.Rows = nil
	for i := range maxEvidenceRows {
		r := one
		r.Remote = addr4([4]byte{203, 0, byte(i >> 8), byte(i)})
		p.Rows = append(p.Rows, r)
	}
	p.Truncated = true
	excerpt := func(newest bool) string {
		p.Newest = newest
		return render(p).Logs[2].Text
	}
	firstLine, lastLine := packetLine(p.Rows[0]), packetLine(p.Rows[len(p.Rows)-1])
	if got := excerpt(false); !strings.Contains(got, "The first 1000 of 10000") || !strings.Contains(got, firstLine) || strings.Contains(got, lastLine) {
		t.Error("the excerpt of a first stage does not show how it began")
	}
	if got := excerpt(true); !strings.Contains(got, "The last 1000 of 10000") || strings.Contains(got, firstLine) || !strings.Contains(got, lastLine) {
		t.Error("the excerpt of a later stage does not show what went on until then")
	}
	for _, l := range render(p).Logs {
		if !strings.Contains(l.Text, "TRUNCATED: more rows matched than the 10000") {
			t.Errorf("%s does not say that it is truncated", l.Form)
		}
		lines := strings.Count(l.Text, "\n")
		if limit := map[string]int{"netscan": 10020, "summary": 10020, "packets": maxPacketLines + 10}[l.Form]; lines > limit {
			t.Errorf("%s has %d lines", l.Form, lines)
		}
	}
}
