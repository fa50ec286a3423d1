package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/cmd/flowgen/sim"
	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
)

// replayStart is on the captures' clock, long before the tests run.
var replayStart = time.Date(2026, 3, 1, 11, 59, 30, 0, time.UTC)

// pcapWriter writes datagrams as a capture of an Ethernet interface has them.
type pcapWriter struct {
	t   *testing.T
	w   *pcapgo.Writer
	now time.Time
}

func (p *pcapWriter) from(router netip.Addr, port uint16) func([]byte, int) error {
	return func(payload []byte, _ int) error {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: router.AsSlice(), DstIP: net.IPv4(192, 0, 2, 200)}
		udp := &layers.UDP{SrcPort: 50000, DstPort: layers.UDPPort(port)}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			return err
		}
		eth := &layers.Ethernet{
			SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4,
		}
		b := gopacket.NewSerializeBuffer()
		err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, udp, gopacket.Payload(payload))
		if err != nil {
			return err
		}
		return p.w.WritePacket(gopacket.CaptureInfo{Timestamp: p.now, CaptureLength: len(b.Bytes()), Length: len(b.Bytes())}, b.Bytes())
	}
}

// A tenant whose address somebody at another's port scans with, and that other.
var (
	replayForged, replayForger = netip.MustParseAddr("198.19.255.10"), netip.MustParseAddr("198.19.255.20")
	replayTop                  = netip.MustParseAddr("192.0.2.3") // the switch that both are at, the forger at interface 77
)

// replayCapture is two minutes and a third of a hoster's border: ordinary tenants, and
// after 40 s a scan, a flood, and a scan with a forged source. It returns the
// file and who is who.
func replayCapture(t *testing.T, replayStart time.Time) (string, *sim.World) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "border.pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &pcapWriter{t: t, w: pcapgo.NewWriterNanos(f), now: replayStart}
	if err := p.w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	routerA, routerB := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	w, err := sim.New(sim.Config{
		Seed: 7, Tenants: 40, SampleRate: 100, AgentB: routerB, Start: replayStart, ScanRate: 200, FloodRate: 20_000,
		A: p.from(routerA, 2055), B: p.from(routerB, 6343),
	})
	if err != nil {
		t.Fatal(err)
	}
	top, err := export.New(export.Config{Protocol: flow.SFlow5, SamplingRate: 1, Boot: replayStart.Add(-time.Hour), Agent: replayTop}, p.from(replayTop, 6343))
	if err != nil {
		t.Fatal(err)
	}
	attack, forged := replayStart.Add(40*time.Second), uint32(0)
	w.StartAttacks(attack)
	for p.now = replayStart; p.now.Before(replayStart.Add(140 * time.Second)); p.now = p.now.Add(sim.TickInterval) {
		if err := w.Tick(p.now); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < 10 && !p.now.Before(attack); i++ { // 100/s
			f := scanFlow(replayForged, forged, p.now)
			f.InIf, forged = 77, forged+1
			if err := top.Add(&f, p.now.UnixNano()); err != nil {
				t.Fatal(err)
			}
		}
		if err := top.Flush(p.now.UnixNano()); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path, w
}

var incidentID = regexp.MustCompile(`"id":"FC-[A-Z0-9]+"`)

// ofDay are the sorted lines of a replay's output without the day: that is in
// moments, and in the ids of incidents, by which they are ordered.
func ofDay(out string, day time.Time) []string {
	lines := strings.Split(incidentID.ReplaceAllString(strings.ReplaceAll(out, day.Format(time.DateOnly), "DAY"), `"id":"FC"`), "\n")
	slices.Sort(lines)
	return lines
}

