package flow

import (
	"net/netip"
	"time"
)

// Evidence is what proves an incident, frozen with it: the texts never change
// after they were written, whatever becomes of the flow rows.
type Evidence struct {
	Incident  string        `json:"incident"`
	Tenant    netip.Addr    `json:"tenant"`
	Frozen    time.Time     `json:"frozen"`
	From      time.Time     `json:"from"`
	To        time.Time     `json:"to"`
	Rows      int           `json:"rows"`      // flow rows it was made from
	Truncated bool          `json:"truncated"` // more rows matched than were kept
	Logs      []EvidenceLog `json:"logs"`
}

// EvidenceLog is one text in a form that customers know.
type EvidenceLog struct {
	Form   string `json:"form"` // netscan, summary or packets
	Name   string `json:"name"` // file name for a mail
	Text   string `json:"text"`
	SHA256 string `json:"sha256"`
}

// Notice is a message that is due: a ticket or a mail about an incident.
type Notice struct {
	Key      string // stable: the same notice is never sent twice
	Incident Incident
	Evidence Evidence
	Kind     string // suspended, notified, released, held, failed, unverified
	At       time.Time
	Outcome  string // of a customer's statement: released, queued or refused
	Mistake  bool   // of a release: the measure should not have been taken
}
