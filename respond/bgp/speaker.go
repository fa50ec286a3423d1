package bgp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	gobgp "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
	"go.uber.org/zap"
)

// stopGrace bounds the end of the speaker; closing some sessions takes no time.
const stopGrace = 5 * time.Second

// speaker is our side of the sessions. It announces and never learns.
type speaker struct {
	cfg Config
	s   *server.BgpServer
	log *quietLog
	// announced is what our table holds.
	announced rules
	// why is how each session ended last: gobgp forgets it with the next try.
	why sync.Map // netip.Addr: string
}

// newSpeaker starts a speaker that has no peers yet.
func newSpeaker(ctx context.Context, cfg Config, log *zap.Logger) (*speaker, error) {
	sp := &speaker{cfg: cfg, log: &quietLog{log: log}, announced: rules{}}
	sp.s = server.NewBgpServer(server.LoggerOption(sp.log.slog(), nil))
	go sp.s.Serve() // ends with stop
	g := &api.Global{Asn: cfg.AS, RouterId: cfg.RouterID.String(), ListenPort: -1}
	if cfg.ListenPort != 0 {
		g.ListenPort = int32(cfg.ListenPort)
		for _, a := range cfg.Listen {
			g.ListenAddresses = append(g.ListenAddresses, a.String())
		}
	}
	err := sp.s.StartBgp(ctx, &api.StartBgpRequest{Global: g})
	if err == nil {
		err = sp.learnNothing(ctx)
	}
	if err != nil {
		sp.stop()
		return nil, fmt.Errorf("start BGP: %w", err)
	}
	return sp, nil
}

// learnNothing refuses every route that a peer sends: passed on to another one,
// it would make a transit router of us.
func (sp *speaker) learnNothing(ctx context.Context) error {
	own := &api.Policy{Name: "own", Statements: []*api.Statement{{
		Name:       "own",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}}}
	if err := sp.s.AddPolicy(ctx, &api.AddPolicyRequest{Policy: own}); err != nil {
		return err
	}
	for _, dir := range []api.PolicyDirection{api.PolicyDirection_POLICY_DIRECTION_IMPORT, api.PolicyDirection_POLICY_DIRECTION_EXPORT} {
		err := sp.s.AddPolicyAssignment(ctx, &api.AddPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
			Name: "global", Direction: dir, Policies: []*api.Policy{own}, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// families are what a peer is asked to take: nothing that is not announced.
func (c Config) families() []gobgp.Family {
	if c.Method == MethodFlowSpec {
		return []gobgp.Family{gobgp.RF_FS_IPv4_UC, gobgp.RF_FS_IPv6_UC}
	}
	return []gobgp.Family{gobgp.RF_IPv4_UC, gobgp.RF_IPv6_UC}
}

func (sp *speaker) addPeer(ctx context.Context, p Peer) error {
	c := sp.cfg
	seconds := func(d time.Duration) uint64 { return uint64(d.Round(time.Second) / time.Second) }
	q := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.Address.String(), PeerAsn: p.AS, LocalAsn: p.LocalAS, AuthPassword: string(p.Password),
		},
		Transport: &api.Transport{RemotePort: uint32(p.Port), PassiveMode: p.Passive},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry: seconds(c.ConnectRetry), HoldTime: seconds(c.HoldTime), KeepaliveInterval: max(1, seconds(c.HoldTime)/3),
			IdleHoldTimeAfterReset: 1, // a session that was reset is wanted back, not punished
		}},
	}
	if p.Local.IsValid() {
		q.Transport.LocalAddress = p.Local.String()
	}
	if p.TTLSecurity {
		q.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: 255}
	}
	if p.Multihop != 0 {
		q.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(p.Multihop)}
	}
	graceful := c.GracefulRestart > 0
	if graceful {
		q.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(max(1, seconds(c.GracefulRestart))),
			// The restart bit makes the router keep what it has until we have
			// said all. We wait for nothing that it says.
			LocalRestarting: true, DeferralTime: 1,
		}
	}
	for _, f := range c.families() {
		fam := &api.Family{Afi: api.Family_Afi(f.Afi()), Safi: api.Family_Safi(f.Safi())}
		q.AfiSafis = append(q.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: fam, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: graceful}},
			PrefixLimits:      &api.PrefixLimit{Family: fam, MaxPrefixes: maxReceived},
		})
	}
	if err := sp.s.AddPeer(ctx, &api.AddPeerRequest{Peer: q}); err != nil {
		return fmt.Errorf("peer %s: %w", p.Address, err)
	}
	return nil
}

// set makes what is announced of a source be want: first what is new, then what
// is over, so that no packet passes in between.
func (sp *speaker) set(source netip.Prefix, want rules) error {
	var errs []error
	for r, rate := range want {
		if was, ok := sp.announced[r]; ok && was == rate {
			continue
		}
		if err := sp.cfg.guard(r.source); err != nil { // the last door
			errs = append(errs, err)
			continue
		}
		path, err := r.path(sp.cfg, rate)
		if err == nil {
			_, err = sp.s.AddPath(apiutil.AddPathRequest{Paths: []*apiutil.Path{path}})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("announce %s: %w", r, err))
			continue
		}
		sp.announced[r] = rate
	}
	for r, rate := range maps.Clone(sp.announced) {
		if _, ok := want[r]; ok || r.source != source {
			continue
		}
		path, err := r.path(sp.cfg, rate)
		if err == nil {
			err = sp.s.DeletePath(apiutil.DeletePathRequest{Paths: []*apiutil.Path{path}})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("withdraw %s: %w", r, err))
			continue
		}
		delete(sp.announced, r)
	}
	return errors.Join(errs...)
}

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
					st.takes[gobgp.NewFamily(uint16(f.GetAfi()), uint8(f.GetSafi()))] = true
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

// watch calls fn at each change of a session's state until ctx ends.
func (sp *speaker) watch(ctx context.Context, fn func(addr netip.Addr, up, overLimit bool, why string)) error {
	return sp.s.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnPeerUpdate: func(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
			if e.Type != apiutil.PEER_EVENT_STATE {
				return
			}
			st := e.Peer.State
			if st.DisconnectMessage != "" {
				sp.why.Store(st.NeighborAddress, st.DisconnectMessage)
			}
			fn(st.NeighborAddress, st.SessionState == gobgp.BGP_FSM_ESTABLISHED,
				st.AdminState == api.PeerState_ADMIN_STATE_PFX_CT, st.DisconnectMessage)
		},
	}, server.WatchPeer())
}

// stop closes the sessions. With graceful restart it does so without a word, as
// RFC 4724 §4 has it: a router that is told drops what we announced.
func (sp *speaker) stop() {
	sp.log.quiet.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = sp.s.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: sp.cfg.GracefulRestart > 0})
		sp.s.Stop() // the rest of it
	}()
	select {
	case <-done:
	case <-time.After(stopGrace):
	}
}

func names(peers []Peer) string {
	var out []string
	for _, p := range peers {
		out = append(out, p.Address.String())
	}
	return strings.Join(slices.Compact(out), " ")
}
