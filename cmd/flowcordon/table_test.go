package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	apiclient "github.com/flowcordon/flowcordon/api/client"
)

var updateDesk = flag.Bool("update-desk", false, "rewrite testdata/desk")

// deskNow is when the samples are looked at.
var deskNow = time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)

func at(ago time.Duration) time.Time { return deskNow.Add(-ago) }

// hostileText is what customers and attackers write into names and reasons.
const hostileText = "\x1b[2J\x1b]0;owned\a\u202egnp.exe\u009b31m\r\nsecond line\t<script>"

func sampleIncident(id string, state apiclient.IncidentState, reason string) apiclient.Incident {
	tenant, vds, node := "c-42", "vds-1001", "node1"
	return apiclient.Incident{ID: id, Tenant: "198.18.0.7", Holder: apiclient.Holder{Tenant: &tenant, Vds: &vds, Hypervisor: &node}, Rules: []string{"netscan"},
		Tier: apiclient.IncidentTierSuspend, State: state, Reason: &reason, Opened: at(95 * time.Minute), Updated: at(time.Minute)}
}

// sampleScreens print what commands show, from answers that do not change.
func sampleScreens() map[string]func(d *desk) error {
	port, done := int64(22), at(90*time.Minute)
	full := sampleIncident("inc-1", apiclient.IncidentStateVerified, "cut, and outbound flows are zero")
	full.Prior, full.Action = opt(int64(2)), &apiclient.Action{Adapter: "node1", Kind: "suspend", Intent: at(91 * time.Minute), Done: &done, Verified: &done}
	full.Findings = []apiclient.Finding{{Rule: "netscan", Tier: "suspend", IPProto: 6, Port: &port, Reason: "SYN to at least 19,800 addresses per second on tcp/22, 1,198 distinct among 1,204 samples.",
		Score: 41.3, Threshold: 18, Samples: 1204, Distinct: 1198, SamplingRate: 1000, From: at(96 * time.Minute), To: at(95 * time.Minute), WindowS: 60, Gates: []string{"known_peers"}}}
	reason := "netscan"
	hostile := sampleIncident("inc-3", apiclient.IncidentStateHeld, hostileText)
	hostile.Holder.Tenant, hostile.Tenant = opt(hostileText), "2001:db8:0:7::"
	list := &apiclient.ListOutputBody{UnderscoreMetadata: apiclient.Metadata{TotalCount: 7, Limit: 3}, Incidents: []apiclient.Incident{full,
		sampleIncident("inc-2", apiclient.IncidentStateAwaitingApproval, "the rule's mode is approve"), hostile}}
	return map[string]func(d *desk) error{
		"incidents": func(d *desk) error { return d.printIncidents(list, nil) },
		"none":      func(d *desk) error { return d.printIncidents(&apiclient.ListOutputBody{}, []string{"live"}) },
		"incident": func(d *desk) error {
			return d.printIncident(&apiclient.IncidentOutputBody{Incident: full, Events: []apiclient.Event{{Time: at(95 * time.Minute), Kind: "opened", Actor: "detector", Reason: &reason},
				{Time: at(91 * time.Minute), Kind: "intent", Actor: "controller"}}})
		},
		"top": func(d *desk) error {
			return d.printTop(&apiclient.TopOutputBody{From: at(5 * time.Minute), To: deskNow, Top: []apiclient.TopEntry{
				{Tenant: "2001:db8:0:7::", EstOutBytes: 48e9, EstOutPackets: 90e6, EstInBytes: 31e6, EstInPackets: 80_000, Incidents: []string{"inc-2"}},
				{Tenant: "198.18.0.7", Holder: &full.Holder, EstOutBytes: 720_000_000, EstOutPackets: 1_100_000, SynOut: 6021, Incidents: []string{}}}})
		},
		"exporters": func(d *desk) error {
			return d.printExporters([]apiclient.ExporterHealth{
				{Exporter: "192.0.2.1", Protocols: []string{"netflow9"}, LastSeen: at(time.Second), Records: 2_108_331, Samplers: []apiclient.SamplerHealth{{Rate: 1000}}},
				{Exporter: "2001:db8:ffff::2", Protocols: []string{"sflow5"}, LastSeen: at(80 * time.Second), Records: 311_002, Lost: 1204, Dropped: map[string]int64{"truncated": 7},
					Samplers: []apiclient.SamplerHealth{{}}, Problems: []string{"sampling rate unknown: add exporters.sampling: [{exporter: 2001:db8:ffff::2, default: 1000}]"}}})
		},
		"floors": func(d *desk) error {
			floors := []apiclient.Floor{{Rule: "netscan", Unit: "addresses", Tier: "suspend", Notify: []float64{301.2, 61, 10.2}, Act: []float64{700, 141, 23.6}},
				{Rule: "spam", Unit: "servers", What: "by one mail each", Tier: "notify", Notify: []float64{0, 12.5, 2.1}, Act: []float64{0, 0, 0}}}
			return d.printFloors(&apiclient.Explanation{FloorSeconds: []int64{60, 300, 1800}, Exporters: []apiclient.ExporterFloors{
				{Exporter: "192.0.2.1", Rate: 1000, Floors: floors}, {Exporter: "192.0.2.2", Rate: 1000, Floors: floors}}}, func(string) bool { return true })
		},
	}
}

