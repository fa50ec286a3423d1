package respond

import (
	"maps"
	"strconv"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

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
	ReasonHolderUnsure:   "the inventory is not sure whose address it is: its sources contradict each other, or only the server itself says so",
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
	ReasonNoMeasure:      "written to only: no step of the rule's ladder fits the finding and what the hypervisor can do",
	ReasonGoesOn:         "the abuse goes on with the measure in force: the next step is taken",
	ReasonMorePorts:      "the abuse goes on at another port, which is blocked as well",
	ReasonProbation:      "released a short time ago and on probation: the lower bar counts",
	ReasonRefuse:         "cut again after too many offences: a human decides whether the customer is served further",
	ReasonCapShort:       "respond.caps.per_10min acts in the last 10 minutes",
	ReasonCapDay:         "respond.caps.per_day acts in the last 24 hours",
	ReasonCapTenant:      "respond.caps.tenant_per_day acts on this customer in the last 24 hours",
	ReasonCapNode:        "respond.caps.node_per_hour acts on this hypervisor in the last 60 minutes",
	ReasonCapFleet:       "the share respond.caps.fleet_share of all servers has a measure in force",
	ReasonFreeze:         "automatic acts are frozen, check sampling rates and exporters before anything else",
	ReasonUnfrozen:       "automatic acts are allowed again",
	ReasonInventoryOld:   "the inventory, or the source that knows the holder, is older than it may be, so nobody knows who holds the address now",
	ReasonDryRun:         "dry run: nothing is called",
	ReasonExpired:        "the time of the measure is over",
	ReasonUndone:         "taken back by a human together with other automatic acts",
	ReasonMistake:        "taken back by a human, the act was wrong",
	ReasonByHand:         "a measure that a human chose",
	ReasonDrift:          "the measure was not in force any more and is taken again",
	ReasonResolved:       "the server has another NIC or hypervisor now and the measure is taken there",
	ReasonGone:           "neither the hypervisor nor the inventory know the server any more",
	ReasonNICAway:        "the hypervisor does not know the NIC at present, the inventory still lists it",
	ReasonReplaced:       "another measure is in force instead",
	ReasonFallback:       "the hypervisor cannot act, the fallback does until it can",
	ReasonOrphan:         "a NIC carries our mark without an incident that holds it",
	ReasonOverdue:        "the hypervisor cannot do it for longer than respond.max_act_time, and is asked on",
	ReasonStatement:      "the customer has answered",
	ReasonNoAnswer:       "the customer has not answered in time",
	ReasonParoleOver:     "the probation is over, the usual bar counts again",
	ReasonUnmetered:      "the limit reads back as in force, but what it sends cannot be measured",
	ReasonUnderLimit:     "limited, and what it sends is below the limit",
}

// codeGivingBack is of a release that was asked for, before it reads back.
const codeGivingBack = "giving_back"

// forms are all sentences by their code; {0} is what a measure is about. A code is
// a Reason, or, of a measure that is no cut, "measure.reason".
var forms = func() map[string]string {
	all := map[string]string{codeGivingBack: "the network is being given back"}
	for r, s := range sentences {
		all[string(r)] = s
	}
	for kind, of := range milder {
		for r, s := range of {
			all[string(kind)+"."+string(r)] = strings.Replace(s, "%s", "{0}", 1)
		}
	}
	return all
}()

// Sentences are what Incident.Why and AuditEntry.Why may say, in English, by code;
// {0} stands for the first of the values.
func Sentences() map[string]string { return maps.Clone(forms) }

// told is the sentence that goes with a state.
func told(r Reason, b body) flow.Told {
	t := flow.Told{Code: string(r), Detail: b.Detail}
	if b.Error != "" && t.Detail != "" {
		t.Detail += ": "
	}
	t.Detail += b.Error
	return t
}

// say writes it in English.
func say(t flow.Told) string {
	s, ok := forms[t.Code]
	if !ok {
		s = t.Code
	}
	for i, v := range t.Values {
		s = strings.ReplaceAll(s, "{"+strconv.Itoa(i)+"}", v)
	}
	if t.Detail != "" {
		s += ": " + t.Detail
	}
	return s
}

// explain is told in English.
func explain(r Reason, b body) string { return say(told(r, b)) }

// tell writes into an incident why it is where it is.
func tell(inc *flow.Incident, t flow.Told) { inc.Reason, inc.Why = say(t), &t }
