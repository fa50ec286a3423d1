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
func (c Config) families(p Peer) []gobgp.Family {
	v4, v6 := gobgp.RF_FS_IPv4_UC, gobgp.RF_FS_IPv6_UC
	if c.Method != MethodFlowSpec {
		v4, v6 = gobgp.RF_IPv4_UC, gobgp.RF_IPv6_UC
	}
	if len(p.Families) == 0 {
		return []gobgp.Family{v4, v6}
	}
	var out []gobgp.Family
	for _, f := range p.Families {
		out = append(out, map[string]gobgp.Family{familyV4: v4, familyV6: v6}[f])
	}
	return out
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
	for _, f := range c.families(p) {
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
