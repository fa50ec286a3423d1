// Package config reads flowcordon's configuration: a YAML file, environment
// variables over it, and secrets from files. It reports everything that is
// wrong at once, each with its place and what to write instead. It owns no
// goroutine and does no I/O but reading the files that the configuration names.
package config

import (
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
)

// Config is the file's shape. Load returns it checked, with defaults filled in.
type Config struct {
	Listen     []Listen      `yaml:"listen"`
	Exporters  Exporters     `yaml:"exporters"`
	Networks   Networks      `yaml:"networks"`
	DataDir    string        `yaml:"data_dir"`
	ClickHouse ClickHouse    `yaml:"clickhouse"`
	Store      Store         `yaml:"store"`
	HTTP       HTTP          `yaml:"http"`
	API        API           `yaml:"api"`
	Collector  Collector     `yaml:"collector"`
	Detect     detect.Config `yaml:"detect"`
	Respond    Respond       `yaml:"respond"`
	Inventory  Inventory     `yaml:"inventory"`
	Log        Log           `yaml:"log"`
}

// Listen is one UDP socket address. Protocol netflow takes v5, v9 and IPFIX mixed.
type Listen struct {
	Protocol string `yaml:"protocol"` // netflow or sflow
	Address  string `yaml:"address"`  // host:port
}

// Exporters says who may send to us and how they sample.
type Exporters struct {
	Allow    []Prefix       `yaml:"allow"`
	Sampling []SamplingRule `yaml:"sampling"`
}

// SamplingRule is a rate for an exporter; Override wins over what it says
// itself, Default is used where it says nothing.
type SamplingRule struct {
	Exporter Prefix `yaml:"exporter"`
	Default  uint32 `yaml:"default"`
	Override uint32 `yaml:"override"`
}

// Networks tells our addresses from the rest of the world.
type Networks struct {
	Internal         []Prefix     `yaml:"internal"`
	IPv6TenantPrefix int          `yaml:"ipv6_tenant_prefix"`
	Bogons           *[]Prefix    `yaml:"bogons"` // nil: the IANA special-purpose registries
	External         []Interfaces `yaml:"external"`
	Ports            []Port       `yaml:"ports"`
}

// Port is a port of a switch, or a VLAN on it, behind which one server is. MACs
// come from the inventory, these are for exporters that tell none.
type Port struct {
	Exporter  netip.Addr `yaml:"exporter"`
	Interface uint32     `yaml:"interface"` // ifIndex; 0: none is exported
	VLAN      uint16     `yaml:"vlan"`      // 0: any
	Tenant    netip.Addr `yaml:"tenant"`    // an address of the server
}

// Interfaces are an exporter's interfaces (ifIndex) that face the outside.
type Interfaces struct {
	Exporter   netip.Addr `yaml:"exporter"`
	Interfaces []uint32   `yaml:"interfaces"`
}

// ClickHouse is where rows are kept; no Addr means the embedded engine in data_dir.
type ClickHouse struct {
	Addr         []string `yaml:"addr"`
	Database     string   `yaml:"database"`
	User         string   `yaml:"user"`
	PasswordFile string   `yaml:"password_file"`
	TLS          TLS      `yaml:"tls"`
	EngineLib    string   `yaml:"engine_lib"` // path of libchdb.so; empty: looked for
	MaxMemory    int64    `yaml:"max_memory"` // bytes, embedded engine

	Retention Retention `yaml:"retention"`
	Storage   Storage   `yaml:"storage"`

	Password string `yaml:"-"`
}

// TLS is a client's TLS.
type TLS struct {
	Enabled    bool   `yaml:"enabled"`
	CAFile     string `yaml:"ca_file"`
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"`
}

// Store is what is kept and for how long.
type Store struct {
	FlowPolicy    string        `yaml:"flow_policy"` // all, attempts, off
	FlowTTL       time.Duration `yaml:"flow_ttl"`
	WindowTTL     time.Duration `yaml:"window_ttl"`
	SpoolMaxBytes int64         `yaml:"spool_max_bytes"`
}

// HTTP is the API's and dashboard's listener.
type HTTP struct {
	Address string `yaml:"address"`
}

