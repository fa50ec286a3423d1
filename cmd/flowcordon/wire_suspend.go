package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond"
	"github.com/flowcordon/flowcordon/respond/bgp"
	"github.com/flowcordon/flowcordon/respond/execute"
	"github.com/flowcordon/flowcordon/respond/libvirt"
	"github.com/flowcordon/flowcordon/respond/openstack"
	"github.com/flowcordon/flowcordon/respond/panel"
	"github.com/flowcordon/flowcordon/respond/proxmox"
	"github.com/flowcordon/flowcordon/respond/vsphere"
	"github.com/flowcordon/flowcordon/respond/webhook"
)

// suspender makes the adapter that the configuration describes. Nothing is
// called or connected yet.
func (s *service) suspender(c config.Suspender) (respond.Suspender, error) {
	switch v := adapterConfig(c, s.cfg, marksDir(s.cfg)).(type) {
	case libvirt.Config:
		return libvirt.New(v, libvirt.Deps{Log: s.log, Registerer: s.registry}), v.Validate()
	case proxmox.Config:
		return proxmox.New(v, proxmox.Deps{Log: s.log, Registerer: s.registry}), v.Validate()
	case vsphere.Config:
		return vsphere.New(v, vsphere.Deps{Log: s.log, Registerer: s.registry}), v.Validate()
	case openstack.Config:
		return openstack.New(v, openstack.Deps{Log: s.log, Registerer: s.registry}), v.Validate()
	case bgp.Config:
		if err := v.Validate(); err != nil {
			return nil, err
		}
		a := bgp.New(v, bgp.Deps{Log: s.log, Registerer: s.registry})
		s.speakers = append(s.speakers, a)
		return a, nil
	case panel.Config:
		deps := panel.Deps{Log: s.log, Registerer: s.registry}
		if v.Product == panel.VMmanager6 {
			return panel.NewVMmanager(v, deps), v.Validate()
		}
		return panel.NewVirtualizor(v, deps), v.Validate()
	case execute.Config:
		return execute.New(v, execute.Deps{Log: s.log, Registerer: s.registry, Attack: s.attackOf}), v.Validate()
	case webhook.Config:
		return webhook.New(v, webhook.Deps{Log: s.log, Registerer: s.registry}), v.Validate()
	}
	return nil, fmt.Errorf("type %q is not known", c.Type)
}

// attackOf tells a FastNetMon script of an incident.
func (s *service) attackOf(_ context.Context, incident string) execute.Attack {
	inc, _, ok := s.control.Incident(incident)
	if !ok {
		return execute.Attack{}
	}
	var a execute.Attack
	for _, f := range inc.Findings {
		if pps := uint64(f.EstRate); a.Type == "" || pps > a.PPS {
			a = execute.Attack{PPS: pps, Type: string(f.Rule), Protocol: protoName(f.IPProto), Text: f.Reason}
		}
	}
	return a
}

func protoName(p uint8) string {
	switch p {
	case flow.ProtoTCP:
		return "tcp"
	case flow.ProtoUDP:
		return "udp"
	case flow.ProtoICMP, flow.ProtoICMPv6:
		return "icmp"
	}
	return ""
}

// validator is an adapter's configuration.
type validator interface{ Validate() error }

// marksDir is where adapters keep the marks that nobody else keeps for them.
func marksDir(c config.Config) string { return filepath.Join(c.DataDir, "marks") }

// adapterConfig is the adapter's own view of a suspender.
func adapterConfig(c config.Suspender, site config.Config, marks string) validator {
	switch v := c.Spec.(type) {
	case *config.Libvirt:
		return libvirt.Config{Name: c.Name, URI: v.URI, Socket: v.Socket, Address: v.Host, PKI: v.PKIDir, MetadataID: v.MetadataID, Timeout: c.Timeout}
	case *config.Proxmox:
		return proxmox.Config{Name: c.Name, URLs: v.URLs, Token: v.Token, Fingerprints: v.Fingerprints, CAFile: v.CAFile, EnableFirewall: v.EnableFirewall, WatchEvery: v.WatchEvery, Timeout: c.Timeout}
	case *config.VSphere:
		return vsphere.Config{Name: c.Name, URL: v.URL, Username: v.Username, Password: v.Password, CAFile: v.CAFile, Thumbprint: v.Thumbprint, Timeout: c.Timeout}
	case *config.OpenStack:
		return openstack.Config{
			Name: c.Name, AuthURL: v.AuthURL, Region: v.Region, Username: v.Username, Password: v.Password, UserDomain: v.UserDomain,
			Project: v.Project, ProjectDomain: v.ProjectDomain, AppCredential: v.AppCredential, AppSecret: v.AppSecret,
			Interface: v.Interface, CAFile: v.CAFile, Timeout: c.Timeout,
		}
	case *config.BGP:
		return bgpConfig(c, v, marks, site.Networks.IPv6TenantPrefix)
	case *config.Panel:
		return panel.Config{Name: c.Name, Product: c.Type, URL: v.URL, User: v.User, Secret: v.Secret, State: marks, CAFile: v.CAFile, Timeout: c.Timeout}
	case *config.Exec:
		return execute.Config{
			Name: c.Name, Command: v.Command, Mode: execute.Mode(v.Mode), Env: v.Env, SecretEnv: v.Secrets,
			WorkDir: v.WorkDir, Dir: marks, AttackDetails: v.AttackDetails, Timeout: c.Timeout, Measures: measures(v.Measures),
		}
	case *config.Webhook:
		return webhook.Config{
			Name: c.Name, URL: v.URL, Secret: []byte(v.Secret), CAFile: v.CAFile, Timeout: c.Timeout, Measures: measures(v.Measures), List: v.List,
		}
	}
	return nil
}

