package parse

import (
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
