package portal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Use is one answer by one link.
type Use struct {
	ID       string // of the link, hex; it is Statement.Key as well
	Incident string
	Expires  time.Time // of the link; after it the use may be forgotten
}

// Nonces remembers which links were used. Implementations are safe for
// concurrent use, and what they remember outlives the process.
type Nonces interface {
	// Begin claims a link for one answer. ErrUsed: it was answered, or another
	// request is at it. Any other error: it cannot be known, nothing may follow.
	Begin(u Use) error
	Done(u Use) error // the answer is stored
	Undo(u Use) error // it could not be stored: the link stays good
	Used(u Use) bool  // answered
}

// EventNonces is for whoever stores answers with their keys anyway, in an event
// log for example: that remembers the used links, and nothing else need be kept.
type EventNonces struct {
	known func(incident, key string) bool
	mu    sync.Mutex
	busy  map[string]bool
}

// NewEventNonces asks known whether an answer with that key is stored.
func NewEventNonces(known func(incident, key string) bool) *EventNonces {
	return &EventNonces{known: known, busy: map[string]bool{}}
}

// Begin is Nonces.Begin.
func (n *EventNonces) Begin(u Use) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy[u.ID] || n.known(u.Incident, u.ID) {
		return ErrUsed
	}
	n.busy[u.ID] = true
	return nil
}

// Done is Nonces.Done: the answer's own event has said it.
func (n *EventNonces) Done(u Use) error { return n.Undo(u) }

// Undo is Nonces.Undo.
func (n *EventNonces) Undo(u Use) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.busy, u.ID)
	return nil
}

// Used is Nonces.Used.
func (n *EventNonces) Used(u Use) bool { return n.known(u.Incident, u.ID) }

// FileNonces keeps used links in a file of one line each: state, id, and the
// Unix second when it ends. A claim that a crash left behind is free again:
// the customer must not be locked out by it, and Statement.Key keeps the
// answer from being stored twice.
type FileNonces struct {
	mu   sync.Mutex
	f    *os.File
	used map[string]int64 // id → expiry
	busy map[string]int64
	size int64 // of the whole lines in the file
}

// maxNonceFile bounds what is read at the start: 1e6 answers within the
// lifetime of links are far beyond any hoster.
const maxNonceFile = 64 << 20

// OpenFileNonces reads the file, drops what has expired, and keeps it open for
// appending. A half-written last line, as a crash leaves it, is dropped.
func OpenFileNonces(path string, now time.Time) (*FileNonces, error) {
	n := &FileNonces{used: map[string]int64{}, busy: map[string]int64{}}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open used links: %w", err)
	default:
		var st os.FileInfo
		if st, err = f.Stat(); err == nil && st.Size() > maxNonceFile {
			err = fmt.Errorf("%d bytes, at most %d are read: move it away if no link of it is good any more", st.Size(), maxNonceFile)
		}
		if err == nil {
			err = n.read(f, now)
		}
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("read used links in %s: %w", path, err)
		}
	}
	if err := n.rewrite(path); err != nil {
		return nil, fmt.Errorf("write used links: %w", err)
	}
	return n, nil
}

func (n *FileNonces) read(r io.Reader, now time.Time) error {
	br := bufio.NewReader(r)
	for line := 1; ; line++ {
		text, err := br.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil // text, if any, was never finished
		}
		if err != nil {
			return err
		}
		id, rest, ok := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
		end, err := strconv.ParseInt(rest, 10, 64)
		if !ok || err != nil || !isID(id) {
			return fmt.Errorf("line %d is not an id and a Unix second: restore the file, or remove the line", line)
		}
		if end > now.Unix() {
			n.used[id] = end
		}
	}
}

func isID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// rewrite puts what is known into a new file and keeps that one open.
func (n *FileNonces) rewrite(path string) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for id, end := range n.used {
		c, _ := fmt.Fprintf(w, "%s %d\n", id, end)
		n.size += int64(c)
	}
	err = errors.Join(w.Flush(), f.Sync())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	n.f = f
	return nil
}

// Close closes the file.
func (n *FileNonces) Close() error { return n.f.Close() }

// Begin is Nonces.Begin.
func (n *FileNonces) Begin(u Use) error {
	id := u.ID
	if !isID(id) {
		return fmt.Errorf("%q is no id of a link", id)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.used[id]; ok {
		return ErrUsed
	}
	if _, ok := n.busy[id]; ok {
		return ErrUsed
	}
	n.busy[id] = u.Expires.Unix()
	return nil
}

// Done is Nonces.Done. When it returns nil, the id is on the disk; with an
// error it counts as used for as long as the process lives.
func (n *FileNonces) Done(u Use) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := u.ID
	end, ok := n.busy[id]
	if !ok {
		return fmt.Errorf("link %s is not being used", id)
	}
	delete(n.busy, id)
	n.used[id] = end
	line := fmt.Sprintf("%s %d\n", id, end)
	if _, err := n.f.WriteString(line); err != nil {
		// Half a line would join the next one.
		return errors.Join(fmt.Errorf("write used link: %w", err), n.f.Truncate(n.size))
	}
	n.size += int64(len(line))
	if err := n.f.Sync(); err != nil {
		return fmt.Errorf("sync used links: %w", err)
	}
	return nil
}

// Undo is Nonces.Undo.
func (n *FileNonces) Undo(u Use) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.busy, u.ID)
	return nil
}

// Used is Nonces.Used.
func (n *FileNonces) Used(u Use) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.used[u.ID]
	return ok
}
