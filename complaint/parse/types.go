package parse

import (
	"net/netip"
	"time"
)

// Input is one complaint as it came.
type Input struct {
	Data []byte
	// Type is text/plain, message/rfc822 or application/json; empty: seen from
	// the data. A text that begins with a mail's header is read as a mail in
	// any case.
	Type string
	// Received is when it came in; zero: now must be given instead. Years that
	// the text leaves out are the latest that is not after it.
	Received time.Time
	// Zone is what the desk says that times without a zone are in; nil: the
	// text, then the mail's own Date, then UTC.
	Zone *time.Location
	// Target is the reporter's own address, for lines that do not name it.
	Target netip.Addr
}

// Complaint is what was read.
type Complaint struct {
	From      string    `json:"from,omitempty" doc:"of the mail's header"`
	Subject   string    `json:"subject,omitempty" doc:"of the mail's header"`
	MessageID string    `json:"message_id,omitempty" doc:"of the mail's header"`
	Date      time.Time `json:"date,omitzero" doc:"of the mail's header"`
	ReportID  string    `json:"report_id,omitempty" doc:"as the reporter names the report"`
	Parts     []Part    `json:"parts" doc:"what the complaint consists of"`

	Observations []Observation `json:"observations" doc:"one for each line, or entry of a report, that was understood"`
	Unread       []Unread      `json:"unread" doc:"lines that were not understood, with the reason; the first thousand"`
	UnreadCount  int           `json:"unread_count" doc:"how many were not understood in all"`
	TextLines    int           `json:"text_lines" doc:"lines of plain prose, without an address or a time, which are not listed"`
	Notes        []string      `json:"notes" doc:"what was assumed, left out or cut of the whole"`
}

// Part is one piece of the complaint: the text, a body, an attachment, a file
// of an archive.
type Part struct {
	Name  string `json:"name"`
	Type  string `json:"type,omitempty"`
	Lines int    `json:"lines"`
	Note  string `json:"note,omitempty" doc:"why it was not read, or not whole"`
}

// Shape names the form that a line was recognised by.
type Shape string

// The shapes.
const (
	ShapeNetfilter  Shape = "netfilter"        // kernel lines of iptables and nftables: SRC= DST=
	ShapeKeyValue   Shape = "key_value"        // firewalls that write srcip=… dstip=…
	ShapeFilterlog  Shape = "filterlog"        // pfSense and OPNsense: commas behind filterlog[…]:
	ShapePanOS      Shape = "panos"            // TRAFFIC and THREAT logs of Palo Alto Networks
	ShapeW3C        Shape = "w3c"              // #Fields: of Windows Firewall and IIS
	ShapeASA        Shape = "cisco_asa"        // %ASA-…
	ShapeIOS        Shape = "cisco_ios"        // %SEC-6-IPACCESSLOG…
	ShapeRegistro   Shape = "registro"         // "2013-06-18 15:53:34" a/52218->b/6881 6(0)
	ShapeNetscan    Shape = "netscan"          // time, protocol, a port => b port
	ShapeTCPDump    Shape = "tcpdump"          // IP a.port > b.port: Flags
	ShapeSnort      Shape = "snort"            // fast alerts: [**] … {TCP} a:port -> b:port
	ShapeArrow      Shape = "arrow"            // any other a -> b with a time
	ShapeJSON       Shape = "json"             // a JSON object on a line; eve.json among them
	ShapeXARF       Shape = "xarf"             // XARF v3 and v4
	ShapeXARF02     Shape = "x-arf"            // X-ARF 0.1 and 0.2 reports
	ShapeARF        Shape = "arf"              // RFC 5965 feedback reports
	ShapeCSV        Shape = "csv"              // with or without a header line
	ShapeDShield    Shape = "dshield"          // tab-separated submissions
	ShapeSSHD       Shape = "sshd"             // and other lines of OpenSSH and PAM
	ShapeMail       Shape = "mail_server"      // Postfix, Dovecot, Exim, Courier, Sendmail
	ShapeAccess     Shape = "access_log"       // Apache, nginx
	ShapeErrorLog   Shape = "error_log"        // Apache, nginx, ModSecurity
	ShapeFTP        Shape = "ftp"              // ProFTPD, vsftpd, Pure-FTPd
	ShapeSIP        Shape = "sip"              // Asterisk and others
	ShapeFail2ban   Shape = "fail2ban"         // its own log
	ShapeLFD        Shape = "lfd"              // csf and lfd
	ShapeDNS        Shape = "dns"              // named and others
	ShapeFields     Shape = "fields"           // a block of Key: value lines
	ShapePortList   Shape = "port_list"        // time, port, protocol; the address stands above
	ShapeAddrAtTime Shape = "address_and_time" // no known form, one address and one time
)

// Endpoint is one end of what was observed.
type Endpoint struct {
	Addr   netip.Addr   `json:"addr,omitzero"`
	Prefix netip.Prefix `json:"prefix,omitzero" doc:"when the text has a network, or hides the last part of the address"`
	Port   uint16       `json:"port,omitempty" doc:"absent when not stated"`
}

