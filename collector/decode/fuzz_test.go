package decode

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Bounds of the fuzz targets. What a byte can cost is a template's field (4
// bytes) or a domain (a header of 16); a record costs nothing. Around it stand a
// new exporter, its histograms, and the log.
const (
	fuzzBytesPerByte = 64
	fuzzBytesBase    = 64 << 10
	fuzzTime         = 3 * time.Second
)

// fuzzSplit cuts an input into datagrams: two bytes of length before each, so
// that state carries over from one to the next.
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
	var w wire
	for _, p := range packets {
		w = w.u16(uint16(len(p))).raw(p)
	}
	return w
}

// fuzzDecode decodes an input and holds what must be true of any.
func fuzzDecode(t *testing.T, b []byte, kind Kind) {
	packets := fuzzSplit(b)
	d := New(Config{HoldBack: 64 << 10}, Deps{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	for _, p := range packets {
		orig := bytes.Clone(p)
		d.Decode(Datagram{Exporter: testExporter, Received: testNow, Payload: p, Kind: kind}, func(rs []flow.Record) {
			for i := range rs {
				fuzzRecord(t, &rs[i])
			}
		})
		if !bytes.Equal(orig, p) {
			t.Fatal("the payload was changed")
		}
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	checkInvariant(t, d)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(fuzzBytesBase+fuzzBytesPerByte*len(b)) {
		t.Errorf("%d bytes allocated for %d received", used, len(b))
	}
	if took > fuzzTime {
		t.Errorf("%d bytes took %v", len(b), took)
	}
	if d.heldBytes > 64<<10 || d.heldBytes < 0 {
		t.Errorf("%d bytes held back", d.heldBytes)
	}
	fuzzState(t, d)
}

// fuzzRecord holds what must be true of any record.
func fuzzRecord(t *testing.T, r *flow.Record) {
	if r.End < r.Start {
		t.Errorf("ends before it starts: %+v", r)
	}
	if r.End > testNow+int64(maxFuture) {
		t.Errorf("ends in the future: %+v", r)
	}
	if r.SamplingRate > maxSamplingRate || (r.SamplingRate == 0) != (r.SamplingSource == flow.SamplingUnknown) {
		t.Errorf("rate %d from %v", r.SamplingRate, r.SamplingSource)
	}
	if r.Src.Is4In6() || r.Dst.Is4In6() {
		t.Errorf("mapped address: %+v", r)
	}
}

// fuzzState: what can be learnt can be saved and loaded, and is the same then.
func fuzzState(t *testing.T, d *Decoder) {
	var a, b bytes.Buffer
	if err := d.SaveState(&a); err != nil {
		t.Fatal(err)
	}
	e := New(Config{}, Deps{})
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

// seedCorpus adds the captures of one protocol, where they are at hand.
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

func FuzzNetFlow5(f *testing.F) {
	f.Add(fuzzJoin(v5msg(0, 0, v5rec("192.0.2.1", "198.51.100.1", 1000, 80, 6, 2, 3, 180))))
	f.Add(fuzzJoin(wire{}.u16(5, 30).u32(0, 0, 0, 0, 0)))
	seedCorpus(f, 5)
	f.Fuzz(func(t *testing.T, b []byte) { fuzzDecode(t, b, KindNetFlow) })
}

func FuzzNetFlow9(f *testing.F) {
	f.Add(fuzzJoin(v9(0, 1, set(0, tplBasic)), v9(1, 1, set(256, dataBasic))))
	f.Add(fuzzJoin(v9(0, 1, set(256, dataBasic)), v9(1, 1, set(0, tplBasic))))
	f.Add(fuzzJoin(v9(0, 1, set(1, wire{}.u16(257, 4, 8).u16(1, 4).u16(48, 1, 50, 4)), set(257, wire{}.u32(1).u8(2).u32(100)))))
	seedCorpus(f, 9)
	f.Fuzz(func(t *testing.T, b []byte) { fuzzDecode(t, b, KindNetFlow) })
}

func FuzzIPFIX(f *testing.F) {
	f.Add(fuzzJoin(ipfixMsg(0, 1, set(2, tplBasic)), ipfixMsg(1, 1, set(256, dataBasic)), ipfixMsg(2, 1, set(2, wire{}.u16(256, 0)))))
	f.Add(fuzzJoin(ipfixMsg(0, 1, set(3, wire{}.u16(256, 0, 0))), ipfixMsg(0, 1, set(256, make([]byte, 44)))))
	f.Add(fuzzJoin(ipfixMsg(0, 1, set(3, wire{}.u16(258, 3, 1).u16(302, 4, 305, 4, 306, 4)), set(258, wire{}.u32(1, 1, 99)))))
	f.Add(fuzzJoin(ipfixMsg(0, 1, set(2, wire{}.u16(256, 2).u16(82, 0xffff).u16(0x8001, 4).u32(29305)), set(256, wire{}.u8(255, 0, 2, 'a', 'b').u32(7)))))
	seedCorpus(f, 10)
	f.Fuzz(func(t *testing.T, b []byte) { fuzzDecode(t, b, KindNetFlow) })
}

func FuzzSFlow(f *testing.F) {
	f.Add(fuzzJoin(sflowMsg(1, flowSampleRaw(1000, 1, ethTCP))))
	f.Add(fuzzJoin(sflowMsg(1, wire{}.u32(3, 44).u32(1, 0, 1, 1000, 5, 0, 0, 1, 0, 2, 0xffffffff))))
	seedCorpus(f, 5)
	f.Fuzz(func(t *testing.T, b []byte) { fuzzDecode(t, b, KindSFlow) })
}

// FuzzState: a state file from anywhere is refused or taken, within bounds.
func FuzzState(f *testing.F) {
	d := New(Config{}, Deps{})
	feed(d, v9(0, 1, set(0, tplBasic)))
	var b bytes.Buffer
	if err := d.SaveState(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"flowcordon_decoder_state":1,"exporters":[{"addr":"::1","templates":[{"version":9,"domain":0,"id":256,"scopes":-1,"fields":[[1]]}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := New(Config{}, Deps{})
		if d.LoadState(bytes.NewReader(b)) == nil {
			fuzzState(t, d)
		}
		feed(d, v9(0, 1, set(256, dataBasic)))
		checkInvariant(t, d)
	})
}