// TestReplay: the captures' own clock, the contract's JSON, the same output each
// time and of another day's capture, ports as serve knows them, and no action,
// whatever the modes say.
func TestReplay(t *testing.T) {
	t.Parallel()
	capture, w := replayCapture(t, replayStart)
	s := newSite(t, siteOptions{Mode: flow.ModeEnforce, Interval: "20s", Inventory: holder(w.Scanner.Addr, "panel") + holder(w.Flooder.Addr, "panel")})
	s.edit(t, "data_dir:", "  ports: [{exporter: "+replayTop.String()+", interface: 77, tenant: "+replayForger.String()+"}]\ndata_dir:")
	// A day that has not come yet: nothing asks this machine's clock.
	day := replayStart.AddDate(2, 0, -1)
	dayCapture, _ := replayCapture(t, day)
	other := make(chan string, 1)
	var runs sync.WaitGroup
	runs.Go(func() {
		_, out, _ := invoke(t, "replay", "--config", s.config, "--json", dayCapture)
		other <- out
	})
	defer runs.Wait()
	code, out, errs := invoke(t, "replay", "--config", s.config, "--json", capture)
	if code != 0 || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if _, again, _ := invoke(t, "replay", "--config", s.config, "--json", capture); again != out {
		t.Errorf("the second run says something else (-first +second):\n%.3000s", cmp.Diff(strings.Split(out, "\n"), strings.Split(again, "\n")))
	}
	if diff := cmp.Diff(ofDay(out, replayStart), ofDay(<-other, day)); diff != "" {
		t.Errorf("of the capture of another day (-first +other):\n%.3000s", diff)
	}
	if n := s.panel.Requests(); n != 0 {
		t.Errorf("the panel was called %d times", n)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "data")); !os.IsNotExist(err) {
		t.Errorf("replay touched data_dir: %v", err)
	}

	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	suspended := map[netip.Addr]flow.Rule{}
	held, blamed := false, false
	var incidents []flow.Incident
	for i, line := range lines {
		var kind struct{ Type string }
		if err := json.Unmarshal([]byte(line), &kind); err != nil {
			t.Fatalf("line %d is no JSON: %v: %s", i+1, err, line)
		}
		switch {
		case kind.Type == "finding" && incidents == nil:
			f := parseLine[flow.Finding](t, line, "time tenant rule tier ip_proto window_s samples distinct sampling_rate score threshold reason")
			if f.Time.Before(replayStart.Add(40*time.Second)) || f.Time.After(replayStart.Add(5*time.Minute)) {
				t.Errorf("a finding at %s", f.Time)
			}
			held = held || f.Tenant == replayForged && f.Rule == flow.RuleNetscan && slices.Contains(f.Gates, detect.GateSource)
			blamed = blamed || f.Tenant == replayForger && f.Rule == flow.RuleSpoofed
			if f.Tier == flow.TierSuspend {
				suspended[f.Tenant] = f.Rule
			}
		case kind.Type == "incident":
			incidents = append(incidents, parseLine[flow.Incident](t, line, "id tenant rules tier state opened updated"))
		case kind.Type == "summary" && i == len(lines)-1:
			sum := parseLine[replaySummary](t, line, "datagrams records options_records templates dropped exporters findings incidents ticks")
			if sum.Records < 30_000 || len(sum.Dropped) != 0 || sum.Incidents != len(incidents) || len(sum.Exporters) != 3 {
				t.Errorf("summary %s", line)
			}
		default:
			t.Errorf("line %d of %d is a %q", i+1, len(lines), kind.Type)
		}
	}
	want := map[netip.Addr]flow.Rule{w.Scanner.Addr: flow.RuleNetscan, w.Flooder.Addr: flow.RuleUDPFlood}
	if diff := cmp.Diff(want, suspended, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("who would be cut, and for what (-want +got):\n%s", diff)
	}
	if !held || !blamed {
		t.Errorf("a scan with another's address: held %v, its port's tenant blamed %v", held, blamed)
	}
	for tenant, rule := range want {
		i := slices.IndexFunc(incidents, func(i flow.Incident) bool { return i.Tenant == tenant })
		if i < 0 || incidents[i].State != flow.StateOpen || incidents[i].Tier != flow.TierSuspend || !slices.Contains(incidents[i].Rules, rule) || incidents[i].Action != nil {
			t.Errorf("incident of %s: %d of %+v", tenant, i, incidents)
		}
	}
}

// parseLine reads a line that must have these fields.
func parseLine[T any](t *testing.T, line, fields string) T {
	t.Helper()
	var m map[string]json.RawMessage
	var v T
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	for _, name := range strings.Fields(fields) {
		if _, ok := m[name]; !ok {
			t.Errorf("no %s in %s", name, line)
		}
	}
	return v
}

// TestReplayErrors: what cannot be read is named, and the exit says so.
func TestReplayErrors(t *testing.T) {
	s := newSite(t, siteOptions{})
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	missing := filepath.Join(s.dir, "missing.pcap")
	empty := filepath.Join(s.dir, "empty.pcap")
	torn := filepath.Join(s.dir, "torn.pcap")
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	s.write(t, "empty.pcap", b.String())
	if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: replayStart, CaptureLength: 60, Length: 60}, make([]byte, 60)); err != nil {
		t.Fatal(err)
	}
	s.write(t, "torn.pcap", b.String()[:b.Len()-30])
	for _, tc := range []struct {
		name, file     string
		code           int
		stdout, stderr string
	}{
		{"missing", missing, 1, "", "missing.pcap: no such file"},
		{"torn", torn, 1, "", "torn.pcap"},
		{"empty", empty, 0, `"type":"summary"`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, errs := invoke(t, "replay", "--config", s.config, "--json", tc.file)
			if code != tc.code || !strings.Contains(out, tc.stdout) || !strings.Contains(errs, tc.stderr) || (tc.stderr == "") != (errs == "") {
				t.Errorf("exit %d, want %d; stdout %q, stderr %q", code, tc.code, out, errs)
			}
		})
	}
	if code, out, errs := invoke(t, "replay", "--config", s.config, empty); code != 0 || errs != "" ||
		!strings.HasPrefix(out, "0 datagrams, 0 records, 0 findings, 0 incidents; not aggregated: map[") {
		t.Errorf("for people: exit %d, stdout %q, stderr %q", code, out, errs)
	}
	s.edit(t, "mode: observe", "mode: act")
	if code, out, errs := invoke(t, "replay", "--config", s.config, empty); code != 1 || out != "" || !strings.Contains(errs, "detect.rules.netscan.mode") {
		t.Errorf("a wrong configuration: exit %d, stdout %q, stderr %q", code, out, errs)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
