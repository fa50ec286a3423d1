package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Suspender is one hypervisor, panel or router that can act; inventory entries
// name it. Its type says which further keys it has: Spec holds them.
type Suspender struct {
	Name    string        `yaml:"name"`
	Type    string        `yaml:"type"`
	Timeout time.Duration `yaml:"timeout"`

	Spec Spec `yaml:"-"`
}

// Spec is the part of a Suspender that its type adds: a pointer to one of the
// structs below.
type Spec interface {
	// check reads secrets and looks at what does not need the adapter's knowledge.
	check(d *decoder, at string)
}

// specs are the types of suspenders.
var specs = map[string]func() Spec{
	"libvirt":     func() Spec { return &Libvirt{} },
	"proxmox":     func() Spec { return &Proxmox{} },
	"vsphere":     func() Spec { return &VSphere{} },
	"openstack":   func() Spec { return &OpenStack{} },
	"bgp":         func() Spec { return &BGP{} },
	"vmmanager6":  func() Spec { return &Panel{} },
	"virtualizor": func() Spec { return &Panel{} },
	"exec":        func() Spec { return &Exec{} },
	"webhook":     func() Spec { return &Webhook{} },
}

// variant makes Spec for the type that the file says, so that its keys are known.
func (s *Suspender) variant(typ string) any {
	if mk := specs[typ]; mk != nil {
		s.Spec = mk()
		return s.Spec
	}
	return nil
}

// Libvirt is a node's libvirtd.
type Libvirt struct {
	Socket string `yaml:"socket"`  // unix socket
	Host   string `yaml:"address"` // host:port
	URI    string `yaml:"uri"`     // connection URI at the daemon, default qemu:///system
	PKIDir string `yaml:"pki_dir"` // cacert.pem, clientcert.pem, clientkey.pem: speaks TLS
	// MetadataID is the element of a domain's metadata that holds the panel's id of the VDS.
	MetadataID string `yaml:"metadata_id"`
}

func (s *Libvirt) check(d *decoder, at string) {
	if (s.Socket == "") == (s.Host == "") {
		d.bad(at, "needs either socket: /var/run/libvirt/libvirt-sock or address: host:16514 (with pki_dir for TLS)")
	}
	if s.Host != "" {
		d.hostPort(at+".address", s.Host)
	}
}

// Proxmox is a Proxmox VE cluster.
type Proxmox struct {
	URLs           []string `yaml:"urls"`
	TokenFile      string   `yaml:"token_file"` // holds user@realm!name=secret
	Fingerprints   []string `yaml:"fingerprints"`
	CAFile         string   `yaml:"ca_file"`
	EnableFirewall bool     `yaml:"enable_firewall"`
	// WatchEvery is the time between two looks at the cluster's tasks.
	WatchEvery time.Duration `yaml:"watch_every"`

	Token string `yaml:"-"`
}

func (s *Proxmox) check(d *decoder, at string) { s.Token = d.secret(at+".token_file", s.TokenFile) }

// VSphere is a vCenter or a lone ESXi host.
type VSphere struct {
	URL          string `yaml:"url"`
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	CAFile       string `yaml:"ca_file"`
	Thumbprint   string `yaml:"thumbprint"`

	Password string `yaml:"-"`
}

func (s *VSphere) check(d *decoder, at string) {
	s.Password = d.secret(at+".password_file", s.PasswordFile)
}

// OpenStack is one region's Keystone and Neutron.
type OpenStack struct {
	AuthURL       string `yaml:"auth_url"`
	Region        string `yaml:"region"`
	Username      string `yaml:"username"`
	PasswordFile  string `yaml:"password_file"`
	UserDomain    string `yaml:"user_domain"`
	Project       string `yaml:"project"`
	ProjectDomain string `yaml:"project_domain"`
	AppCredential string `yaml:"app_credential"`
	AppSecretFile string `yaml:"app_secret_file"`
	Interface     string `yaml:"interface"`
	CAFile        string `yaml:"ca_file"`

	Password  string `yaml:"-"`
	AppSecret string `yaml:"-"`
}

func (s *OpenStack) check(d *decoder, at string) {
	s.Password = d.secret(at+".password_file", s.PasswordFile)
	s.AppSecret = d.secret(at+".app_secret_file", s.AppSecretFile)
}