func measures(names []string) (out []flow.MeasureKind) {
	for _, n := range names {
		out = append(out, flow.MeasureKind(n))
	}
	return out
}

func bgpConfig(c config.Suspender, v *config.BGP, dir string, v6 int) bgp.Config {
	out := bgp.Config{
		Name: c.Name, Dir: dir, AS: v.AS, RouterID: v.RouterID, Listen: v.Listen, ListenPort: v.ListenPort,
		Method: bgp.Method(v.Method), OwnPrefixes: config.Plain(v.OwnPrefixes), V6Length: cmp.Or(v.V6Length, v6), MaxRules: v.MaxRules,
		RequirePeers: v.RequirePeers, Communities: v.Communities, NextHop4: v.NextHopV4, NextHop6: v.NextHopV6,
		GracefulRestart: v.GracefulRestart, HoldTime: v.HoldTime, ConnectRetry: v.ConnectRetry, Timeout: c.Timeout,
	}
	for _, p := range v.Peers {
		out.Peers = append(out.Peers, bgp.Peer{
			Address: p.Address, Port: p.Port, AS: p.AS, LocalAS: p.LocalAS, Local: p.LocalAddress,
			Password: []byte(p.Password), Multihop: p.Multihop, Passive: p.Passive, Families: p.Families, TTLSecurity: p.TTLSecurity,
		})
	}
	return out
}

// runSpeakers runs what announces routes until ctx ends.
func (s *service) runSpeakers(ctx context.Context) error {
	errs := make(chan error, len(s.speakers))
	for _, a := range s.speakers {
		go func() { errs <- a.Run(ctx) }()
	}
	var all error
	for range s.speakers {
		all = errors.Join(all, <-errs)
	}
	return all
}

// checkSuspenders is what the adapters themselves say of their configuration.
func checkSuspenders(file string, c config.Config) error {
	var errs []error
	marks := marksDir(c)
	for !isDir(marks) { // the service makes it when it starts
		marks = filepath.Dir(marks)
	}
	for i, sc := range c.Respond.Suspenders {
		v := adapterConfig(sc, c, marks)
		if v == nil {
			continue // told already
		}
		if err := v.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s: respond.suspenders[%d] %s: %w", file, i, sc.Name, err))
		}
	}
	return errors.Join(errs...)
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// respondPolicy fills in how far the automation may go. In the file 0 means
// none; the controller's zero means its default.
func respondPolicy(out *respond.Config, p config.Policy) {
	out.Caps = respond.Caps{
		Per10Min: orNone(p.Caps.Per10Min), PerDay: orNone(p.Caps.PerDay), TenantPerDay: orNone(p.Caps.TenantPerDay),
		NodePerHour: orNone(p.Caps.NodePerHour), FleetShare: orNone(p.Caps.FleetShare),
	}
	out.Freeze = respond.Freeze{
		Tenants: orNone(p.Freeze.Tenants), Window: p.Freeze.Window, Share: orNone(p.Freeze.Share),
		AllTenants: orNone(p.Freeze.AllTenants), For: orNone(p.Freeze.For),
	}
	out.Ladders = map[flow.Rule][]respond.Step{}
	for rule, steps := range p.Ladders {
		for _, s := range steps {
			out.Ladders[rule] = append(out.Ladders[rule], respond.Step{Measure: s.Measure, KbitS: s.KbitS, After: s.After, For: s.For})
		}
	}
	out.SkipUnsupported, out.RepeatFactor, out.RepeatMax = p.SkipUnsupported, p.RepeatFactor, p.RepeatMax
	out.Probation, out.RefuseAfter, out.OffenceWindow, out.Cooldown = p.Probation, p.RefuseAfter, p.OffenceWindow, p.Cooldown
	out.DryRun, out.InventoryMaxAge = p.DryRun, p.InventoryMaxAge
	out.Reassert, out.Orphans, out.MarkBy = orNone(p.Reassert), respond.OrphanPolicy(p.Orphans), p.MarkBy
	out.BreakerAfter, out.BreakerFor = p.Breaker.After, p.Breaker.For
	out.Fallback, out.FallbackAfter = p.Fallback, p.FallbackAfter
}

// orNone turns the file's 0 into the controller's "none".
func orNone[T int | float64 | ~int64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}
