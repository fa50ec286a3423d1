package bundle

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Reporter is the organisation that reports, in XARF. Domain is that of Contact
// unless it is set.
type Reporter struct {
	Org     string
	Contact string // mail address
	Domain  string
}

// xarfVersion is the version of the specification that reports follow
// (https://xarf.org, xarf-core and the connection types).
const xarfVersion = "4.2.0"

// maxXARFEvidence bounds one piece of evidence (xarf-core, evidence_item.size).
const maxXARFEvidence = 5 << 20

// Report is one XARF 4 report: one finding of the incident.
type Report struct {
	Version     string     `json:"xarf_version"`
	ID          string     `json:"report_id"`
	Timestamp   time.Time  `json:"timestamp"`
	Reporter    party      `json:"reporter"`
	Sender      party      `json:"sender"`
	Source      string     `json:"source_identifier"`
	Category    string     `json:"category"`
	Type        string     `json:"type"`
	EvidenceOf  string     `json:"evidence_source"`
	Protocol    string     `json:"protocol"`
	FirstSeen   time.Time  `json:"first_seen"`
	LastSeen    time.Time  `json:"last_seen,omitzero"`
	Destination string     `json:"destination_ip,omitempty"`
	Port        int        `json:"destination_port,omitempty"`
	Vector      string     `json:"attack_vector,omitempty"`
	PeakPPS     uint64     `json:"peak_pps,omitempty"`
	Duration    int        `json:"duration_seconds,omitempty"`
	Mitigated   *bool      `json:"mitigation_applied,omitempty"`
	Description string     `json:"description"`
	Tags        []string   `json:"tags,omitempty"`
	Evidence    []evidence `json:"evidence,omitempty"`

	name string
}

// Name is a file name for the report, without its extension.
func (r Report) Name() string { return r.name }

type party struct {
	Org     string `json:"org"`
	Contact string `json:"contact"`
	Domain  string `json:"domain"`
}

type evidence struct {
	Type        string `json:"content_type"`
	Description string `json:"description"`
	Payload     string `json:"payload"`
	Hash        string `json:"hash"`
	Size        int    `json:"size"`
}

// XARF makes a report of each finding that XARF has a type for, in the order of
// the findings; none without a reporter. It has none for spam seen by flows
// alone, since messaging/spam asks for the sender's address, and no protocol
// but TCP, UDP, ICMP and SCTP.
func XARF(in Input) ([]Report, error) {
	if in.Reporter == (Reporter{}) {
		return nil, nil
	}
	who, err := in.Reporter.party()
	if err != nil {
		return nil, err
	}
	var out []Report
	for i, f := range in.Incident.Findings {
		kind, ok := xarfType(f.Rule)
		proto, known := map[uint8]string{flow.ProtoTCP: "tcp", flow.ProtoUDP: "udp", flow.ProtoICMP: "icmp", flow.ProtoICMPv6: "icmp", 132: "sctp"}[f.IPProto]
		if !ok || !known {
			continue
		}
		r := Report{
			Version: xarfVersion, ID: reportID(in.Incident.ID, i, f), Timestamp: f.To.UTC(), Reporter: who, Sender: who, Source: in.Incident.Tenant.WithZone("").String(),
			Category: "connection", Type: kind, EvidenceOf: "flow_analysis", Protocol: proto, FirstSeen: f.From.UTC(), LastSeen: f.To.UTC(), Port: int(f.Port),
			Description: clip(fmt.Sprintf("%s: %s", f.Rule, comment(f.Reason)), 1000), Tags: tags(in.Incident.ID, f.Rule), name: fmt.Sprintf("%02d-%s", i+1, safe(string(f.Rule))),
		}
		if f.Remote.IsValid() {
			r.Destination = f.Remote.WithZone("").String()
		}
		if kind == "ddos" {
			r.Vector = string(f.Rule)
			r.PeakPPS = uint64(max(f.EstRate, 1))
			r.Duration = max(int(f.To.Sub(f.From).Seconds()), 1)
			done := in.Incident.Action != nil && !in.Incident.Action.Done.IsZero()
			r.Mitigated = &done
		}
		r.Evidence = logEvidence(in)
		out = append(out, r)
	}
	return out, nil
}

// xarfType is the type of category connection that says what a rule finds.
func xarfType(r flow.Rule) (string, bool) {
	switch r {
	case flow.RuleNetscan, flow.RulePortscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep, flow.RuleBlockedPort:
		return "port_scan", true
	case flow.RuleSYNFlood, flow.RuleUDPFlood, flow.RuleICMPFlood, flow.RulePacketFlood, flow.RuleReflector, flow.RuleSpoofed:
		return "ddos", true
	case flow.RuleBruteforce:
		return "login_attack", true
	}
	return "", false
}

var domainForm = regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

// party checks a reporter as XARF wants it.
func (r Reporter) party() (party, error) {
	a, err := mail.ParseAddress(r.Contact)
	if err != nil {
		return party{}, fmt.Errorf("xarf reporter: contact %q: write a mail address: %w", r.Contact, err)
	}
	_, domain, _ := strings.Cut(a.Address, "@")
	if r.Domain != "" {
		domain = r.Domain
	}
	switch {
	case r.Org == "" || len([]rune(r.Org)) > 200:
		return party{}, errors.New("xarf reporter: org: write the organisation's name, at most 200 characters")
	case len(domain) > 253 || !domainForm.MatchString(domain):
		return party{}, fmt.Errorf("xarf reporter: domain %q: write a name such as example.net", domain)
	}
	return party{r.Org, a.Address, domain}, nil
}

// reportID is a UUID that is the same each time a finding is reported, so that
// a receiver sees a repetition as one.
func reportID(incident string, i int, f flow.Finding) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "flowcordon xarf 4\n%s\n%d\n%s\n%d\n%d\n%s\n%d", incident, i, f.Rule, f.IPProto, f.Port, f.Remote, f.From.UnixNano()))
	b := sum[:16]
	b[6] = b[6]&0x0f | 0x40 // the version that XARF asks for (RFC 9562 §5.4)
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// tags have the form that XARF allows.
func tags(incident string, r flow.Rule) []string {
	form := func(s string) string {
		return strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("_-", c) {
				return c
			}
			return -1
		}, strings.ToLower(s))
	}
	var out []string
	for _, t := range []struct{ space, name string }{{"rule", form(string(r))}, {"incident", form(incident)}} {
		if name := strings.TrimLeft(t.name, "_-"); name != "" {
			out = append(out, t.space+":"+name)
		}
	}
	return out
}

// logEvidence are the logs of the last stage.
func logEvidence(in Input) []evidence {
	if len(in.Evidence) == 0 {
		return nil
	}
	var out []evidence
	for _, l := range in.Evidence[len(in.Evidence)-1].Logs {
		if len(l.Text) > maxXARFEvidence {
			continue
		}
		sum := sha256.Sum256([]byte(l.Text))
		out = append(out, evidence{
			Type: "text/plain", Description: clip("Flow records as the routers exported them: "+l.Form, 500), Size: len(l.Text),
			Payload: base64.StdEncoding.EncodeToString([]byte(l.Text)), Hash: "sha256:" + hex.EncodeToString(sum[:]),
		})
	}
	return out
}

func clip(s string, runes int) string {
	if r := []rune(s); len(r) > runes {
		return string(r[:runes-1]) + "…"
	}
	return s
}
