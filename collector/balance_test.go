package collector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
)

// Senders of the balance test, and what is special about them.
const (
	plain     = "127.0.0.1"
	unsampled = "127.0.0.2" // no sampling rate is known
	panicking = "127.0.0.3" // the decoder fails over it
	stranger  = "127.0.9.9" // not allowed
)

// balanceKeys is how many hosts a shard has room for: more than one record needs,
// which may lie across two windows.
const balanceKeys = 4

// balanceCase provokes one reason by datagrams from one sender.
type balanceCase struct {
	from      string
	sflow     bool
	datagrams [][]byte
	around    func(h *harness, send func()) // nil: send alone
}

func balanceCases() map[string]balanceCase {
	netflow := func(d ...[]byte) balanceCase { return balanceCase{from: plain, datagrams: d} }
	from := func(addr string, d ...[]byte) balanceCase { return balanceCase{from: addr, datagrams: d} }
	sflow := func(d ...[]byte) balanceCase { return balanceCase{from: plain, sflow: true, datagrams: d} }
	old := v5(0, "198.18.0.1", 2)
	binary.BigEndian.PutUint32(old[8:], uint32(time.Now().Add(-3*time.Hour).Unix()))
	var many [][]byte
	for i := range 10 * balanceKeys {
		many = append(many, v5(0, fmt.Sprintf("198.18.1.%d", i), 1))
	}
	return map[string]balanceCase{
		// Whole datagrams.
		ReasonNotAllowed: from(stranger, v5(0, "198.18.0.1", 1)),
		ReasonTruncated:  netflow(make([]byte, 2001)),
		ReasonShutdown: {from: plain, datagrams: [][]byte{v5(0, "198.18.0.1", 1)}, around: func(h *harness, send func()) {
			h.abandon.Store(true)
			send()
			h.Flush()
			h.abandon.Store(false)
		}},
		decode.ReasonShort:       netflow([]byte{0, 5, 0}),
		decode.ReasonVersion:     netflow([]byte{0, 1, 0, 1, 0, 0, 0, 0}),
		decode.ReasonV5Count:     netflow(v5(0, "198.18.0.1", 3)[:24+48]),
		decode.ReasonIPFIXLength: netflow([]byte{0, 10, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}),
		decode.ReasonSFlowHeader: sflow(append([]byte{0, 0, 0, 5, 0, 0, 0, 9}, make([]byte, 40)...)),
		decode.ReasonPanic:       from(panicking, v5(0, "198.18.0.1", 1)),
		// Sets and samples; the datagram counts as decoded.
		decode.ReasonSetLength:       netflow(v9(0, 1, []byte{1, 44, 0, 3})),
		decode.ReasonSetID:           netflow(v9(1, 1, []byte{0, 77, 0, 8, 0, 0, 0, 0})),
		decode.ReasonTemplateBad:     netflow(v9(2, 1, []byte{0, 0, 0, 8, 1, 99, 0, 9})),
		decode.ReasonTemplateUnknown: netflow(v9(3, 1, []byte{9, 9, 0, 8, 0, 0, 0, 0})),
		decode.ReasonDataBad:         netflow(v9(4, 2, v9Template(), []byte{300 >> 8, 300 & 0xff, 0, 8, 1, 2, 3, 4})),
		decode.ReasonSampleLength:    sflow(sflow5([]byte{0, 0, 0, 1, 0, 0, 9, 9})),
		decode.ReasonSampleBad:       sflow(sflow5([]byte{0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1})),
		decode.ReasonSampleForeign:   sflow(sflow5([]byte{0, 9, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1})),
		// Records.
		decode.ReasonRecordTruncated: netflow(ipfix(
			[]byte{0, 2, 0, 12, 1, 45, 0, 1, 0, 82, 0xff, 0xff}, // template 301: interfaceName, of variable length
			[]byte{1, 45, 0, 8, 200, 'e', 't', 'h'})),
		aggregate.ReasonNoAddress: netflow(v9(5, 2,
			[]byte{0, 0, 0, 16, 1, 46, 0, 2, 0, 2, 0, 4, 0, 1, 0, 4}, // template 302: packets, bytes
			[]byte{1, 46, 0, 12, 0, 0, 0, 1, 0, 0, 0, 60})),
		aggregate.ReasonSamplingUnknown: from(unsampled, v9(0, 2, v9Template(), v9Data("198.18.0.1"))),
		aggregate.ReasonNotInternal:     netflow(v5(0, "8.8.8.8", 3)),
		aggregate.ReasonTooLate:         netflow(old),
		aggregate.ReasonTableFull:       netflow(many...),
		// Rows.
		ReasonStoreRefused: {from: plain, datagrams: [][]byte{v5(0, "198.18.0.1", 2)}, around: func(h *harness, send func()) {
			h.Flush()
			h.sink.setRefuse(errors.New("spool full"))
			send()
			h.Flush()
			h.sink.setRefuse(nil)
		}},
	}
}

