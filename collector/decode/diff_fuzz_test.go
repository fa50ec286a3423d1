package decode_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// An input of a fuzz target is some datagrams, two bytes of length before each,
// so that state carries over from one to the next.
func fuzzSplit(b []byte) [][]byte {
	var out [][]byte
	for len(b) >= 2 && len(out) < 16 {
		n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
		out = append(out, b[2:2+n])
		b = b[2+n:]
	}
	return out
}

func fuzzJoin(packets ...[]byte) []byte {
	var out []byte
	for _, p := range packets {
		out = cat(out, be16(len(p)), p)
	}
	return out
}

// fuzzHold bounds what waits for templates in a fuzz target.
const fuzzHold = 64 << 10

// fuzzDecode decodes an input and holds what must be true of any: the bounds on
// memory and time, the balance, what no record may say, and that the reference
// reads the same.
func fuzzDecode(t *testing.T, b []byte, kind decode.Kind) {
	packets := fuzzSplit(b)
	cfg := decode.Config{HoldBack: fuzzHold, Inner: len(b)%2 == 1}
	used, took, d := fuzzCost(t, cfg, packets, kind, heapAllocated)
	// What was measured in passing may be of others: measured again, exactly.
	for try := 0; try < 3 && (used > uint64(boundBase+boundPerByte*len(b))/2 || took > fuzzTime(b)); try++ {
		again, last, _ := fuzzCost(t, cfg, packets, kind, heapExactly)
		if used = again; try > 0 {
			used = min(used, again)
		}
		took = min(took, last)
	}
	if used > uint64(boundBase+boundPerByte*len(b)) {
		t.Errorf("%d bytes allocated for %d received", used, len(b))
	}
	if took > fuzzTime(b) {
		t.Errorf("%d bytes took %v", len(b), took)
	}
	if s := d.Stats(); s.HeldBytes < 0 || s.HeldBytes > fuzzHold {
		t.Errorf("%d bytes held back", s.HeldBytes)
	}
	fuzzState(t, d)
	fuzzCompare(t, cfg, packets, kind)
}

// fuzzTime is how long an input may take.
func fuzzTime(b []byte) time.Duration {
	return boundTime * time.Duration(1+len(b)>>16)
}

// fuzzCost decodes with a new decoder.
func fuzzCost(t testing.TB, cfg decode.Config, packets [][]byte, kind decode.Kind, heap func() uint64) (used uint64, took time.Duration, d *decode.Decoder) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, start := heap(), threadTime(t)
	d = decode.New(cfg, decode.Deps{})
	for _, p := range packets {
		d.Decode(fuzzDatagram(p, kind), func([]flow.Record) {})
	}
	took = threadTime(t) - start
	return heap() - before, took, d
}

func fuzzDatagram(p []byte, kind decode.Kind) decode.Datagram {
	return decode.Datagram{Exporter: genExporters[0], Received: genNow, Payload: p, Kind: kind}
}

var heapSample = []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}

// heapAllocated is cheap, and behind by what the processors have not yet told.
func heapAllocated() uint64 {
	metrics.Read(heapSample)
	return heapSample[0].Value.Uint64()
}

// heapExactly stops the world.
func heapExactly() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// fuzzCompare holds the records against the reference. It knows no bounds on
// state, and takes its time: inputs that are large or reach a bound are left.
func fuzzCompare(t *testing.T, cfg decode.Config, packets [][]byte, kind decode.Kind) {
	p := newPair(t, "input", cfg)
	size := 0
	for _, b := range packets {
		if size += len(b); size > 8<<10 {
			return
		}
		for _, r := range p.decode(fuzzDatagram(b, kind)) {
			fuzzRecord(t, &r)
		}
		n := p.counts()
		if n[decode.ReasonTemplateUnknown]+n[decode.NoteTemplateEvicted]+n[decode.NoteDomainEvicted]+n[decode.NoteSamplersFull]+n[decode.NoteTotalsForgotten] > 0 {
			return
		}
	}
	p.end()
}

// fuzzRecord holds what must be true of any record.
func fuzzRecord(t *testing.T, r *flow.Record) {
	if r.End < r.Start || r.End > genNow+refMaxFuture {
		t.Errorf("ends before it starts, or in the future: %+v", r)
	}
	if r.SamplingRate > refMaxRate || (r.SamplingRate == 0) != (r.SamplingSource == flow.SamplingUnknown) {
		t.Errorf("rate %d from %v", r.SamplingRate, r.SamplingSource)
	}
	if r.Src.Is4In6() || r.Dst.Is4In6() {
		t.Errorf("mapped address: %+v", r)
	}
}

// fuzzState: what can be learnt can be saved and loaded, and is the same then.
func fuzzState(t *testing.T, d *decode.Decoder) {
	var a, b bytes.Buffer
	if err := d.SaveState(&a); err != nil {
		t.Fatal(err)
	}
	e := decode.New(decode.Config{}, decode.Deps{})
	if err := e.LoadState(bytes.NewReader(a.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := e.SaveState(&b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("state changed on its way through a file:\n%s\n%s", a.Bytes(), b.Bytes())
	}
}

// seedCorpus adds the captures of one protocol, where they are at hand, and what
// the generators make.
func seedCorpus(f *testing.F, versions ...byte) {
	files, _ := filepath.Glob("testdata/captures/*/*")
	more, _ := filepath.Glob("../../../shared/corpora/flow/*/*")
	for _, name := range append(files, more...) {
		switch strings.TrimPrefix(filepath.Ext(name), ".") {
		case "dat", "bin", "dump":
		default:
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil || len(b) < 4 || len(b) > 8192 {
			continue
		}
		for _, v := range versions {
			if b[1] == v || b[1] == 0 && b[3] == v && v == 5 {
				f.Add(fuzzJoin(b))
			}
		}
	}
}

// seedCases adds the datagrams of generated cases.
func seedCases(f *testing.F, first uint64, run func(*pair, *dice), keep func([]byte) bool) {
	for seed := first; seed < first+40; seed++ {
		d := newDice(seed)
		p := newPair(f, "seed", genConfig(d))
		run(p, d)
		if b := fuzzJoin(p.payloads...); len(b) < 4096 && keep(p.payloads[0]) {
			f.Add(b)
		}
	}
}

func version(v byte) func([]byte) bool {
	return func(b []byte) bool { return len(b) > 1 && b[1] == v }
}

func FuzzNetFlow5(f *testing.F) {
	seedCorpus(f, 5)
	seedCases(f, 1<<33, runNetFlow5Case, version(5))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzDecode(t, b, decode.KindNetFlow) })
}

func FuzzNetFlow9(f *testing.F) {
	seedCorpus(f, 9)
	seedCases(f, 0, runNetFlowCase, version(9))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzDecode(t, b, decode.KindNetFlow) })
}

func FuzzIPFIX(f *testing.F) {
	seedCorpus(f, 10)
	seedCases(f, 0, runNetFlowCase, version(10))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzDecode(t, b, decode.KindNetFlow) })
}

func FuzzSFlow(f *testing.F) {
	seedCorpus(f, 5)
	seedCases(f, 1<<32, runSFlowCase, func([]byte) bool { return true })
	f.Fuzz(func(t *testing.T, b []byte) { fuzzDecode(t, b, decode.KindSFlow) })
}

// FuzzPlan lets the fuzzer choose templates and data: compiled plan = reference.
func FuzzPlan(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(newDice(seed).bytes(600))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &dice{b: b}
		runNetFlowCase(newPair(t, "fuzz", genConfig(d)), d)
	})
}
