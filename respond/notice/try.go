package notice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Tried is what became of one example.
type Tried struct {
	Notifier string
	Kind     string
	Err      error
}

// Trial says whom examples go to.
type Trial struct {
	To       string    // stands in for the customer's mail address; empty: examples for customers are left out
	Language string    // of the stand-in
	Kinds    []string  // nil: all
	At       time.Time // of the trial: another one is another message
}

// ErrNoDigest is what a Sender answers that has no readers for digests, such as
// one for customers.
var ErrNoDigest = errors.New("a digest is for staff: it names many customers")

// TrialID is the incident of examples that are sent, so that nobody takes them
// for real.
const TrialID = "FC-EXAMPLE"

// Try sends an example of each kind over each notifier that wants it, and goes
// on after errors. What is sent is marked as an example by its incident.
func Try(ctx context.Context, notifiers []Notifier, t Trial) []Tried {
	kinds := t.Kinds
	if kinds == nil {
		for _, k := range Kinds {
			kinds = append(kinds, k.Name)
		}
	}
	var out []Tried
	for _, to := range notifiers {
		for _, kind := range kinds {
			n := Example(kind)
			n.Incident.ID, n.At = TrialID, t.At
			n.Incident.Holder.Contact, n.Incident.Holder.Language = t.To, t.Language
			n.Incident.Holder.VDS = "EXAMPLE, NOT REAL"
			n.Key = fmt.Sprintf("%s/%s/%d", TrialID, kind, t.At.Unix())
			n.Evidence.Incident = TrialID
			n.Evidence.Logs = []flow.EvidenceLog{{Form: "summary", Name: TrialID + "-summary.txt", Text: "This is an example of a log.\n"}}
			if s, ok := to.(interface {
				Wants(kind string, inc flow.Incident) bool
			}); ok && !s.Wants(kind, n.Incident) {
				continue
			}
			out = append(out, Tried{Notifier: to.Name(), Kind: kind, Err: to.Notify(ctx, n)})
		}
		if s, ok := to.(Sender); ok && t.Kinds == nil {
			b := ExampleBatch()
			b.Key, b.To = fmt.Sprintf("%s/digest/%d", TrialID, t.At.Unix()), t.At
			if err := s.NotifyDigest(ctx, b); !errors.Is(err, ErrNoDigest) {
				out = append(out, Tried{Notifier: to.Name(), Kind: "digest", Err: err})
			}
		}
	}
	return out
}
