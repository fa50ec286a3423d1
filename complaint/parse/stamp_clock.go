package parse

import (
	"strings"
)

// rest reads the time of day behind a date, and its zone, if they are there.
func (p *scanner) rest(st *stamp) {
	at := p.i
	if c := p.peek(); c == 'T' || c == 't' || c == ':' || c == '_' || c == '-' {
		p.i++
	}
	p.skip(" ,;|\t")
	if p.peek() == 'a' && p.at(1) == 't' && p.at(2) == ' ' {
		p.i += 3
	}
	if !p.clock(st) {
		p.i = at
		return
	}
	p.zone(st, false)
}

// clock reads HH:MM[:SS[.frac]] [AM|PM]. Without seconds a date must have come
// before, so that 10:20 of something else is no time.
func (p *scanner) clock(st *stamp) bool {
	at := p.i
	h, ok := p.number(1, 2)
	if !ok || p.peek() != ':' && p.peek() != 'h' {
		p.i = at
		return false
	}
	p.i++
	m, ok := p.number(2, 2)
	if !ok {
		p.i = at
		return false
	}
	st.hour, st.min, st.sec, st.nano = h, m, 0, 0
	if p.peek() == ':' && isDigit(p.at(1)) {
		p.i++
		if st.sec, ok = p.number(2, 2); !ok {
			p.i = at
			return false
		}
		p.fraction(st)
	} else if st.month == 0 || p.peek() == ':' {
		p.i = at
		return false
	}
	st.hasTime = true
	p.meridiem(st)
	return true
}

// fraction reads .123456 and Python's ,123.
func (p *scanner) fraction(st *stamp) {
	sep := p.peek()
	if sep != '.' && sep != ',' || !isDigit(p.at(1)) {
		return
	}
	n, unit, k := 0, 1_000_000_000, 1
	for ; isDigit(p.at(k)); k++ {
		if unit > 1 {
			unit /= 10
			n += int(p.at(k)-'0') * unit
		}
	}
	if sep == ',' && (k != 4 && k != 7 || p.at(k) == ',') {
		return
	}
	st.nano = n
	p.i += k
}

func (p *scanner) meridiem(st *stamp) {
	at := p.i
	p.skip(" ")
	w := strings.ToLower(p.word())
	if w != "am" && w != "pm" || st.hour < 1 || st.hour > 12 {
		p.i = at
		return
	}
	st.hour %= 12
	if w == "pm" {
		st.hour += 12
	}
	st.zone.name = "!"
}

// zone reads what stands behind a time of day. cautious: the next word may be a
// host's name (syslog), so a zone counts only where none can stand.
func (p *scanner) zone(st *stamp, cautious bool) {
	mark := st.zone.name
	at := p.i
	if p.peek() == '"' || p.peek() == '\'' {
		return
	}
	p.skip(" ")
	open := p.skip("([") > 0
	rest := p.s[p.i:]
	n := zoneLen(rest, p.i == at)
	if n == 0 {
		p.i = at
		return
	}
	z := parseZone(rest[:n])
	next := byte(0)
	if n < len(rest) {
		next = rest[n]
	}
	name := isLetter(rest[0]) && rest[0] != 'Z'
	hostLike := cautious && name && !open && next != ':' && next != 0 && !yearFollows(rest[n:])
	if !z.ok() || isDigit(next) || isLetter(next) || next == '.' && n+1 < len(rest) && isDigit(rest[n+1]) || hostLike {
		p.i = at
		return
	}
	z.name += mark
	st.zone = z
	p.i += n
	if open {
		p.skip(")]")
	}
	p.comment()
}

// comment skips RFC 5322's (CEST) behind an offset.
func (p *scanner) comment() {
	rest := p.s[p.i:]
	if !strings.HasPrefix(rest, " (") {
		return
	}
	if end := strings.IndexByte(rest, ')'); end > 0 && end < 12 {
		p.i += end + 1
	}
}

func yearFollows(s string) bool {
	p := scanner{s, 0}
	p.skip(" ")
	y, ok := p.number(4, 4)
	return ok && y >= 1970 && y < 2100
}

// zoneLen is how many bytes of s are a zone: an offset, or an abbreviation with
// or without one. tight: no blank stands before it.
func zoneLen(s string, tight bool) int {
	if s == "" {
		return 0
	}
	n := 0
	if isLetter(s[0]) {
		for n < len(s) && (s[n] >= 'A' && s[n] <= 'Z' || s[n] >= 0x80) && n < 8 {
			n++
		}
		if n == 0 {
			return 0
		}
		if w := s[:n]; w != "UTC" && w != "GMT" {
			if n < len(s) && s[n] == '/' {
				return 0
			}
			return n
		}
		if n < len(s) && (s[n] == '+' || s[n] == '-') {
			if k := offsetLen(s[n:], 1); k > 0 {
				return n + k
			}
		}
		return n
	}
	if s[0] == '+' || s[0] == '-' {
		if tight {
			return offsetLen(s, 2)
		}
		if k := offsetLen(s, 2); k > 3 || k == 3 && s[0] == '+' {
			return k
		}
	}
	return 0
}

// offsetLen is the length of ±H, ±HH, ±HHMM or ±HH:MM; least digits at least.
func offsetLen(s string, least int) int {
	n := 1
	for n < len(s) && isDigit(s[n]) && n < 6 {
		n++
	}
	switch n - 1 {
	case 1, 2:
		if n-1 < least {
			return 0
		}
		if n-1 == 2 && n+2 < len(s) && s[n] == ':' && isDigit(s[n+1]) && isDigit(s[n+2]) {
			return n + 3
		}
		return n
	case 4:
		return n
	}
	return 0
}
