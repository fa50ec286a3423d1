package parse

import (
	"regexp"
	"strings"
	"time"
)

var f2bLine = regexp.MustCompile(`fail2ban\.(?:filter|actions?|observer)\s*\[\d+\]:?\s+\w+\s+\[([\w.-]+)\]\s+(Found|Ban|Unban|Increase Ban|Restore Ban|Already banned)?\s*`)

// fail2ban reads fail2ban.log: what it found, and whom it banned for it.
func (l *line) fail2ban() outcome {
	if !l.has("fail2ban.") {
		return outcome{}
	}
	m := f2bLine.FindStringSubmatchIndex(l.text)
	if m == nil {
		return outcome{}
	}
	var rest []found
	for _, a := range l.addrs {
		if a.from >= m[1]-1 {
			rest = append(rest, a)
		}
	}
	if len(rest) == 0 {
		return halfLine("a line of fail2ban without an address")
	}
	what := WhatBan
	if m[4] >= 0 && l.text[m[4]:m[5]] == "Found" {
		what = WhatLogin
	}
	out := l.observe(ShapeFail2ban, what, rest[0], found{}, time.Time{})
	if out.obs != nil {
		out.obs.IPProto = 0
		out.obs.usual(l.text[m[2]:m[3]])
	}
	return out
}

// squidLine is the native access.log of Squid: seconds, duration, client, result.
var squidLine = regexp.MustCompile(`^\d{10}\.\d{3} +\d+ (\S+) [A-Z_]+/\d{3} \d+ [A-Z]+ `)

var (
	accessLine  = regexp.MustCompile(`^(?:([\w.-]+):(\d{1,5}) )?(\S+) \S+ .{0,80}?\[(\d{1,2}/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?: [+-]\d{4})?)\] "([^"]{0,20}) `)
	accessStart = regexp.MustCompile(`^(?:[\w.-]+:\d{1,5} )?(\S+) \S+ .{0,80}?\[\d{1,2}/[A-Z][a-z]{2}/\d{4}`)
)

// accessLog reads the common and combined forms of Apache and nginx, with the
// virtual host before it or not.
func (l *line) accessLog() outcome {
	if m := squidLine.FindStringSubmatch(l.text); m != nil && l.stamp.epoch {
		if src, ok := parseEndpoint(m[1]); ok {
			out := l.observe(ShapeAccess, WhatHTTP, src, found{}, time.Time{})
			if out.obs != nil { // the proxy's own port is anything
				out.obs.IPProto, out.obs.Count = 6, 1
			}
			return out
		}
	}
	if !l.has(" [") || !l.stamp.ok() || l.stamp.from == 0 {
		return outcome{}
	}
	m := accessLine.FindStringSubmatch(l.text)
	if m == nil {
		if s := accessStart.FindStringSubmatch(l.text); s != nil {
			if _, ok := parseEndpoint(s[1]); ok && !strings.Contains(l.text, `] "`) {
				return halfLine("a line of a web server's log without its request")
			}
		}
		return outcome{}
	}
	src, ok := parseEndpoint(m[3])
	if !ok {
		if len(l.addrs) == 0 {
			return no(NoAddress, "the web server wrote a name in place of the client's address")
		}
		return outcome{}
	}
	out := l.observe(ShapeAccess, WhatHTTP, src, found{}, time.Time{})
	if o := out.obs; o != nil {
		o.IPProto, o.Count = 6, 1
		if m[2] != "" {
			o.Dst.Port = portOf(m[2])
		} else {
			o.Usual = []uint16{80, 443}
		}
	}
	return out
}

