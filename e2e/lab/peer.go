package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// PeerIP is the second node's address on the bridge that the nodes share.
const PeerIP = "198.51.100.3"

// Peer starts a second node beside the lab's: another libvirtd in namespaces of
// its own, its bridge joined to the first one's, so that guests can migrate
// there. Of the returned Lab only what is about its node is set. It ends with
// the first.
func (l *Lab) Peer() (*Lab, error) {
	dir := filepath.Join(l.Dir, "peer")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	p := &Lab{
		Dir: dir, root: l.root, Node: strings.TrimSuffix(l.Node, "node") + "peer",
		Socket: filepath.Join(dir, "sock", "libvirt-sock"), PKI: filepath.Join(dir, "pki", "client"),
		listen: PeerIP, hostUUID: "2a9c4b7e-6d1f-4e80-8c35-1b7d9e0f2a42",
	}
	for _, step := range []func() error{func() error { return l.join(p) }, p.files, p.startNode, p.waitDaemon} {
		if err := step(); err != nil {
			log := p.Logs()
			p.Stop()
			return nil, fmt.Errorf("start the second node: %w\n%s", err, log)
		}
	}
	l.onStop(p.Stop)
	return p, nil
}

func (l *Lab) join(p *Lab) error {
	if err := ip("netns add " + p.Node); err != nil {
		return err
	}
	p.onStop(func() { _ = ip("netns del " + p.Node) })
	lines := `
-n PEER link set lo up
-n PEER link add vmbr0 type bridge forward_delay 0 stp_state 0
-n PEER link set vmbr0 up
-n PEER addr add 198.51.100.3/24 dev vmbr0
-n NODE link add peer0 type veth peer name node0 netns PEER
-n NODE link set peer0 master vmbr0 up
-n PEER link set node0 master vmbr0 up`
	return ip(strings.Split(strings.TrimSpace(strings.NewReplacer("NODE", l.Node, "PEER", p.Node).Replace(lines)), "\n")...)
}

// Migrate moves a domain to the peer while it runs, its definition with it, as
// a cluster manager does.
func Migrate(c *golibvirt.Libvirt, dom golibvirt.Domain) error {
	_, err := c.DomainMigratePerform3Params(dom, golibvirt.OptString{"qemu+tcp://" + PeerIP + "/system"},
		[]golibvirt.TypedParam{{Field: "migrate_uri", Value: *golibvirt.NewTypedParamValueString("tcp://" + PeerIP)}}, nil,
		golibvirt.MigrateLive|golibvirt.MigratePeer2peer|golibvirt.MigratePersistDest|golibvirt.MigrateUndefineSource|
			golibvirt.MigrateUnsafe)
	return err
}
