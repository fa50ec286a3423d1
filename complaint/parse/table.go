package parse

import (
	"encoding/csv"
	"strconv"
	"strings"
	"time"
)

// table is what is known of the columns of a part.
type table struct {
	cols []field
	sep  rune // 0: blanks (W3C)
	w3c  bool
	utc  bool // the format says so
}

// tabular reads a line of a table, or its header; false: it is none.
func (p *part) tabular(raw string, n int) bool {
	if rest, ok := strings.CutPrefix(raw, "#Fields:"); ok {
		t := table{w3c: true, utc: p.table.utc}
		for name := range strings.FieldsSeq(rest) {
			t.cols = append(t.cols, w3cColumn(name))
		}
		p.table = t
		return true
	}
	if strings.HasPrefix(raw, "#Software: Microsoft Internet") || strings.HasPrefix(raw, "#Time Format: UTC") {
		p.table.utc = true // W3C Extended Log File Format: times are GMT
	}
	if strings.HasPrefix(raw, "#") && p.table.w3c {
		return true
	}
	if p.table.cols != nil {
		if p.row(raw, n) {
			return true
		}
		if p.table.w3c {
			return false
		}
	}
	return p.header(raw) || p.bareRow(raw, n)
}

// w3cColumn reads IIS' names, which begin with who it is about.
func w3cColumn(name string) field {
	switch name {
	case "c-ip":
		return fSrc
	case "s-ip":
		return fDst
	case "s-port":
		return fDstPort
	case "c-port":
		return fSrcPort
	case "cs-username", "sc-status", "s-computername":
		return fNone
	}
	return column(name)
}

const separators = ",;\t|"

// cells splits a line; nil where it is not of the separator's kind.
func cells(raw string, sep rune) []string {
	if strings.Count(raw, string(sep)) < 2 {
		return nil
	}
	r := csv.NewReader(strings.NewReader(raw))
	r.Comma, r.LazyQuotes, r.TrimLeadingSpace = sep, true, sep != '\t'
	c, err := r.Read()
	if err != nil || len(c) < 3 || len(c) > 200 {
		return nil
	}
	return c
}

// header recognises a line of column names: two that are known, an address
// among them, and no address or time of its own.
func (p *part) header(raw string) bool {
	if len(raw) > 4000 || len(findAddrs(raw)) > 0 {
		return false
	}
	for _, sep := range separators {
		c := cells(strings.TrimLeft(raw, "# "), sep)
		if c == nil {
			continue
		}
		t := table{sep: sep}
		known, addr, when := 0, false, false
		for _, name := range c {
			k := column(strings.Trim(strings.TrimSpace(name), `"`))
			t.cols = append(t.cols, k)
			if k != fNone {
				known++
			}
			addr = addr || k == fSrc || k == fDst || k == fAny
			when = when || k == fTime || k == fDate
		}
		if known >= 2 && addr && when {
			if z := statement(raw); z.ok() {
				p.frame.text = z
			}
			p.table = t
			return true
		}
	}
	return false
}

// row reads a line by the columns of the header.
func (p *part) row(raw string, n int) bool {
	if strings.Trim(raw, "|-:+= \t") == "" { // the rule of a Markdown table
		return true
	}
	t := p.table
	var c []string
	if t.w3c {
		c = strings.Fields(raw)
	} else {
		c = cells(raw, t.sep)
	}
	if c == nil {
		return false
	}
	l := &line{r: p.reader, p: p, n: n, raw: raw, text: raw}
	if len(c) < len(t.cols)/2 || t.w3c && len(c) < len(t.cols)-3 {
		p.settle(l, halfLine("a row of "+strconv.Itoa(len(c))+" cells under a header of "+strconv.Itoa(len(t.cols))))
		return true
	}
	var f fields
	for i, k := range t.cols {
		if i < len(c) {
			v := refang(c[i])
			f.set(k, v)
		}
	}
	shape, fixed := ShapeCSV, (*time.Location)(nil)
	if t.w3c {
		shape = ShapeW3C
		if t.utc {
			fixed = time.UTC
		}
	}
	if f[fSrc] == "" && f[fAny] == "" {
		p.settle(l, no(NoAddress, "the column of the source is empty"))
		return true
	}
	out := l.structured(&f, shape, fixed)
	if out.obs != nil && t.w3c && t.utc {
		out.obs.What = WhatHTTP
	}
	p.settle(l, out)
	return true
}

