package flow

import (
	"net/netip"
	"time"
)

// AuditEntry is one event of the log as an auditor reads it: who did what to
// whom, why, by which call, and what came of it.
type AuditEntry struct {
	Seq      uint64      `json:"seq"`
	Time     time.Time   `json:"time"`
	Actor    string      `json:"actor"` // detector, controller, or the name of an API token
	Kind     string      `json:"kind"`
	Reason   string      `json:"reason,omitempty"` // from a closed list
	Text     string      `json:"text,omitempty"`   // for people, with what the actor wrote
	Why      *Told       `json:"why,omitempty"`    // Text without the statement, for programs
	Incident string      `json:"incident"`
	Tenant   netip.Addr  `json:"tenant,omitzero"`
	Customer string      `json:"customer,omitempty"`
	VDS      string      `json:"vds,omitempty"`
	Adapter  string      `json:"adapter,omitempty"`
	Key      string      `json:"key,omitempty"`     // of the action
	Measure  MeasureKind `json:"measure,omitempty"` // of the action
	NICs     []string    `json:"nics,omitempty"`    // MACs
	Calls    []string    `json:"calls,omitempty"`   // of a dry run
	Outcome  string      `json:"outcome,omitempty"` // done, retry, failed, given_back, or empty
	Error    string      `json:"error,omitempty"`
}

// AuditFilter selects entries; zero fields select all.
type AuditFilter struct {
	Incident string
	Tenant   netip.Addr
	Customer string
	VDS      string
	Actor    string
	Kinds    []string
	Reason   string
	Since    time.Time // at or after
	Until    time.Time // before
}

// AuditPage is one page of the audit, newest entries first.
type AuditPage struct {
	Before uint64 // sequence number; 0: from the newest
	Limit  int    // 100; at most 1000
}

// Frozen is a freeze of automatic acts that lasts.
type Frozen struct {
	Rule     Rule      `json:"rule,omitempty"` // empty: all rules
	Since    time.Time `json:"since"`
	Tenants  int       `json:"tenants"`  // that tripped it
	Incident string    `json:"incident"` // in whose log it is
	By       string    `json:"by"`       // controller, or the person whose undo it followed
	Why      string    `json:"why"`      // for people
}

// Undone is what taking back all automatic acts since a moment did.
type Undone struct {
	GivingBack []string `json:"giving_back"` // incidents whose measures are being given back now
	Before     []string `json:"before"`      // that were given back, or are being, already
}
