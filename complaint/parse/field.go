package parse

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// field is what a column, a key or a tag of a structured line holds.
type field uint8

const (
	fNone field = iota
	fTime
	fDate // may hold the time of day as well
	fZone
	fEnd
	fSrc
	fDst
	fAny // an address of which the name does not say whose it is
	fSrcPort
	fDstPort
	fAnyPort
	fProto
	fCount
	fFlags
	fWhat
	numFields
)

// columns are the names in use, in small letters without anything but letters
// and digits.
var columns = map[string]field{}

func init() {
	for f, names := range map[field]string{
		fTime:    "time timestamp ts datetime eventtime logtime firstseen starttime start begin attime timeutc timestamputc utctime when seen attacktime incidenttime detectiontime observationtime dateandtime timegenerated startdate arrivaldate receiveddate eventstart timeofattack timeofincident zeit время",
		fDate:    "date day eventdate localdate datum data дата incidentdate",
		fZone:    "timezone tz zone zeitzone часовойпояс",
		fEnd:     "end endtime lastseen stop stoptime enddate eventend",
		fSrc:     "src srcip srcaddr srcaddress source sourceip sourceaddr sourceaddress saddr sip attacker attackerip attackeraddress attackingip attackip offender offendingip remoteip remoteaddr remoteaddress clientip cip client rhost rip peerip peer abuser abuseip hackerip intruder senderip originip ipsrc sourceipaddress srcipaddr sourceipv4 sourceipv6 infectedip badip scannerip reportedip sourceidentifier suspect spammerip",
		fDst:     "dst dstip dstaddr dstaddress dest destip destaddr destination destinationip destinationaddress daddr dip target targetip targetaddress victim victimip localip localaddr serverip lip ipdst destinationipaddress dstipaddr attackedip honeypotip sensorip destinationaddr",
		fAny:     "ip ipaddress ipaddr address addr host ipv4 ipv6 hostip адрес ipадрес",
		fSrcPort: "srcport sourceport sport spt srcpt attackerport remoteport clientport peerport portsrc sourceportnumber tcpsport udpsport srcportnumber",
		fDstPort: "dstport destport destinationport dport dpt targetport localport victimport portdst destinationportnumber attackedport targetedport serverport tcpdport udpdport",
		fAnyPort: "port ports порт",
		fProto:   "proto protocol ipproto ipprotocol transport networktransport networkprotocol pr layer4 protokoll протокол",
		fCount:   "count packets packetcount pkts attempts attemptcount hits occurrences occurances events failures numevents connections incidents flowpktstoserver totalpackets reportcount eventcount попыток", //nolint:misspell // X-ARF spells it so
		fFlags:   "flags tcpflags flag",
		fWhat:    "category reporttype type abusetype eventtype attacktype class feedbacktype service classification",
	} {
		for n := range strings.FieldsSeq(names) {
			columns[n] = f
		}
	}
}

// column finds what a name means.
func column(name string) field {
	if len(name) > 60 {
		return fNone
	}
	if i := strings.IndexByte(name, '('); i > 0 { // "time (UTC)"
		name = name[:i]
	}
	return columns[strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 32
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r >= 'а' && r <= 'я':
			return r
		case r >= 'А' && r <= 'Я':
			return r + 32
		}
		return -1
	}, name)]
}

// fields is a structured line or entry.
type fields [numFields]string

func (f *fields) set(k field, v string) {
	v = strings.Trim(strings.TrimSpace(v), `"'`)
	if k == fWhat && f[k] != "" { // category, type and service together say what it is
		f[k] += " " + v
	}
	if k != fNone && f[k] == "" && v != "" && v != "-" {
		f[k] = v
	}
}

// who gives the two ends of the entry.
func (f *fields) who() (src, dst found, why Reason) {
	read := func(k field) (e found, ok bool) {
		if f[k] == "" {
			return found{}, true
		}
		if e, ok = parseEndpoint(f[k]); ok {
			return e, !e.bad
		}
		// "198.18.0.7 (RU/Russia/host.example)", "host.example [198.18.0.7]"
		if l := findAddrs(f[k]); len(l) == 1 {
			return l[0], !l[0].bad
		}
		return found{}, false
	}
	src, ok := read(fSrc)
	dst, ok2 := read(fDst)
	any1, ok3 := read(fAny)
	if !ok && f[fAny] != "" && ok3 { // a source's name or type, and its address beside it
		src, ok = any1, true
	}
	if !ok || !ok3 && f[fSrc] == "" {
		return src, dst, BadAddress
	}
	if !ok2 { // a host name
		dst = found{}
	}
	if !src.Known() && !src.hidden {
		src = any1
	}
	return src, dst, ""
}

