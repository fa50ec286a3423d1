package panel

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// VirtualizorAdapter cuts the network of whole servers of a Virtualizor panel
// through its admin API. It is unverified against the product. It is safe for
// concurrent use; operations queue.
//
// Status knows what the panel has noted (nw_suspended), for all NICs of the
// server at once, and takes it for the next start too: the panel tells no more.
type VirtualizorAdapter struct{ base }

// NewVirtualizor returns an adapter. It does no I/O.
func NewVirtualizor(cfg Config, deps Deps) *VirtualizorAdapter {
	return &VirtualizorAdapter{newBase(cfg, deps)}
}

// call makes one call: index.php?act=vs with the key in the query, as the
// vendor's SDK (sdk/admin.php) does.
func (a *VirtualizorAdapter) call(ctx context.Context, p url.Values, v any) error {
	what := "act=vs"
	for k := range p {
		what += " " + k
	}
	p = maps.Clone(p)
	p.Set("act", "vs")
	p.Set("api", "json")
	p.Set("adminapikey", a.cfg.User)
	p.Set("adminapipass", a.cfg.Secret)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(a.cfg.URL, "/")+"/index.php?"+p.Encode(), nil)
	if err != nil {
		return fail(flow.ErrUnsupported, "configuration: the url cannot be used")
	}
	body, err := a.send(req, what)
	if err != nil {
		return err
	}
	var e struct {
		Error   json.RawMessage `json:"error"`
		Act     string          `json:"act"`
		Done    json.RawMessage `json:"done"`
		Message string          `json:"message"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf("%s: the answer is not JSON: %w", what, err)
	}
	if e.Act == "login" { // the login page: the key is not accepted
		return fail(flow.ErrDenied, "%s: the panel wants a login; is the API key right, and our address allowed?", what)
	}
	if flag(e.Error) {
		return fail(flow.ErrConflict, "%s: the panel says %.200s", what, e.Error)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%s: the answer is not what was expected: %w", what, err)
	}
	return nil
}

// server is what the panel says of one server.
type server struct {
	off, running bool
}

func (a *VirtualizorAdapter) read(ctx context.Context, nic flow.NIC) (int, server, error) {
	id, err := serverID(nic)
	if err != nil {
		return 0, server{}, err
	}
	key := strconv.Itoa(id)
	var list struct {
		VS json.RawMessage `json:"vs"`
	}
	if err := a.call(ctx, url.Values{"vpsid": {key}}, &list); err != nil {
		return 0, server{}, err
	}
	var vs map[string]struct {
		ID  json.RawMessage `json:"vpsid"`
		Off json.RawMessage `json:"nw_suspended"`
		MAC string          `json:"mac"`
	}
	// PHP writes an empty map as [].
	if flag(list.VS) {
		if err := json.Unmarshal(list.VS, &vs); err != nil {
			return 0, server{}, fmt.Errorf("act=vs: the list of servers: %w", err)
		}
	}
	s, ok := vs[key]
	if !ok || strings.Trim(string(s.ID), `"`) != key {
		return 0, server{}, fail(flow.ErrNotFound, "the panel has no server %d: deleted?", id)
	}
	if s.Off == nil {
		return 0, server{}, fail(flow.ErrUnsupported, "the panel does not tell nw_suspended of server %d: what is done could not be read back", id)
	}
	if s.MAC != "" {
		if err := sameMAC(nic, id, []string{s.MAC}); err != nil {
			return 0, server{}, err
		}
	}
	var st struct {
		Status map[string]json.RawMessage `json:"status"`
	}
	if err := a.call(ctx, url.Values{"vs_status": {key}}, &st); err != nil {
		return 0, server{}, err
	}
	run := st.Status[key]
	var detail struct {
		Status json.RawMessage `json:"status"`
	}
	if json.Unmarshal(run, &detail) == nil && detail.Status != nil {
		run = detail.Status
	}
	return id, server{off: flag(s.Off), running: flag(run)}, nil
}

// Status says what the panel has noted, and our mark.
func (a *VirtualizorAdapter) Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	var st flow.NICStatus
	err := a.do(ctx, "status", func(ctx context.Context) (err error) {
		_, st, err = a.status(ctx, nic)
		return err
	})
	return st, err
}

func (a *VirtualizorAdapter) status(ctx context.Context, nic flow.NIC) (int, flow.NICStatus, error) {
	id, s, err := a.read(ctx, nic)
	if err != nil {
		return 0, flow.NICStatus{}, err
	}
	link := flow.LinkUp
	if s.off {
		link = flow.LinkDown
	}
	st := flow.NICStatus{Live: link, Config: link, Running: s.running}
	if !s.running {
		st.Live = flow.LinkUnknown
	}
	e, err := a.marks.get(id, flow.MeasureCut)
	if e != nil {
		m := e.Mark
		st.Mark = &m
	}
	return id, st, err
}