// known services by what their lines hold. The first that matches counts.
var services = []struct {
	shape Shape
	what  What
	// words of which one is in every line that re matches: looking for them is
	// far cheaper.
	words []string
	re    *regexp.Regexp
	proto uint8
	ports string // words for usualPorts; empty: those of the line
}{
	{ShapeLFD, WhatBan, []string{"lfd", "Port Scan", "(CT)"}, regexp.MustCompile(`\blfd(?:\[\d+\])?:|\*Port Scan\* detected|\(CT\) IP `), 6, ""},
	{ShapeSSHD, WhatLogin, []string{"ssh", "Failed ", "Invalid user", "Did not receive", "kex_", "dropbear"}, regexp.MustCompile(`\bsshd?(?:-session)?(?:\[\d+\])?: |pam_unix\(sshd|Failed (?:password|keyboard-interactive\S*|none|publickey) for |Invalid user \S* ?from |Did not receive identification string|kex_exchange_identification|dropbear\[`), 6, "ssh"},
	{ShapeMail, WhatMail, []string{"postfix", "dovecot", "exim", "sendmail", "sm-mta", "imap", "pop3", "SASL", "H=", "authenticator", "courier"}, regexp.MustCompile(`\bpostfix/|\bdovecot(?:\[\d+\])?: |\bexim\d?(?:\[\d+\])?: |\bsendmail\[|\bsm-mta\[|\bimapd?(?:-login)?(?:\[\d+\])?:|\bpop3d?(?:-login)?(?:\[\d+\])?:|SASL (?:LOGIN|PLAIN|CRAM-MD5|DIGEST-MD5)|\bH=\(?\S* ?\[|authenticator failed for|\bcourier`), 6, ""},
	{ShapeErrorLog, WhatHTTP, []string{"client", "ModSecurity"}, regexp.MustCompile(`\[client [0-9a-fA-F.:\[\]]+|, client: [0-9a-fA-F.:]+|ModSecurity`), 6, "http"},
	{ShapeFTP, WhatLogin, []string{"ftp", "FTP", "FAIL LOGIN"}, regexp.MustCompile(`\bproftpd(?:\[\d+\])?|\bvsftpd(?:\[\d+\])?|pure-ftpd|FAIL LOGIN: Client|FTP session`), 6, "ftp"},
	{ShapeSIP, WhatLogin, []string{"chan_sip", "pjsip", "asterisk", "Registration", "SecurityEvent"}, regexp.MustCompile(`chan_sip|res_pjsip|\basterisk\b|Registration from '|SecurityEvent=`), 0, "sip"},
	{ShapeDNS, WhatQuery, []string{"named", "client", "unbound"}, regexp.MustCompile(`\bnamed(?:\[\d+\])?:|\bclient (?:@0x[0-9a-f]+ )?[0-9a-fA-F.:]+#\d+|unbound\[`), 0, "dns"},
}

// service reads lines of daemons that log their clients: sshd, mail servers,
// web servers' error logs, FTP, SIP, DNS, lfd.
func (l *line) service() outcome {
	for _, s := range services {
		if !l.has(s.words...) || !s.re.MatchString(l.text) {
			continue
		}
		if !l.stamp.ok() || !l.stamp.hasTime {
			if len(l.addrs) == 0 {
				return outcome{}
			}
			return no(NoTime, "the line has no time")
		}
		if len(l.addrs) == 0 {
			return no(NoAddress, "a line of "+string(s.shape)+" without a whole address")
		}
		src, dst, ok := l.client()
		if !ok {
			return no(NoRoles, "there are several addresses, and nothing says which is the client")
		}
		out := l.observe(s.shape, s.what, src, dst, time.Time{})
		if o := out.obs; o != nil {
			l.serviceDetails(o, s.ports, s.proto)
		}
		return out
	}
	return outcome{}
}

func (l *line) serviceDetails(o *Observation, words string, proto uint8) {
	if o.IPProto == 0 {
		o.IPProto = proto
	}
	switch o.Shape {
	case ShapeMail:
		low := strings.ToLower(l.text)
		if strings.Contains(low, "sasl") || strings.Contains(low, "auth") || strings.Contains(low, "login") || strings.Contains(low, "password") {
			o.What = WhatLogin
		}
	case ShapeLFD:
		if strings.Contains(l.text, "Port Scan") {
			o.What, o.IPProto = WhatScan, 0
		}
	case ShapeSSHD:
		if l.has("Connection closed by", "Did not receive", "kex_exchange", "Connection reset", "Connection from", "Unable to negotiate") {
			o.What = WhatTraffic
		}
	case ShapeDNS:
		if o.IPProto == 0 {
			o.IPProto = 17
			o.Assumed = append(o.Assumed, "the line does not say whether the query came by UDP or TCP; UDP is assumed")
		}
	case ShapeSIP:
		if o.IPProto == 0 {
			o.IPProto = 17
			o.Assumed = append(o.Assumed, "the line does not state the protocol; UDP is assumed")
		}
	}
	if words == "" { // without the head, where the machine's name stands
		words = l.text[l.stamp.to:]
		if _, rest, ok := strings.Cut(words, ": "); ok && o.Shape == ShapeLFD {
			words = rest
		}
	}
	o.usual(words)
}

// bracketed is how mail servers write a client: name[address], name [address].
var bracketed = regexp.MustCompile(`\[$`)

// client finds who connected, and to which of the server's addresses.
func (l *line) client() (src, dst found, ok bool) {
	at := l.stamp.to
	var after []found // before the time stands at most the machine that logs
	for _, a := range l.addrs {
		if a.from >= at || l.stamp.from > 0 {
			after = append(after, a)
		}
	}
	if len(after) == 0 {
		return src, dst, false
	}
	for i := range after { // Exim: H=… [client]:port I=[own]:port
		if strings.HasSuffix(l.text[:after[i].from], " I=[") && i > 0 {
			return after[i-1], after[i], true
		}
	}
	saved := l.addrs
	l.addrs = after
	src, dst, ok = l.byWords()
	distinct := l.distinct()
	l.addrs = saved
	if ok {
		return src, dst, true
	}
	if len(distinct) == 1 {
		return distinct[0], found{}, true
	}
	for _, a := range distinct {
		if a.from > 0 && bracketed.MatchString(l.text[:a.from]) {
			return a, found{}, true
		}
	}
	return src, dst, false
}
