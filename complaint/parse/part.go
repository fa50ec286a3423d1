package parse

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// part is a piece while it is read.
type part struct {
	*reader
	index int
	frame frame
	log   bool
	shape Shape
	depth int

	table table
	block block
	named []found // addresses of sentences without a time, at most three
}

// inProse is the detail by which knownAddresses finds sentences again.
const inProse = "there is an address, but no time"

// read goes through the lines.
func (p *part) read(lines []string) error {
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	p.c.Parts[p.index].Lines = len(lines)
	p.ownZone(lines)
	p.log = p.log || mostlyLog(lines)
	for i := 0; i < len(lines); i++ {
		if i%ctxEvery == 0 {
			if err := p.ctx.Err(); err != nil {
				return err
			}
		}
		if p.lines++; p.lines > maxLines {
			p.note(fmt.Sprintf("there are more than %d lines; the rest was not read", maxLines))
			p.c.Parts[p.index].Note = fmt.Sprintf("read up to line %d", i)
			break
		}
		i += p.line(lines, i)
	}
	p.flush()
	return nil
}

// ownZone prefers the part's own sentence about the zone to another part's.
func (p *part) ownZone(lines []string) {
	for i, l := range lines {
		if i == 2000 {
			return
		}
		if z := statementIn(l); z.ok() {
			p.frame.text = z
			return
		}
	}
}

// mostlyLog reports whether at least six in ten lines begin with a time.
func mostlyLog(lines []string) bool {
	n, hit := 0, 0
	for _, l := range lines {
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		if n++; n > 200 {
			break
		}
		if st := findStamp(l[:min(len(l), 60)], 0); st.ok() && st.from < 4 {
			hit++
		}
	}
	return n >= 2 && hit*10 >= n*6
}

var quoteMark = regexp.MustCompile(`^(?:\s?[>|]\s?)+`)

// line reads the line at i and returns how many of the following ones it took
// as its continuation.
func (p *part) line(lines []string, i int) int {
	raw := lines[i]
	if len(raw) > maxLine {
		p.unreadLine(i+1, raw[:maxRaw], no(TooLong, fmt.Sprintf("the line has %d bytes, the most is %d", len(raw), maxLine)))
		return 0
	}
	raw = strings.TrimRight(strings.ToValidUTF8(raw, "?"), " \r")
	if !p.log {
		raw = quoteMark.ReplaceAllString(raw, "")
	}
	if strings.TrimSpace(raw) == "" {
		p.block.blank()
		return 0
	}
	if p.tabular(raw, i+1) {
		return 0
	}
	l := p.look(raw, i+1)
	if z := p.laterZone(l); z.ok() {
		p.frame.text = z
	}
	if !l.stamp.ok() {
		p.names(l)
	}
	if p.block.take(p, l) {
		return 0
	}
	out := l.recognise()
	taken := 0
	if out.obs == nil && l.stamp.ok() {
		if joined, n := p.joined(l, lines, i); n > 0 {
			out, taken = joined, n
		}
	}
	p.settle(l, out)
	return taken
}

// laterZone is a sentence about the zone that changes it for what follows.
func (p *part) laterZone(l *line) zoneOf {
	if len(l.addrs) > 0 && l.stamp.hasTime || len(l.text) > 400 {
		return zoneOf{}
	}
	return statement(l.text)
}

func (p *part) look(raw string, n int) *line {
	l := &line{r: p.reader, p: p, n: n, raw: raw}
	l.text = strings.TrimSpace(refang(raw))
	l.stamp = findStamp(l.text, 0)
	l.addrs = findAddrs(l.text)
	if !l.stamp.ok() {
		l.leadingEpoch()
	}
	return l
}

// leadingEpoch reads squid's and Nagios' seconds at the line's beginning.
func (l *line) leadingEpoch() {
	s := strings.TrimLeft(l.text, `["'`)
	off := len(l.text) - len(s)
	end := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 10 {
		return
	}
	if t, ok := epochStamp(s[:end]); ok && (s[end] == ' ' || s[end] == ']' || s[end] == '\t' || s[end] == '"') {
		l.stamp = stamp{year: t.Year(), month: int(t.Month()), day: t.Day(), hour: t.Hour(), min: t.Minute(), sec: t.Second(), nano: t.Nanosecond(),
			hasTime: true, epoch: true, zone: zoneOf{name: "UTC", loc: time.UTC}, from: off, to: off + end, text: s[:end]}
	}
}

