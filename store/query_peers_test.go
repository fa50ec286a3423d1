package store_test

import (
	"net/netip"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// Peers and ports are the sums of the rows, the largest first, and none is forged.
func TestHostPeers(t *testing.T) {
	s, m := filled(t)
	tenant := netip.MustParseAddr("198.18.0.3")
	compared := 0
	for _, tt := range ranges {
		remotes, ports := map[netip.Addr]flow.PeerSum{}, map[[2]uint16]flow.PeerSum{}
		of := map[[2]uint16]map[netip.Addr]bool{}
		for _, f := range m.Flows {
			if at := time.Unix(0, f.Time); f.Tenant != tenant || f.Spoofed || at.Before(tt.r.From) || !at.Before(tt.r.To) {
				continue
			}
			key := [2]uint16{uint16(f.IPProto), f.SvcPort}
			if of[key] == nil {
				of[key] = map[netip.Addr]bool{}
			}
			of[key][f.Remote] = true
			add := func(v flow.PeerSum) flow.PeerSum {
				v.Records++
				switch rate := uint64(f.Rate); f.Dir {
				case flow.Out:
					v.EstOutPackets, v.EstOutBytes = v.EstOutPackets+f.Packets*rate, v.EstOutBytes+f.Bytes*rate
				case flow.In:
					v.EstInPackets, v.EstInBytes = v.EstInPackets+f.Packets*rate, v.EstInBytes+f.Bytes*rate
				}
				if f.Dir == flow.Out && f.Role == flow.RoleClient && f.Class != flow.ClassEst {
					v.NotEstablished++
				}
				return v
			}
			v := remotes[f.Remote]
			v.Remote = f.Remote
			remotes[f.Remote] = add(v)
			v = ports[key]
			v.IPProto, v.SvcPort, v.Remotes = f.IPProto, f.SvcPort, uint64(len(of[key]))
			ports[key] = add(v)
		}
		got, err := s.HostPeers(within(t, 2*time.Minute), tenant, tt.r, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		haveRemotes, havePorts := map[netip.Addr]flow.PeerSum{}, map[[2]uint16]flow.PeerSum{}
		for _, v := range got.Remotes {
			haveRemotes[v.Remote] = v
		}
		for _, v := range got.Ports {
			havePorts[[2]uint16{uint16(v.IPProto), v.SvcPort}] = v
		}
		if d := gocmp.Diff(remotes, haveRemotes, equate); d != "" || got.TotalRemotes != uint64(len(remotes)) || len(got.Remotes) != len(remotes) {
			t.Errorf("%s: %d remotes of %d\n%s", tt.name, got.TotalRemotes, len(remotes), d)
		}
		if d := gocmp.Diff(ports, havePorts, equate); d != "" || got.TotalPorts != uint64(len(ports)) || len(got.Ports) != len(ports) {
			t.Errorf("%s: %d ports of %d\n%s", tt.name, got.TotalPorts, len(ports), d)
		}
		compared += len(remotes)
		if len(remotes) < 3 {
			continue
		}
		few, err := s.HostPeers(within(t, 2*time.Minute), tenant, tt.r, 2)
		if err != nil || len(few.Remotes) != 2 || few.TotalRemotes != uint64(len(remotes)) {
			t.Fatalf("%s: two of them: %+v, %v", tt.name, few, err)
		}
		most := func(v flow.PeerSum) uint64 { return v.EstOutPackets + v.EstInPackets }
		for _, v := range remotes {
			if most(v) > most(few.Remotes[0]) {
				t.Errorf("%s: %s is larger than the first, %s", tt.name, v.Remote, few.Remotes[0].Remote)
			}
		}
	}
	if compared < 20 {
		t.Errorf("only %d remotes were compared", compared)
	}
}