// TestScreens: what people see, in a pipe and on a terminal of 80 columns.
func TestScreens(t *testing.T) {
	for name, print := range sampleScreens() {
		for suffix, term := range map[string]terminal{"": {}, ".80": {is: true, width: 80, color: true}, ".40": {is: true, width: 40}} {
			t.Run(name+suffix, func(t *testing.T) {
				var b bytes.Buffer
				if err := print(&desk{out: &b, errs: &b, term: term, now: func() time.Time { return deskNow }}); err != nil {
					t.Fatal(err)
				}
				got := b.String()
				plainText := got
				for _, code := range []string{"0", red, green, yellow, dim, bold} {
					plainText = strings.ReplaceAll(plainText, "\x1b["+code+"m", "")
				}
				if strings.ContainsFunc(plainText, func(r rune) bool { return r != '\n' && unsafeRune(r) }) {
					t.Errorf("what a terminal would obey: %q", plainText)
				}
				if got != plainText && !term.color {
					t.Error("colours where there are none")
				}
				for l := range strings.Lines(plainText) {
					if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); term.width == 80 && n > 80 {
						t.Errorf("%d columns: %q", n, l)
					}
				}
				path := filepath.Join("testdata", "desk", name+suffix+".txt")
				if *updateDesk {
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(want), got); d != "" {
					t.Errorf("go test ./cmd/flowcordon -run Screens -update-desk writes it anew (-want +got):\n%s", d)
				}
			})
		}
	}
}

func TestJSONIsSafeOnTerminals(t *testing.T) {
	var b bytes.Buffer
	d := &desk{out: &b, end: &serviceAt{}}
	if err := d.writeJSON([]byte(`{"z":1,"a":"` + "\u009b31m\u202e" + `é"}`)); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"z\": 1,\n  \"a\": \"\\u009b31m\\u202eé\"\n}\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	if err := d.writeJSON([]byte(`{"a":`)); exitCode(err) != exitAway {
		t.Errorf("half an answer: %v", err)
	}
}

func TestNumbersAndTimes(t *testing.T) {
	for want, got := range map[string]string{
		"0": metric(int64(0)), "999": metric(int64(999)), "1k": metric(int64(1000)), "1.23k": metric(1234.0), "48.1M": metric(48_100_000.0), "1.00M": metric(999_999.0),
		"0.5": metric(0.5)[:3], "59s": span(59 * time.Second), "1m00s": span(time.Minute), "3h05m": span(3*time.Hour + 5*time.Minute), "2d01h": span(49 * time.Hour),
		"-": stamp(time.Time{}), "never": atLeast(0), "310": atLeast(301.2), "24": atLeast(23.6), "11": atLeast(10.2), "2.10": atLeast(2.1), "a…": shorten("abc", 2), "0s": span(-time.Second),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := wrap("one two threefourfive", 7); !cmp.Equal(got, []string{"one two", "threefo", "urfive"}) {
		t.Errorf("%q", got)
	}
}

// terminalPair is a pseudo-terminal of so many columns.
func terminalPair(t *testing.T, columns uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(filepath.Join("/dev/pts", fmt.Sprint(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func TestTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	master, slave := terminalPair(t, 61)
	if got := terminalOf(slave); got != (terminal{is: true, width: 61, color: true}) {
		t.Errorf("%+v", got)
	}
	t.Setenv("NO_COLOR", "1")
	if got := terminalOf(slave); got.color || !got.is {
		t.Errorf("with NO_COLOR: %+v", got)
	}
	for _, other := range []any{&bytes.Buffer{}, tempFile(t)} {
		if w, ok := other.(*bytes.Buffer); ok && terminalOf(w) != (terminal{}) {
			t.Error("a buffer is no terminal")
		}
		if f, ok := other.(*os.File); ok && terminalOf(f) != (terminal{}) {
			t.Error("a file is no terminal")
		}
	}
	for answer, want := range map[string]int{"y\n": 0, "yes\n": 0, "n\n": exitFailed, "\n": exitFailed} {
		if _, err := master.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		var asked bytes.Buffer
		d := &desk{in: slave, errs: &asked}
		if err := d.confirm(false, "Cut \x1b[1mall?"); exitCode(err) != want || asked.String() != "Cut ?[1mall? [y/N] " {
			t.Errorf("%q: %v, asked %q", answer, err, asked.String())
		}
	}
	if err := (&desk{in: tempFile(t)}).confirm(false, "Cut?"); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("without a terminal: %v", err)
	}
}

func tempFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
