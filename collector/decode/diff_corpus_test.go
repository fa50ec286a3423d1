package decode_test

import (
	"errors"
	"flag"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/collector/capture"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// corpusCase is a capture of ../shared/corpora with what both decoders made of it.
type corpusCase struct {
	name      string
	row       map[string]string // of index.tsv
	dir       string
	records   []flow.Record
	datagrams int
}

// corpusCases decodes every capture of flow and exports with decoder and
// reference, which must agree.
func corpusCases(t *testing.T, visit func(t *testing.T, c *corpusCase)) {
	dir := filepath.Join(shared(t), "corpora")
	for _, row := range tsv(t, filepath.Join(dir, "index.tsv")) {
		if row["section"] != "flow" && row["section"] != "exports" {
			continue
		}
		c := &corpusCase{name: filepath.Base(row["file"]), row: row, dir: filepath.Join(dir, row["file"])}
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, c.name, decode.Config{TrustClock: true})
			eachDatagram(t, c.dir, func(dg decode.Datagram) {
				c.records = append(c.records, p.decode(dg)...)
			})
			p.end()
			c.datagrams = p.datagrams
			if !t.Failed() {
				visit(t, c)
			}
		})
	}
}

func eachDatagram(t testing.TB, path string, visit func(decode.Datagram)) {
	t.Helper()
	r, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for {
		dg, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		visit(decode.Datagram{Exporter: dg.Exporter, Received: dg.Time, Payload: dg.Payload})
	}
}

// TestDiffCorpora: on every capture decoder = reference = golden, field by
// field. Where a golden says otherwise, testdata/diff-reasons.tsv has the case,
// the field and why; a line there that nothing needs any more is an error.
func TestDiffCorpora(t *testing.T) {
	reasons := readDiffReasons(t)
	var captures, datagrams, records, goldenFiles, goldenRows, goldenFields int
	corpusCases(t, func(t *testing.T, c *corpusCase) {
		captures++
		datagrams += c.datagrams
		records += len(c.records)
		for _, g := range goldensOf(t, c) {
			n := g.compare(t, c, reasons)
			goldenFiles++
			goldenRows += len(g.rows)
			goldenFields += n
		}
	})
	t.Logf("%d captures, %d datagrams: %d records of %d fields each are equal in decoder and reference; %d goldens, %d rows, %d fields compared",
		captures, datagrams, records, reflect.TypeFor[flow.Record]().NumField(), goldenFiles, goldenRows, goldenFields)
	if flag.Lookup("test.run").Value.String() != "" && captures < 90 {
		return // some of them were asked for
	}
	if captures < 90 || goldenFiles < 90 {
		t.Errorf("%d captures, %d goldens: the corpora have more", captures, goldenFiles)
	}
	for k, r := range reasons {
		if r.used == 0 {
			t.Errorf("testdata/diff-reasons.tsv: nothing differs any more: %s", strings.ReplaceAll(k, "\t", ", "))
		}
	}
}
