package parse

import (
	"regexp"
	"strings"
	"time"
)

// recognisers in the order in which they are asked: the first that decides has
// the line. What is more specific comes first.
var recognisers = []func(*line) outcome{
	(*line).netfilter,
	(*line).windowsFirewall,
	(*line).dshield,
	(*line).filterlog,
	(*line).panos,
	(*line).cisco,
	(*line).keyValue,
	(*line).arrow,
	(*line).fail2ban,
	(*line).accessLog,
	(*line).service,
	(*line).portList,
	(*line).plain,
}

// netfilter reads the kernel's lines of iptables and nftables (nf_log_syslog):
// IN= OUT= SRC= DST= … PROTO= SPT= DPT=.
func (l *line) netfilter() outcome {
	at := strings.Index(l.text, "SRC=")
	if at < 0 || at > 0 && isWord(l.text[at-1]) {
		if l.has("IN=") && l.has("OUT=") && l.has("MAC=", "kernel:") {
			return halfLine("a line of the kernel's firewall without SRC=")
		}
		return outcome{}
	}
	kv := map[string]string{}
	flags := map[string]bool{}
	for w := range strings.FieldsSeq(l.text[at:]) {
		if k, v, ok := strings.Cut(w, "="); ok {
			if _, twice := kv[k]; !twice { // ICMP errors quote the packet they are about behind it
				kv[k] = v
			}
		} else {
			flags[w] = true
		}
	}
	src, ok := parseEndpoint(kv["SRC"])
	dst, ok2 := parseEndpoint(kv["DST"])
	proto := protoOf(kv["PROTO"])
	switch {
	case !ok:
		return no(BadAddress, "SRC= has no whole address")
	case kv["DST"] == "":
		return halfLine("a line of the kernel's firewall without DST=")
	case !ok2:
		return no(BadAddress, "DST= has no whole address")
	case kv["PROTO"] == "":
		return halfLine("a line of the kernel's firewall without PROTO=")
	case protoCarriesPorts(proto) && kv["DPT"] == "" && kv["FRAG"] == "":
		return halfLine("a line of the kernel's firewall without DPT=")
	}
	out := l.observe(ShapeNetfilter, WhatTraffic, src, dst, time.Time{})
	if o := out.obs; o != nil {
		o.IPProto, o.Count = proto, 1
		o.Src.Port, o.Dst.Port = 0, 0
		if protoCarriesPorts(proto) {
			o.Src.Port, o.Dst.Port = portOf(kv["SPT"]), portOf(kv["DPT"])
		}
		o.Answer = flags["RST"] || flags["SYN"] && flags["ACK"]
	}
	return out
}

// fwFields is how Windows Firewall writes without its header.
var fwFields = strings.Fields("date time action protocol src-ip dst-ip src-port dst-port size tcpflags")

