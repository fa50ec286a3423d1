package parse

import (
	"strings"
	"time"
)

// stamp is a time as a text has it.
type stamp struct {
	year, month, day int // year 0: not stated; month 0: no date
	hour, min, sec   int
	nano             int
	hasTime          bool
	epoch            bool
	swapped          bool // day and month could be the other way round
	zone             zoneOf
	bad              bool // the shape of a time with numbers that cannot be
	from, to         int  // where it stands
	text             string
}

func (s stamp) ok() bool { return s.to > s.from }

var monthNames = map[string]int{
	"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "sept": 9, "oct": 10, "nov": 11, "dec": 12,
	"january": 1, "february": 2, "march": 3, "april": 4, "june": 6, "july": 7, "august": 8, "september": 9, "october": 10, "november": 11, "december": 12,
	"mär": 3, "mai": 5, "okt": 10, "dez": 12,
}

var dayNames = map[string]bool{"mon": true, "tue": true, "wed": true, "thu": true, "fri": true, "sat": true, "sun": true,
	"monday": true, "tuesday": true, "wednesday": true, "thursday": true, "friday": true, "saturday": true, "sunday": true}

// findStamp finds the first time in s from position at on. A date without a
// time of day, or a time of day without a date, counts only when nothing better
// follows.
func findStamp(s string, at int) stamp {
	var second stamp
	for i := at; i < len(s); i++ {
		c := s[i]
		if !isDigit(c) && !isLetter(c) || i > 0 && !startsToken(s[i-1]) {
			continue
		}
		st, ok := stampAt(s, i)
		switch {
		case !ok:
		case st.month > 0 && st.hasTime || st.epoch || st.bad:
			return st
		case !second.ok():
			second = st
		}
		if ok {
			i = st.to - 1
		}
	}
	return second
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 }

// startsToken reports whether a time may begin behind c.
func startsToken(c byte) bool {
	return !isDigit(c) && !isLetter(c) && c != '.' && c != '+' && c != '%' && c != '/' || c == '/'
}

// scanner reads a time from left to right.
type scanner struct {
	s string
	i int
}

func (p *scanner) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *scanner) at(k int) byte {
	if p.i+k < len(p.s) {
		return p.s[p.i+k]
	}
	return 0
}

// number reads min to max digits and no further one.
func (p *scanner) number(minDigits, maxDigits int) (int, bool) {
	n, i := 0, p.i
	for i < len(p.s) && isDigit(p.s[i]) && i-p.i < maxDigits {
		n = n*10 + int(p.s[i]-'0')
		i++
	}
	if i-p.i < minDigits || i < len(p.s) && isDigit(p.s[i]) {
		return 0, false
	}
	p.i = i
	return n, true
}

func (p *scanner) word() string {
	i := p.i
	for i < len(p.s) && isLetter(p.s[i]) {
		i++
	}
	w := p.s[p.i:i]
	p.i = i
	return w
}

func (p *scanner) skip(set string) int {
	i := p.i
	for p.i < len(p.s) && strings.IndexByte(set, p.s[p.i]) >= 0 {
		p.i++
	}
	return p.i - i
}

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

// stampAt reads a time that begins at i.
func stampAt(s string, i int) (stamp, bool) {
	p := &scanner{s, i}
	var st stamp
	ok := false
	if isLetter(s[i]) {
		ok = p.named(&st)
	} else {
		n := 0
		for i+n < len(s) && isDigit(s[i+n]) && n < 15 {
			n++
		}
		switch n {
		case 4:
			ok = p.yearFirst(&st)
		case 1, 2:
			ok = p.dayFirst(&st)
		case 8, 14:
			ok = p.compact(&st, n)
		}
	}
	if !ok || p.i <= i {
		return stamp{}, false
	}
	st.from, st.to, st.text = i, p.i, strings.TrimSpace(s[i:p.i])
	st.bad = !st.valid()
	return st, true
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

// valid reports whether the numbers can be a time. A leap second counts as the
// one after it.
func (s stamp) valid() bool {
	if s.hasTime && (s.hour > 23 || s.min > 59 || s.sec > 60) {
		return false
	}
	if s.month == 0 {
		return s.hasTime
	}
	if s.month > 12 || s.day < 1 || s.day > 31 {
		return false
	}
	year := s.year
	if year == 0 {
		year = 2000 // a leap year: 29 February may be
	}
	return time.Date(year, time.Month(s.month), s.day, 0, 0, 0, 0, time.UTC).Day() == s.day
}

// epochStamp reads a number of seconds, milli-, micro- or nanoseconds since
// 1970; only where a column or the line's beginning says that it is a time.
func epochStamp(s string) (time.Time, bool) {
	whole, frac, _ := strings.Cut(s, ".")
	n := int64(0)
	if len(whole) != 10 && len(whole) != 13 && len(whole) != 16 && len(whole) != 19 || len(frac) > 9 {
		return time.Time{}, false
	}
	for _, c := range []byte(whole) {
		if !isDigit(c) {
			return time.Time{}, false
		}
		n = n*10 + int64(c-'0')
	}
	for range (19 - len(whole)) / 3 {
		if n > 1<<62/1000 {
			return time.Time{}, false
		}
		n *= 1000
	}
	unit := int64(1_000_000_000)
	for _, c := range []byte(frac) {
		if !isDigit(c) {
			return time.Time{}, false
		}
		if unit /= 10; len(whole) == 10 {
			n += int64(c-'0') * unit
		}
	}
	t := time.Unix(0, n).UTC()
	return t, t.Year() >= 1995 && t.Year() < 2100
}
