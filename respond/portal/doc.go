// Package portal is the customer's way back: a signed link in the mail leads
// to a page that says what happened, shows the log and asks three questions.
// In come HTTP requests of people that hold such a link, out goes a Statement
// to whoever implements Incidents. A link is bound to one incident, its holder
// and a time, and is good for one answer. Whatever is wrong with a link, the
// answer to the outside is the same; the log says which it was, never the link.
// The package starts no goroutine and imports flow only.
package portal

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Incidents is what the pages are about and where an answer goes.
type Incidents interface {
	Incident(id string) (flow.Incident, bool)
	// Evidence is the latest frozen stage; an error hides the log, not the page.
	Evidence(ctx context.Context, id string) (flow.Evidence, error)
	// Statement stores the customer's answer for good and says what follows.
	// The same Statement.Key is stored once: again gives ErrUsed. ErrClosed
	// says that nothing is left to answer for. Any other error leaves the link
	// good, and the customer is asked to send again.
	Statement(ctx context.Context, id, actor string, s Statement) (Outcome, error)
}

// Statement is a customer's answer.
type Statement struct {
	Happened string    `json:"happened"` // what happened
	Fixed    string    `json:"fixed"`    // how it was fixed
	Changed  string    `json:"changed"`  // what changed so that it does not recur
	Language string    `json:"language"` // of the page that it was written on
	Key      string    `json:"key"`      // of the link: stable, the same answer is never stored twice
	From     string    `json:"from"`     // the connection's address, as the server saw it
	At       time.Time `json:"at"`
}

// Text is the statement as one text, in the order of the questions.
func (s Statement) Text() string {
	w := words[s.Language]
	if w == nil {
		w = words[defaultLanguage]
	}
	var b strings.Builder
	for _, p := range []struct{ key, text string }{{"q1", s.Happened}, {"q2", s.Fixed}, {"q3", s.Changed}} {
		if b.Len() > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString(w[p.key] + "\n" + p.text)
	}
	return b.String()
}

// Outcome is what follows from an answer.
type Outcome string

// The outcomes.
const (
	OutcomeReleased Outcome = "released" // the network is being given back now
	OutcomeQueued   Outcome = "queued"   // staff look at it
	OutcomeRefused  Outcome = "refused"  // the answer is stored, and the network stays as it is
)

// Errors of Incidents.Statement and Nonces that the pages tell apart.
var (
	ErrUsed   = errors.New("the link was used")
	ErrClosed = errors.New("the incident needs no answer any more")
)

// Reason is why a request was refused. It is logged and counted, never shown.
type Reason string

// The reasons. All but the last five are refused with the same page.
const (
	ReasonMalformed  Reason = "malformed"    // not a token at all, or cut short
	ReasonVersion    Reason = "version"      // of another release
	ReasonKey        Reason = "unknown_key"  // signed with a key that is not, or no longer, configured
	ReasonSignature  Reason = "signature"    // forged or damaged
	ReasonExpired    Reason = "expired"      //
	ReasonPurpose    Reason = "purpose"      // a good link to another page
	ReasonIncident   Reason = "no_incident"  //
	ReasonHolder     Reason = "other_tenant" // the incident's holder is not the one the link was made for
	ReasonUsed       Reason = "used"         //
	ReasonSite       Reason = "cross_site"   // the form was sent from another site
	ReasonPath       Reason = "path"         //
	ReasonMethod     Reason = "method"       //
	ReasonRate       Reason = "rate"         // too many requests with one link
	ReasonSize       Reason = "size"         // the body was longer than maxBody
	ReasonForm       Reason = "form"         // the form's own token is wrong or old: shown again
	ReasonIncomplete Reason = "incomplete"   // an answer is missing, too short or too long: shown again
)

// Reasons lists all reasons, for metrics.
var Reasons = []Reason{
	ReasonMalformed, ReasonVersion, ReasonKey, ReasonSignature, ReasonExpired, ReasonPurpose, ReasonIncident, ReasonHolder,
	ReasonUsed, ReasonSite, ReasonPath, ReasonMethod, ReasonRate, ReasonSize, ReasonForm, ReasonIncomplete,
}
