package detect

// PortClass gives the ports of one kind the rate of new destinations that a
// benign host is allowed.
type PortClass struct {
	// Rate is R0 in distinct destinations per second.
	Rate  float64  `yaml:"rate" json:"rate"`
	Ports []uint16 `yaml:"ports" json:"ports"`
}

// PortClasses are the kinds of ports, whatever the protocol. A port in none of
// them gets OtherRate. Findings on P2P ports are never above notify: those
// networks dial stale peers in masses and cannot be told from a scan by flows.
type PortClasses struct {
	AbuseProne PortClass `yaml:"abuse_prone" json:"abuse_prone"`
	Web        PortClass `yaml:"web" json:"web"`
	P2P        PortClass `yaml:"p2p" json:"p2p"`
	OtherRate  float64   `yaml:"other_rate" json:"other_rate"`
}

// defaultPortClasses are the classes of detection.md §4.
func defaultPortClasses() PortClasses {
	return PortClasses{
		AbuseProne: PortClass{Rate: 0.5, Ports: []uint16{21, 22, 23, 25, 110, 135, 139, 143, 445, 465, 587, 993,
			1433, 1521, 2222, 2323, 2375, 2376, 3306, 3389, 5060, 5432, 5555, 5900, 6379, 6443, 7547, 8291, 9200,
			10250, 11211, 27017, 37215, 52869, 60001}},
		Web: PortClass{Rate: 5, Ports: []uint16{80, 443, 8080, 8443}},
		P2P: PortClass{Rate: 50, Ports: []uint16{4001, 6881, 6882, 6883, 6884, 6885, 6886, 6887, 6888, 6889,
			8333, 8444, 9001, 9030, 9735, 18080, 26656, 30303, 30304, 51413}},
		OtherRate: 2,
	}
}

// portTable answers for a port at once.
type portTable struct {
	class [1 << 16]uint8 // index into rates
	rates [4]float64
}

const classP2P = 3

// table lays the classes out by port. A port named in several classes is P2P
// before abuse-prone before web.
func (c *PortClasses) table() *portTable {
	t := &portTable{rates: [4]float64{c.OtherRate, c.Web.Rate, c.AbuseProne.Rate, c.P2P.Rate}}
	for i, ports := range [][]uint16{c.Web.Ports, c.AbuseProne.Ports, c.P2P.Ports} {
		for _, p := range ports {
			t.class[p] = uint8(i + 1)
		}
	}
	return t
}

// lookup returns R0 of a port and whether it is of the P2P class.
func (t *portTable) lookup(port uint16) (rate float64, p2p bool) {
	c := t.class[port]
	return t.rates[c], c == classP2P
}
