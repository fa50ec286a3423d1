package parse

import (
	"fmt"
	"strings"
	"time"
)

// clockSlack is how far ahead of its receipt a time may be when its zone is
// known: clocks are off by minutes.
const clockSlack = 15 * time.Minute

// frame is what times without a year, a date or a zone are read with.
type frame struct {
	now   time.Time      // the latest that anything can have happened
	given *time.Location // by the desk
	text  zoneOf         // by a sentence of the complaint
	mail  time.Time      // the mail's Date, with its zone; zero without one
}

// when is a resolved time.
type when struct {
	at      time.Time
	zone    Zone
	assumed []string
}

// location is the zone of a stamp without one of its own.
func (f frame) location(st stamp, fixed *time.Location) (zoneOf, ZoneSource) {
	switch {
	case st.zone.ok():
		return st.zone, ZoneStated
	case fixed != nil:
		return zoneOf{name: fixed.String(), loc: fixed}, ZoneFormat
	case f.given != nil:
		return zoneOf{name: f.given.String(), loc: f.given}, ZoneGiven
	case f.text.ok():
		return f.text, ZoneText
	case !f.mail.IsZero():
		_, off := f.mail.Zone()
		return zoneOf{name: offsetName(off), loc: f.mail.Location()}, ZoneMailDate
	}
	return zoneOf{name: "UTC", loc: time.UTC}, ZoneAssumed
}

// resolve gives the moment of a stamp. fixed is the zone that a format's
// standard fixes, nil for none. date, if not zero, is the day for a time of day
// alone. The reason is empty, or why there is none.
func (f frame) resolve(st stamp, fixed *time.Location, date time.Time) (when, Reason) {
	if st.bad || !st.hasTime {
		return when{}, BadTime
	}
	z, src := f.location(st, fixed)
	w := when{zone: Zone{Name: z.name, Source: src}}
	if st.month == 0 {
		if date.IsZero() {
			return when{}, NoDate
		}
		w.assumed = append(w.assumed, "the line has no date; it is taken from the complaint")
	}
	latest := f.now.Add(clockSlack)
	if src == ZoneMailDate || src == ZoneAssumed {
		latest = f.now.Add(maxOffset * time.Second)
	}
	at, year := f.dated(st, z.loc, date, latest)
	if at.IsZero() {
		return when{}, BadTime
	}
	if st.month > 0 && st.year == 0 {
		w.assumed = append(w.assumed, fmt.Sprintf("the line has no year; %d is the latest that is not in the future", year))
	}
	w.at = at.UTC()
	_, w.zone.Offset = at.Zone()
	f.sayZone(&w, z, src, st)
	if src != ZoneStated && at.Location() != time.UTC {
		w.repeated(st, at)
	}
	return w, ""
}

// dated builds the time in the latest year, or on the latest day, that is not
// after latest.
func (f frame) dated(st stamp, loc *time.Location, date, latest time.Time) (time.Time, int) {
	build := func(y, m, d int) time.Time {
		return time.Date(y, time.Month(m), d, st.hour, st.min, st.sec, st.nano, loc)
	}
	switch {
	case st.month == 0:
		y, m, d := date.In(loc).Date()
		at := build(y, int(m), d)
		if at.After(latest) {
			at = at.AddDate(0, 0, -1)
		}
		return at, 0
	case st.year > 0:
		return build(st.year, st.month, st.day), st.year
	}
	for y := latest.In(loc).Year(); y > latest.Year()-9; y-- { // 29 February: eight years apart around 1900 and 2100
		if at := build(y, st.month, st.day); at.Day() == st.day && !at.After(latest) {
			return at, y
		}
	}
	return time.Time{}, 0
}

// sayZone writes down what was assumed about zone and order, and what else the
// text may mean.
func (f frame) sayZone(w *when, z zoneOf, src ZoneSource, st stamp) {
	wall := func(loc *time.Location) time.Time {
		t := w.at.In(z.loc)
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), loc).UTC()
	}
	switch src {
	case ZoneMailDate:
		w.assumed = append(w.assumed, "the time has no zone; "+z.name+" is that of the mail's Date")
	case ZoneAssumed:
		w.assumed = append(w.assumed, "the time has no zone and nothing says which; UTC is assumed")
	case ZoneText:
		w.assumed = append(w.assumed, "the zone "+z.name+" is stated elsewhere in the complaint")
	case ZoneGiven:
		w.assumed = append(w.assumed, "the zone "+z.name+" was given with the request")
	}
	if len(z.others) > 0 {
		var names []string
		for _, o := range z.others {
			w.zone.Alternatives = append(w.zone.Alternatives, Alternative{o.name, wall(fixed(o.name, o.offset))})
			names = append(names, o.name+" "+offsetName(o.offset))
		}
		w.assumed = append(w.assumed, "the zone "+z.name+" is ambiguous; it was read as "+z.loc.String()+", it may be "+strings.Join(names, " or "))
	}
	if st.swapped {
		o := st
		o.day, o.month, o.swapped = st.month, st.day, false
		if at, _ := f.dated(o, z.loc, time.Time{}, f.now); !at.IsZero() {
			w.zone.Alternatives = append(w.zone.Alternatives, Alternative{"day and month the other way round", at.UTC()})
		}
		w.assumed = append(w.assumed, fmt.Sprintf("day and month may be the other way round; it was read as %d-%02d-%02d", st.year, st.month, st.day))
	}
	if ahead := w.at.Sub(f.now); ahead > clockSlack {
		w.assumed = append(w.assumed, "the time is "+ahead.Round(time.Minute).String()+" after the receipt of the complaint: a zone or a clock is wrong")
	}
}

// repeated names the other reading of an hour that the clocks went through
// twice, and the gap that they jumped.
func (w *when) repeated(st stamp, at time.Time) {
	if at.Hour() != st.hour || at.Minute() != st.min {
		w.assumed = append(w.assumed, "this time did not exist in its zone: the clocks had been put forward")
		return
	}
	for _, d := range []time.Duration{-time.Hour, time.Hour} {
		if o := at.Add(d); o.Hour() == at.Hour() && o.Minute() == at.Minute() {
			w.zone.Alternatives = append(w.zone.Alternatives, Alternative{"the same hour of the clock, " + d.String(), o.UTC()})
			w.assumed = append(w.assumed, "the clocks were put back in this hour, so that it came twice")
		}
	}
}
