package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/flowcordon/flowcordon/flow"
)

// target is one NIC of one guest, read at one moment.
type target struct {
	a   *Adapter
	g   guest
	v   view
	key string // net0
	mac string
}

func (t *target) String() string { return fmt.Sprintf("guest %s: %s", t.g, t.key) }

// links are the states of netN now and at the next start. A NIC that is not
// there sends nothing.
func (t *target) links() (now, next flow.LinkState) {
	state := func(s string, ok bool) flow.LinkState {
		if !ok || parseNet(s).down() {
			return flow.LinkDown
		}
		return flow.LinkUp
	}
	s, ok := t.v.now[t.key]
	now = state(s, ok)
	next = now
	if p, pending := t.v.next[t.key]; pending {
		next = state(p, true)
	} else if t.v.gone[t.key] {
		next = flow.LinkDown
	}
	return now, next
}

// own is our mark of the kind on this NIC. One that a clone or a restored
// backup brought along from another guest does not count.
func (t *target) own(kind flow.MeasureKind) *note {
	_, notes := splitNotes(t.v.now["description"])
	for _, n := range notes {
		if n.Kind == kind && n.MAC == t.mac && n.Guest == t.g.ID {
			return &n
		}
	}
	return nil
}

// running asks whether the guest runs.
func (t *target) running(ctx context.Context) (bool, error) {
	var st struct {
		Status string `json:"status"`
	}
	if err := t.a.api.call(ctx, http.MethodGet, t.g.path("/status/current"), nil, &st); err != nil {
		return false, err
	}
	return st.Status == "running", nil
}

func (t *target) status(ctx context.Context) (flow.NICStatus, error) {
	run, err := t.running(ctx)
	if err != nil {
		return flow.NICStatus{}, err
	}
	st := flow.NICStatus{Running: run}
	st.Live, st.Config = t.links()
	if !run {
		st.Live = flow.LinkUnknown
	}
	if n := t.own(flow.MeasureCut); n != nil {
		m := n.Mark
		st.Mark = &m
	}
	block, err := t.blocked(ctx)
	if err != nil {
		return flow.NICStatus{}, err
	}
	if block != nil {
		st.Restrictions = append(st.Restrictions, *block)
	}
	if lim := t.limited(); lim != nil {
		st.Restrictions = append(st.Restrictions, *lim)
	}
	return st, nil
}

// again reads the guest anew.
func (t *target) again(ctx context.Context) error {
	v, err := t.a.read(ctx, t.g)
	if err != nil {
		return err
	}
	if !slices.Contains(v.macsOf(t.key), t.mac) {
		return fail(flow.ErrConflict, "%s lost the MAC %s meanwhile", t, t.mac)
	}
	t.v = v
	return nil
}

// put writes the NIC, changed by edit on both of its sides, and the notes,
// changed by notes. What already is as wanted is not written. A write of netN
// takes the place of a change that waits for the next start, so that is written
// back after it; between the two our note holds it, for whoever comes next.
func (t *target) put(ctx context.Context, edit func(n netDev, next bool) netDev, notes func([]note) []note) error {
	p := url.Values{}
	now, here := t.v.now[t.key]
	next, pending := t.v.next[t.key]
	if here {
		if want := edit(parseNet(now), false).String(); want != now {
			p.Set(t.key, want)
		}
	}
	twice := (pending || t.v.gone[t.key]) && (p.Has(t.key) || t.v.held[t.key])
	if pending {
		want := edit(parseNet(next), true).String()
		if !twice && want != next {
			p.Set(t.key, want)
		}
		next = want
	}
	if twice {
		held := t.key
		if pending {
			held += "=" + next
		}
		if err := t.putNotes(p, t.holding(held, notes)); err != nil {
			return err
		}
		if err := t.write(ctx, p); err != nil {
			return err
		}
		mac := t.v.macOf(t.key)
		v, err := t.a.read(ctx, t.g)
		if err != nil {
			return err
		}
		if v.macOf(t.key) != mac {
			return fail(flow.ErrConflict, "%s lost the MAC %s meanwhile", t, mac)
		}
		t.v = v
		p = url.Values{"delete": {t.key}}
		if pending {
			p = url.Values{t.key: {next}}
		}
	}
	if err := t.putNotes(p, t.lettingGo(notes)); err != nil {
		return err
	}
	return t.write(ctx, p)
}

// holding is notes with what waits for the next start put into one of ours.
func (t *target) holding(held string, notes func([]note) []note) func([]note) []note {
	ours := func(n note) bool { return n.Guest == t.g.ID && n.MAC == t.mac }
	return func(old []note) []note {
		out := notes(old)
		if !slices.ContainsFunc(out, ours) {
			out = old // the last of ours goes with the second write
		}
		out = slices.Clone(out)
		if i := slices.IndexFunc(out, ours); i >= 0 {
			out[i].Held = held
		}
		return out
	}
}

// lettingGo is notes with nothing held any more.
func (t *target) lettingGo(notes func([]note) []note) func([]note) []note {
	return func(old []note) []note {
		out := slices.Clone(notes(old))
		for i := range out {
			if out[i].Guest == t.g.ID && out[i].MAC == t.mac {
				out[i].Held = ""
			}
		}
		return out
	}
}

func (t *target) putNotes(p url.Values, change func([]note) []note) error {
	old := t.v.now["description"]
	rest, notes := splitNotes(old)
	text, err := joinNotes(rest, change(notes))
	switch {
	case err != nil:
		return err
	case text == old:
	case text != "" && text != "\n":
		p.Set("description", text)
	case p.Has("delete"):
		p.Set("delete", p.Get("delete")+",description")
	default:
		p.Set("delete", "description")
	}
	return nil
}

// write changes the guest's configuration if it still is what was read. A
// change of a VM is a task, as the API asks for what is plugged while it runs.
func (t *target) write(ctx context.Context, p url.Values) error {
	if len(p) == 0 {
		return nil
	}
	p.Set("digest", t.v.digest)
	method := http.MethodPut
	if t.g.Type == "qemu" {
		method = http.MethodPost
		p.Set("background_delay", strconv.Itoa(taskWait))
	}
	if err := t.a.api.change(ctx, t.g.Node, method, t.g.path("/config"), p); err != nil {
		return fmt.Errorf("change guest %s: %w", t.g, err)
	}
	return nil
}

// replace gives notes with n in place of that of its kind and NIC; with drop,
// without it.
func replace(n note, drop bool) func([]note) []note {
	return func(notes []note) []note {
		same := func(o note) bool { return o.Kind == n.Kind && o.MAC == n.MAC && o.Guest == n.Guest }
		i := slices.IndexFunc(notes, same)
		notes = slices.DeleteFunc(slices.Clone(notes), same)
		if drop {
			return notes
		}
		if i < 0 {
			i = len(notes)
		}
		return slices.Insert(notes, i, n)
	}
}
