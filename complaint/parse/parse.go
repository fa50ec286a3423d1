package parse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrTooLarge is for input above what a complaint can have.
var ErrTooLarge = errors.New("the complaint is too large")

// ErrEmpty is for input without anything in it.
var ErrEmpty = errors.New("the complaint is empty")

// reader reads one complaint.
type reader struct {
	ctx      context.Context
	in       Input
	c        *Complaint
	pieces   []piece
	unpacked int       // bytes of all pieces and archives
	lines    int       // of all pieces
	date     time.Time // day of lines that have a time of day only
	stated   zoneOf    // the first sentence about the zone, in whatever piece
	cut      map[string]bool
}

// piece is a text that is to be read.
type piece struct {
	name, typ string
	text      string
	mail      time.Time // Date of the mail that it came in
	log       bool      // an attached log: what is no log line is named
	shape     Shape     // of a block of fields in it, when the type says so
	depth     int
	part      int // index into Complaint.Parts
}

// Parse reads a complaint. What cannot be read is in the result; an error is
// for a complaint that is empty or too large, or for the context's end.
func Parse(ctx context.Context, in Input) (*Complaint, error) {
	if len(in.Data) > maxInput {
		return nil, fmt.Errorf("%w: %d bytes, the most is %d; send the text and the logs, without pictures", ErrTooLarge, len(in.Data), maxInput)
	}
	if strings.TrimSpace(string(in.Data)) == "" {
		return nil, fmt.Errorf("%w; paste its text, or send the whole mail", ErrEmpty)
	}
	if in.Received.IsZero() {
		in.Received = time.Now()
	}
	r := &reader{ctx: ctx, in: in, cut: map[string]bool{},
		c: &Complaint{Parts: []Part{}, Observations: []Observation{}, Unread: []Unread{}, Notes: []string{}}}
	r.open()
	r.findZones()
	for i := 0; i < len(r.pieces); i++ { // reports unpack into further pieces
		if err := r.piece(r.pieces[i]); err != nil {
			return nil, err
		}
	}
	r.knownAddresses()
	slices.SortStableFunc(r.c.Observations, func(a, b Observation) int { return cmp.Or(cmp.Compare(a.Part, b.Part), cmp.Compare(a.Line, b.Line)) })
	slices.SortStableFunc(r.c.Unread, func(a, b Unread) int { return cmp.Or(cmp.Compare(a.Part, b.Part), cmp.Compare(a.Line, b.Line)) })
	return r.c, nil
}

// open makes pieces of the input.
func (r *reader) open() {
	text := decodeText(r.in.Data)
	switch {
	case r.in.Type == "message/rfc822" || r.in.Type != "application/json" && looksLikeMail(text):
		if err := r.mail([]byte(text), 0, ""); err != nil {
			r.note("the mail's structure is broken (" + clip(err.Error(), 120) + "); it was read as plain text")
			r.add(piece{name: "text", typ: "text/plain", text: text})
		} else if len(r.c.Parts) == 0 {
			r.note("the mail has no part that can be read; it was read as plain text")
			r.add(piece{name: "text", typ: "text/plain", text: text})
		}
	default:
		r.add(piece{name: "text", typ: "text/plain", text: text})
	}
}

func (r *reader) note(s string) {
	if len(r.c.Notes) < 50 && !r.cut[s] {
		r.cut[s] = true
		r.c.Notes = append(r.c.Notes, s)
	}
}

// add takes a piece, and its part, within the bounds.
func (r *reader) add(p piece) {
	if len(r.c.Parts) >= maxParts {
		r.note(fmt.Sprintf("there are more than %d parts; the rest was not read", maxParts))
		return
	}
	p.part = len(r.c.Parts)
	r.c.Parts = append(r.c.Parts, Part{Name: clip(p.name, 120), Type: clip(p.typ, 80)})
	r.pieces = append(r.pieces, p)
}

// skipped names a part that is not read.
func (r *reader) skipped(name, typ, why string) {
	if len(r.c.Parts) < maxParts {
		r.c.Parts = append(r.c.Parts, Part{Name: clip(name, 120), Type: clip(typ, 80), Note: why})
	}
}

// findZones looks for the sentence that says which zone times are in, since it
// may stand in the mail's text and the log in an attachment.
func (r *reader) findZones() {
	for _, p := range r.pieces {
		n := 0
		for text := range strings.Lines(p.text) {
			if n++; n > 2000 {
				break
			}
			if z := statementIn(text); z.ok() {
				r.stated = z
				return
			}
		}
	}
}

// statementIn is statement for lines that are no log lines.
func statementIn(text string) zoneOf {
	if len(text) > 400 {
		return zoneOf{}
	}
	t := refang(text)
	if st := findStamp(t, 0); st.ok() && st.hasTime && len(findAddrs(t)) > 0 {
		return zoneOf{}
	}
	return statement(t)
}

func (r *reader) frame(p piece) frame {
	f := frame{now: r.in.Received, given: r.in.Zone, mail: p.mail, text: r.stated}
	switch {
	case p.mail.IsZero():
	case p.mail.After(r.in.Received.Add(26 * time.Hour)):
		f.mail = time.Time{}
		r.note("the mail's Date lies in the future; it was not used")
	default:
		f.now = p.mail
	}
	return f
}

// piece reads one piece.
func (r *reader) piece(q piece) error {
	p := &part{reader: r, index: q.part, frame: r.frame(q), log: q.log, shape: q.shape, depth: q.depth}
	r.date = p.frame.now
	if doc := strings.TrimSpace(q.text); doc != "" && (doc[0] == '{' || doc[0] == '[') {
		if p.document(doc, q) {
			return r.ctx.Err()
		}
	}
	return p.read(strings.Split(strings.ReplaceAll(strings.ReplaceAll(q.text, "\r\n", "\n"), "\r", "\n"), "\n"))
}

// unread names a line that is no observation.
func (r *reader) unread(u Unread) {
	r.c.UnreadCount++
	if len(r.c.Unread) < maxUnread {
		r.c.Unread = append(r.c.Unread, u)
	}
}

func (r *reader) observed(o *Observation) {
	if len(r.c.Observations) >= maxObservations {
		r.note(fmt.Sprintf("there are more than %d observations; the rest was left out", maxObservations))
		return
	}
	if r.in.Target.IsValid() && !o.Dst.Known() && r.in.Target != o.Src.Addr {
		o.Dst.Addr = r.in.Target
		o.Assumed = append(o.Assumed, "the destination was given with the request")
	}
	r.c.Observations = append(r.c.Observations, *o)
}

// knownAddresses takes sentences that only name the address of what was
// understood elsewhere out of the list of what was not understood.
func (r *reader) knownAddresses() {
	known := map[string]bool{}
	for _, o := range r.c.Observations {
		known[o.Src.Addr.String()] = true
		known[o.Dst.Addr.String()] = true
	}
	kept := r.c.Unread[:0]
	for _, u := range r.c.Unread {
		if u.Reason == NoTime && u.Detail == inProse {
			all := true
			t := refang(u.Raw)
			for _, a := range findAddrs(t) {
				all = all && (a.hidden || known[a.Addr.String()])
			}
			if all {
				r.c.UnreadCount--
				r.c.TextLines++
				continue
			}
		}
		kept = append(kept, u)
	}
	r.c.Unread = kept
}
