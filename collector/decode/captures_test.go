package decode_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/collector/decode"
)

var update = flag.Bool("update", false, "write the goldens instead of comparing")

// TestCaptures compares the project's own captures (testdata/ORIGIN.md) with
// their goldens: every field of every record, and the counts.
func TestCaptures(t *testing.T) {
	dirs, err := filepath.Glob("testdata/captures/*")
	if err != nil || len(dirs) < 10 {
		t.Fatalf("%d captures: %v", len(dirs), err)
	}
	for _, dir := range dirs {
		if filepath.Ext(dir) == ".json" {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			recs, stats := run(t, decode.Config{}, dir)
			var got []byte
			for i := range recs {
				b, err := json.Marshal(&recs[i])
				if err != nil {
					t.Fatal(err)
				}
				got = append(append(got, b...), '\n')
			}
			b, err := json.Marshal(stats)
			if err != nil {
				t.Fatal(err)
			}
			got = append(append(got, b...), '\n')
			golden := dir + ".golden.json"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
