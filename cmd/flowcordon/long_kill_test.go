package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/flow"
)

// TestKillNine is TestLongKillNine with one round of each kind.
func TestKillNine(t *testing.T) {
	t.Parallel()
	killNine(t, 1, 1, 4*time.Second)
}

// TestLongKillNine kills flowcordon and its engine at random moments under load
// while new tenants begin to scan. No row that was acknowledged is lost, none is
// doubled, every attacker is cut once and nobody else is.
func TestLongKillNine(t *testing.T) {
	long(t)
	n := int(envCount(t, "FLOWCORDON_KILL_ROUNDS", 10))
	killNine(t, n, n, 20*time.Second)
}

const (
	killRate    = 25_000 // ordinary records a second
	killServers = 400
	scanRate    = 1500 // SYNs a second of each attacker that is not cut
)

// killRun is one run with what it has to remember over the lives of flowcordon.
type killRun struct {
	t       *testing.T
	s       *site
	rng     *rand.Rand
	p       *process
	c       *client
	r       *router
	longest time.Duration

	mu        sync.Mutex
	attackers []netip.Addr
	truth     map[netip.Addr]uint64 // packets sent

	acked    map[string]float64 // table → rows acknowledged in lives that are over
	inSpool  [][]uint64         // at each kill: batches that may be counted again in the next life
	lives    int
	incident map[string]flow.Incident // as last seen, by id
}

func killNine(t *testing.T, flowcordons, engines int, longest time.Duration) {
	seed := envCount(t, "FLOWCORDON_SEED", uint64(time.Now().UnixNano()))
	t.Logf("FLOWCORDON_SEED=%d", seed)
	var inventory strings.Builder
	for i := range flowcordons + engines {
		inventory.WriteString(holder(attacker(i), "panel"))
	}
	for i := range killServers {
		inventory.WriteString(holder(server(i), "panel"))
	}
	k := &killRun{
		t: t, rng: rand.New(rand.NewPCG(seed, 2)), longest: longest, truth: map[netip.Addr]uint64{}, acked: map[string]float64{}, incident: map[string]flow.Incident{},
		s: newSite(t, siteOptions{
			Mode: flow.ModeEnforce, Inventory: inventory.String(), NetFlow: freePort(t, "udp"), SFlow: freePort(t, "udp"), HTTP: freePort(t, "tcp"),
			Respond: "  verify_after: 2s\n  verify_for: 5s",
		}),
	}
	k.startLife()
	k.c.ready(t, 3*time.Minute)
	k.r = newRouter(t, "127.0.0.1", k.p.netflow())
	ctx, stop := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	traffic.Go(func() { k.traffic(ctx) })
	defer func() { stop(); traffic.Wait() }()

	// The kinds take turns, so that a run that is cut short has met both.
	for i := range max(flowcordons, engines) {
		if i < flowcordons {
			k.round(k.killFlowcordon)
		}
		if i < engines {
			k.round(k.killEngine)
		}
	}
	k.awaitVerified()
	stop()
	traffic.Wait()
	k.remember(true)
	if code := k.p.stop(t, 2*time.Minute); code != 0 {
		t.Errorf("exit %d at the end", code)
	}
	k.checkPanel()
	k.checkDatabase()
}

func attacker(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 200, byte(1 + i)}) }

func server(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }

func (k *killRun) startLife() {
	k.p = k.s.serve(k.t)
	k.c = k.s.client(k.p.http())
	k.lives++
}

// traffic is what the routers export until ctx ends. Every record is different.
func (k *killRun) traffic(ctx context.Context) {
	const step = 20 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	ordinary, scans := uint64(0), map[netip.Addr]uint32{}
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
		var flows []export.Flow
		for range int(killRate * step / time.Second) {
			flows = append(flows, ordinaryFlow(server(int(ordinary/2)%killServers), ordinary, now))
			ordinary++
		}
		k.mu.Lock()
		for _, a := range k.attackers {
			for range int(scanRate * step / time.Second) {
				if k.s.panel.IsCut(macOf(a)) {
					break
				}
				flows = append(flows, scanFlow(a, scans[a], now))
				scans[a]++
			}
		}
		for i := range flows {
			k.truth[internal(&flows[i])] += flows[i].Packets
		}
		k.mu.Unlock()
		if err := k.r.try(flows...); err != nil {
			k.t.Error(err)
			return
		}
	}
}

// round lets a new tenant scan, and kills.
func (k *killRun) round(kill func(how int)) {
	k.mu.Lock()
	n := len(k.attackers)
	a := attacker(n)
	k.attackers = append(k.attackers, a)
	k.mu.Unlock()
	began := time.Now()
	kill(n / 2)
	k.c.ready(k.t, 60*time.Second)
	k.compare()
	k.t.Logf("round %d: %s, life %d, ready again %.1f s after the scan began", n+1, a, k.lives, time.Since(began).Seconds())
}

