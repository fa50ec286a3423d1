package parse

import (
	"regexp"
	"strings"
	"time"
)

// line is one line of a part while it is looked at.
type line struct {
	r     *reader
	p     *part
	n     int    // 1 for the part's first
	raw   string // as written
	text  string // refanged
	stamp stamp
	addrs []found
}

// outcome is what a recogniser says of a line: an observation, or a reason, or
// (neither) that the form is not its own.
type outcome struct {
	obs    *Observation
	reason Reason
	detail string
}

func (o outcome) decided() bool { return o.obs != nil || o.reason != "" }

func no(r Reason, detail string) outcome { return outcome{reason: r, detail: detail} }

// halfLine is for a known form of which something is missing.
func halfLine(what string) outcome { return no(HalfLine, what) }

// timed resolves the line's own time.
func (l *line) timed(fixed *time.Location, date time.Time) (when, outcome) {
	if !l.stamp.ok() {
		return when{}, no(NoTime, "the line has no time")
	}
	w, why := l.p.frame.resolve(l.stamp, fixed, date)
	if why != "" {
		return w, no(why, reasonText(why)+": "+clip(l.stamp.text, 60))
	}
	return w, outcome{}
}

func reasonText(r Reason) string {
	switch r {
	case NoTime:
		return "there is no time"
	case NoDate:
		return "there is a time of day, but no date"
	case BadTime:
		return "the time is not understood"
	case BadAddress:
		return "the address is not understood"
	}
	return string(r)
}

// observe makes the observation of a line whose two ends are known.
func (l *line) observe(shape Shape, what What, src, dst found, date time.Time) outcome {
	w, bad := l.timed(nil, date)
	if bad.decided() {
		return bad
	}
	o := l.base(shape, w, l.stamp.text)
	o.What = what
	if out := o.ends(src, dst); out.decided() {
		return out
	}
	o.IPProto, o.Count = protoIn(l.text), countIn(l.text)
	if !protoCarriesPorts(o.IPProto) && o.IPProto != 0 {
		o.Src.Port, o.Dst.Port = 0, 0
	}
	return outcome{obs: o}
}

func (l *line) base(shape Shape, w when, text string) *Observation {
	return &Observation{Part: l.p.index, Line: l.n, Shape: shape, Time: w.at, Text: clip(text, 80), Zone: w.zone, Assumed: w.assumed, Raw: clip(l.raw, maxRaw)}
}

// ends sets the two ends, or says why they cannot be what is meant.
func (o *Observation) ends(src, dst found) outcome {
	if src.bad || dst.bad {
		return no(BadAddress, "an address has a number above 255")
	}
	if src.Prefix.IsValid() && !src.hidden {
		return no(OnlyNetworks, "the source is a whole network; flows are matched by address")
	}
	if src.hidden || !src.Addr.IsValid() {
		return no(NoAddress, "the source's address is missing or masked")
	}
	if !isPublicUnicast(src.Addr) {
		return no(BadAddress, "the source "+src.Addr.String()+" is not an address of the Internet")
	}
	o.Src, o.Dst = src.Endpoint, dst.Endpoint
	if dst.hidden {
		o.Assumed = append(o.Assumed, "the destination is masked by the reporter")
	}
	return outcome{}
}

func protoCarriesPorts(p uint8) bool { return p == 6 || p == 17 || p == 132 || p == 33 }

var protoWord = regexp.MustCompile(`(?i)(?:\bproto(?:col)?[\s:=]+["']?(\d{1,3}|[a-z0-9-]+)\b)|(?:[{\[\s,;:"'(/|]|^)(tcp|udp|icmp6|icmpv6|icmp|gre|sctp)(?:[}\]\s,;:"')./|]|$)`)

func protoIn(s string) uint8 {
	for _, m := range protoWord.FindAllStringSubmatch(s, 4) {
		if p := protoOf(m[1] + m[2]); p > 0 {
			return p
		}
	}
	return 0
}

var countWord = regexp.MustCompile(`(?i)\b(\d{1,9}) (?:packets?\b|pkts?\b|times\b|hits?\b|attempts?\b|failures?\b|tries\b|connections?\b|in the last\b)|\b(?:count|hits|packets|attempts)[=:] ?(\d{1,9})\b`)

// countHints are parts of countWord's words: most lines have none.
var countHints = []string{"acket", "pkt", "time", "hit", "ttempt", "ailure", "tries", "onnection", "in the last", "ount"}

func countIn(s string) uint64 {
	hint := false
	for _, w := range countHints {
		hint = hint || strings.Contains(s, w)
	}
	if !hint {
		return 0
	}
	if m := countWord.FindStringSubmatch(s); m != nil {
		return countOf(m[1] + m[2])
	}
	return 0
}

var (
	srcWord = regexp.MustCompile(`(?i)(?:^|[^a-z])(?:from|src|source|saddr|attackers?|attacking|offender|offending|intruder|rhost|rip|remote|sender|by|peer|ban|unban|found|client|scanner|abusive|relay|failed for|suspect|your|dropped|blocked|blocking)(?:[ _-]?(?:ip(?:v[46])?|addr(?:ess)?|host|system|server|machine))*[\s:='"(<\[]*(?:[\w.-]{0,80}[\[(])?(?:[\w-]{1,32}:)?$`)
	dstWord = regexp.MustCompile(`(?i)(?:^|[^a-z])(?:to|dst|dest|destination|daddr|target|targets|targeting|victim|against|lip|local|on|at|our|towards?|honeypot|into)(?:[ _-]?(?:ip(?:v[46])?|addr(?:ess)?|host|system|server|machine|network))*[\s:='"(<\[]*(?:[\w.-]{0,80}[\[(])?(?:[\w-]{1,32}:)?$`)
)

// byWords finds the source and the destination by the words before them.
func (l *line) byWords() (src, dst found, ok bool) {
	from := 0
	for _, a := range l.addrs {
		before := l.text[max(from, a.from-120):a.from]
		switch {
		case srcWord.MatchString(before) && !src.Known() && !src.hidden:
			src = a
		case dstWord.MatchString(before) && !dst.Known() && !dst.hidden:
			dst = a
		}
		from = a.to
	}
	return src, dst, src.Known() || src.hidden
}

// distinct are the line's addresses, each once.
func (l *line) distinct() []found {
	var out []found
next:
	for _, a := range l.addrs {
		for i, o := range out {
			if o.Addr == a.Addr && o.Prefix == a.Prefix && o.hidden == a.hidden {
				if o.Port == 0 {
					out[i].Port = a.Port
				}
				continue next
			}
		}
		out = append(out, a)
	}
	return out
}

// has reports whether the text holds one of the words, as they are.
func (l *line) has(words ...string) bool {
	for _, w := range words {
		if strings.Contains(l.text, w) {
			return true
		}
	}
	return false
}