// Cut takes the network of the whole server off and keeps the mark. Repeated
// for the same incident it keeps the first mark's state. One that is cut for
// another incident is refused with flow.ErrConflict.
func (a *VirtualizorAdapter) Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	if m.Incident == "" {
		return flow.Receipt{}, fail(flow.ErrDenied, "cut: the mark names no incident")
	}
	var r flow.Receipt
	err := a.do(ctx, "cut", func(ctx context.Context) error {
		id, before, err := a.status(ctx, nic)
		if err != nil {
			return err
		}
		e, err := a.marks.get(id, flow.MeasureCut)
		if err != nil {
			return err
		}
		if e == nil {
			e = &entry{Kind: flow.MeasureCut, MAC: nic.MAC, Mark: m, Before: before}
		} else if e.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "server %d is already cut for incident %s by %s", id, e.Mark.Incident, e.Mark.By)
		}
		e.Mark.Key = m.Key
		// The mark goes first: a network that is off without it could not be
		// told from an admin's work.
		if err := a.marks.put(id, flow.MeasureCut, e); err != nil {
			return err
		}
		if before.Config != flow.LinkDown {
			if err := a.call(ctx, url.Values{"suspend_net": {strconv.Itoa(id)}}, &struct{}{}); err != nil {
				return err
			}
		}
		_, after, err := a.status(ctx, nic)
		if err != nil {
			return err
		}
		if !after.Cut() {
			return fail(flow.ErrConflict, "server %d reads back with its network on after suspend_net", id)
		}
		r = flow.Receipt{NIC: nic, Before: e.Before, After: after, Node: a.cfg.Name, At: a.now().UTC()}
		return nil
	})
	if err != nil {
		return flow.Receipt{}, err
	}
	a.done("network cut", nic, m)
	return r, nil
}

// Restore gives the network back if it was on before our cut, as the receipt,
// or else the mark, says. Without a mark it succeeds only if all is as the
// receipt says already.
func (a *VirtualizorAdapter) Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error {
	if m.Incident == "" {
		return fail(flow.ErrDenied, "restore: the mark names no incident")
	}
	err := a.do(ctx, "restore", func(ctx context.Context) error {
		id, st, err := a.status(ctx, nic)
		if err != nil {
			return err
		}
		e, err := a.marks.get(id, flow.MeasureCut)
		if err != nil {
			return err
		}
		was := r.Before.Config
		switch {
		case e == nil && (st.Config == was || was == "" && st.Config == flow.LinkUp):
			return nil
		case e == nil:
			return fail(flow.ErrConflict, "server %d carries no mark of ours and its network is %s; it stays so", id, st.Config)
		case e.Mark.Incident != m.Incident:
			return fail(flow.ErrConflict, "server %d is cut for incident %s by %s, not for %s; it stays so", id, e.Mark.Incident, e.Mark.By, m.Incident)
		case was == "":
			was = e.Before.Config
		}
		if was != flow.LinkDown && st.Config == flow.LinkDown {
			if err := a.call(ctx, url.Values{"unsuspend_net": {strconv.Itoa(id)}}, &struct{}{}); err != nil {
				return err
			}
			if _, st, err = a.status(ctx, nic); err != nil {
				return err
			}
			if st.Config != flow.LinkUp {
				return fail(flow.ErrConflict, "server %d reads back with its network off after unsuspend_net", id)
			}
		}
		return a.marks.put(id, flow.MeasureCut, nil)
	})
	if err == nil {
		a.done("network given back", nic, m)
	}
	return err
}

// Marked lists the servers that have a mark of ours.
func (a *VirtualizorAdapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	return a.marked(ctx, func(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
		_, st, err := a.status(ctx, nic)
		return st, err
	})
}

// Describe says which call a cut would make, without the key.
func (a *VirtualizorAdapter) Describe(ctx context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	var text string
	err := a.do(ctx, "describe", func(ctx context.Context) error {
		id, _, err := a.read(ctx, nic)
		if err == nil && me.Kind != flow.MeasureCut {
			err = fail(flow.ErrUnsupported, "Virtualizor has no measure %q", me.Kind)
		}
		text = fmt.Sprintf("GET %s/index.php?act=vs&suspend_net=%d (the whole server %s)", strings.TrimSuffix(a.cfg.URL, "/"), id, nic.VDS)
		return err
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

// marked reads the servers that have a mark; one that is gone is left out.
func (b *base) marked(ctx context.Context, status func(context.Context, flow.NIC) (flow.NICStatus, error)) ([]flow.MarkedNIC, error) {
	var out []flow.MarkedNIC
	err := b.do(ctx, "list", func(ctx context.Context) error {
		ids, err := b.marks.ids()
		if err != nil {
			return err
		}
		for _, id := range ids {
			es, err := b.marks.read(id)
			if err != nil {
				return err
			}
			nic := flow.NIC{VDS: strconv.Itoa(id), Hypervisor: b.cfg.Name}
			if len(es) > 0 {
				nic.MAC = es[0].MAC
			}
			st, err := status(ctx, nic)
			if isClass(err, flow.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if st.Mark != nil || len(st.Restrictions) > 0 {
				out = append(out, flow.MarkedNIC{NIC: nic, Status: st})
			}
		}
		return nil
	})
	return out, err
}
