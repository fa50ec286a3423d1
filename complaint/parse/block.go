package parse

import (
	"regexp"
	"strings"
)

// block is a run of Key: value lines that together are one observation: the
// reports of lfd, X-ARF, ARF, and many a hand-written complaint.
type block struct {
	f      fields
	line   *line // the one with the address
	others int   // lines since the last key
	header bool  // within the quoted header of a mail
	count  int   // keys seen
}

var keyLine = regexp.MustCompile(`^[*|•-]*\s*([\p{L}@][\p{L}\d _/().@-]{1,40}?)\s*[:=]\s*(\S.*)$`)

// headerKeys show that a run of keys is a mail's header, whose Date is not when
// anything happened.
var headerKeys = map[string]bool{"from": true, "to": true, "cc": true, "subject": true, "sent": true, "reply-to": true, "message-id": true,
	"return-path": true, "received": true, "von": true, "an": true, "betreff": true, "gesendet": true, "от": true, "кому": true, "тема": true, "de": true, "para": true, "assunto": true}

var subjectKeys = map[string]bool{"subject": true, "betreff": true, "тема": true, "assunto": true, "asunto": true, "objet": true}

func (b *block) blank() { b.header = false }

// take takes the line if it is a key of the block.
func (b *block) take(p *part, l *line) bool {
	if m := keyLine.FindStringSubmatch(l.text); m != nil && subjectKeys[strings.ToLower(m[1])] {
		b.header = true // whatever the subject of a quoted mail says
		p.c.TextLines++
		return true
	}
	if len(l.text) > 300 || len(l.addrs) > 0 && l.stamp.ok() || strings.Count(l.text, "=") > 2 {
		return b.other(p)
	}
	m := keyLine.FindStringSubmatch(l.text)
	if m == nil {
		return b.other(p)
	}
	name := strings.ToLower(strings.TrimSpace(m[1]))
	if headerKeys[name] && len(l.addrs) == 0 {
		b.header = true
		b.f[fDate], b.f[fTime] = "", ""
		return false
	}
	if b.header {
		return false
	}
	switch name {
	case "report-id", "reportid", "report_id", "incident-id", "case id", "ticket":
		if p.c.ReportID == "" {
			p.c.ReportID = clip(m[2], 120)
		}
	case "schema-url", "reported-from":
		if p.shape == "" {
			p.shape = ShapeXARF02
		}
	}
	k := column(name)
	if k == fNone {
		return b.other(p)
	}
	if (k == fTime || k == fDate || k == fEnd) && !findStamp(m[2], 0).ok() {
		if _, ok := epochStamp(m[2]); !ok {
			return b.other(p)
		}
	}
	if (k == fSrc || k == fAny || k == fDst) && len(l.addrs) == 0 {
		return b.other(p)
	}
	if k == fZone { // a sentence for the whole complaint, taken by laterZone
		return true
	}
	if b.f[k] != "" && k != fWhat && b.f[k] != m[2] {
		b.end(p)
	}
	b.f.set(k, m[2])
	b.others = 0
	b.count++
	if k == fSrc || k == fAny && b.line == nil {
		b.line = l
	}
	return true
}

// other counts a line that is none of the block's.
func (b *block) other(p *part) bool {
	if b.others++; b.others >= 6 {
		b.end(p)
	}
	return false
}

// end makes an observation of the block, if it is one.
func (b *block) end(p *part) {
	l, f, n := b.line, b.f, b.count
	header := b.header
	*b = block{header: header}
	switch {
	case l == nil:
		return
	case f[fTime] == "" && f[fDate] == "":
		p.unreadLine(l.n, l.raw, no(NoTime, inProse))
		return
	}
	shape := ShapeFields
	if p.shape != "" {
		shape = p.shape
	}
	out := l.structured(&f, shape, nil)
	if o := out.obs; o != nil {
		if shape == ShapeARF {
			o.What, o.Usual = WhatMail, []uint16{25}
		}
		if n < 3 && f[fAnyPort] == "" {
			o.Assumed = append(o.Assumed, "address and time stand in lines of their own")
		}
	}
	p.settle(l, out)
}

func (p *part) flush() { p.block.end(p) }
