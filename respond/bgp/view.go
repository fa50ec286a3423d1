package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	gobgp "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// peerState is a session as the speaker has it.
type peerState struct {
	Peer
	up        bool
	overLimit bool   // closed for what it sent
	state     string // for people: "established", "active, last: hold timer expired"
	takes     map[gobgp.Family]bool
}

func (p peerState) String() string { return fmt.Sprintf("%s (AS %d): %s", p.Address, p.AS, p.state) }

// peers reads the state of every session, in the order of the configuration.
func (sp *speaker) peers(ctx context.Context) ([]peerState, error) {
	found := map[string]*api.Peer{}
	err := sp.s.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) { found[p.GetConf().GetNeighborAddress()] = p })
	if err != nil {
		return nil, fmt.Errorf("list the peers: %w", err)
	}
	var out []peerState
	for _, p := range sp.cfg.Peers {
		st := peerState{Peer: p, state: "not started", takes: map[gobgp.Family]bool{}}
		if q := found[p.Address.String()]; q != nil {
			s := q.GetState()
			st.up = s.GetSessionState() == api.PeerState_SESSION_STATE_ESTABLISHED
			st.overLimit = s.GetAdminState() == api.PeerState_ADMIN_STATE_PFX_CT
			why, _ := sp.why.Load(p.Address)
			st.state = stateText(s, why)
			for _, c := range s.GetRemoteCap() {
				if f := c.GetMultiProtocol().GetFamily(); f != nil {
					f := gobgp.NewFamily(uint16(f.GetAfi()), uint8(f.GetSafi()))
					st.takes[f] = slices.Contains(sp.cfg.families(p), f)
				}
			}
		}
		out = append(out, st)
	}
	return out, nil
}

// reopen lets a session come up again that was closed for what the peer sent.
func (sp *speaker) reopen(ctx context.Context, p Peer) error {
	return sp.s.EnablePeer(ctx, &api.EnablePeerRequest{Address: p.Address.String()})
}

func stateText(s *api.PeerState, why any) string {
	if s.GetAdminState() == api.PeerState_ADMIN_STATE_PFX_CT {
		return fmt.Sprintf("closed, it sent more than %d routes; let it export nothing to us", maxReceived)
	}
	text := strings.ToLower(strings.TrimPrefix(s.GetSessionState().String(), "SESSION_STATE_"))
	if text != "established" && why != nil {
		text += fmt.Sprintf(", last: %.100s", why)
	}
	return text
}

// view is what the peers are sent, read at one moment and only where it is asked for.
type view struct {
	sp    *speaker
	peers []peerState
	sent  map[table]map[string]float32
}

// table is what one peer is sent of one family: rates by route.
type table struct {
	peer   netip.Addr
	family gobgp.Family
}

func (sp *speaker) view(ctx context.Context) (*view, error) {
	peers, err := sp.peers(ctx)
	return &view{sp: sp, peers: peers, sent: map[table]map[string]float32{}}, err
}

func (v *view) table(p Peer, f gobgp.Family) (map[string]float32, error) {
	key := table{p.Address, f}
	if v.sent[key] != nil {
		return v.sent[key], nil
	}
	out := map[string]float32{}
	err := v.sp.s.ListPath(apiutil.ListPathRequest{
		TableType: api.TableType_TABLE_TYPE_ADJ_OUT, Name: p.Address.String(), Family: f,
	}, func(_ gobgp.NLRI, paths []*apiutil.Path) {
		for _, path := range paths {
			if !path.Filtered && !path.SendMaxFiltered && !path.Withdrawal {
				out[path.Nlri.String()] = rateOf(path)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read what peer %s is sent: %w", p.Address, err)
	}
	v.sent[key] = out
	return out, nil
}

// rateOf is the traffic rate of a route in bytes/s; 0 also for those without.
func rateOf(p *apiutil.Path) float32 {
	for _, a := range p.Attrs {
		ext, ok := a.(*gobgp.PathAttributeExtendedCommunities)
		if !ok {
			continue
		}
		for _, e := range ext.Value {
			if r, ok := e.(*gobgp.TrafficRateExtended); ok {
				return r.Rate
			}
		}
	}
	return 0
}

// have are the peers that are sent all of want, which is of one source.
func (v *view) have(want rules) ([]Peer, error) {
	routes := map[rule]string{}
	for r, rate := range want {
		path, err := r.path(v.sp.cfg, rate)
		if err != nil {
			return nil, err
		}
		routes[r] = path.Nlri.String()
	}
	var out []Peer
	for _, p := range v.peers {
		whole := p.up && len(want) > 0
		for r, rate := range want {
			if !whole {
				break
			}
			t, err := v.table(p.Peer, r.family())
			if err != nil {
				return nil, err
			}
			got, ok := t[routes[r]]
			whole = ok && got == rate && p.takes[r.family()]
		}
		if whole {
			out = append(out, p.Peer)
		}
	}
	return out, nil
}