var ports = map[string]uint16{"ssh": 22, "http": 80, "https": 443, "ftp": 21, "telnet": 23, "smtp": 25, "domain": 53, "ms-wbt-server": 3389, "rdp": 3389, "sip": 5060, "www": 80, "imap": 143, "imaps": 993, "pop3": 110, "submission": 587, "smtps": 465}

// portOf reads one port; lists and ranges have none to give.
func portOf(s string) uint16 {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return uint16(n)
	}
	return ports[strings.ToLower(s)]
}

var protoNumbers = map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "icmp6": 58, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132}

// protoOf reads a protocol by name or number; 0 is unknown.
func protoOf(s string) uint8 {
	s = strings.ToLower(strings.TrimSpace(s))
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		return uint8(n)
	}
	s, _, _ = strings.Cut(s, "/")
	s, _, _ = strings.Cut(s, " ")
	return protoNumbers[s]
}

var leadingNumber = regexp.MustCompile(`^\d{1,12}`)

func countOf(s string) uint64 {
	n, _ := strconv.ParseUint(leadingNumber.FindString(s), 10, 64) // 0 without one
	return n
}

// time finds the moment of the entry. fixed is the format's own zone.
func (f *fields) time(fr frame, fixed *time.Location, date time.Time) (w when, text string, why Reason) {
	text = f[fTime]
	if f[fDate] != "" && f[fTime] == "" {
		text = f[fDate]
	} else if f[fDate] != "" {
		if st := findStamp(text, 0); st.month == 0 {
			text = f[fDate] + " " + text
		}
	}
	if text == "" {
		return w, "", NoTime
	}
	if len(text) > 100 {
		return w, "", BadTime
	}
	if t, ok := epochStamp(text); ok {
		return when{at: t, zone: Zone{Name: "UTC", Source: ZoneEpoch}}, text, ""
	}
	st := findStamp(text, 0)
	if !st.ok() {
		return w, text, BadTime
	}
	if f[fZone] != "" && !st.zone.ok() {
		st.zone = parseZone(f[fZone])
	}
	w, why = fr.resolve(st, fixed, date)
	return w, text, why
}

// whatOf reads a category or service by its words.
func whatOf(s string) What {
	s = strings.ToLower(s)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(s, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("login", "brute", "ssh", "auth", "password", "rdp"):
		return WhatLogin
	case has("spam", "smtp", "mail", "messaging"):
		return WhatMail
	case has("scan", "probe"):
		return WhatScan
	case has("ddos", "flood", "dos"):
		return WhatFlood
	case has("http", "web", "bot"):
		return WhatHTTP
	case has("alert", "malware", "exploit"):
		return WhatAlert
	}
	return WhatTraffic
}

// usualPorts of the service that the words of a text name, whole words only: a
// host may be called web1.
func usualPorts(s string) []uint16 {
	for w := range strings.FieldsFuncSeq(strings.ToLower(s), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
		if p := usual[w]; p != nil {
			return p
		}
	}
	return nil
}

var usual = map[string][]uint16{}

func init() {
	for words, ports := range map[string][]uint16{
		"ssh sshd dropbear":           {22},
		"imap imapd pop3 pop3d imaps": {110, 143, 993, 995},
		"dovecot courier":             {110, 143, 993, 995},
		"smtp smtpd smtpauth postfix exim exim4 sasl spam sendmail submission": {25, 465, 587},
		"ftp ftpd proftpd vsftpd pureftpd":                                     {21},
		"sip asterisk pjsip":                                                   {5060},
		"rdp":                                                                  {3389},
		"mysql mysqld":                                                         {3306},
		"postgres postgresql":                                                  {5432},
		"telnet":                                                               {23},
		"apache apache2 nginx http https wordpress modsecurity": {80, 443},
		"named dns bind": {53},
	} {
		for w := range strings.FieldsSeq(words) {
			usual[w] = ports
		}
	}
}

func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r == '\u202e' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// isPublicUnicast keeps out what no complaint is about.
func isPublicUnicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}
