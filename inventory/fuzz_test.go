package inventory

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// FuzzParse: whatever the file holds, the parsers neither panic nor loop, a
// refusal says why and where, and an accepted file answers with what it holds.
func FuzzParse(f *testing.F) {
	f.Add(sample, true)
	f.Add("prefix,tenant,macs\n198.18.0.7/32,a,52:54:00:aa:10:01;52:54:00:aa:10:02\n", false)
	f.Add("- &a [*a]\n- {<<: *a}\n", true)
	f.Add("- ? [x]\n  : y\n- {? {a: b} : c}\n", true)
	f.Add("%YAML 1.1\n--- !!map\n- !!binary x\n", true)
	f.Add("ip,tenant\n\"198.18.0.7\n", false)
	f.Add("[[[[[[[[[[[[[[[[[[[[", true)
	f.Fuzz(func(t *testing.T, text string, isYAML bool) {
		name := "f.csv"
		if isYAML {
			name = "f.yaml"
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tab, err := Parse(name, strings.NewReader(text))
		runtime.ReadMemStats(&after)
		// A YAML node takes some 200 bytes, an issue of a one-byte item as much
		// again; the fixed part is the decoder's buffers and the tables.
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20+4000*uint64(len(text)) {
			t.Fatalf("%d bytes allocated for a file of %d", used, len(text))
		}
		if err != nil {
			var is Issues
			if !errors.As(err, &is) || len(is) == 0 {
				t.Fatalf("error %T without issues: %v", err, err)
			}
			for _, i := range is {
				if i.Problem == "" || strings.ContainsAny(i.String(), "\n\r") {
					t.Fatalf("issue is not one line: %q", i)
				}
			}
			return
		}
		for p, es := range tab.byPrefix.All() {
			for _, e := range es {
				at := e.h.From
				if at.IsZero() {
					at = time.Unix(0, 0)
					if !e.h.To.IsZero() {
						at = e.h.To.Add(-1)
					}
				}
				h, ok := tab.Holder(p.Addr(), at)
				if !ok {
					t.Fatalf("nobody holds %s at %s", p, at)
				}
				if h.Prefix.Bits() < p.Bits() || !h.Prefix.Contains(p.Addr()) {
					t.Fatalf("%s is answered with %s", p, h.Prefix)
				}
			}
		}
	})
}