// Known reports whether the endpoint has an address or a network.
func (e Endpoint) Known() bool { return e.Addr.IsValid() || e.Prefix.IsValid() }

// ZoneSource says where the zone of a time came from.
type ZoneSource string

// The sources of a zone, from the surest on.
const (
	ZoneStated   ZoneSource = "stated"    // with the time itself
	ZoneEpoch    ZoneSource = "epoch"     // a number of seconds, which has none
	ZoneFormat   ZoneSource = "format"    // the format's standard fixes it
	ZoneGiven    ZoneSource = "given"     // by the desk
	ZoneText     ZoneSource = "text"      // the complaint says so elsewhere
	ZoneMailDate ZoneSource = "mail_date" // that of the mail's Date: a hint
	ZoneAssumed  ZoneSource = "assumed"   // nothing says; UTC was taken
)

// Zone is what a time was read with.
type Zone struct {
	Name   string     `json:"name" doc:"as written, or the offset"`
	Offset int        `json:"offset_s" doc:"seconds east of UTC at that time"`
	Source ZoneSource `json:"source" enum:"stated,epoch,format,given,text,mail_date,assumed"`
	// Alternatives are the other readings of an ambiguous name, or of an
	// ambiguous order of day and month.
	Alternatives []Alternative `json:"alternatives,omitempty"`
}

// Known reports whether the complaint, or the desk, says which zone it is, and
// the name has one meaning.
func (z Zone) Known() bool {
	return z.Source != ZoneMailDate && z.Source != ZoneAssumed && len(z.Alternatives) == 0
}

// Alternative is another reading of a time.
type Alternative struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"`
}

// Observation is one thing that somebody says happened.
type Observation struct {
	Part  int       `json:"part" doc:"index into parts"`
	Line  int       `json:"line" doc:"1 for the part's first"`
	Shape Shape     `json:"shape"`
	Time  time.Time `json:"time"`
	End   time.Time `json:"end,omitzero" doc:"when a span of time is reported"`
	Text  string    `json:"time_text" doc:"the time as written"`
	Zone  Zone      `json:"zone"`
	Src   Endpoint  `json:"src" doc:"who did it"`
	Dst   Endpoint  `json:"dst" doc:"to whom"`
	// RolesAssumed: the line does not say which of the two did it.
	RolesAssumed bool   `json:"roles_assumed,omitempty" doc:"the line does not say which address is the source"`
	IPProto      uint8  `json:"ip_proto,omitempty" doc:"IP protocol; absent when not stated"`
	What         What   `json:"what"`
	Count        uint64 `json:"count,omitempty" doc:"packets or attempts that the line claims; absent when not stated"`
	// Usual are the ports that the service has as a rule; the line states none.
	Usual  []uint16 `json:"usual_ports,omitempty" doc:"ports that such a service usually has, when the line states none"`
	Answer bool     `json:"answer,omitempty" doc:"the packet is an answer (SYN-ACK, RST), so that the source may be the attacked one"`
	// Assumed is everything that was not in the line itself.
	Assumed []string `json:"assumed,omitempty"`
	Raw     string   `json:"raw" doc:"the line, shortened"`
}

// What is the kind of thing that is reported.
type What string

// The kinds.
const (
	WhatTraffic What = "traffic" // packets, a connection, a dropped packet
	WhatLogin   What = "login"   // a failed login: the connection stood
	WhatHTTP    What = "http"    // a request: the connection stood
	WhatMail    What = "mail"    // a mail or an attempt to send one
	WhatQuery   What = "query"   // DNS and the like over UDP
	WhatAlert   What = "alert"   // a signature or a policy fired
	WhatScan    What = "scan"    // a scan as a whole
	WhatFlood   What = "flood"   // a flood as a whole
	WhatBan     What = "ban"     // blocked after earlier attempts, which may be minutes old
)

// Connected reports whether the kind means that a connection stood, which takes
// several packets from each side.
func (w What) Connected() bool { return w == WhatLogin || w == WhatHTTP || w == WhatMail }

// Unread is a line that was not understood.
type Unread struct {
	Part   int    `json:"part"`
	Line   int    `json:"line"`
	Reason Reason `json:"reason"`
	Detail string `json:"detail" doc:"the reason for people"`
	Raw    string `json:"raw"`
}

// Reason says why a line is no observation.
type Reason string

// The reasons.
const (
	NoAddress    Reason = "no_address"     // a time, but no address
	NoTime       Reason = "no_time"        // an address, but no time
	NoDate       Reason = "no_date"        // a time of day only
	BadTime      Reason = "bad_time"       // a time that cannot be
	BadAddress   Reason = "bad_address"    // an address that cannot be
	HalfLine     Reason = "half_line"      // a known form of which a part is missing
	NoRoles      Reason = "no_roles"       // several addresses, and nothing says who did what
	TooLong      Reason = "too_long"       // longer than a log line
	NotALog      Reason = "not_a_log"      // a log has no such lines
	NotCovered   Reason = "not_covered"    // an entry of a format whose required fields are missing
	OnlyNetworks Reason = "only_a_network" // a whole network as the source
)