// API is who may call it.
type API struct {
	Tokens      []Token `yaml:"tokens"`
	Rate        *Rate   `yaml:"rate"`         // of each token without one of its own; default: 50 a second, 200 at once
	MetricsOpen *bool   `yaml:"metrics_open"` // /metrics without a token; default: on
	OIDC        *OIDC   `yaml:"oidc"`         // none: tokens only
}

// Token is one bearer token: from a file, or as the SHA-256 of its text.
type Token struct {
	Name        string `yaml:"name"`
	Role        string `yaml:"role"`
	TokenFile   string `yaml:"token_file"`
	TokenSHA256 string `yaml:"token_sha256"`

	Expires time.Time `yaml:"expires"` // the first moment at which it is not accepted
	Rate    *Rate     `yaml:"rate"`

	Secret string `yaml:"-"` // what TokenFile holds
}

// Rate bounds calls of a token; per_second 0 does not.
type Rate struct {
	PerSecond float64 `yaml:"per_second"`
	Burst     int     `yaml:"burst"` // calls at once after a rest
}

// Collector tunes the receiving side.
type Collector struct {
	Workers       int           `yaml:"workers"`
	ReadBuffer    int           `yaml:"read_buffer"` // bytes per socket
	FlushInterval time.Duration `yaml:"flush_interval"`
	Lateness      time.Duration `yaml:"lateness"`
	MaxAge        time.Duration `yaml:"max_age"`
	MaxKeys       int           `yaml:"max_keys"`
	// InnerHeaders reads sampled packets of tunnels (GRE, IP in IP, VXLAN,
	// Geneve) by their inner addresses.
	InnerHeaders bool `yaml:"inner_headers"`
}

// Respond is what may be done, and to whom never.
type Respond struct {
	MaxPerHour      int           `yaml:"max_per_hour"`
	CallTimeout     time.Duration `yaml:"call_timeout"`
	ApprovalTimeout time.Duration `yaml:"approval_timeout"`
	VerifyAfter     time.Duration `yaml:"verify_after"`
	VerifyFor       time.Duration `yaml:"verify_for"`
	VerifyDeadline  time.Duration `yaml:"verify_deadline"`
	EvidenceRows    int           `yaml:"evidence_rows"`
	NotifyAfter     time.Duration `yaml:"notify_after"`
	Protected       Protected     `yaml:"protected"`
	Exempt          []Exemption   `yaml:"exempt"`
	ASTable         string        `yaml:"as_table"` // file of prefixes and AS numbers, for exemptions by remote_as
	Suspenders      []Suspender   `yaml:"suspenders"`
	Notify          Notify        `yaml:"notify"`
	TemplateDir     string        `yaml:"template_dir"`
	Portal          *Portal       `yaml:"portal"`
	XARF            *XARF         `yaml:"xarf"`
	Policy
}

// Protected is never acted on, whatever is found.
type Protected struct {
	Prefixes []Prefix `yaml:"prefixes"`
	Tenants  []string `yaml:"tenants"`
	Tags     []string `yaml:"tags"`
}

// Exemption is recorded but not acted on, until it expires.
type Exemption struct {
	Tenant string  `yaml:"tenant"`
	Prefix *Prefix `yaml:"prefix"`
	Remote *Prefix `yaml:"remote"`
	// RemoteAS instead of Remote; it needs ASTable.
	RemoteAS uint32 `yaml:"remote_as"`

	Port    uint16    `yaml:"port"`
	IPProto uint8     `yaml:"ip_proto"` // IANA number
	Rule    flow.Rule `yaml:"rule"`
	Owner   string    `yaml:"owner"`
	Reason  string    `yaml:"reason"`
	Expires time.Time `yaml:"expires"`
}

// Log is how much is said and in which form.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // json, console; empty: console on a terminal
}

// Prefix is a netip.Prefix that also takes a bare address, masked to its network.
type Prefix struct{ netip.Prefix }

// UnmarshalText reads 192.0.2.0/24, 192.0.2.1 or the IPv6 forms.
func (p *Prefix) UnmarshalText(b []byte) error {
	if a, err := netip.ParseAddr(string(b)); err == nil {
		p.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	q, err := netip.ParsePrefix(string(b))
	if err != nil {
		return err
	}
	p.Prefix = q.Masked()
	return nil
}

// Plain strips the wrapper.
func Plain(ps []Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(ps))
	for i, p := range ps {
		out[i] = p.Prefix
	}
	return out
}
