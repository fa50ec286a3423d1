package openstack

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var ssh = flow.PortRule{Proto: tcp, Port: 22}

// text is a rule on one line.
func (r rule) text() string {
	k := r.key()
	s := fmt.Sprintf("%s %s", k.direction, k.ether)
	if r.Protocol != nil {
		s += " " + *r.Protocol
	}
	if k.min >= 0 || k.max >= 0 {
		s += fmt.Sprintf(" %d-%d", k.min, k.max)
	}
	for name, v := range map[string]string{" prefix ": k.prefix, " group ": k.group} {
		if v != "" {
			s += name + v
		}
	}
	return s
}

// inForce are the rules of the groups that the port is in.
func (r *region) inForce(t *testing.T, id string) []string {
	t.Helper()
	p, err := r.admin.port(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, g := range p.Groups {
		var got struct {
			Group group `json:"security_group"`
		}
		r.do(t, http.MethodGet, "security-groups/"+g, nil, &got)
		for _, ru := range got.Group.Rules {
			out = append(out, ru.text())
		}
	}
	slices.Sort(out)
	return out
}

func (r *region) groupsOf(t *testing.T, id string) []string {
	t.Helper()
	p, err := r.admin.port(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(p.Groups)
	return p.Groups
}

func blocked(t *testing.T, r *region) {
	web := r.group(t, "web",
		object{"direction": ingress, "protocol": "tcp", "port_range_min": 443, "port_range_max": 443},
		object{"direction": egress, "protocol": "tcp"},
		object{"direction": egress, "protocol": "icmp"})
	id := r.port(t, object{"security_groups": []string{web}, "fixed_ips": r.ip("22.1.0.10"),
		"allowed_address_pairs": []object{{"ip_address": "22.1.0.77", "mac_address": mac1}}})
	before := r.raw(t, id)
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	was := mustStatus(t, a, nic1())
	rec := mustBlock(t, a, nic1(), block(ssh), m)
	want := []string{
		"egress IPv4 icmp", "egress IPv4 tcp 1-21", "egress IPv4 tcp 23-65535", "ingress IPv4 tcp 443-443",
	}
	if diff := cmp.Diff(want, r.inForce(t, id)); diff != "" {
		t.Errorf("rules in force (-want +got):\n%s", diff)
	}
	if want := `{"port":"` + id + `","security_groups":["` + web + `"]}`; string(rec.Undo) != want {
		t.Errorf("Receipt.Undo = %s, want %s", rec.Undo, want)
	}
	if diff := cmp.Diff(was, rec.Before); diff != "" {
		t.Errorf("Receipt.Before (-status before +receipt):\n%s", diff)
	}
	wantStatus := was
	wantStatus.Restrictions = []flow.Restriction{{Measure: block(ssh), Mark: m}}
	st := mustStatus(t, a, nic1())
	if diff := cmp.Diff(wantStatus, st); diff != "" {
		t.Errorf("status while blocked (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(st, rec.After); diff != "" {
		t.Errorf("Receipt.After (-status +receipt):\n%s", diff)
	}
	again := mustBlock(t, a, nic1(), block(ssh), m)
	if diff := cmp.Diff(rec, again, cmpopts.IgnoreFields(flow.Receipt{}, "At"), cmpopts.EquateComparable(flow.NIC{})); diff != "" {
		t.Errorf("the repeat (-first +repeat):\n%s", diff)
	}
	for range 2 { // the second answers a call whose first answer was lost
		if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec); err != nil {
			t.Fatal(err)
		}
	}
	ignore := cmpopts.IgnoreMapEntries(func(k string, _ any) bool { return k == "revision_number" || k == "updated_at" })
	if diff := cmp.Diff(before, r.raw(t, id), ignore); diff != "" {
		t.Errorf("the port after the lift (-before +after):\n%s", diff)
	}
	if gs, err := r.admin.ourGroups(t.Context(), id); err != nil || len(gs) != 0 {
		t.Errorf("%d groups of ours are left, %v", len(gs), err)
	}
	wantClass(t, "no ports", func() error { _, err := a.Restrict(t.Context(), nic1(), block(), m); return err }(), flow.ErrUnsupported)
	limit := flow.Measure{Kind: flow.MeasureLimit, KbitS: 1000}
	wantClass(t, "a limit", func() error { _, err := a.Restrict(t.Context(), nic1(), limit, m); return err }(), flow.ErrUnsupported)
}

func blockedAllKinds(t *testing.T, r *region) {
	friends := r.group(t, "friends")
	mixed := r.group(t, "mixed",
		object{"direction": egress, "protocol": "tcp", "port_range_min": 20, "port_range_max": 30, "remote_ip_prefix": "26.0.0.0/8"},
		object{"direction": egress, "protocol": "udp", "remote_group_id": friends},
		object{"direction": egress, "protocol": "47"},
		object{"direction": ingress, "protocol": "icmp", "port_range_min": 0, "port_range_max": 0}, // echo reply, not all of ICMP
		object{"direction": ingress, "remote_group_id": friends},
		object{"direction": egress, "ethertype": ipv6, "protocol": "tcp", "port_range_min": 22, "port_range_max": 22})
	open := r.group(t, "open", object{"direction": egress, "remote_ip_prefix": "33.0.0.0/8"})
	id := r.port(t, object{"security_groups": []string{mixed, open}})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	rec := mustBlock(t, a, nic1(), block(ssh, flow.PortRule{Proto: udp}, flow.PortRule{Proto: tcp, Port: 23}), m)
	want := []string{
		"egress IPv4 47", "egress IPv4 tcp 20-21 prefix 26.0.0.0/8", "egress IPv4 tcp 24-30 prefix 26.0.0.0/8",
		"egress IPv4 tcp 1-21 prefix 33.0.0.0/8", "egress IPv4 tcp 24-65535 prefix 33.0.0.0/8",
		"ingress IPv4 icmp 0-0", "ingress IPv4 group " + friends,
	}
	for _, p := range []string{"icmp", "2", "4", "47", "50", "51", "89", "112", "sctp", "136"} {
		want = append(want, "egress IPv4 "+p+" prefix 33.0.0.0/8")
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, r.inForce(t, id)); diff != "" {
		t.Errorf("rules in force (-want +got):\n%s", diff)
	}
	if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec); err != nil {
		t.Fatal(err)
	}
	back := []string{mixed, open}
	slices.Sort(back)
	if diff := cmp.Diff(back, r.groupsOf(t, id)); diff != "" {
		t.Errorf("groups after the lift (-want +got):\n%s", diff)
	}
}

func blockWidened(t *testing.T, r *region) {
	all := r.group(t, "all", object{"direction": egress, "protocol": "tcp"})
	id := r.port(t, object{"security_groups": []string{all}})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	mustBlock(t, a, nic1(), block(ssh), m)
	wider := block(ssh, flow.PortRule{Proto: tcp, Port: 23})
	rec := mustBlock(t, a, nic1(), wider, m)
	if diff := cmp.Diff([]string{"egress IPv4 tcp 1-21", "egress IPv4 tcp 24-65535"}, r.inForce(t, id)); diff != "" {
		t.Errorf("rules in force (-want +got):\n%s", diff)
	}
	if st := mustStatus(t, a, nic1()); len(st.Restrictions) != 1 || !cmp.Equal(st.Restrictions[0].Measure, wider) {
		t.Errorf("restrictions %+v, want the wider one alone", st.Restrictions)
	}
	if gs, _ := r.admin.ourGroups(t.Context(), id); len(gs) != 1 {
		t.Errorf("%d groups of ours, want the one", len(gs))
	}
	if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{all}, r.groupsOf(t, id)); diff != "" {
		t.Errorf("groups after the lift (-want +got):\n%s", diff)
	}
}

