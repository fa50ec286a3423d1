package respond

import (
	"fmt"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// milder are the sentences of a measure that is no cut; %s is what it is about.
var milder = map[flow.MeasureKind]map[Reason]string{
	flow.MeasureBlockPort: {
		ReasonReadBack:     "the hypervisor reads back as blocking outgoing connections to %s, waiting for them to stop",
		ReasonSilent:       "blocked, and no outgoing connections to %s are seen",
		ReasonFleetSilent:  "outgoing connections to %s are blocked; no flow data from any tenant arrives, so silence proves nothing yet",
		ReasonStillSending: "the hypervisor reads back as blocking, but outgoing packets to %s are still seen",
		ReasonActFailed:    "outgoing connections to %s could not be blocked",
	},
	flow.MeasureLimit: {
		ReasonReadBack:     "the hypervisor reads back as limiting outgoing traffic to %s, waiting for it to fall",
		ReasonSilent:       "limited to %s, and no outgoing packets are seen",
		ReasonFleetSilent:  "limited to %s; no flow data from any tenant arrives, so nothing is proved yet",
		ReasonStillSending: "the hypervisor reads back as limiting to %s, but more is still sent",
		ReasonActFailed:    "outgoing traffic could not be limited to %s",
	},
}

// toldAct is told for what became of an action.
func toldAct(reason Reason, a flow.Action, b body) flow.Told {
	t := told(reason, b)
	if _, ok := milder[a.Taken()][reason]; !ok || a.Kind == kindRestore {
		return t
	}
	what := fmt.Sprintf("%d kbit/s", a.Measure.KbitS)
	if a.Taken() == flow.MeasureBlockPort {
		what = portsOf(a.Measure.Ports)
	}
	t.Code, t.Values = string(a.Taken())+"."+t.Code, []string{what}
	return t
}

// portsOf names ports for people.
func portsOf(ports []flow.PortRule) string {
	names := make([]string, len(ports))
	for i, p := range ports {
		proto := map[uint8]string{flow.ProtoTCP: "TCP", flow.ProtoUDP: "UDP"}[p.Proto]
		if proto == "" {
			proto = fmt.Sprintf("IP protocol %d", p.Proto)
		}
		if names[i] = proto; p.Port != 0 {
			names[i] = fmt.Sprintf("%s port %d", proto, p.Port)
		}
	}
	return strings.Join(names, ", ")
}
