// Package panel is a simulated hypervisor panel: an HTTP handler that speaks
// the webhook protocol of flowcordon's suspender, checks signatures and holds
// the link state of each VM's interfaces. What comes in are signed requests,
// what goes out is the state after them; the simulator asks IsCut before each
// packet, so that a cut really stops traffic. It starts no goroutine and
// imports the standard library only.
package panel

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// NIC is an interface of a VM that the panel manages.
type NIC struct {
	VDS string
	MAC string // lower case with colons
	IP  string
}

// Link is up, down or unknown, as in the protocol.
type Link string

// The link states.
const (
	Up      Link = "up"
	Down    Link = "down"
	Unknown Link = "unknown"
)

// Mark is what a suspender leaves on the interface.
type Mark struct {
	Incident string    `json:"incident"`
	Key      string    `json:"key"`
	By       string    `json:"by"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

// State is the answer to every request that was carried out.
type State struct {
	Live    Link  `json:"live"`
	Config  Link  `json:"config"`
	Running bool  `json:"running"`
	Mark    *Mark `json:"mark"`
}

// Request is what a suspender posts.
type Request struct {
	Action     string    `json:"action"` // status, suspend or restore
	Key        string    `json:"key"`
	Incident   string    `json:"incident"`
	VDS        string    `json:"vds"`
	Hypervisor string    `json:"hypervisor"`
	MAC        string    `json:"mac"`
	IP         string    `json:"ip"`
	Reason     string    `json:"reason"`
	At         time.Time `json:"at"`
}

// Change is a real change of an interface's state, as opposed to a request
// that found everything done.
type Change struct {
	At     time.Time `json:"at"`
	Action string    `json:"action"` // suspend or restore
	Key    string    `json:"key"`
	VDS    string    `json:"vds"`
	MAC    string    `json:"mac"`
	Reason string    `json:"reason"`
}

// Config of a Panel.
type Config struct {
	Secret []byte
	NICs   []NIC
	// AnyNIC makes the panel create an interface that it does not know on
	// first sight, rather than answer 404.
	AnyNIC bool
	// Log takes one JSON object per request; nil: none.
	Log io.Writer
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// OnChange is called after each real change, outside of any lock.
	OnChange func(Change)
}

// nic is the state of one interface.
type nic struct {
	NIC
	state  State
	before State // what a suspend found
}

// Panel is an http.Handler. It is safe for concurrent use.
type Panel struct {
	cfg Config

	mu       sync.Mutex
	nics     map[string]*nic // by MAC
	done     map[string]bool // action and key of what was carried out
	changes  []Change
	requests int
	hang     time.Duration
	fail     int
	booted   time.Time
}

// New returns a panel with all interfaces up and all VMs running.
func New(cfg Config) *Panel {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Panel{cfg: cfg, nics: map[string]*nic{}, done: map[string]bool{}, booted: cfg.Now()}
	for _, n := range cfg.NICs {
		p.add(n)
	}
	return p
}

func (p *Panel) add(n NIC) *nic {
	n.MAC = strings.ToLower(n.MAC)
	s := &nic{NIC: n, state: State{Live: Up, Config: Up, Running: true}}
	p.nics[n.MAC] = s
	return s
}

// Changes returns all real changes so far, oldest first.
func (p *Panel) Changes() []Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.changes)
}

// Requests is the number of requests received, whatever the answer.
func (p *Panel) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// IsCut reports whether no packet passes the interface.
func (p *Panel) IsCut(mac string) bool {
	s, ok := p.State(mac)
	return ok && s.Live != Up
}

// State returns the state of an interface; false if it is not known.
func (p *Panel) State(mac string) (State, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.nics[strings.ToLower(mac)]
	if !ok {
		return State{}, false
	}
	return n.answer(), true
}

// Set puts an interface in a state that no request led to, as an
// administrator or a crash does. The interface must be known.
func (p *Panel) Set(mac string, s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.nics[strings.ToLower(mac)]
	if !ok {
		panic("panel: no interface " + mac)
	}
	n.state = s
}

// Hang makes every later request wait before it is looked at; 0 ends that.
func (p *Panel) Hang(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hang = d
}

// Fail makes every later request end with this HTTP status and no effect; 0
// ends that.
func (p *Panel) Fail(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = status
}

// answer is a copy of the state that shares no mark.
func (n *nic) answer() State {
	s := n.state
	if s.Mark != nil {
		m := *s.Mark
		s.Mark = &m
	}
	return s
}

// apply carries a verified request out. It returns the state after it, the
// change if there was one, and an HTTP status with an error otherwise.
func (p *Panel) apply(r Request, now time.Time) (State, *Change, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, status, err := p.find(r)
	if err != nil {
		return State{}, nil, status, err
	}
	switch r.Action {
	case "status":
		return n.answer(), nil, http.StatusOK, nil
	case "suspend", "restore":
	default:
		return State{}, nil, http.StatusNotImplemented, fmt.Errorf("action %q is not known", r.Action)
	}
	if r.Key == "" || r.Incident == "" {
		return State{}, nil, http.StatusBadRequest, fmt.Errorf("%s needs a key and an incident", r.Action)
	}
	once := r.Action + " " + n.MAC + " " + r.Key
	if p.done[once] {
		return n.answer(), nil, http.StatusOK, nil
	}
	if m := n.state.Mark; m != nil && m.Incident != r.Incident {
		return State{}, nil, http.StatusConflict, fmt.Errorf("interface is held by incident %s", m.Incident)
	}
	var changed bool
	if r.Action == "suspend" {
		changed = n.suspend(r)
	} else {
		changed = n.restore()
	}
	p.done[once] = true
	if !changed {
		return n.answer(), nil, http.StatusOK, nil
	}
	c := Change{At: now, Action: r.Action, Key: r.Key, VDS: n.VDS, MAC: n.MAC, Reason: r.Reason}
	p.changes = append(p.changes, c)
	return n.answer(), &c, http.StatusOK, nil
}

// find resolves the interface of r: by MAC, which must be of the VM named.
func (p *Panel) find(r Request) (*nic, int, error) {
	n, ok := p.nics[strings.ToLower(r.MAC)]
	switch {
	case r.MAC == "":
		return nil, http.StatusBadRequest, fmt.Errorf("mac is missing")
	case !ok && p.cfg.AnyNIC:
		return p.add(NIC{VDS: r.VDS, MAC: r.MAC, IP: r.IP}), 0, nil
	case !ok:
		return nil, http.StatusNotFound, fmt.Errorf("no interface %s", r.MAC)
	case n.VDS != "" && r.VDS != "" && n.VDS != r.VDS:
		return nil, http.StatusConflict, fmt.Errorf("interface %s is of %s, not of %s", r.MAC, n.VDS, r.VDS)
	}
	return n, 0, nil
}

// suspend cuts the interface and remembers what it found. An interface that
// already carries the incident's mark is left as it is.
func (n *nic) suspend(r Request) bool {
	if n.state.Mark != nil {
		return false
	}
	n.before = n.state
	n.state.Live, n.state.Config = Down, Down
	n.state.Mark = &Mark{Incident: r.Incident, Key: r.Key, By: "flowcordon", Reason: r.Reason, At: r.At}
	return true
}

// restore brings back what suspend found. Without a mark nothing is ours: a
// link that an administrator took down stays down.
func (n *nic) restore() bool {
	if n.state.Mark == nil {
		return false
	}
	n.state.Live, n.state.Config, n.state.Mark = n.before.Live, n.before.Config, nil
	return true
}

// logLine is one line of the request log.
type logLine struct {
	Time    time.Time `json:"time"`
	Status  int       `json:"status"`
	Changed bool      `json:"changed"`
	Request *Request  `json:"request,omitempty"`
	State   *State    `json:"state,omitempty"`
	Error   string    `json:"error,omitempty"`
}

func (p *Panel) log(l logLine) {
	if p.cfg.Log == nil {
		return
	}
	b, err := json.Marshal(l)
	if err != nil {
		panic("panel: log line: " + err.Error()) // no type in it can fail
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = p.cfg.Log.Write(append(b, '\n')) // a full disk must not fail a cut
}
