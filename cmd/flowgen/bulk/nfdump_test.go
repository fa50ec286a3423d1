package bulk

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/loopback"
)

// TestNfdumpAgrees sends a stream to nfdump's collectors, which are what
// network operators check an exporter with, and compares their totals with the
// truth. nfdump multiplies by the announced rate, which is 1.
func TestNfdumpAgrees(t *testing.T) {
	for _, tc := range []struct {
		name   string
		daemon string
		cfg    Config
	}{
		{"v5", "nfcapd", Config{Protocol: flow.NetFlow5}},
		{"v9", "nfcapd", Config{Protocol: flow.NetFlow9, V6Share: 0.2}},
		{"ipfix", "nfcapd", Config{Protocol: flow.IPFIX, V6Share: 0.2}},
		{"ipfix legacy sampling", "nfcapd", Config{Protocol: flow.IPFIX, V6Share: 0.2, LegacySampling: true}},
		{"sflow", "sfcapd", Config{Protocol: flow.SFlow5, V6Share: 0.2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, tool := range []string{tc.daemon, "nfdump"} {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skipf("%s is not installed (Debian: nfdump, nfdump-sflow)", tool)
				}
			}
			dir := t.TempDir()
			at, err := loopback.Free("udp")
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			cmd := exec.Command(tc.daemon, "-w", dir, "-b", at.Addr().String(), "-p", strconv.Itoa(int(at.Port())), "-t", "3600", "-B", "4000000")
			cmd.Stdout, cmd.Stderr = &log, &log
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			stopped := false
			defer func() {
				if !stopped {
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				}
			}()
			awaitBound(t, at)
			cfg := tc.cfg
			cfg.Records, cfg.Hosts, cfg.Rate, cfg.MaxDuration = 30_000, 200, 60_000, 3*time.Second
			cfg.Target, cfg.Source = at, netip.MustParseAddr("127.0.0.1")
			// On a busy machine the daemon may not run for a second: wait for it.
			cfg.Pace = func(uint64) { awaitRead(t, at) }
			truth, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			awaitRead(t, at)
			time.Sleep(200 * time.Millisecond) // for what it has read and not yet counted
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%s: %v\n%s", tc.daemon, err, &log)
			}
			stopped = true
			got := nfdumpCounts(t, dir)
			if cfg.Protocol == flow.SFlow5 {
				// sfcapd counts the frame as on the wire; ours is never padded
				// here, so that the IP packet is 14 bytes of Ethernet and 4 of
				// FCS shorter.
				for ip, c := range got {
					c.OutBytes -= 18 * c.OutPackets
					c.InBytes -= 18 * c.InPackets
					got[ip] = c
				}
			}
			if diff := cmp.Diff(truth.Hosts, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("counts (-truth +nfdump):\n%.2000s\n%s", diff, &log)
			}
		})
	}
}

// nfdumpCounts adds up what nfdump prints, by internal address.
func nfdumpCounts(t *testing.T, dir string) map[netip.Addr]flow.Counts {
	t.Helper()
	out, err := exec.Command("nfdump", "-R", dir, "-6", "-q", "-N", "-o", "fmt:%sa,%da,%pkt,%byt").Output()
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(bytes.NewReader(out))
	r.TrimLeadingSpace = true
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[netip.Addr]flow.Counts{}
	for _, row := range rows {
		src, err1 := netip.ParseAddr(trim(row[0]))
		dst, err2 := netip.ParseAddr(trim(row[1]))
		packets, err3 := strconv.ParseUint(trim(row[2]), 10, 64)
		octets, err4 := strconv.ParseUint(trim(row[3]), 10, 64)
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
			t.Fatalf("nfdump's line %q: %v %v %v %v", row, err1, err2, err3, err4)
		}
		ip, c := dst, flow.Counts{InRecords: 1, InPackets: packets, InBytes: octets}
		if DefaultPrefix4.Contains(src) || DefaultPrefix6.Contains(src) {
			ip, c = src, flow.Counts{OutRecords: 1, OutPackets: packets, OutBytes: octets}
		}
		n := counts[ip]
		n.Add(c)
		counts[ip] = n
	}
	return counts
}

func trim(s string) string { return string(bytes.TrimSpace([]byte(s))) }

// awaitBound returns when a daemon has the port. It looks only: a try to bind
// could be in the daemon's way.
func awaitBound(t *testing.T, at netip.AddrPort) {
	t.Helper()
	await(t, "the daemon did not bind its port", func() bool { return socketLine(t, at) != nil })
}

// awaitRead returns when nothing waits in the daemon's socket.
func awaitRead(t *testing.T, at netip.AddrPort) {
	t.Helper()
	await(t, "the daemon does not read its socket", func() bool {
		f := socketLine(t, at) // sl local_address rem_address st tx_queue:rx_queue …
		return len(f) > 4 && strings.HasSuffix(f[4], ":00000000")
	})
}

func await(t *testing.T, otherwise string, done func() bool) {
	t.Helper()
	for range 12_000 { // a minute: hang guard
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal(otherwise)
}

// socketLine is what the kernel lists of the daemon's socket, nil if it has none.
func socketLine(t *testing.T, at netip.AddrPort) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		t.Fatal(err)
	}
	a := at.Addr().As4()
	want := fmt.Sprintf("%02X%02X%02X%02X:%04X", a[3], a[2], a[1], a[0], at.Port())
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == want {
			return f
		}
	}
	return nil
}