var fwLine = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:ALLOW|DROP|OPEN|OPEN-INBOUND|CLOSE) (?:TCP|UDP|ICMP|\d{1,3}) `)

// windowsFirewall reads pfirewall.log; with its header the lines are W3C's.
func (l *line) windowsFirewall() outcome {
	if !fwLine.MatchString(l.text) {
		return outcome{}
	}
	cells := strings.Fields(l.text)
	if len(cells) < 8 {
		return halfLine("a line of Windows Firewall without its ports")
	}
	var f fields
	for i, name := range fwFields {
		if i < len(cells) {
			f.set(column(name), cells[i])
		}
	}
	return l.structured(&f, ShapeW3C, nil)
}

// dshield reads submissions to DShield: time and zone, author, count, source,
// its port, target, its port, protocol, flags, with tabs between.
func (l *line) dshield() outcome {
	c := strings.Split(l.raw, "\t")
	if len(c) < 8 || len(c) > 12 || !l.stamp.ok() || l.stamp.from > 1 || l.stamp.month == 0 {
		return outcome{}
	}
	if _, ok := parseEndpoint(c[3]); !ok {
		return outcome{}
	}
	if _, ok := parseEndpoint(c[5]); !ok {
		return outcome{}
	}
	f := fields{fTime: c[0], fCount: c[2], fSrc: c[3], fSrcPort: c[4], fDst: c[5], fDstPort: c[6], fProto: c[7]}
	if len(c) > 8 {
		f[fFlags] = c[8]
	}
	return l.structured(&f, ShapeDShield, nil)
}

var (
	asaTag  = regexp.MustCompile(`%(?:ASA|PIX|FWSM|FTD)-\d?-?\d-\d{6}`)
	iosTag  = regexp.MustCompile(`%(?:SEC|SEC_LOGIN|IPV6_ACL|ACCESSLOG|FW|FMANFP|IPACCESSLOG\w*)-\d?-?\d?-?\w+`)
	asaSide = regexp.MustCompile(`(?i)\b(?:src|from|for|by)\s+[\w.-]+:$`)
)

// cisco reads what ASA and IOS say of denied packets.
func (l *line) cisco() outcome {
	if !l.has("%") {
		return outcome{}
	}
	shape := ShapeASA
	switch {
	case asaTag.MatchString(l.text):
	case iosTag.MatchString(l.text):
		shape = ShapeIOS
	default:
		return outcome{}
	}
	addrs := l.addrs
	for len(addrs) > 0 && addrs[0].from < strings.IndexByte(l.text, '%') { // the router that logs
		addrs = addrs[1:]
	}
	switch len(addrs) {
	case 0:
		return halfLine("a line of a Cisco firewall without addresses")
	case 1:
		if l.has("src ", " -> ") || !l.has("from ", "for ", "Source:", "denied") {
			return halfLine("a line of a Cisco firewall with one address, and nothing says whose")
		}
		return l.observe(shape, WhatTraffic, addrs[0], found{}, time.Time{})
	}
	src, dst := addrs[0], addrs[1]
	if before := l.text[:addrs[1].from]; asaSide.MatchString(before) && !asaSide.MatchString(l.text[:addrs[0].from]) && !strings.HasSuffix(strings.TrimRight(l.text[:addrs[0].from], " "), "from") {
		src, dst = dst, src
	}
	out := l.observe(shape, WhatTraffic, src, dst, time.Time{})
	if out.obs != nil && out.obs.Count == 0 {
		out.obs.Count = 1
	}
	if out.obs != nil && l.has("flags SYN ACK", "flags RST") {
		out.obs.Answer = true
	}
	return out
}

var kvPair = regexp.MustCompile(`(?:^|[\s,;|(\[{])"?([A-Za-z][\w.-]{1,24})"?\s?[=:]\s?("[^"]{0,200}"|'[^']{0,200}'|[^\s,;|)\]}]{1,100})`)

// keyValue reads lines of key=value pairs: Fortinet, Check Point, pfSense, CEF.
func (l *line) keyValue() outcome {
	if strings.Count(l.text, "=") < 3 && !l.has("src:", "src_ip:", "SrcIP:") || l.has(" rip=", " rhost=") {
		return outcome{}
	}
	var f fields
	for _, m := range kvPair.FindAllStringSubmatch(l.text, 80) {
		k := column(m[1])
		if k == fAny || k == fWhat { // "host=", "type=": of the machine that logs
			continue
		}
		f.set(k, m[2])
	}
	if f[fSrc] == "" || f[fDst] == "" {
		return outcome{}
	}
	if _, ok := parseEndpoint(f[fSrc]); !ok {
		return outcome{}
	}
	if st := findStamp(f[fDate]+" "+f[fTime], 0); st.month == 0 && l.stamp.month > 0 {
		f[fDate], f[fTime] = "", l.stamp.text
		if f[fZone] == "" && l.stamp.zone.ok() {
			f[fZone] = l.stamp.zone.name
		}
	}
	return l.structured(&f, ShapeKeyValue, nil)
}

// structured makes an observation of named fields.
func (l *line) structured(f *fields, shape Shape, fixed *time.Location) outcome {
	src, dst, why := f.who()
	if why != "" {
		return no(why, reasonText(why)+" in one of the fields")
	}
	w, text, why := f.time(l.p.frame, fixed, l.r.date)
	if why != "" {
		return no(why, reasonText(why)+": "+clip(text, 60))
	}
	o := l.base(shape, w, text)
	if out := o.ends(src, dst); out.decided() {
		return out
	}
	o.What = WhatTraffic
	if f[fWhat] != "" {
		o.What = whatOf(f[fWhat])
	}
	o.IPProto, o.Count = protoOf(f[fProto]), countOf(f[fCount])
	if p := portOf(f[fSrcPort]); p > 0 {
		o.Src.Port = p
	}
	if p := portOf(f[fDstPort]); p > 0 {
		o.Dst.Port = p
	}
	if p := portOf(f[fAnyPort]); p > 0 && o.Dst.Port == 0 {
		o.Dst.Port = p
	}
	if o.Dst.Port > 0 && f[fDstPort] == "" && dst.Port == 0 && shape != ShapeXARF02 { // X-ARF's Port is the attacked one
		o.Assumed = append(o.Assumed, "the field does not say whose port it is; the destination's is assumed")
	}
	if o.Dst.Port == 0 {
		o.Usual = usualPorts(f[fWhat])
	}
	if f[fEnd] != "" {
		g := fields{fTime: f[fEnd], fZone: f[fZone]}
		if e, _, why := g.time(l.p.frame, fixed, l.r.date); why == "" && e.at.After(o.Time) {
			o.End = e.at
		}
	}
	flags := strings.ToUpper(f[fFlags])
	o.Answer = flags == "SA" || flags == "AS" || flags == "R" || flags == "RA" || flags == "AR" || strings.Contains(flags, "RST")
	return outcome{obs: o}
}
