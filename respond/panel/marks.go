package panel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// entry is our mark on one server for one kind of measure.
type entry struct {
	Kind flow.MeasureKind `json:"kind"`
	MAC  string           `json:"mac,omitempty"`
	Mark flow.Mark        `json:"mark"`
	// Before is the state that was found; Rules are those that we added, Mbit
	// what was the limit before ours, and Ours ours, in Mbit/s.
	Before flow.NICStatus `json:"before"`
	Rules  []rule         `json:"rules,omitempty"`
	Mbit   int            `json:"mbit,omitempty"`
	Ours   int            `json:"ours,omitempty"`
	Want   flow.Measure   `json:"measure,omitzero"`
}

// marks are the files of one adapter: NAME.ID.json with a list of entries.
type marks struct{ dir, name string }

func (m marks) file(id int) string {
	return filepath.Join(m.dir, fmt.Sprintf("%s.%d.json", m.name, id))
}

func (m marks) read(id int) ([]entry, error) {
	b, err := os.ReadFile(m.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var es []entry
	if err == nil {
		err = json.Unmarshal(b, &es)
	}
	if err != nil { // not "no mark": that would make our cut somebody else's
		return nil, fail(flow.ErrDenied, "our marks: %w", err)
	}
	return es, nil
}

func (m marks) get(id int, kind flow.MeasureKind) (*entry, error) {
	es, err := m.read(id)
	if i := slices.IndexFunc(es, func(e entry) bool { return e.Kind == kind }); i >= 0 {
		return &es[i], err
	}
	return nil, err
}

// put writes, replaces or, with e nil, removes the entry of a kind, and is on
// the disk when it returns.
func (m marks) put(id int, kind flow.MeasureKind, e *entry) error {
	es, err := m.read(id)
	if err != nil {
		return err
	}
	es = slices.DeleteFunc(es, func(o entry) bool { return o.Kind == kind })
	if e != nil {
		es = append(es, *e)
	}
	if len(es) == 0 {
		if err := os.Remove(m.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail(flow.ErrDenied, "our marks: %w", err)
		}
		return nil
	}
	b, err := json.Marshal(es)
	if err == nil {
		err = replaceFile(m.file(id), b)
	}
	if err != nil {
		return fail(flow.ErrDenied, "our marks: %w", err)
	}
	return nil
}

func replaceFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".mark-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// ids are the servers that have a mark.
func (m marks) ids() ([]int, error) {
	files, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fail(flow.ErrDenied, "our marks: %w", err)
	}
	var out []int
	for _, f := range files {
		s, ok := strings.CutPrefix(f.Name(), m.name+".")
		s, ok2 := strings.CutSuffix(s, ".json")
		if id, err := strconv.Atoi(s); ok && ok2 && err == nil {
			out = append(out, id)
		}
	}
	return out, nil
}