// bareRow reads a row without a header by its cells: one is a whole time, one
// or two are whole addresses. Numbers behind an address are its port; behind
// two addresses in a row, theirs.
func (p *part) bareRow(raw string, n int) bool {
	if len(raw) > 2000 || strings.HasPrefix(raw, "{") || strings.Contains(raw, "filterlog") || strings.Contains(raw, ",TRAFFIC,") || strings.Contains(raw, ",THREAT,") {
		return false
	}
	if strings.Count(raw, "\t") >= 7 {
		l := p.look(raw, n)
		if out := l.dshield(); out.decided() {
			p.settle(l, out)
			return true
		}
	}
	for _, sep := range separators {
		c := cells(raw, sep)
		if c == nil {
			continue
		}
		if out, l, ok := p.byCells(c, raw, n); ok {
			p.settle(l, out)
			return true
		}
	}
	return false
}

func (p *part) byCells(c []string, raw string, n int) (outcome, *line, bool) {
	var f fields
	var addrs []int // cells with addresses
	for i, v := range c {
		v = refang(strings.TrimSpace(v))
		if _, ok := parseEndpoint(v); ok {
			addrs = append(addrs, i)
			continue
		}
		at, epoch := epochStamp(v)
		// A number is a time only if it can be one of this complaint.
		epoch = epoch && at.Before(p.frame.now.AddDate(0, 0, 2)) && at.After(p.frame.now.AddDate(-3, 0, 0))
		st := findStamp(v, 0)
		if st.ok() && st.month > 0 && st.hasTime && st.to < len(v) && st.from == 0 {
			return outcome{}, nil, false // a log line with commas, not a table
		}
		switch {
		case f[fTime] == "" && (epoch || st.ok() && st.hasTime && st.from == 0 && st.to == len(v)):
			f.set(fTime, v)
		case f[fDate] == "" && st.ok() && !st.hasTime && st.from == 0 && st.to == len(v):
			f.set(fDate, v)
		case f[fZone] == "" && len(v) > 1 && parseZone(v).ok():
			f.set(fZone, v)
		case protoNumbers[strings.ToLower(v)] > 0:
			f.set(fProto, v)
		}
	}
	if len(addrs) == 0 || len(addrs) > 2 || f[fTime] == "" {
		return outcome{}, nil, false
	}
	port := func(i int) string {
		if i < len(c) && portOf(strings.TrimSpace(c[i])) > 0 {
			return strings.TrimSpace(c[i])
		}
		return ""
	}
	f.set(fSrc, c[addrs[0]])
	note := "the row has no header; its only address is taken as the source"
	switch {
	case len(addrs) == 1:
		f.set(fAnyPort, port(addrs[0]+1))
	case addrs[1] == addrs[0]+1:
		f.set(fDst, c[addrs[1]])
		if port(addrs[1]+2) != "" {
			f.set(fSrcPort, port(addrs[1]+1))
			f.set(fDstPort, port(addrs[1]+2))
		} else {
			f.set(fAnyPort, port(addrs[1]+1))
		}
		note = "the row has no header; its first address is taken as the source"
	default:
		f.set(fDst, c[addrs[1]])
		f.set(fSrcPort, port(addrs[0]+1))
		f.set(fDstPort, port(addrs[1]+1))
		note = "the row has no header; its first address is taken as the source"
	}
	for k := range f {
		f[k] = refang(f[k])
	}
	l := &line{r: p.reader, p: p, n: n, raw: raw, text: raw}
	out := l.structured(&f, ShapeCSV, nil)
	if out.obs != nil {
		out.obs.RolesAssumed = true
		out.obs.Assumed = append(out.obs.Assumed, note)
	}
	return out, l, true
}
