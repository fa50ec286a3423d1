package respond

import "fmt"

var sentences = map[Reason]string{
	ReasonObserved:       "recorded only: the rule is in mode observe or the tier is log",
	ReasonNotify:         "customer and staff are written to, nothing is cut",
	ReasonNotifyWait:     "customer and staff will be written to unless it soon rises to an act",
	ReasonEnforce:        "the rule is in mode enforce and the evidence supports a suspension",
	ReasonApprove:        "the rule is in mode approve: a human decides",
	ReasonApproved:       "approved by a human",
	ReasonExempt:         "recorded only: an exemption covers it",
	ReasonProtected:      "the address, tenant or tag is on the protected list",
	ReasonHolderUnknown:  "the inventory does not say who holds the address",
	ReasonHolderChanged:  "the address changed hands since the first window counted",
	ReasonNoAdapter:      "the inventory gives no NIC, or its hypervisor is not configured",
	ReasonShared:         "many customers share the address",
	ReasonAlreadyCut:     "another incident holds the network of the same server cut",
	ReasonCooldown:       "released a short time ago, the cooldown lasts",
	ReasonCap:            "respond.max_per_hour suspensions in the last 60 minutes",
	ReasonApprovalLate:   "nobody approved in time",
	ReasonActFailed:      "the network could not be cut",
	ReasonRestoreFailed:  "the network could not be given back",
	ReasonReadBack:       "the hypervisor reads back as cut, waiting for the traffic to stop",
	ReasonSilent:         "cut, and no outgoing packets are seen",
	ReasonFleetSilent:    "cut; no flow data from any tenant arrives, so silence proves nothing yet",
	ReasonStillSending:   "the hypervisor reads back as cut but outgoing packets are still seen",
	ReasonReleased:       "network given back",
	ReasonNotOurs:        "nothing at the hypervisor carried our mark, nothing was changed there",
	ReasonQuiet:          "no findings for long enough",
	ReasonClosedByPerson: "closed by a human",
}

// explain is the sentence for people that goes with a state.
func explain(r Reason, b body) string {
	s, ok := sentences[r]
	if !ok {
		s = string(r)
	}
	if b.Detail != "" {
		s = fmt.Sprintf("%s: %s", s, b.Detail)
	}
	if b.Error != "" {
		s = fmt.Sprintf("%s: %s", s, b.Error)
	}
	return s
}
