package proxmox

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	// noteStart begins each line of ours in a guest's notes; a text for people
	// and, behind the first ": {", the note in JSON follow.
	noteStart = "[flowcordon] "
	// maxReason keeps the line readable.
	maxReason = 300
	// maxNotes is the most that the API takes, in characters (description,
	// maxLength 8192, of PUT /nodes/{node}/qemu/{vmid}/config).
	maxNotes = 8192
)

// note is our mark on one NIC with the state to go back to.
type note struct {
	Kind flow.MeasureKind `json:"kind"` // cut or rate_limit
	MAC  string           `json:"mac"`
	// The guest it was written for: a clone or a restored backup carries the
	// note of another.
	Guest int       `json:"vmid"`
	Mark  flow.Mark `json:"mark"`
	Undo  undo      `json:"was"`
	Rate  string    `json:"rate,omitempty"` // what we set, of a limit
	// Held is what waits for the next start, between the two writes that put it
	// back: "net0=…", or "net0" for its removal.
	Held string `json:"held,omitempty"`
}

// undo is what a NIC was before, and what a receipt carries of it.
type undo struct {
	Link     string         `json:"link_down,omitempty"` // of netN in effect; empty: not there
	NextLink string         `json:"next_link_down,omitempty"`
	Rate     string         `json:"rate,omitempty"`
	NextRate string         `json:"next_rate,omitempty"`
	Live     flow.LinkState `json:"live,omitempty"`
	Config   flow.LinkState `json:"config,omitempty"`
	Running  bool           `json:"running,omitempty"`
	// Options are the settings of the guest's firewall that a port block
	// changed; nil: not set.
	Options map[string]*string `json:"options,omitempty"`
}

// raw is the undo for a receipt. It marshals plain values: that cannot fail.
func (u undo) raw() json.RawMessage {
	b, err := json.Marshal(u)
	if err != nil {
		panic("proxmox: " + err.Error())
	}
	return b
}

// undoOf is what the receipt says, or else what the note says.
func undoOf(r flow.Receipt, n undo) undo {
	var u undo
	if len(r.Undo) == 0 || json.Unmarshal(r.Undo, &u) != nil {
		return n
	}
	return u
}

func (n note) line() string {
	b, err := json.Marshal(n) // escapes <, > and &: the GUI shows notes as Markdown
	if err != nil {
		panic("proxmox: " + err.Error())
	}
	what := "the network is cut"
	if n.Kind == flow.MeasureLimit {
		what = "the network is limited"
	}
	return fmt.Sprintf("%s%s for incident %s, please leave this line: %s", noteStart, what, oneLine(n.Mark.Incident), b)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// splitNotes parts a guest's notes into what is not ours and our marks. A line
// that only looks like ours is not ours.
func splitNotes(s string) (rest string, notes []note) {
	var keep []string
	for line := range strings.SplitSeq(s, "\n") {
		if n, ok := parseNote(line); ok {
			notes = append(notes, n)
			continue
		}
		keep = append(keep, line)
	}
	return strings.Join(keep, "\n"), notes
}

func parseNote(line string) (note, bool) {
	s, ok := strings.CutPrefix(strings.TrimSpace(line), noteStart)
	if !ok {
		return note{}, false
	}
	_, s, ok = strings.Cut(s, ": {")
	var n note
	if !ok || json.Unmarshal([]byte("{"+s), &n) != nil || n.MAC == "" || n.Mark.Incident == "" {
		return note{}, false
	}
	n.MAC = strings.ToLower(n.MAC)
	return n, true
}

// joinNotes is the inverse of splitNotes. Reasons are shortened when the text
// would not fit.
func joinNotes(rest string, notes []note) (string, error) {
	if len(notes) == 0 {
		return rest, nil
	}
	for _, limit := range []int{maxReason, 60, 0} {
		text := rest
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		for _, n := range notes {
			n.Mark.Reason = shorten(n.Mark.Reason, limit)
			text += n.line() + "\n"
		}
		if utf8.RuneCountInString(text) <= maxNotes {
			return text, nil
		}
	}
	return "", fail(flow.ErrUnsupported,
		"the guest's notes have no room for our mark: they hold %d of %d characters; shorten them",
		utf8.RuneCountInString(rest), maxNotes)
}

func shorten(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	r := []rune(s)
	return string(r[:limit]) + "…"
}