// BGP announces FlowSpec or blackhole routes to routers.
type BGP struct {
	AS              uint32        `yaml:"as"`
	RouterID        netip.Addr    `yaml:"router_id"`
	Listen          []netip.Addr  `yaml:"listen"`
	ListenPort      uint16        `yaml:"listen_port"`
	Peers           []BGPPeer     `yaml:"peers"`
	Method          string        `yaml:"method"` // flowspec, rtbh, srtbh
	OwnPrefixes     []Prefix      `yaml:"own_prefixes"`
	V6Length        int           `yaml:"v6_length"`
	MaxRules        int           `yaml:"max_rules"`
	RequirePeers    int           `yaml:"require_peers"`
	Communities     []string      `yaml:"communities"`
	NextHopV4       netip.Addr    `yaml:"next_hop_v4"`
	NextHopV6       netip.Addr    `yaml:"next_hop_v6"`
	GracefulRestart time.Duration `yaml:"graceful_restart"`
	HoldTime        time.Duration `yaml:"hold_time"`
	ConnectRetry    time.Duration `yaml:"connect_retry"`
}

// BGPPeer is one router.
type BGPPeer struct {
	Address      netip.Addr `yaml:"address"`
	Port         uint16     `yaml:"port"`
	AS           uint32     `yaml:"as"`
	LocalAS      uint32     `yaml:"local_as"`
	LocalAddress netip.Addr `yaml:"local_address"`
	PasswordFile string     `yaml:"password_file"`
	Multihop     uint8      `yaml:"multihop"`
	Passive      bool       `yaml:"passive"`
	Families     []string   `yaml:"families"` // ipv4, ipv6; empty: both
	TTLSecurity  bool       `yaml:"ttl_security"`

	Password string `yaml:"-"`
}

func (s *BGP) check(d *decoder, at string) {
	for i := range s.Peers {
		p := &s.Peers[i]
		p.Password = d.secret(fmt.Sprintf("%s.peers[%d].password_file", at, i), p.PasswordFile)
	}
}

// Panel is a hosting panel with an API of its own.
type Panel struct {
	URL        string `yaml:"url"`
	User       string `yaml:"user"`        // Virtualizor's API key, or a VMmanager administrator's mail address
	SecretFile string `yaml:"secret_file"` // Virtualizor's API password, or the administrator's
	CAFile     string `yaml:"ca_file"`

	Secret string `yaml:"-"`
}

func (s *Panel) check(d *decoder, at string) {
	d.url(at+".url", s.URL)
	s.Secret = d.secret(at+".secret_file", s.SecretFile)
}

// Exec runs a command.
type Exec struct {
	Command       []string          `yaml:"command"`
	Mode          string            `yaml:"mode"`     // json, fastnetmon
	Measures      []string          `yaml:"measures"` // block_port, rate_limit: what the command knows beside the cut
	Env           map[string]string `yaml:"env"`
	SecretEnv     map[string]string `yaml:"secret_env"` // variable: file that holds its value
	WorkDir       string            `yaml:"work_dir"`
	AttackDetails bool              `yaml:"attack_details"`

	Secrets map[string]string `yaml:"-"`
}

func (s *Exec) check(d *decoder, at string) {
	for i, m := range s.Measures {
		d.oneOf(fmt.Sprintf("%s.measures[%d]", at, i), m, "block_port", "rate_limit")
	}
	s.Secrets = map[string]string{}
	for k, file := range s.SecretEnv {
		s.Secrets[k] = d.secret(at+".secret_env."+k, file)
	}
}

// Webhook is called with a signed body.
type Webhook struct {
	URL        string   `yaml:"url"`
	SecretFile string   `yaml:"secret_file"`
	CAFile     string   `yaml:"ca_file"`
	Measures   []string `yaml:"measures"` // block_port, rate_limit: what the receiver knows beside the cut
	List       bool     `yaml:"list"`     // the receiver answers list

	Secret string `yaml:"-"`
}

func (s *Webhook) check(d *decoder, at string) {
	d.url(at+".url", s.URL)
	if s.SecretFile == "" {
		d.bad(at+".secret_file", "is missing; calls are signed, see docs/webhook.md")
	}
	for i, m := range s.Measures {
		d.oneOf(fmt.Sprintf("%s.measures[%d]", at, i), m, "block_port", "rate_limit")
	}
	s.Secret = d.secret(at+".secret_file", s.SecretFile)
}

func (c *Config) checkSuspender(d *decoder, s *Suspender, at string, names map[string]bool) {
	if s.Name == "" {
		d.bad(at+".name", "is missing; inventory entries refer to it as hypervisor:")
	}
	if names[s.Name] {
		d.bad(at+".name", "%q is used twice", s.Name)
	}
	names[s.Name] = true
	if s.Timeout == 0 {
		s.Timeout = c.Respond.CallTimeout
	}
	if s.Spec == nil {
		types := make([]string, 0, len(specs))
		for t := range specs {
			types = append(types, t)
		}
		slices.Sort(types)
		d.bad(at+".type", "%q is none of: %s", s.Type, strings.Join(types, ", "))
		return
	}
	s.Spec.check(d, at)
}
