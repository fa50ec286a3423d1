package proxmox

import (
	"net"
	"strings"
)

// netDev is the value of netN, a property string: "virtio=BC:24:11:…,bridge=
// vmbr0,firewall=1,rate=12.5,tag=101" of a VM, "name=eth0,bridge=vmbr0,hwaddr=
// BC:24:11:…,ip=198.18.0.7/24" of a container. Properties that we do not know
// are kept as they are: a whole value is written back, and what it lacks the
// NIC would lose. (The server prints the properties in an order of its own.)
type netDev []prop

type prop struct {
	key, val string
	bare     bool // without "=": the model of a NIC whose MAC is to be made up
}

func parseNet(s string) netDev {
	var n netDev
	for p := range strings.SplitSeq(s, ",") {
		if p == "" {
			continue
		}
		k, v, ok := strings.Cut(p, "=")
		n = append(n, prop{k, v, !ok})
	}
	return n
}

// String gives the value as the API takes it.
func (n netDev) String() string {
	var parts []string
	for _, p := range n {
		if p.bare {
			parts = append(parts, p.key)
		} else {
			parts = append(parts, p.key+"="+p.val)
		}
	}
	return strings.Join(parts, ",")
}

func (n netDev) get(key string) string {
	for _, p := range n {
		if p.key == key {
			return p.val
		}
	}
	return ""
}

// with returns n with one property set, or without it if val is empty.
func (n netDev) with(key, val string) netDev {
	var out netDev
	done := val == ""
	for _, p := range n {
		if p.key == key {
			if done {
				continue
			}
			p, done = prop{key: key, val: val}, true
		}
		out = append(out, p)
	}
	if !done {
		out = append(out, prop{key: key, val: val})
	}
	return out
}

// mac is the NIC's address, lower case with colons: the value of the model
// (virtio=…), of macaddr or, of a container, of hwaddr.
func (n netDev) mac() string {
	for _, p := range n {
		if len(p.val) != 17 {
			continue
		}
		if hw, err := net.ParseMAC(p.val); err == nil {
			return hw.String()
		}
	}
	return ""
}

// down is whether the link is down. PVE's booleans are 1, on, yes and true
// (PVE::JSONSchema::parse_boolean).
func (n netDev) down() bool { return truth(n.get("link_down")) }

func truth(s string) bool {
	switch strings.ToLower(s) {
	case "1", "on", "yes", "true":
		return true
	}
	return false
}
