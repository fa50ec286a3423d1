package parse

import (
	"strings"
)

func (p *scanner) month() (int, bool) {
	at := p.i
	w := strings.ToLower(p.word())
	m := monthNames[w]
	if m == 0 {
		p.i = at
		return 0, false
	}
	if p.peek() == '.' && len(w) <= 4 {
		p.i++
	}
	return m, true
}

// named reads what begins with a weekday or a month: syslog, RFC 5322, ctime.
func (p *scanner) named(st *stamp) bool {
	at := p.i
	if w := strings.ToLower(p.word()); dayNames[w] {
		p.skip(".,")
		if p.skip(" ") == 0 {
			return false
		}
		if isDigit(p.peek()) {
			return p.dayFirst(st)
		}
	} else {
		p.i = at
	}
	m, ok := p.month()
	if !ok || p.skip(" -/") == 0 {
		return false
	}
	d, ok := p.number(1, 2)
	if !ok || p.peek() == '.' {
		return false
	}
	st.month, st.day = m, d
	p.skip("thsndr,") // 1st, 2nd, 3rd
	back := p.i
	p.skip(" -/")
	if y, ok := p.number(4, 4); ok && y >= 1970 && y < 2100 {
		st.year = y
		p.skip(",")
		back = p.i
		p.skip(" -at")
	}
	if p.clock(st) {
		p.zone(st, st.year == 0)
		p.trailingYear(st)
		return true
	}
	p.i = back
	return st.year > 0
}

// trailingYear is ctime's and date(1)'s: Jun 18 15:53:34 [CEST] 2013.
func (p *scanner) trailingYear(st *stamp) {
	if st.year > 0 {
		return
	}
	at := p.i
	if p.skip(" ") > 0 {
		if y, ok := p.number(4, 4); ok && y >= 1970 && y < 2100 && !isLetter(p.peek()) && p.peek() != ':' && p.peek() != '.' {
			st.year = y
			if !st.zone.ok() {
				p.zone(st, false)
			}
			return
		}
	}
	p.i = at
}

// yearFirst reads 2013-06-18 and its kin.
func (p *scanner) yearFirst(st *stamp) bool {
	y, _ := p.number(4, 4)
	if y < 1970 || y >= 2100 {
		return false
	}
	sep := p.peek()
	if sep != '-' && sep != '/' && sep != '.' && sep != ':' && sep != ' ' {
		return false
	}
	p.i++
	if m, ok := p.month(); ok {
		st.month = m
	} else if sep == ' ' {
		return false
	} else if st.month, ok = p.number(1, 2); !ok {
		return false
	}
	if p.peek() != sep {
		return false
	}
	p.i++
	var ok bool
	if st.day, ok = p.number(1, 2); !ok {
		return false
	}
	st.year = y
	p.rest(st)
	return true
}

// dayFirst reads 18/Jun/2013:15:53:34, 18.06.2013 15:53, 06/18-15:53:34 and a
// time of day alone.
func (p *scanner) dayFirst(st *stamp) bool {
	at := p.i
	a, ok := p.number(1, 2)
	if !ok {
		return false
	}
	sep := p.peek()
	if sep == ':' {
		p.i = at
		if !p.clock(st) {
			return false
		}
		p.zone(st, false)
		return true
	}
	p.skip("thsndr")
	if sep = p.peek(); sep == 0 || strings.IndexByte("/.- ", sep) < 0 {
		return false
	}
	p.skip(". ")
	if p.peek() == sep {
		p.i++
	}
	if m, ok := p.month(); ok {
		return p.dayMonth(st, a, m)
	}
	if sep == ' ' {
		return false
	}
	return p.numeric(st, a, sep)
}

func (p *scanner) dayMonth(st *stamp, d, m int) bool {
	st.day, st.month = d, m
	p.skip(",")
	if p.skip("/- ") == 0 {
		return false
	}
	if y, ok := p.number(4, 4); ok {
		st.year = y
		p.rest(st)
		return y >= 1970 && y < 2100
	}
	if y, ok := p.number(2, 2); ok && p.peek() != ':' {
		st.year = 2000 + y
		p.rest(st)
		return st.hasTime
	}
	return false
}

// numeric reads the rest of a/b/c and of Snort's a/b-. With dots the day comes
// first; with slashes, or dashes, whatever can be only that is it.
func (p *scanner) numeric(st *stamp, a int, sep byte) bool {
	b, ok := p.number(1, 2)
	if !ok {
		return false
	}
	if sep == '/' && p.peek() == '-' { // Snort: MM/DD-
		p.i++
		st.month, st.day = a, b
		return p.clock(st)
	}
	if p.peek() != sep {
		return false
	}
	p.i++
	y, ok := p.number(4, 4)
	short := false
	if !ok {
		if y, ok = p.number(2, 2); !ok || sep == '.' {
			return false
		}
		y, short = 2000+y, true
	}
	if y < 1970 || y >= 2100 {
		return false
	}
	if sep == '.' && p.peek() == '.' && isDigit(p.at(1)) {
		return false
	}
	st.year, st.month = y, a // which is the month is seen below; the clock asks whether there is one
	snort := short && sep == '/' && p.peek() == '-'
	p.rest(st)
	if short && !st.hasTime {
		return false
	}
	american := strings.HasSuffix(st.zone.name, "!") // an AM or PM stood behind it
	st.zone.name = strings.TrimSuffix(st.zone.name, "!")
	switch {
	case sep == '.':
		st.day, st.month = a, b
	case snort || a <= 12 && b > 12:
		st.month, st.day = a, b
	case a > 12:
		st.day, st.month = a, b
	case american:
		st.month, st.day, st.swapped = a, b, a != b
	default:
		st.day, st.month, st.swapped = a, b, a != b
	}
	return true
}

// compact reads 20130618, 20130618T155334Z and 20130618155334.
func (p *scanner) compact(st *stamp, n int) bool {
	d := p.s[p.i : p.i+8]
	num := func(s string) (v int) {
		for _, c := range []byte(s) {
			v = v*10 + int(c-'0')
		}
		return v
	}
	st.year, st.month, st.day = num(d[:4]), num(d[4:6]), num(d[6:])
	if st.year < 1990 || st.year >= 2100 || st.month < 1 || st.month > 12 || st.day < 1 || st.day > 31 {
		return false
	}
	if n == 14 {
		t := p.s[p.i+8 : p.i+14]
		st.hour, st.min, st.sec, st.hasTime = num(t[:2]), num(t[2:4]), num(t[4:]), true
		p.i += 14
		p.zone(st, false)
		return true
	}
	p.i += 8
	at := p.i
	if p.skip("T t-_") > 0 {
		if p.clock(st) {
			p.zone(st, false)
			return true
		}
		if t, ok := p.number(6, 6); ok {
			st.hour, st.min, st.sec, st.hasTime = t/10000, t/100%100, t%100, true
			p.zone(st, false)
			return true
		}
	}
	p.i = at
	return true
}
