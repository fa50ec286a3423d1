package vsphere

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	// markPrefix begins the key in a virtual machine's extraConfig under which
	// the mark of one NIC stands; its MAC with dashes follows. extraConfig and
	// not a custom attribute, because the mark then comes and goes in the very
	// call that cuts, and a guest cannot read it (it sees guestinfo.* alone).
	markPrefix = "flowcordon.cut."

	// maxReason keeps the mark readable in the .vmx file.
	maxReason = 300
)

// mark is ours on one NIC, with the state that a restore goes back to. Its text
// is a URL query: no quote, line break or byte beyond ASCII, whatever becomes
// of those in a .vmx file.
type mark struct {
	flow.Mark
	vds string // as the inventory had it
	ip  netip.Addr
	was connection
}

// connection is the part of a NIC that a cut changes.
type connection struct {
	Connected      bool `json:"connected"`       // now; a machine that is off has it false
	StartConnected bool `json:"start_connected"` // at the next power-on
	GuestControl   bool `json:"guest_control"`   // the guest may connect it by itself
	Running        bool `json:"running"`
}

// cutOff is the NIC as it stands when cut. The guest loses the right to plug
// its cable in again: vmware-toolbox-cmd device enable would do just that.
func cutOff(running bool) connection { return connection{Running: running} }

func connectionOf(d *types.VirtualDevice, running bool) (connection, error) {
	c := d.Connectable
	if c == nil {
		return connection{}, fail(flow.ErrUnsupported, "device %d cannot be disconnected", d.Key)
	}
	return connection{c.Connected, c.StartConnected, c.AllowGuestControl, running}, nil
}

func (c connection) status() flow.NICStatus {
	st := flow.NICStatus{Live: flow.LinkUnknown, Config: link(c.StartConnected), Running: c.Running}
	if c.Running {
		st.Live = link(c.Connected)
	}
	return st
}

func link(connected bool) flow.LinkState {
	if connected {
		return flow.LinkUp
	}
	return flow.LinkDown
}

func markKey(mac string) string { return markPrefix + strings.ReplaceAll(mac, ":", "-") }

// macOfKey is the NIC whose mark stands under key; empty if it is none of ours.
func macOfKey(key string) string {
	rest, ok := strings.CutPrefix(key, markPrefix)
	if !ok {
		return ""
	}
	return strings.ReplaceAll(rest, "-", ":")
}

func (m mark) text() string {
	v := url.Values{
		"incident": {m.Incident}, "key": {m.Key}, "by": {m.By}, "reason": {shorten(m.Reason)},
		"at": {m.At.UTC().Format(time.RFC3339Nano)}, "vds": {m.vds},
		"connected": {strconv.FormatBool(m.was.Connected)}, "start": {strconv.FormatBool(m.was.StartConnected)},
		"guest": {strconv.FormatBool(m.was.GuestControl)}, "running": {strconv.FormatBool(m.was.Running)},
	}
	if m.ip.IsValid() {
		v.Set("ip", m.ip.String())
	}
	return v.Encode()
}

func parseMark(text string) (mark, error) {
	v, err := url.ParseQuery(text)
	if err != nil {
		return mark{}, err
	}
	m := mark{
		Mark: flow.Mark{Incident: v.Get("incident"), Key: v.Get("key"), By: v.Get("by"), Reason: v.Get("reason")},
		vds:  v.Get("vds"),
	}
	if m.Incident == "" {
		return mark{}, errors.New("it names no incident")
	}
	if m.At, err = time.Parse(time.RFC3339Nano, v.Get("at")); err != nil {
		return mark{}, err
	}
	if s := v.Get("ip"); s != "" {
		if m.ip, err = netip.ParseAddr(s); err != nil {
			return mark{}, err
		}
	}
	for name, to := range map[string]*bool{
		"connected": &m.was.Connected, "start": &m.was.StartConnected,
		"guest": &m.was.GuestControl, "running": &m.was.Running,
	} {
		if *to, err = strconv.ParseBool(v.Get(name)); err != nil {
			return mark{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return m, nil
}

func shorten(s string) string {
	if len(s) <= maxReason {
		return s
	}
	n := maxReason
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// marksOf are the marks in a machine's extraConfig by MAC. One that cannot be
// read makes the machine untouchable: what it had before is not known.
func marksOf(extra []types.BaseOptionValue) (map[string]mark, error) {
	out := map[string]mark{}
	for _, o := range extra {
		v := o.GetOptionValue()
		mac := macOfKey(v.Key)
		if mac == "" {
			continue
		}
		text, _ := v.Value.(string)
		if text == "" {
			continue // an empty value is how a key is removed
		}
		m, err := parseMark(text)
		if err != nil {
			return nil, fail(flow.ErrDenied, "the mark %s in its extraConfig cannot be read (%w); a human must look", v.Key, err)
		}
		out[mac] = m
	}
	return out, nil
}