// The user puts the port into another group: the block has no effect, which
// shows; put in force again, it covers that one, too, and the lift keeps it.
func blockAndUser(t *testing.T, r *region) {
	one, two := r.group(t, "one", object{"direction": egress, "protocol": "tcp"}), r.group(t, "two", object{"direction": egress, "protocol": "udp"})
	id := r.port(t, object{"security_groups": []string{one}})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	mustBlock(t, a, nic1(), block(ssh), m)
	r.set(t, id, object{"security_groups": append(r.groupsOf(t, id), two)})
	if st := mustStatus(t, a, nic1()); len(st.Restrictions) != 0 {
		t.Errorf("status %+v, although another group lets everything out", st)
	}
	rec := mustBlock(t, a, nic1(), block(ssh), m)
	if diff := cmp.Diff([]string{"egress IPv4 tcp 1-21", "egress IPv4 tcp 23-65535", "egress IPv4 udp"}, r.inForce(t, id)); diff != "" {
		t.Errorf("rules in force (-want +got):\n%s", diff)
	}
	if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec); err != nil {
		t.Fatal(err)
	}
	want := []string{one, two}
	slices.Sort(want)
	if diff := cmp.Diff(want, r.groupsOf(t, id)); diff != "" {
		t.Errorf("groups after the lift (-want +got):\n%s", diff)
	}
	// Put back by the user while blocked: the lift leaves his groups and takes ours away.
	mustBlock(t, a, nic1(), block(ssh), m)
	r.set(t, id, object{"security_groups": []string{two}})
	if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{two}, r.groupsOf(t, id)); diff != "" {
		t.Errorf("groups after the lift (-want +got):\n%s", diff)
	}
	if gs, _ := r.admin.ourGroups(t.Context(), id); len(gs) != 0 {
		t.Errorf("%d groups of ours are left", len(gs))
	}
}

