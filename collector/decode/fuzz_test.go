package decode

import (
	"bytes"
	"testing"
)

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