// dropReasons are all of the closed lists, each with its metric. Notes are left
// out: with them nothing is dropped.
func dropReasons() map[string]string {
	out := map[string]string{ReasonStoreRefused: "rows_dropped_total"}
	for _, name := range DatagramReasons() {
		out[name] = "dropped_total"
	}
	for _, r := range decode.Reasons() {
		switch r.Level {
		case decode.LevelSet:
			out[r.Name] = "sets_dropped_total"
		case decode.LevelRecord:
			out[r.Name] = "records_dropped_total"
		}
	}
	for _, name := range aggregate.Reasons() {
		out[name] = "records_dropped_total"
	}
	return out
}

// TestBalance provokes every reason for which anything is dropped, through a
// socket, and holds after each that nothing is unaccounted for.
func TestBalance(t *testing.T) {
	for _, workers := range []int{1, 3} {
		h := start(t, func(c *Config, _ *Deps) {
			c.Listen = append(c.Listen, Listen{decode.KindSFlow, "127.0.0.1:0"})
			c.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/24")}
			c.Workers, c.MaxDatagram = workers, 2000
			c.Decode.HoldBack = -1 // data without its template is dropped at once
			c.Decode.Sampling = []decode.SamplingRule{{Exporter: netip.MustParsePrefix(plain + "/32"), Default: 1}}
			c.Decode.Allow = func(a netip.Addr) bool {
				if a.String() == panicking {
					panic("a bug that nobody knows")
				}
				return true
			}
			c.Aggregate.MaxKeys = balanceKeys
		})
		cases, sent := balanceCases(), 0
		for reason, metric := range dropReasons() {
			c, ok := cases[reason]
			if !ok {
				t.Errorf("nothing provokes the reason %q", reason)
				continue
			}
			delete(cases, reason)
			before := h.metric(metric, "reason", reason)
			if before < 0 {
				t.Errorf("%s is not in %s at zero", reason, metric)
			}
			send := func() {
				index := 0
				if c.sflow {
					index = 1
				}
				h.send(index, c.from, c.datagrams...)
				sent += len(c.datagrams)
			}
			if c.around != nil {
				c.around(h, send)
			} else {
				send()
			}
			h.Flush()
			if got := h.metric(metric, "reason", reason); got <= before {
				t.Errorf("%d workers: %s is %g after %g", workers, reason, got, before)
			}
			h.checkSum()
			if got := h.metric("datagrams_total"); got != float64(sent) {
				t.Errorf("%s: received %g of %d", reason, got, sent)
			}
		}
		for reason := range cases {
			t.Errorf("%q is in no list", reason)
		}
		// After all that, what is good is taken as ever.
		decoded, aggregated := h.metric("datagrams_decoded_total"), h.metric("records_aggregated_total")
		h.send(0, plain, v5(0, "198.18.0.1", 1))
		h.Flush()
		if h.metric("datagrams_decoded_total") != decoded+1 || h.metric("records_aggregated_total") != aggregated+1 {
			t.Error("a good datagram is not decoded after bad ones")
		}
		h.stop()
		h.checkSum()
	}
}

// ipfix wraps sets into an IPFIX message (RFC 7011 §3.1) of domain 7.
func ipfix(sets ...[]byte) []byte {
	n := 16
	for _, s := range sets {
		n += len(s)
	}
	b := binary.BigEndian.AppendUint16([]byte{0, 10}, uint16(n))
	b = binary.BigEndian.AppendUint32(b, uint32(time.Now().Unix()))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 7)
	for _, s := range sets {
		b = append(b, s...)
	}
	return b
}

// sflow5 wraps samples into an sFlow datagram (sflow_version_5.txt §5).
func sflow5(samples ...[]byte) []byte {
	b := []byte{0, 0, 0, 5, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}
	b = binary.BigEndian.AppendUint32(b, uint32(len(samples)))
	for _, s := range samples {
		b = append(b, s...)
	}
	return b
}