// pause waits a random time.
func (k *killRun) pause() {
	time.Sleep(time.Duration(k.rng.Int64N(int64(k.longest))))
}

// aim calls kill when a suspend has come to the panel: before it is carried out
// or after that and before the answer. The panel goes on a little later,
// perhaps when the next life looks already.
func (k *killRun) aim(before bool, kill func()) {
	came, killed := make(chan struct{}), make(chan struct{})
	late := time.Duration(k.rng.Int64N(int64(2 * time.Second)))
	f := once(func(panel.Request) {
		close(came)
		<-killed
		time.Sleep(late)
	})
	if before {
		k.s.hook.set(f, nil)
	} else {
		k.s.hook.set(nil, f)
	}
	defer k.s.hook.set(nil, nil)
	select {
	case <-came:
	case <-time.After(90 * time.Second):
		k.t.Error("no suspend came to the panel within 90 s")
	}
	kill()
	close(killed)
}

// killFlowcordon kills the process; the kernel lets its engine know.
func (k *killRun) killFlowcordon(how int) {
	kill := func() {
		k.remember(false)
		k.p.kill()
		k.endLife()
		k.startLife()
	}
	switch how % 3 {
	case 0:
		k.aim(false, kill)
	case 1:
		k.pause()
		kill()
	case 2:
		k.aim(true, kill)
	}
}

// killEngine kills ClickHouse; flowcordon starts it again.
func (k *killRun) killEngine(how int) {
	kill := func() {
		k.remember(false)
		pid := k.p.engine()
		if pid == 0 {
			k.t.Fatal("flowcordon has no engine")
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			k.t.Fatal(err)
		}
		eventually(k.t, 60*time.Second, "another engine", func() (bool, string) { now := k.p.engine(); return now != 0 && now != pid, "" })
	}
	if how%3 == 1 {
		k.aim(k.rng.IntN(2) == 0, kill)
		return
	}
	k.pause()
	kill()
}

var killTables = []string{"host_window", "service_window", "pair_window", "flows"}

// remember reads what the next life, and the database, must know. last: this
// life is the last.
func (k *killRun) remember(last bool) {
	m, err := k.c.scrape()
	if err != nil {
		k.t.Fatal(err)
	}
	if n := m.sum("flowcordon_store_dropped_total"); n != 0 {
		k.t.Errorf("the store dropped %v rows", n)
	}
	k.lastScrape(m)
	if last {
		k.addAcked()
	}
	found, err := k.c.incidents()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, l := range found {
		for _, i := range l {
			k.incident[i.ID] = i
		}
	}
}

// lastScrape keeps this life's count of acknowledged rows.
func (k *killRun) lastScrape(m samples) {
	for _, table := range killTables {
		k.acked["now/"+table] = m.sum("flowcordon_store_rows_total", `"`+table+`"`)
	}
}

func (k *killRun) addAcked() {
	for _, table := range killTables {
		k.acked[table] += k.acked["now/"+table]
		k.acked["now/"+table] = 0
	}
}

// endLife looks into the spool of a process that is dead: a batch there may
// have been acknowledged and is sent, and counted, once more.
func (k *killRun) endLife() {
	k.addAcked()
	files, err := filepath.Glob(filepath.Join(k.s.dir, "data", "spool", "*-*.*"))
	if err != nil {
		k.t.Fatal(err)
	}
	ids := []uint64{}
	for _, f := range files {
		h := fnv.New64a()
		_, _ = h.Write([]byte(strings.TrimSuffix(filepath.Base(f), filepath.Ext(f)))) // never fails
		ids = append(ids, h.Sum64())
	}
	k.inSpool = append(k.inSpool, ids)
}

// stateRank orders the states that these incidents may go through.
var stateRank = map[flow.State]int{flow.StateOpen: 1, flow.StateSuspending: 2, flow.StateSuspended: 3, flow.StateVerified: 4}

// compare holds that the incidents before the kill are there, with the same
// act and in no earlier state.
func (k *killRun) compare() {
	k.t.Helper()
	found, err := k.c.incidents()
	if err != nil {
		k.t.Fatal(err)
	}
	now := map[string]flow.Incident{}
	for _, l := range found {
		for _, i := range l {
			now[i.ID] = i
		}
	}
	for id, was := range k.incident {
		is, ok := now[id]
		switch {
		case !ok:
			k.t.Errorf("incident %s (%s) is forgotten", id, was.State)
		case stateRank[is.State] < stateRank[was.State] || stateRank[is.State] == 0:
			k.t.Errorf("incident %s went from %s to %s", id, was.State, is.State)
		case !is.Opened.Equal(was.Opened) || is.Tenant != was.Tenant || is.Holder.VDS != was.Holder.VDS:
			k.t.Errorf("incident %s is another: %+v, was %+v", id, is, was)
		case was.Action != nil && (is.Action == nil || is.Action.Key != was.Action.Key || !is.Action.Intent.Equal(was.Action.Intent)):
			k.t.Errorf("incident %s has another act: %+v, had %+v", id, is.Action, was.Action)
		}
	}
}

