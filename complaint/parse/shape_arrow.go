package parse

import (
	"regexp"
	"strings"
	"time"
)

var (
	arrowRight = regexp.MustCompile(`^\]?\s*(\d{1,5}|-)?\s*(?:-+>|=+>|>)\s*(?:[\w-]{1,32}:)?\[?$`)
	arrowLeft  = regexp.MustCompile(`^\]?\s*<[-=]+\s*\[?$`)
	trailing   = regexp.MustCompile(`^\s+(\d{1,5})(?:\s|$|[,;])`)
	registro   = regexp.MustCompile(`^\s*(\d{1,3})\((\d{1,3})\)`)
	junos      = regexp.MustCompile(` (\d{1,3})\(\d{1,3}\) `)
	dumpFlags  = regexp.MustCompile(`Flags \[([A-Z.]+)\]|: (S|R|F|P|\.) (?:\d|ack|win)`)
)

// arrow reads every form of a -> b: flow lists, tcpdump, Snort, the list of
// Registro.br, netscan lists.
func (l *line) arrow() outcome {
	var a, b found
	spaced := false
	for i := 1; i < len(l.addrs) && !b.Known() && !b.hidden; i++ {
		between := l.text[l.addrs[i-1].to:l.addrs[i].from]
		if m := arrowRight.FindStringSubmatch(between); m != nil {
			a, b = l.addrs[i-1], l.addrs[i]
			if m[1] != "" {
				spaced = true
				if a.Port == 0 {
					a.Port = portOf(m[1])
				}
			}
		} else if arrowLeft.MatchString(between) {
			a, b = l.addrs[i], l.addrs[i-1]
		}
	}
	if !b.Known() && !b.hidden {
		return outcome{}
	}
	end := max(a.to, b.to)
	rest := l.text[end:]
	if m := trailing.FindStringSubmatch(rest); m != nil && spaced && b.Port == 0 {
		b.Port = portOf(m[1])
	}
	shape, what := l.arrowShape(spaced)
	out := l.observe(shape, what, a, b, l.r.date)
	o := out.obs
	if o == nil {
		return out
	}
	if m := registro.FindStringSubmatch(rest); m != nil {
		o.Shape, o.IPProto = ShapeRegistro, protoOf(m[1])
	}
	if m := junos.FindStringSubmatch(rest); m != nil && o.IPProto == 0 && l.has("RT_FLOW") {
		o.IPProto = protoOf(m[1])
	}
	if m := dumpFlags.FindStringSubmatch(rest); m != nil {
		flags := m[1] + m[2]
		o.IPProto = 6
		o.Answer = strings.ContainsRune(flags, 'R') || strings.ContainsRune(flags, 'S') && strings.ContainsAny(flags, ".E") || flags == "S" && strings.Contains(rest, " ack ")
	}
	if shape == ShapeTCPDump {
		if o.IPProto == 0 && strings.Contains(rest, "UDP") {
			o.IPProto = 17
		}
		o.Count = max(o.Count, 1)
	}
	return out
}

func (l *line) arrowShape(spaced bool) (Shape, What) {
	switch {
	case l.has(" IP ", " IP6 ") && l.has(" > "):
		return ShapeTCPDump, WhatTraffic
	case l.has("[**]"):
		return ShapeSnort, WhatAlert
	case spaced && l.has("=>"):
		return ShapeNetscan, WhatTraffic
	}
	return ShapeArrow, WhatTraffic
}

var reportTime = regexp.MustCompile(`(?i)\b(?:generated|created|issued|printed|exported|report(?:ed)? (?:on|at|date|time)|report:)\b[^.]{0,20}$`)

// plain is the last: no known form. One address and one time make an
// observation, more need words that say who did what.
func (l *line) plain() outcome {
	addrs := l.distinct()
	full := l.stamp.ok() && l.stamp.hasTime && l.stamp.month > 0
	if len(addrs) == 0 || !l.stamp.ok() {
		return outcome{}
	}
	if reportTime.MatchString(l.text[:l.stamp.from]) {
		return outcome{} // of the report, not of what it is about
	}
	if l.stamp.bad {
		return no(BadTime, "the time cannot be: "+clip(l.stamp.text, 60))
	}
	if !full {
		if l.stamp.month == 0 {
			return no(NoDate, "there is a time of day, but no date")
		}
		return no(NoTime, "there is a date, but no time of day")
	}
	if src, dst, ok := l.byWords(); ok {
		out := l.observe(ShapeAddrAtTime, l.kind(), src, dst, time.Time{})
		if out.obs != nil {
			out.obs.saidPort(l.text)
			out.obs.usual(l.text)
		}
		return out
	}
	if len(addrs) > 1 {
		return no(NoRoles, "there are several addresses, and nothing says which is the source")
	}
	if addrs[0].bad {
		return no(BadAddress, "an address has a number above 255")
	}
	out := l.observe(ShapeAddrAtTime, l.kind(), addrs[0], found{}, time.Time{})
	if out.obs != nil {
		out.obs.saidPort(l.text)
		out.obs.usual(l.text)
		out.obs.RolesAssumed = true
		out.obs.Assumed = append(out.obs.Assumed, "the only address of the line is taken as the source")
		if p := out.obs.Src.Port; p > 0 && p < 1024 { // "198.18.0.7:22": a service's port is hardly the attacker's
			out.obs.Assumed = append(out.obs.Assumed, "the port stands with the address; whose it is, is not said")
		}
	}
	return out
}

// kind of what a line without a known form is about.
func (l *line) kind() What {
	low := strings.ToLower(l.text)
	switch {
	case strings.Contains(low, "scan"):
		return WhatScan
	case strings.Contains(low, "flood") || strings.Contains(low, "ddos"):
		return WhatFlood
	case strings.Contains(low, "login") || strings.Contains(low, "password") || strings.Contains(low, "brute"):
		return WhatLogin
	case strings.Contains(low, "spam"), strings.Contains(low, "mail from "), strings.HasPrefix(low, "received: from "):
		return WhatMail
	}
	return WhatTraffic
}

var portWord = regexp.MustCompile(`(?i)\b(?:(tcp|udp)[ /-])?port:? (\d{1,5})\b`)

// saidPort takes the port that a sentence names, which is the attacked one.
func (o *Observation) saidPort(text string) {
	if o.Dst.Port > 0 || o.Src.Port > 0 || !strings.Contains(strings.ToLower(text), "port") {
		return
	}
	if m := portWord.FindStringSubmatch(text); m != nil && portOf(m[2]) > 0 {
		o.Dst.Port = portOf(m[2])
		o.Assumed = append(o.Assumed, "the port that the sentence names is taken for the attacked one")
	}
}

// usual fills in the ports that the service has as a rule.
func (o *Observation) usual(text string) {
	if o.Dst.Port > 0 {
		return
	}
	if o.Usual = usualPorts(text); o.Usual == nil && o.What == WhatMail {
		o.Usual = []uint16{25}
	}
}
