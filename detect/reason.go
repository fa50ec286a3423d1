package detect

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// The reasons are read by customer support and by customers: one sentence, no
// statistics, nothing that was not counted.

func netscanReason(f *flow.Finding, s *flow.ServiceStat) string {
	return fmt.Sprintf("contacted %s different addresses on TCP port %d in %s%s; %s",
		count(f.Distinct), s.SvcPort, length(f), sampled(f), answered(s.SYNACKIn, f))
}

func portscanReason(f *flow.Finding, p *flow.PairStat) string {
	return fmt.Sprintf("tried %s different TCP ports of %s in %s%s; %s",
		count(f.Distinct), p.Remote, length(f), sampled(f), answered(p.SYNACKIn, f))
}

func synFloodReason(f *flow.Finding, p *flow.PairStat) string {
	s := fmt.Sprintf("sent %s TCP connection requests per second to %s for %s and completed almost none%s",
		about(f), p.Remote, length(f), sampled(f))
	for _, g := range f.Gates {
		if g == GateRefused {
			return s + "; the other side refused them, as with a program that reconnects in a loop"
		}
	}
	return s
}

func udpFloodReason(f *flow.Finding, p *flow.PairStat) string {
	mbps := f.EstRate * float64(p.OutBytes) / float64(max(p.OutPackets, 1)) * 8 / 1e6
	return fmt.Sprintf("sent %s UDP packets per second (%s Mbit/s) to %s for %s and got almost nothing back%s",
		about(f), count(uint64(mbps+0.5)), p.Remote, length(f), sampled(f))
}

func length(f *flow.Finding) string { return seconds(f.To.Sub(f.From)) }

func seconds(d time.Duration) string { return strconv.Itoa(int(d/time.Second)) + " s" }

func about(f *flow.Finding) string {
	if f.SamplingRate < unsampledBelow {
		return count(uint64(f.EstRate + 0.5))
	}
	return "about " + count(uint64(f.EstRate+0.5))
}

func sampled(f *flow.Finding) string {
	if f.SamplingRate < unsampledBelow {
		return ""
	}
	return fmt.Sprintf(" (seen in a sample of 1 in %s packets)", count(uint64(f.SamplingRate+0.5)))
}

func answered(n uint64, f *flow.Finding) string {
	what := "answered"
	if f.SamplingRate >= unsampledBelow {
		what = "of the sampled packets were answers"
	}
	if n == 0 {
		return "none " + what
	}
	return count(n) + " " + what
}

// count writes n with commas, as 1,204.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
