package inventory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/inventory/discover"
)

// kept is a source's last good reading on disk.
type kept struct {
	Source  string           `json:"source"`
	Seen    time.Time        `json:"seen"`
	Entries []discover.Entry `json:"entries"`
}

// keptHistory is who held what, on disk.
type keptHistory struct {
	Prefixes []keptPrefix `json:"prefixes"`
}

type keptPrefix struct {
	Prefix    netip.Prefix `json:"prefix"`
	Intervals []interval   `json:"intervals"`
}

func (i *Inventory) sourceFile(name string) string {
	return filepath.Join(i.cfg.Dir, "source-"+name+".json")
}

func (i *Inventory) historyFile() string { return filepath.Join(i.cfg.Dir, "history.json") }

// recall reads what was kept. What cannot be read is told and left out: the
// source will be read again, and until then nothing is known by it.
func (i *Inventory) recall() error {
	if i.cfg.Dir == "" {
		return nil
	}
	var errs []error
	var h keptHistory
	if err := readJSON(i.historyFile(), &h); err != nil {
		errs = append(errs, fmt.Errorf("who held discovered addresses before: %w", err))
	}
	for _, p := range h.Prefixes {
		if p.Prefix.IsValid() && len(p.Intervals) > 0 {
			i.history[p.Prefix] = p.Intervals
		}
	}
	for _, s := range i.sources {
		var k kept
		if err := readJSON(i.sourceFile(s.Name), &k); err != nil {
			errs = append(errs, fmt.Errorf("the last answer of source %s: %w", s.Name, err))
			continue
		}
		if k.Source == s.Name && !k.Seen.IsZero() {
			s.entries, s.seen, s.known = k.Entries, k.Seen, true
		}
	}
	return errors.Join(errs...)
}

func (i *Inventory) keepSource(s *source) {
	if i.cfg.Dir == "" || i.cfg.ReadOnly {
		return
	}
	s.mu.Lock()
	k := kept{Source: s.Name, Seen: s.seen, Entries: s.entries}
	s.mu.Unlock()
	if err := writeJSON(i.sourceFile(s.Name), k); err != nil {
		i.log.Error("the answer of an inventory source cannot be kept; after a restart the one before counts", zap.String("source", s.Name), zap.Error(err))
	}
}

func (i *Inventory) keepHistory() {
	if i.cfg.Dir == "" || i.cfg.ReadOnly {
		return
	}
	var k keptHistory
	for _, p := range i.history.prefixes() {
		k.Prefixes = append(k.Prefixes, keptPrefix{p, i.history[p]})
	}
	if err := writeJSON(i.historyFile(), k); err != nil {
		i.log.Error("who held discovered addresses before cannot be kept; after a restart changes since then begin anew", zap.Error(err))
	}
}

// readJSON leaves v as it is where there is no file.
func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file in one step, or leaves it as it was.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already if all went well
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
