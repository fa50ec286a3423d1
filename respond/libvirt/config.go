package libvirt

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

const (
	// defaultTimeout bounds one operation. A read-modify-write takes some
	// 20 ms; libvirt's own wait for a domain that another job holds is 30 s,
	// which is too long to keep the other VDS of the node waiting.
	defaultTimeout = 10 * time.Second

	defaultSocket  = "/var/run/libvirt/libvirt-sock"
	defaultDriver  = "qemu:///system"
	defaultTCPPort = "16509"
	defaultTLSPort = "16514"
)

// Config says which libvirtd to talk to: by URI, Socket or Address; none of them
// means the local system daemon.
type Config struct {
	Name string // of the adapter; the inventory's hypervisor field refers to it
	// URI is a libvirt URI: qemu+unix:///system?socket=/path,
	// qemu+tls://host[:port]/system?pkipath=/dir or qemu+tcp://host[:port]/system.
	// Beside Socket or Address it only names the driver, e.g. qemu:///session.
	URI     string
	Socket  string // path of the daemon's unix socket
	Address string // host:port of the daemon's TCP or, with PKI, TLS listener
	// PKI is a directory with cacert.pem, clientcert.pem and clientkey.pem.
	// Without it Address is spoken to in clear: for a management network only.
	PKI     string
	Timeout time.Duration // of one operation, waiting for an earlier one included; of one domain in a list of all; 0: 10 s
	// MetadataID is the local name of the element in a domain's <metadata>
	// that holds the panel's VDS id; empty: "id".
	MetadataID string
}

// Validate reports every mistake in the configuration at once.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name: missing; the inventory's hypervisor field refers to it"))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative; write a duration such as 10s", c.Timeout))
	}
	if _, err := c.endpoint(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Config) timeout() time.Duration {
	if c.Timeout <= 0 {
		return defaultTimeout
	}
	return c.Timeout
}

func (c Config) metadataID() string {
	if c.MetadataID == "" {
		return "id"
	}
	return c.MetadataID
}

// endpoint is where and how to dial, and what to open there.
type endpoint struct {
	network, address string
	pki              string // set: TLS
	driver           string // the URI that the daemon opens, without transport
}

func (c Config) endpoint() (endpoint, error) {
	if c.PKI != "" && c.Address == "" {
		return endpoint{}, errors.New("pki: needs address: host:port (in a uri write ?pkipath=/dir)")
	}
	if c.Socket != "" && c.Address != "" {
		return endpoint{}, errors.New("socket, address: write only one of them")
	}
	driver := defaultDriver
	if c.URI != "" {
		e, err := parseURI(c.URI)
		if err != nil || c.Socket == "" && c.Address == "" {
			return e, err
		}
		if e.network != "unix" || e.address != defaultSocket {
			return endpoint{}, errors.New("uri: says where to connect, as socket or address do; write only one of them")
		}
		driver = e.driver
	}
	switch {
	case c.Address != "":
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			return endpoint{}, fmt.Errorf("address: %w; write host:port, e.g. node1:%s", err, defaultTLSPort)
		}
		return endpoint{network: "tcp", address: c.Address, pki: c.PKI, driver: driver}, nil
	case c.Socket != "":
		return endpoint{network: "unix", address: c.Socket, driver: driver}, nil
	}
	return endpoint{network: "unix", address: defaultSocket, driver: driver}, nil
}

// parseURI splits a libvirt URI. The daemon must not see the transport: it
// would try to connect onward by itself.
func parseURI(s string) (endpoint, error) {
	u, err := url.Parse(s)
	if err != nil {
		return endpoint{}, fmt.Errorf("uri: %w", err)
	}
	driver, transport, _ := strings.Cut(u.Scheme, "+")
	if transport == "" && u.Host != "" {
		transport = "tls" // as libvirt itself reads qemu://host/system
	}
	e := endpoint{network: "tcp", driver: driver + "://" + u.EscapedPath()}
	switch transport {
	case "", "unix":
		e.network, e.address = "unix", u.Query().Get("socket")
		if e.address == "" {
			e.address = defaultSocket
		}
		if u.Host != "" {
			return endpoint{}, fmt.Errorf("uri: %q names a host, but the unix transport is local", s)
		}
		return e, nil
	case "tcp":
		e.address = hostPort(u, defaultTCPPort)
	case "tls":
		e.address = hostPort(u, defaultTLSPort)
		if e.pki = u.Query().Get("pkipath"); e.pki == "" {
			e.pki = "/etc/pki/libvirt"
		}
	default:
		return endpoint{}, fmt.Errorf("uri: transport %q is not supported; use unix, tcp or tls", transport)
	}
	if u.Hostname() == "" {
		return endpoint{}, fmt.Errorf("uri: %q names no host; write qemu+tls://host/system", s)
	}
	return e, nil
}

func hostPort(u *url.URL, port string) string {
	if p := u.Port(); p != "" {
		port = p
	}
	return net.JoinHostPort(u.Hostname(), port)
}
