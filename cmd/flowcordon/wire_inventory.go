package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/api"
	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
	"github.com/flowcordon/flowcordon/inventory/discover"
	"github.com/flowcordon/flowcordon/inventory/discover/httpjson"
	nodes "github.com/flowcordon/flowcordon/inventory/discover/libvirt"
	"github.com/flowcordon/flowcordon/inventory/discover/netbox"
	clusters "github.com/flowcordon/flowcordon/inventory/discover/proxmox"
	vcenters "github.com/flowcordon/flowcordon/inventory/discover/vsphere"
	"github.com/flowcordon/flowcordon/respond/libvirt"
)

// openInventory makes the inventory of a configuration, with what was kept of its
// sources in force and the file loaded. Nothing is asked of a source yet.
func openInventory(c config.Config, deps inventory.Deps, readOnly bool) (*inventory.Inventory, error) {
	ic := inventory.Config{Path: c.Inventory.File, Dir: inventoryDir(c), ReadOnly: readOnly}
	var errs []error
	for i, s := range c.Inventory.Sources {
		l, err := lister(c, s)
		if err != nil {
			errs = append(errs, fmt.Errorf("inventory.sources[%d] %s: %w", i, s.Name, err))
			continue
		}
		ic.Sources = append(ic.Sources, inventory.SourceConfig{Name: s.Name, Lister: l, Written: s.Type == "file", Every: s.Every, MaxAge: s.MaxAge})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	inv := inventory.New(ic, deps)
	if len(ic.Sources) > 0 {
		if err := inv.Recall(); err != nil && deps.Log != nil {
			deps.Log.Warn("not all that was kept of the inventory's sources can be read; it is asked for anew", zap.Error(err))
		}
	}
	if err := inv.Reload(); err != nil {
		return nil, fmt.Errorf("inventory.file: %w", err)
	}
	return inv, nil
}

// inventorySources shows the API how the inventory's sources do.
func (s *service) inventorySources() []api.InventorySource {
	var out []api.InventorySource
	for _, h := range s.inventory.Sources() {
		out = append(out, api.InventorySource{Name: h.Name, Entries: h.Entries, Seen: h.Seen, Stale: h.Stale, Problem: string(h.Problem), Error: h.Error})
	}
	return out
}

func inventoryDir(c config.Config) string { return filepath.Join(c.DataDir, "inventory") }

// lister makes the discovery that a source describes.
func lister(c config.Config, s config.InventorySource) (inventory.Lister, error) {
	switch v := s.Spec.(type) {
	case *config.FileSource:
		return fileLister{s.Name, v.Path}, nil
	case *config.HTTPSource:
		headers := maps.Clone(v.Secrets)
		if headers == nil {
			headers = map[string]string{}
		}
		maps.Copy(headers, v.Headers)
		hc := httpjson.Config{Name: s.Name, URL: v.URL, Headers: headers, Map: v.Map, Next: v.Next, CAFile: v.CAFile}
		return httpjson.New(hc, nil), hc.Validate()
	case *config.NetBoxSource:
		nc := netbox.Config{
			Name: s.Name, URL: v.URL, Token: v.Token, CAFile: v.CAFile, VRFs: v.VRFs, Clusters: v.Clusters, TenantID: v.TenantID, VDS: v.VDS,
			LanguageField: v.LanguageField, Contacts: v.Contacts, Prefixes: v.Prefixes,
		}
		return netbox.New(nc, nil), nc.Validate()
	}
	return hypervisorLister(c, s)
}

// hypervisorLister is a discovery over the connection of a suspender.
func hypervisorLister(c config.Config, s config.InventorySource) (inventory.Lister, error) {
	spec := func(name string) config.Spec {
		for _, x := range c.Respond.Suspenders {
			if x.Name == name {
				return x.Spec
			}
		}
		return nil
	}
	switch v := s.Spec.(type) {
	case *config.LibvirtSource:
		sus, ok := spec(v.Suspender).(*config.Libvirt)
		if !ok {
			return nil, fmt.Errorf("suspender: %q is no libvirt suspender", v.Suspender)
		}
		lc := libvirt.Config{Name: v.Suspender, URI: sus.URI, Socket: sus.Socket, Address: sus.Host, PKI: sus.PKIDir, MetadataID: sus.MetadataID}
		nc := nodes.Config{Hypervisor: v.Suspender, MetadataID: sus.MetadataID}
		for _, a := range v.Ask {
			nc.Sources = append(nc.Sources, nodes.Source(a))
		}
		l := nodeLister{name: s.Name, node: nodes.New(nc, nodes.Deps{Node: libvirt.New(lc, libvirt.Deps{})}), trust: v.Trust}
		return l, errors.Join(lc.Validate(), nc.Validate())
	case *config.ProxmoxSource:
		sus, ok := spec(v.Suspender).(*config.Proxmox)
		if !ok {
			return nil, fmt.Errorf("suspender: %q is no proxmox suspender", v.Suspender)
		}
		pc := clusters.Config{
			Name: s.Name, Hypervisor: v.Suspender, URLs: sus.URLs, Token: sus.Token, Fingerprints: sus.Fingerprints, CAFile: sus.CAFile,
			Bare: true, IPSets: v.IPSets, Agent: v.Agent, Networks: config.Plain(c.Networks.Internal), V6Bits: v.V6Bits, TenantTag: v.TenantTag, TenantPool: v.TenantPool,
		}
		return clusters.New(pc, nil), pc.Validate()
	case *config.VSphereSource:
		sus, ok := spec(v.Suspender).(*config.VSphere)
		if !ok {
			return nil, fmt.Errorf("suspender: %q is no vsphere suspender", v.Suspender)
		}
		vc := vcenters.Config{
			Name: s.Name, Hypervisor: v.Suspender, URL: sus.URL, Username: sus.Username, Password: sus.Password, CAFile: sus.CAFile, Thumbprint: sus.Thumbprint,
			Bare: true, AddressAttribute: v.AddressAttribute, TenantAttribute: v.TenantAttribute, Tools: v.Tools, Networks: config.Plain(c.Networks.Internal), V6Bits: v.V6Bits,
		}
		return vcenters.New(vc, nil), vc.Validate()
	}
	return nil, fmt.Errorf("type %q is not known", s.Type)
}

// fileLister reads a file again and again.
type fileLister struct{ name, path string }

// Discover gives an entry for each NIC of each line.
func (l fileLister) Discover(context.Context) ([]discover.Entry, error) {
	t, err := inventory.Load(l.path)
	if err != nil {
		return nil, err
	}
	return t.Entries(l.name), nil
}

// nodeLister is a libvirt node.
type nodeLister struct {
	name  string
	node  *nodes.Discoverer
	trust []string
}

// Discover gives an entry for each NIC and source of its addresses. What comes
// of the guest's own packets or words is marked, unless the operator vouches for
// the filters that bind each NIC to its addresses.
func (l nodeLister) Discover(ctx context.Context) ([]discover.Entry, error) {
	got, err := l.node.Discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("discover %s: %w", l.name, err)
	}
	var out []discover.Entry
	for _, e := range got.Entries {
		firm := e.Source == nodes.SourceDefinition || e.Source == nodes.SourceFilter || slices.Contains(l.trust, string(e.Source))
		out = append(out, discover.Entry{
			Prefixes: e.Prefixes, VDS: e.VDS, Hypervisor: e.Hypervisor, MAC: e.MAC, Seen: e.Seen,
			Source: fmt.Sprintf("%s domain %s %s", l.name, e.Name, e.Source), Forgeable: !firm, Standby: !e.Running,
		})
	}
	return out, nil
}

// privateNICs is what a cut takes beside the NIC that holds the address, by
// respond.private_nics.
func privateNICs(c config.Config, inv *inventory.Inventory) func(flow.Holder) []string {
	if c.Respond.PrivateNICs != "cut" {
		return nil
	}
	return inv.PrivateNICs
}
