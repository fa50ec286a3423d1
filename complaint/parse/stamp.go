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