// The user allows more in his own group: put in force again, ours follows.
func blockFollows(t *testing.T, r *region) {
	one := r.group(t, "one", object{"direction": egress, "protocol": "tcp"})
	id := r.port(t, object{"security_groups": []string{one}})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	mustBlock(t, a, nic1(), block(ssh), m)
	r.do(t, http.MethodPost, "security-group-rules", object{"security_group_rule": object{
		"security_group_id": one, "direction": ingress, "ethertype": ipv4, "protocol": "udp", "port_range_min": 53, "port_range_max": 53,
	}}, nil)
	mustBlock(t, a, nic1(), block(ssh), m)
	want := []string{"egress IPv4 tcp 1-21", "egress IPv4 tcp 23-65535", "ingress IPv4 udp 53-53"}
	if diff := cmp.Diff(want, r.inForce(t, id)); diff != "" {
		t.Errorf("rules in force (-want +got):\n%s", diff)
	}
}

func noPortSecurity(t *testing.T, r *region) {
	id := r.port(t, object{"port_security_enabled": false, "security_groups": []string{}})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	_, err := a.Restrict(t.Context(), nic1(), block(ssh), m)
	wantClass(t, "Restrict", err, flow.ErrUnsupported)
	if gs, _ := r.admin.ourGroups(t.Context(), id); len(gs) != 0 {
		t.Errorf("%d groups of ours were made all the same", len(gs))
	}
	if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, flow.Receipt{}); err != nil {
		t.Errorf("Lift of nothing: %v", err)
	}
}

func blockForeign(t *testing.T, r *region) {
	one := r.group(t, "one", object{"direction": egress, "protocol": "tcp"})
	id := r.port(t, object{"security_groups": []string{one}})
	a, m, other := r.adapter(t), suspendertest.Mark("inc-1"), suspendertest.Mark("inc-2")
	rec := mustBlock(t, a, nic1(), block(ssh), m)
	_, err := a.Restrict(t.Context(), nic1(), block(flow.PortRule{Proto: tcp, Port: 25}), other)
	wantClass(t, "Restrict for another incident", err, flow.ErrConflict)
	wantClass(t, "Lift for another incident", a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, other, rec), flow.ErrConflict)
	if st := mustStatus(t, a, nic1()); len(st.Restrictions) != 1 || st.Restrictions[0].Mark.Incident != "inc-1" {
		t.Errorf("restrictions %+v, want inc-1's", st.Restrictions)
	}
	if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{one}, r.groupsOf(t, id)); diff != "" {
		t.Errorf("groups after the lift (-want +got):\n%s", diff)
	}
}

func blockMeanwhile(t *testing.T, r *region) {
	one, two := r.group(t, "one", object{"direction": egress, "protocol": "tcp"}), r.group(t, "two")
	id := r.port(t, object{"security_groups": []string{one}})
	a, s := r.spied(t)
	m := suspendertest.Mark("inc-1")
	s.before(http.MethodPut, "/ports/", func() { r.set(t, id, object{"security_groups": []string{one, two}}) })
	_, err := a.Restrict(t.Context(), nic1(), block(ssh), m)
	wantClass(t, "Restrict", err, flow.ErrConflict)
	want := []string{one, two}
	slices.Sort(want)
	if diff := cmp.Diff(want, r.groupsOf(t, id)); diff != "" {
		t.Errorf("groups after the conflict (-want +got):\n%s", diff)
	}
	if gs, _ := r.admin.ourGroups(t.Context(), id); len(gs) != 0 {
		t.Errorf("%d groups of ours are left after the conflict", len(gs))
	}
}

