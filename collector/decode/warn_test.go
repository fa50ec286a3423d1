package decode_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// TestUnknownTemplatesAreToldInFewLines: who sends data of ever new template ids
// gets some hundred lines a minute, not one for each; later it is told again.
func TestUnknownTemplatesAreToldInFewLines(t *testing.T) {
	core, seen := observer.New(zapcore.WarnLevel)
	d := decode.New(decode.Config{}, decode.Deps{Log: zap.New(core)})
	send := func(first, n int, at time.Duration) {
		b := make([]byte, 20)
		binary.BigEndian.PutUint16(b, 9)
		for id := first; id < first+n; id++ {
			b = binary.BigEndian.AppendUint16(b, uint16(id))
			b = append(b, 0, 8, 1, 2, 3, 4)
		}
		d.Decode(decode.Datagram{Exporter: netip.MustParseAddrPort("192.0.2.1:2055"), Received: int64(at) + 1e18, Payload: b}, func([]flow.Record) {})
	}
	send(256, 6000, 0)
	first := seen.Len()
	if first < 1 || first > 1000 {
		t.Errorf("%d lines for 6,000 unknown templates in one datagram", first)
	}
	send(10_000, 6000, 30*time.Second)
	if n := seen.Len(); n != first {
		t.Errorf("%d more lines within the same minute", n-first)
	}
	send(20_000, 1, 2*time.Minute)
	if n := seen.Len(); n != first+1 {
		t.Errorf("%d lines for a template two minutes later, want 1", n-first)
	}
}
