package bgp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// marksVersion is of the file's form.
const marksVersion = 1

// held is one source with the measures that we took against it.
type held struct {
	Source   netip.Prefix       `json:"source"`
	NIC      flow.NIC           `json:"nic"`
	Measures []flow.Restriction `json:"measures"` // at most one of each kind, the cut included
}

func (h held) measure(k flow.MeasureKind) (flow.Restriction, bool) {
	i := slices.IndexFunc(h.Measures, func(r flow.Restriction) bool { return r.Measure.Kind == k })
	if i < 0 {
		return flow.Restriction{}, false
	}
	return h.Measures[i], true
}

// with is a copy that has r as its only measure of that kind, mildest first.
func (h held) with(r flow.Restriction) held {
	h = h.without(r.Measure.Kind)
	h.Measures = append(h.Measures, r)
	slices.SortFunc(h.Measures, func(a, b flow.Restriction) int { return a.Measure.Kind.Rank() - b.Measure.Kind.Rank() })
	return h
}

func (h held) without(k flow.MeasureKind) held {
	h.Measures = slices.DeleteFunc(slices.Clone(h.Measures), func(r flow.Restriction) bool { return r.Measure.Kind == k })
	return h
}

// rules are all that the source's measures ask for. A cut and a limit match the
// same packets, so they are one route, and the cut's rate stands in it.
func (h held) rules(c Config) (rules, error) {
	out := rules{}
	for _, r := range h.Measures { // mildest first: the cut overwrites the limit
		more, err := c.rulesOf(h.Source, r.Measure)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, more)
	}
	return out, nil
}

// marks are all sources, by prefix. Routers keep no marks, so the file is the
// only memory of what we took.
type marks map[netip.Prefix]held

type marksFile struct {
	Version int    `json:"version"`
	Sources []held `json:"sources"`
}

func (c Config) marksPath() string { return filepath.Join(c.Dir, "bgp-"+c.Name+".json") }

// loadMarks reads the file; none is no mark.
func loadMarks(path string) (marks, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return marks{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the marks: %w", err)
	}
	var f marksFile
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w); move it away and start again: what incidents ask for is announced anew", path, err)
	}
	if f.Version != marksVersion {
		return nil, fmt.Errorf("%s has version %d, this program knows %d; start the program that wrote it", path, f.Version, marksVersion)
	}
	m := marks{}
	for _, h := range f.Sources {
		m[h.Source] = h
	}
	return m, nil
}

// save replaces the file so that a crash leaves the old or the new one whole.
func (m marks) save(path string) error {
	f := marksFile{Version: marksVersion, Sources: []held{}}
	for _, p := range slices.SortedFunc(maps.Keys(m), netip.Prefix.Compare) {
		f.Sources = append(f.Sources, m[p])
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the marks: %w", err)
	}
	if err := replaceFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write the marks: %w", err)
	}
	return nil
}

func replaceFile(path string, text []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync() // or a power cut may bring the old name back
}