// Whatever answer is lost, a repeat ends the work and nothing is left behind.
func blockLost(t *testing.T, r *region) {
	one := r.group(t, "one", object{"direction": egress, "protocol": "tcp"})
	id := r.port(t, object{"security_groups": []string{one}})
	a, s := r.spied(t)
	m := suspendertest.Mark("inc-1")
	for n := 1; ; n++ {
		lost := s.loseNth(n)
		_, err := a.Restrict(t.Context(), nic1(), block(ssh), m)
		if !lost() {
			if err != nil || n < 6 {
				t.Fatalf("a block makes %d writes (%v), want group, two default rules, rules, tags, port", n-1, err)
			}
			break
		}
		wantClass(t, "Restrict with an answer lost", err, flow.ErrTransient)
		rec := mustBlock(t, a, nic1(), block(ssh), m)
		if diff := cmp.Diff([]string{"egress IPv4 tcp 1-21", "egress IPv4 tcp 23-65535"}, r.inForce(t, id)); diff != "" {
			t.Fatalf("write %d lost: rules in force (-want +got):\n%s", n, diff)
		}
		lost = s.loseNth(n)
		err = a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec)
		if lost() {
			wantClass(t, "Lift with an answer lost", err, flow.ErrTransient)
		}
		if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec); err != nil {
			t.Fatalf("write %d lost: %v", n, err)
		}
		if diff := cmp.Diff([]string{one}, r.groupsOf(t, id)); diff != "" {
			t.Fatalf("write %d lost: groups after the lift (-want +got):\n%s", n, diff)
		}
		if gs, _ := r.admin.ourGroups(t.Context(), id); len(gs) != 0 {
			t.Fatalf("write %d lost: %d groups of ours are left", n, len(gs))
		}
	}
}

func formerGone(t *testing.T, r *region) {
	one, two := r.group(t, "one", object{"direction": egress, "protocol": "tcp"}), r.group(t, "two", object{"direction": egress, "protocol": "udp"})
	id := r.port(t, object{"security_groups": []string{one, two}})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	rec := mustBlock(t, a, nic1(), block(ssh), m)
	r.do(t, http.MethodDelete, "security-groups/"+two, nil, nil)
	if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{one}, r.groupsOf(t, id)); diff != "" {
		t.Errorf("groups after the lift (-want +got):\n%s", diff)
	}
}

func blockAndCut(t *testing.T, r *region) {
	one := r.group(t, "one", object{"direction": egress, "protocol": "tcp"})
	id := r.port(t, object{"security_groups": []string{one}})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	blk := mustBlock(t, a, nic1(), block(ssh), m)
	cut := mustCut(t, a, nic1(), m)
	if diff := cmp.Diff(blk.After, cut.Before); diff != "" {
		t.Errorf("Before of the cut (-after the block +before):\n%s", diff)
	}
	if st := mustStatus(t, a, nic1()); !st.Cut() || len(st.Restrictions) != 1 {
		t.Errorf("cut and blocked: %+v", st)
	}
	if err := a.Restore(t.Context(), nic1(), m, cut); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(blk.After, mustStatus(t, a, nic1())); diff != "" {
		t.Errorf("after the restore the block alone (-want +got):\n%s", diff)
	}
	if err := a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, blk); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{one}, r.groupsOf(t, id)); diff != "" {
		t.Errorf("groups in the end (-want +got):\n%s", diff)
	}
}

// A tenant names a group as ours are named, even with a mark that he copied: it
// is not taken for a block, and while the port is in it, nothing is guessed.
func jokers(t *testing.T, r *region) {
	id := r.port(t, nil)
	joke := r.group(t, groupPrefix+id)
	r.set(t, id, object{"security_groups": []string{joke}})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	copied, err := (mark{Mark: m, Port: "another", Ports: []flow.PortRule{ssh}, Groups: []string{joke}}).tags()
	if err != nil {
		t.Fatal(err)
	}
	for _, tags := range [][]string{nil, copied} {
		for _, tag := range tags {
			r.do(t, http.MethodPut, "security-groups/"+joke+"/tags/"+tag, nil, nil)
		}
		if st := mustStatus(t, a, nic1()); len(st.Restrictions) != 0 {
			t.Errorf("restrictions %+v out of a name", st.Restrictions)
		}
		_, err := a.Restrict(t.Context(), nic1(), block(ssh), m)
		wantClass(t, "Restrict", err, flow.ErrDenied)
		if err == nil || !strings.Contains(err.Error(), "human") {
			t.Errorf("error %v does not ask for a human", err)
		}
	}
}
