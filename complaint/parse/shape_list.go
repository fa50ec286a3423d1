package parse

import (
	"regexp"
	"strings"
	"time"
)

// filterlog reads the packet filter's log of pfSense and OPNsense: fields by
// place, other ones for IPv4 and IPv6 (docs.netgate.com, "Raw Filter Log Format").
func (l *line) filterlog() outcome {
	at := strings.Index(l.text, "filterlog")
	if at < 0 {
		return outcome{}
	}
	_, list, ok := strings.Cut(l.text[at:], ": ")
	c := strings.Split(list, ",")
	if i := strings.LastIndexByte(c[0], ' '); i >= 0 { // RFC 5424 has more before it
		c[0] = c[0][i+1:]
	}
	// Places of protocol number, source and destination.
	proto, src := 15, 18
	if len(c) > 8 && c[8] == "6" {
		proto, src = 13, 15
	}
	if !ok || len(c) < src+2 {
		return halfLine("a line of filterlog without its addresses")
	}
	f := fields{fTime: l.stamp.text, fProto: c[proto], fSrc: c[src], fDst: c[src+1], fCount: "1"}
	if protoCarriesPorts(protoOf(c[proto])) {
		if len(c) < src+4 {
			return halfLine("a line of filterlog without its ports")
		}
		f[fSrcPort], f[fDstPort] = c[src+2], c[src+3]
		if len(c) > src+5 && protoOf(c[proto]) == 6 {
			f[fFlags] = c[src+5]
		}
	}
	return l.listed(&f, ShapeFilterlog)
}

// panos reads TRAFFIC and THREAT logs of PAN-OS: fields by place (PAN-OS
// Administrator's Guide, "Syslog Field Descriptions").
func (l *line) panos() outcome {
	if !l.has(",TRAFFIC,", ",THREAT,") {
		return outcome{}
	}
	c := strings.Split(l.text, ",")
	if len(c) < 30 {
		return halfLine("a line of PAN-OS with too few fields")
	}
	f := fields{fTime: c[6], fSrc: c[7], fDst: c[8], fSrcPort: c[24], fDstPort: c[25], fProto: c[29]}
	return l.listed(&f, ShapePanOS)
}

// listed is structured for a line whose fields stand by place.
func (l *line) listed(f *fields, shape Shape) outcome {
	if !l.stamp.ok() {
		return no(NoTime, "the line has no time")
	}
	for _, k := range []field{fSrc, fDst} {
		if _, ok := parseEndpoint(f[k]); !ok {
			return no(BadAddress, "there is no address where the form has one")
		}
	}
	return l.structured(f, shape, (*time.Location)(nil))
}

var portLine = regexp.MustCompile(`(?i)^[\s,;|]*(?:port[\s:=]*)?(\d{1,5})(?:[\s,;|/]+(tcp|udp|6|17))?[\s,;|]*$|(?i)^[\s,;|]*(tcp|udp)[\s,;|/]+(?:port[\s:=]*)?(\d{1,5})[\s,;|]*$`)

// portList reads lists of time, port and protocol whose address stands once, in
// the sentence above or in the subject. With more than one address named there,
// nothing is taken.
func (l *line) portList() outcome {
	m := portLine.FindStringSubmatch(l.text[l.stamp.to:])
	if m == nil || l.stamp.from > 1 || l.stamp.month == 0 || portOf(m[1]+m[4]) == 0 {
		return outcome{}
	}
	named := l.p.named
	if len(named) == 0 { // the subject
		named = findAddrs(refang(l.r.c.Subject))
	}
	if len(named) != 1 {
		return outcome{}
	}
	src := named[0]
	src.Port = 0
	out := l.observe(ShapePortList, WhatTraffic, src, found{Endpoint: Endpoint{Port: portOf(m[1] + m[4])}}, time.Time{})
	if out.obs != nil {
		out.obs.IPProto = protoOf(m[2] + m[3])
		out.obs.Assumed = append(out.obs.Assumed, "the line has no address; "+src.Addr.String()+", the only one that is named above it, is taken as the source")
	}
	return out
}

// names remembers the addresses that sentences without a time name.
func (p *part) names(l *line) {
	for _, a := range l.distinct() {
		known := false
		for _, o := range p.named {
			known = known || o.Addr == a.Addr
		}
		if !known && a.Addr.IsValid() && len(p.named) < 3 {
			p.named = append(p.named, a)
		}
	}
}
