package flow

import (
	"net/netip"
	"testing"
)

// The same values as in the aggregator's test: stored sets are asked by them.
func TestRemoteHashIsTheAggregators(t *testing.T) {
	for addr, want := range map[string]uint64{
		"9.9.9.9":              0x1d3938eca8030644,
		"::ffff:9.9.9.9":       0x1d3938eca8030644,
		"2606:4700::1":         0xd34ba4284e1b060a,
		"2606:4700::ffff:ffff": 0xd34ba4284e1b060a,
	} {
		if got := RemoteHash(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %#x, want %#x", addr, got, want)
		}
	}
}