// awaitVerified waits until every attacker is cut and its silence verified.
func (k *killRun) awaitVerified() {
	eventually(k.t, 150*time.Second, "every attacker verified", func() (bool, string) {
		found, err := k.c.incidents()
		if err != nil {
			return false, err.Error()
		}
		for _, a := range k.attackers {
			if len(found[a]) != 1 || found[a][0].State != flow.StateVerified {
				state := "no incident"
				if len(found[a]) > 0 {
					state = fmt.Sprintf("%d incidents, %s %s", len(found[a]), found[a][0].State, found[a][0].Reason)
					for _, f := range found[a][0].Findings {
						state += fmt.Sprintf("; %s at %s: %s held by %v", f.Rule, f.Time.Format(time.TimeOnly), f.Tier, f.Gates)
					}
				}
				return false, fmt.Sprintf("%s: %s", a, state)
			}
		}
		if len(found) != len(k.attackers) {
			k.t.Errorf("%d tenants have incidents, %d attacked", len(found), len(k.attackers))
		}
		return true, ""
	})
	k.compare()
}

// checkPanel holds that each attacker was cut once and nobody else was.
func (k *killRun) checkPanel() {
	cuts := map[string]int{}
	for _, c := range k.s.panel.Changes() {
		if c.Action != "suspend" {
			k.t.Errorf("the panel was told to %s %s", c.Action, c.VDS)
		}
		cuts[c.MAC]++
	}
	for _, a := range k.attackers {
		if cuts[macOf(a)] != 1 {
			k.t.Errorf("%s was cut %d times", a, cuts[macOf(a)])
		}
		delete(cuts, macOf(a))
	}
	if len(cuts) > 0 {
		k.t.Errorf("innocents were cut: %v", cuts)
	}
}

// checkDatabase holds what is left on disk against what was acknowledged and
// what was sent.
func (k *killRun) checkDatabase() {
	t := k.t
	if left, _ := filepath.Glob(filepath.Join(k.s.dir, "data", "spool", "*-*.*")); len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
	conn := k.s.openDatabase(t)
	rows := map[string]uint64{}
	for _, table := range killTables {
		n := scalar(t, conn, "SELECT count() FROM flowcordon."+table)
		twice := uint64(0)
		for _, ids := range k.inSpool {
			if len(ids) > 0 {
				twice += scalar(t, conn, "SELECT count() FROM flowcordon."+table+" WHERE has(?, batch)", ids)
			}
		}
		if float64(n+twice) < k.acked[table] {
			t.Errorf("%s: %.0f rows were acknowledged, at most %d of them twice, but only %d are there", table, k.acked[table], twice, n)
		}
		rows[table] = n
		t.Logf("%s: %d rows; %.0f acknowledged as of the last looks, up to %d of them counted in two lives", table, n, k.acked[table], twice)
	}
	if n := scalar(t, conn, "SELECT uniqExact(cityHash64(* EXCEPT (batch))) FROM flowcordon.flows"); n != rows["flows"] {
		t.Errorf("flows: %d rows, only %d different: some are doubled", rows["flows"], n)
	}
	if n := scalar(t, conn, "SELECT count() FROM flowcordon.event"); n == 0 || n != scalar(t, conn, "SELECT max(seq) FROM flowcordon.event") ||
		n != scalar(t, conn, "SELECT uniqExact(seq) FROM flowcordon.event") {
		t.Errorf("the numbers of %d events have holes or repeat", n)
	}
	k.checkPackets(conn)
}

// checkPackets holds that no host has more packets than it sent, and shows how
// many were lost with the lives.
func (k *killRun) checkPackets(conn driver.Conn) {
	sent := uint64(0)
	for _, n := range k.truth {
		sent += n
	}
	for table, query := range map[string]string{
		"flows":       `SELECT host, count(), toUInt64(0), sum(packets), toUInt64(0), toUInt64(0), toUInt64(0) FROM flowcordon.flows GROUP BY host`,
		"host_window": `SELECT tenant, sum(out_records), toUInt64(0), sum(out_packets + in_packets), toUInt64(0), toUInt64(0), toUInt64(0) FROM flowcordon.host_window GROUP BY tenant`,
	} {
		stored := uint64(0)
		for ip, c := range sums(k.t, conn, query) {
			stored += c.OutPackets
			if c.OutPackets > k.truth[ip] {
				k.t.Errorf("%s: %s has %d packets, %d were sent", table, ip, c.OutPackets, k.truth[ip])
			}
		}
		k.t.Logf("%s: %d of %d packets; %.2f %% went by while nobody listened or died with a process", table, stored, sent, 100-100*float64(stored)/float64(sent))
		if stored < sent/3 {
			k.t.Errorf("%s: only %d of %d packets", table, stored, sent)
		}
	}
}
