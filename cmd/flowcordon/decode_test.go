package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// decodeV5 is a NetFlow v5 datagram of 2026-11-22 07:00:00 with a TCP and an
// ICMP record.
func decodeV5(sampling uint16) []byte {
	const uptime, sec = 100_000, 1795330800
	be := binary.BigEndian
	b := be.AppendUint16([]byte{0, 5}, 2)
	for _, v := range []uint32{uptime, sec, 0, 41, 0} {
		b = be.AppendUint32(b, v)
	}
	be.PutUint16(b[22:], sampling)
	for _, r := range []struct {
		proto, flags byte
		sport, dport uint16
	}{{6, 2, 40000, 22}, {1, 0, 0, 8 << 8}} {
		b = append(b, 192, 0, 2, 1, 198, 51, 100, 1, 0, 0, 0, 0, 0, 3, 0, 4)
		for _, v := range []uint32{5, 220, uptime - 3000, uptime - 1500} {
			b = be.AppendUint32(b, v)
		}
		b = be.AppendUint16(be.AppendUint16(b, r.sport), r.dport)
		b = append(b, 0, r.flags, r.proto, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	return b
}

func decodeFile(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDecodeJSON: field names, absent fields and the summary are a contract
// with users' scripts, so the output is compared as text.
func TestDecodeJSON(t *testing.T) {
	var out, errs bytes.Buffer
	path := decodeFile(t, "x.dat", decodeV5(0x4064))
	if code := runDecode(t.Context(), []string{"--json", path}, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	want := `{"type":"record","time":"2026-11-22T07:00:00Z","exporter":"127.0.0.1","protocol":"netflow5","domain":0,"start":"2026-11-22T06:59:57Z","end":"2026-11-22T06:59:58.5Z","src":"192.0.2.1","dst":"198.51.100.1","src_port":40000,"dst_port":22,"ip_proto":6,"tcp_flags":2,"packets":5,"bytes":220,"sampling_rate":100,"sampling_source":"header","in_if":3,"out_if":4}
{"type":"record","time":"2026-11-22T07:00:00Z","exporter":"127.0.0.1","protocol":"netflow5","domain":0,"start":"2026-11-22T06:59:57Z","end":"2026-11-22T06:59:58.5Z","src":"192.0.2.1","dst":"198.51.100.1","ip_proto":1,"icmp_type":8,"icmp_code":0,"packets":5,"bytes":220,"sampling_rate":100,"sampling_source":"header","in_if":3,"out_if":4}
{"type":"summary","datagrams":1,"decoded":1,"records":2,"options_records":0,"templates":0,"dropped":{},"packets_skipped":0,"exporters":{"127.0.0.1":{"datagrams":1,"decoded":1,"records":2,"options_records":0,"templates":0,"dropped":{},"lost":0,"samplers":[{"domain":0,"rate":100,"source":"header","records":2,"first_seen":"2026-11-22T07:00:00Z","last_seen":"2026-11-22T07:00:00Z"}]}}}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecodeSampling(t *testing.T) {
	path := decodeFile(t, "x.dat", decodeV5(0))
	for _, tt := range []struct {
		args   []string
		rate   float64
		source string
	}{
		{[]string{"--json", path}, 0, "unknown"},
		{[]string{"--json", "--default-rate", "1", path}, 1, "default"},
	} {
		var out, errs bytes.Buffer
		if code := runDecode(t.Context(), tt.args, &out, &errs); code != 0 {
			t.Fatalf("exit %d: %s", code, errs.String())
		}
		var rec map[string]any
		if err := json.NewDecoder(&out).Decode(&rec); err != nil {
			t.Fatal(err)
		}
		if rec["sampling_rate"] != tt.rate || rec["sampling_source"] != tt.source {
			t.Errorf("%v: %v from %v", tt.args, rec["sampling_rate"], rec["sampling_source"])
		}
	}
}

func TestDecodeTable(t *testing.T) {
	var out, errs bytes.Buffer
	path := decodeFile(t, "x.dat", append(decodeV5(0), decodeV5(0)...))
	if code := runDecode(t.Context(), []string{path}, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	for _, want := range []string{"192.0.2.1:40000", "......S.", "icmp 8/0", "unknown", "2 datagrams, 4 records"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestDecodeErrors: what, where, and what to do; and the other files are read.
func TestDecodeErrors(t *testing.T) {
	good := decodeFile(t, "good.dat", decodeV5(0))
	bad := decodeFile(t, "bad.pcap", []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0})
	damaged := decodeV5(0)
	damaged[2] = 200
	broken := decodeFile(t, "broken.dat", damaged)
	for _, tt := range []struct {
		name    string
		args    []string
		code    int
		records int
		errs    []string
		out     string
	}{
		{"absent file, the other is read", []string{"--json", "/nonexistent/x.pcap", good}, 1, 2, []string{"/nonexistent/x.pcap", "check that"}, ""},
		{"cut pcap header", []string{"--json", bad}, 1, 0, []string{bad, "pcap header"}, ""},
		{"malformed datagram is no error but counted", []string{"--json", broken}, 0, 0, nil, `"dropped":{"netflow5_count":1}`},
		{"no file", []string{"--json"}, 2, 0, []string{"usage"}, ""},
		{"unknown flag", []string{"--yaml", good}, 2, 0, []string{"yaml"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := runDecode(t.Context(), tt.args, &out, &errs); code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			if n := strings.Count(out.String(), `"type":"record"`); n != tt.records {
				t.Errorf("%d records, want %d", n, tt.records)
			}
			for _, want := range tt.errs {
				if !strings.Contains(errs.String(), want) {
					t.Errorf("no %q in %q", want, errs.String())
				}
			}
			if tt.errs == nil && errs.Len() > 0 {
				t.Errorf("stderr: %s", errs.String())
			}
			if !strings.Contains(out.String(), tt.out) {
				t.Errorf("no %s in %s", tt.out, out.String())
			}
		})
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestDecodeWriteError(t *testing.T) {
	var errs bytes.Buffer
	if code := runDecode(t.Context(), []string{"--json", decodeFile(t, "x.dat", decodeV5(0))}, fullDisk{}, &errs); code != 1 {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(errs.String(), "no space left") {
		t.Errorf("stderr: %q", errs.String())
	}
}
