package decode_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/collector/capture"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// shared returns ../shared beside the checkout, or skips the test.
func shared(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(dir, "..", "shared")
	if _, err := os.Stat(filepath.Join(path, "corpora", "index.tsv")); err != nil {
		if os.Getenv("CI") == "true" && os.Getenv("FLOWCORDON_REQUIRE_SHARED") == "1" {
			t.Fatalf("%s is required here and absent: %v", path, err)
		}
		t.Skipf("%s is absent: the corpora are not part of the project", path)
	}
	return path
}

// run decodes a file or directory.
func run(t testing.TB, cfg decode.Config, path string) ([]flow.Record, decode.Stats) {
	t.Helper()
	r, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	d := decode.New(cfg, decode.Deps{})
	var recs []flow.Record
	for {
		dg, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		d.Decode(decode.Datagram{Exporter: dg.Exporter, Received: dg.Time, Payload: dg.Payload}, func(rs []flow.Record) {
			recs = append(recs, rs...)
		})
	}
	d.DropHeld()
	s := d.Stats()
	dropped := s.Decoded
	for _, n := range s.Dropped {
		dropped += n
	}
	if dropped != s.Datagrams {
		t.Errorf("%d datagrams, but decoded + dropped = %d: %+v", s.Datagrams, dropped, s)
	}
	if s.Dropped[decode.ReasonPanic] > 0 {
		t.Errorf("the decoder panicked")
	}
	if uint64(len(recs)) != s.Records {
		t.Errorf("%d records emitted, %d counted", len(recs), s.Records)
	}
	return recs, s
}

// tsv reads a tab-separated table with a header line.
func tsv(t testing.TB, path string) []map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var head []string
	var rows []map[string]string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cols := strings.Split(line, "\t")
		if head == nil {
			head = cols
			continue
		}
		row := map[string]string{}
		for i, c := range cols {
			if i < len(head) {
				row[head[i]] = c
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// TestCorpusCounts decodes every capture of the index and compares the number
// of records, or with testdata/corpus-reasons.tsv where we differ for a reason.
func TestCorpusCounts(t *testing.T) {
	dir := filepath.Join(shared(t), "corpora")
	reasons := map[string]map[string]string{}
	for _, r := range tsv(t, "testdata/corpus-reasons.tsv") {
		reasons[r["case"]+"/"+r["check"]] = r
	}
	n := 0
	for _, row := range tsv(t, filepath.Join(dir, "index.tsv")) {
		if row["section"] != "flow" {
			continue
		}
		n++
		name := filepath.Base(row["file"])
		t.Run(name, func(t *testing.T) {
			recs, stats := run(t, decode.Config{}, filepath.Join(dir, row["file"]))
			want, err := strconv.Atoi(row["records_expected"])
			if err != nil {
				t.Fatal(err)
			}
			if r, ok := reasons[name+"/records"]; ok {
				if want, err = strconv.Atoi(r["ours"]); err != nil {
					t.Fatal(err)
				}
			}
			if len(recs) != want {
				t.Errorf("%d records, want %d\n%+v", len(recs), want, stats)
			}
		})
	}
	if n < 70 {
		t.Errorf("the index has %d captures, expected over 70", n)
	}
}
