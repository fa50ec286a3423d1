package collector

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// saveInterval is how often changed templates and options are saved. After a
// kill -9 at most this much of them is learnt again from the exporters.
const saveInterval = 30 * time.Second

// maxStateFile bounds the file that is read back: all lanes' share of what
// their decoders keep.
const maxStateFile = 1 << 30

// stateHash is what was saved last, so that only changes are written.
type stateHash [sha256.Size]byte

// The state file is one decoder's state with the exporters of all lanes, so
// that the number of lanes may change between two runs. Of the format of
// decode, this much is read here; the rest passes through.
type stateFile struct {
	Version   int               `json:"flowcordon_decoder_state"`
	Exporters []json.RawMessage `json:"exporters"`
}

func exporterOf(raw json.RawMessage) (netip.Addr, error) {
	var x struct {
		Addr netip.Addr `json:"addr"`
	}
	err := json.Unmarshal(raw, &x)
	return x.Addr.Unmap(), err
}

// loadState gives each lane its exporters' templates. A file that cannot be
// read costs the time until the exporters send them again, never the start.
func (c *Collector) loadState() {
	if c.cfg.StateFile == "" {
		return
	}
	n, err := c.readState()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.log.Info("no saved templates yet", zap.String("file", c.cfg.StateFile))
	case err != nil:
		c.counts.stateErrors.Add(1)
		c.log.Warn("saved templates cannot be used; data waits until the exporters send theirs again",
			zap.String("file", c.cfg.StateFile), zap.Error(err))
	default:
		c.log.Info("templates loaded", zap.String("file", c.cfg.StateFile), zap.Int("exporters", n))
	}
}

func (c *Collector) readState() (int, error) {
	info, err := os.Stat(c.cfg.StateFile)
	if err != nil {
		return 0, err
	}
	if info.Size() > maxStateFile {
		return 0, fmt.Errorf("%w: %d bytes, at most %d are read", decode.ErrState, info.Size(), maxStateFile)
	}
	b, err := os.ReadFile(c.cfg.StateFile)
	if err != nil {
		return 0, err
	}
	var f stateFile
	if err := json.Unmarshal(b, &f); err != nil {
		return 0, fmt.Errorf("%w: %w", decode.ErrState, err)
	}
	parts := make([]stateFile, len(c.lanes))
	n := 0
	for _, raw := range f.Exporters {
		addr, err := exporterOf(raw)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", decode.ErrState, err)
		}
		if !addr.IsValid() || !c.allow.Load().Contains(addr) {
			continue // not ours any more: do not keep it for ever
		}
		p := &parts[steer(addr, len(c.lanes))]
		p.Exporters = append(p.Exporters, raw)
		n++
	}
	for i, l := range c.lanes {
		parts[i].Version = f.Version
		part, err := json.Marshal(parts[i])
		if err != nil {
			return 0, err
		}
		l.mu.Lock()
		err = l.dec.LoadState(bytes.NewReader(part))
		l.mu.Unlock()
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (c *Collector) saveLoop() {
	t := time.NewTicker(saveInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.saveState()
		case <-c.stopping:
			return
		}
	}
}

// saveState writes the state if it changed, whole or not at all.
func (c *Collector) saveState() {
	if c.cfg.StateFile == "" {
		return
	}
	b, err := c.state()
	if err == nil {
		sum := stateHash(sha256.Sum256(b))
		if sum == c.saved {
			return
		}
		if err = writeFile(c.cfg.StateFile, b); err == nil {
			c.saved = sum
			return
		}
	}
	c.counts.stateErrors.Add(1)
	if c.limits.save.AllowN(c.now(), 1) {
		c.log.Error("templates could not be saved", zap.String("file", c.cfg.StateFile), zap.Error(err))
	}
}

// state is the state of all lanes in the format of one.
func (c *Collector) state() ([]byte, error) {
	all := stateFile{Exporters: []json.RawMessage{}}
	for _, l := range c.lanes {
		var b bytes.Buffer
		l.mu.Lock()
		err := l.dec.SaveState(&b)
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		var f stateFile
		if err := json.Unmarshal(b.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("%w: %w", decode.ErrState, err)
		}
		all.Version = f.Version
		all.Exporters = append(all.Exporters, f.Exporters...)
	}
	slices.SortFunc(all.Exporters, func(a, b json.RawMessage) int {
		x, _ := exporterOf(a) // ours, written a moment ago
		y, _ := exporterOf(b)
		return cmp.Or(x.Compare(y), bytes.Compare(a, b))
	})
	return json.Marshal(all)
}

// writeFile replaces the file by a complete new one, also if the host loses
// power in between.
func writeFile(name string, b []byte) (err error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(name)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