// recognise asks the recognisers.
func (l *line) recognise() outcome {
	if l.text[0] == '{' {
		if out := l.jsonLine(); out.decided() {
			return out
		}
	}
	for _, f := range recognisers {
		if out := f(l); out.decided() {
			if out.obs != nil && l.stamp.epoch && out.obs.Zone.Source == ZoneStated {
				out.obs.Zone.Source = ZoneEpoch
			}
			return out
		}
	}
	return outcome{}
}

// joined tries whether a mail program broke the line: it is so long that the
// next one's first word had no room, and the next begins with no time. What it
// makes must be a known form.
func (p *part) joined(l *line, lines []string, i int) (outcome, int) {
	text := l.raw
	for n := 1; n <= 5 && i+n < len(lines); n++ {
		next := strings.TrimSpace(quoteMark.ReplaceAllString(strings.ToValidUTF8(lines[i+n], "?"), ""))
		prev := strings.TrimSpace(quoteMark.ReplaceAllString(lines[i+n-1], ""))
		word, _, _ := strings.Cut(next, " ")
		if next == "" || len(next) > 500 || len(prev)+1+len(word) <= 70 || len(prev) > 100 {
			break
		}
		if st := findStamp(next, 0); st.ok() && st.from < 4 {
			break
		}
		text += " " + next
		j := p.look(text, l.n)
		out := j.recognise()
		more := i+n+1 < len(lines) && len(next)+1+len(firstWord(lines[i+n+1])) > 70 && !startsWithTime(lines[i+n+1])
		if out.obs == nil || out.obs.Shape == ShapeAddrAtTime || out.obs.RolesAssumed || more && out.obs.Shape == ShapeNetfilter {
			continue
		}
		out.obs.Assumed = append(out.obs.Assumed, "the line was broken by a mail program; it was joined with the next")
		p.lines += n
		return out, n
	}
	return outcome{}, 0
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return w
}

func startsWithTime(s string) bool {
	st := findStamp(s, 0)
	return st.ok() && st.from < 6
}

// settle takes what was found out about a line.
func (p *part) settle(l *line, out outcome) {
	switch {
	case out.obs != nil:
		p.observed(out.obs)
	case out.decided():
		p.unreadLine(l.n, l.raw, out)
	case len(l.addrs) > 0 && !l.stamp.ok():
		if !allBad(l.addrs) {
			p.unreadLine(l.n, l.raw, no(NoTime, inProse))
			return
		}
		p.unreadLine(l.n, l.raw, no(BadAddress, "an address has a number above 255"))
	case l.stamp.ok() && l.stamp.from < 4 && l.stamp.hasTime:
		p.unreadLine(l.n, l.raw, no(NoAddress, "there is a time, but no whole address"))
	case p.log && !strings.HasPrefix(l.text, "#"):
		p.unreadLine(l.n, l.raw, no(NotALog, "neither a time nor an address"))
	default:
		p.c.TextLines++
	}
}

func allBad(l []found) bool {
	for _, f := range l {
		if !f.bad {
			return false
		}
	}
	return true
}

func (p *part) unreadLine(n int, raw string, out outcome) {
	p.unread(Unread{Part: p.index, Line: n, Reason: out.reason, Detail: out.detail, Raw: clip(raw, maxRaw)})
}

// document reads a piece that is one JSON document: a XARF report, an object,
// a list of them. false: it is none, or one object a line.
func (p *part) document(doc string, q piece) bool {
	dec := json.NewDecoder(strings.NewReader(doc))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil || strings.TrimSpace(doc[dec.InputOffset():]) != "" {
		return false
	}
	p.c.Parts[p.index].Lines = strings.Count(doc, "\n") + 1
	switch v := v.(type) {
	case map[string]any:
		p.entry(v, q)
	case []any:
		for i, e := range v {
			if m, ok := e.(map[string]any); ok && i < maxLines {
				p.entry(m, q)
			} else {
				p.unreadLine(1, "", no(NotCovered, fmt.Sprintf("entry %d of the list is no object", i+1)))
			}
		}
	default:
		return false
	}
	return true
}

// entry reads one object of a document.
func (p *part) entry(m map[string]any, q piece) {
	raw, _ := json.Marshal(m) // what was decoded can be encoded
	l := &line{r: p.reader, p: p, n: 1, raw: string(raw), text: string(raw)}
	if out, ok := l.xarf(m, q); ok {
		p.settle(l, out)
		return
	}
	out := l.object(m)
	if !out.decided() {
		out = no(NotCovered, "the object has no source address and time under a name that is known")
	}
	p.settle(l, out)
}
