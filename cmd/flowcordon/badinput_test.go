package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/flow"
)

// words are 16-bit numbers in network order.
func words(w ...uint16) []byte {
	var b []byte
	for _, v := range w {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func longs(l ...uint32) []byte {
	var b []byte
	for _, v := range l {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func pad(b []byte, n int) []byte { return append(b, make([]byte, max(0, n-len(b)))...) }

// garbage is what must cost nothing but a counter. Those at the end of the list
// are well enough formed to be told from noise by their content only.
func garbage(rng *rand.Rand) [][]byte {
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	list := [][]byte{
		{}, {0}, {0, 9}, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		random(1), random(20), random(1400), random(9000), random(65507), make([]byte, 1400),
		words(5, 65535), pad(words(5, 30), 24), pad(words(5, 31), 24+31*48), pad(words(5, 0), 24), // v5: count without records, too many, none
		words(9, 1), pad(words(9, 65535), 20), // v9: header alone
		append(pad(words(9, 1), 20), words(0, 0)...),                        // a set of length 0
		append(pad(words(9, 1), 20), words(0, 65535, 256, 65535)...),        // a set and a template longer than the datagram
		append(pad(words(9, 1), 20), words(0, 16, 256, 2, 1, 0, 2, 0)...),   // fields of length 0
		append(pad(words(9, 1), 20), words(300, 8, 1, 2)...),                // data of a template that never came
		append(pad(words(9, 1), 20), words(1, 12, 257, 60000, 60000, 0)...), // options template with absurd lengths
		pad(words(10, 16), 16), pad(words(10, 15), 16), pad(words(10, 65535), 100), pad(words(10, 3), 16), // IPFIX: lengths
		append(pad(words(10, 24), 16), words(2, 8, 256, 0)...),                                                   // withdrawal of what never was
		append(pad(words(10, 68), 16), append(words(2, 8, 256, 0), pad(words(256, 44), 44)...)...),               // a template without fields, and data of it
		append(pad(words(10, 40), 16), words(2, 24, 256, 4, 8, 65535, 12, 65535, 27, 65535, 28, 65535, 0, 0)...), // variable lengths
		longs(5), longs(5, 1), longs(5, 3, 0, 0), longs(5, 1, 0x7f000001, 0, 1, 1000, 0xffffffff), // sFlow: no agent, absurd number of samples
		longs(5, 1, 0x7f000001, 0, 1, 1000, 1, 1, 0xffffffff), longs(5, 1, 0x7f000001, 0, 1, 1000, 1, 3, 40, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0xffffffff), // sample lengths and counts
		longs(4, 1, 0x7f000001, 0, 1, 1000, 0), longs(6, 1, 1, 1), pad(longs(5, 3), 60), // versions, a kind of address that is not
	}
	for range 300 { // mutations of something true
		b := pad(append(words(uint16([]int{5, 9, 10}[rng.IntN(3)]), uint16(rng.IntN(40))), random(rng.IntN(200))...), 24)
		list = append(list, b)
	}
	return list
}

// TestGarbage: datagrams that are none, on both ports. Each is counted, none
// does harm, and what is sent well afterwards is complete.
func TestGarbage(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := newSite(t, siteOptions{Mode: flow.ModeEnforce, Inventory: holder(serverA, "panel")})
	l := s.start(t)
	l.awaitDatabase(t)
	c := s.client(l.listener.Addr().String())
	sent := uint64(0)
	for _, target := range []netip.AddrPort{l.netflow(), l.sflow()} {
		conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 66)}, net.UDPAddrFromAddrPort(target))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, b := range garbage(rand.New(rand.NewPCG(seed, 1))) {
			if _, err := conn.Write(b); err != nil {
				t.Fatalf("%d bytes: %v", len(b), err)
			}
			if sent++; sent%32 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	var m samples
	eventually(t, 2*time.Minute, "all datagrams counted", func() (bool, string) {
		var err error
		if m, err = c.scrape(); err != nil {
			t.Fatal(err)
		}
		n := m.sum("flowcordon_collector_datagrams_total")
		done := m.sum("flowcordon_collector_datagrams_decoded_total") + m.sum("flowcordon_collector_dropped_total")
		return n == float64(sent) && done == n, fmt.Sprintf("%v of %d received, %v accounted for", n, sent, done)
	})
	checkAccounts(t, m)
	for _, reason := range []string{"short_header", "unknown_version", "netflow5_count", "ipfix_length", "sflow_header"} {
		if m.sum("flowcordon_collector_dropped_total", `"`+reason+`"`) == 0 {
			t.Errorf("nothing was dropped for %s", reason)
		}
	}
	if n := m.sum("flowcordon_collector_dropped_total", "decoder_panic"); n != 0 {
		t.Errorf("the decoder panicked %v times", n)
	}
	for _, reason := range []string{"set_length", "template_malformed"} {
		if m.sum("flowcordon_collector_sets_dropped_total", `"`+reason+`"`) == 0 {
			t.Errorf("no set was dropped for %s", reason)
		}
	}
	r := newRouter(t, "127.0.0.1", l.netflow())
	flows := ordinary(0, 1000)
	r.export(t, flows...)
	conn := dialEngine(t, l.engine)
	defer conn.Close()
	eventually(t, 2*time.Minute, "good records after garbage", func() (bool, string) {
		l.collector.Flush()
		n := scalar(t, conn, "SELECT count() FROM flowcordon.flows WHERE exporter = toIPv6('127.0.0.1')")
		return n == 1000, fmt.Sprint(n)
	})
	status, text, err := c.do("/api/v1/exporters", s.token, nil)
	if err != nil || status != http.StatusOK || !strings.Contains(text, "127.0.0.66") {
		t.Errorf("the exporter of garbage is not shown: %d %s %v", status, text, err)
	}
	if n := s.panel.Requests(); n != 0 {
		t.Errorf("the panel was called %d times", n)
	}
}

// TestCheckConfigTellsAll: every mistake at once, each with its line.
func TestCheckConfigTellsAll(t *testing.T) {
	s := newSite(t, siteOptions{})
	s.write(t, "flowcordon.yaml", `listen:
  - {protocol: netflov, address: "0.0.0.0"}
exportres: {allow: [192.0.2.1]}
networks:
  internal: [198.18.0.0/15, nonsense]
http: {adress: "127.0.0.1:8080"}
detect:
  interval: 7s
  rules: {netscan: {mode: enforced}}
respond:
  max_per_hour: -1
  suspenders:
    - {name: panel, type: webhook, url: "panel.example", secret_file: /nonexistent}
log: {level: loud}
`)
	code, out, errs := invoke(t, "check-config", s.config)
	if code != 1 || out != "" {
		t.Errorf("exit %d, stdout %q", code, out)
	}
	for _, want := range []string{
		`:2: listen[0].protocol: "netflov"`, `:2: listen[0].address: `, `:3: exportres: unknown key; did you mean "exporters"?`,
		`:5: networks.internal[1]: `, `:6: http.adress: unknown key; did you mean "address"?`, `:8: detect.interval: `,
		`:9: detect.rules.netscan.mode: `, `:11: respond.max_per_hour: -1`, `:13: respond.suspenders[0].url: `,
		`:13: respond.suspenders[0].secret_file: `, `:14: log.level: "loud"`, `exporters.allow: is empty`,
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q is not among\n%s", want, errs)
		}
	}
	if !strings.HasSuffix(errs, " problem(s)\n") || strings.Count(errs, s.config+":") < 11 {
		t.Errorf("not every line names the file, or the count is missing:\n%s", errs)
	}
	s.write(t, "flowcordon.yaml", "")
	if code, _, errs := invoke(t, "serve", "--config", s.config); code != 1 || !strings.Contains(errs, "listen: is empty") {
		t.Errorf("serve with an empty file: exit %d, %s", code, errs)
	}
}

// TestHypervisorTroubles: each attacker is at a hypervisor with a trouble of
// its own. While it lasts nobody is cut and it is told; once it is over the
// attacker is cut, once.
func TestHypervisorTroubles(t *testing.T) {
	t.Parallel()
	type trouble struct {
		name    string
		status  int  // answered to every request; 0: it hangs
		lasting bool // a human must order the next try
		scanner netip.Addr
		panel   *panel.Panel
	}
	list := []*trouble{{name: "hang"}}
	for _, status := range []int{408, 409, 423, 429, 500, 502, 503} {
		list = append(list, &trouble{name: fmt.Sprint(status), status: status})
	}
	for _, status := range []int{401, 403, 404, 405, 410, 501} {
		list = append(list, &trouble{name: fmt.Sprint(status), status: status, lasting: true})
	}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	var suspenders, inventory strings.Builder
	for i, tr := range list {
		tr.scanner = netip.AddrFrom4([4]byte{198, 18, 1, byte(i)})
		tr.panel = panel.New(panel.Config{Secret: siteSecret, AnyNIC: true})
		if tr.status == 0 {
			tr.panel.Hang(time.Hour) // longer than any deadline
		}
		tr.panel.Fail(tr.status)
		mux.Handle("/"+tr.name, &hook{next: tr.panel}) // which reads the body, so that the panel sees when a caller gave up
		fmt.Fprintf(&suspenders, "    - {name: p-%s, type: webhook, url: \"%s/%s\", secret_file: SECRET, timeout: 1s}\n", tr.name, srv.URL, tr.name)
		inventory.WriteString(holder(tr.scanner, "p-"+tr.name))
	}
	inventory.WriteString(holder(serverA, "panel"))
	s := newSite(t, siteOptions{
		Mode: flow.ModeEnforce, Suspenders: suspenders.String(), Inventory: inventory.String(), Respond: "  call_timeout: 1s",
	})
	for range list {
		s.edit(t, "SECRET", s.dir+"/secret")
	}
	l := s.start(t)
	l.awaitDatabase(t)
	c := s.client(l.listener.Addr().String())
	r := newRouter(t, "127.0.0.1", l.netflow())
	innocent := ordinary(0, 2000)
	r.export(t, innocent...)
	var attacks []export.Flow
	for _, tr := range list {
		attacks = append(attacks, scanMinute(tr.scanner)...)
		r.export(t, attacks[len(attacks)-6000:]...)
		l.keepUp(t, r.sent)
	}

	state := func(tr *trouble) flow.Incident {
		m, err := c.incidents()
		if err != nil {
			t.Fatal(err)
		}
		if len(m[tr.scanner]) != 1 {
			return flow.Incident{}
		}
		return m[tr.scanner][0]
	}
	for _, tr := range list {
		eventually(t, 2*time.Minute, tr.name+": the trouble told", func() (bool, string) {
			i := state(tr)
			told := i.State == flow.StateSuspending && i.Action != nil && i.Action.Error != "" && !tr.lasting ||
				i.State == flow.StateFailed && tr.lasting && i.Action.Error != ""
			return told, fmt.Sprintf("%s %+v", i.State, i.Action)
		})
		line, word := "action will be repeated", fmt.Sprintf("answered %d", tr.status)
		if tr.lasting {
			line = "action failed"
		}
		if tr.status == 0 {
			word = "deadline"
		}
		// On a busy machine the first answer may come after the second that a call
		// has: then this trouble is told by one of the next attempts.
		eventually(t, 2*time.Minute, tr.name+": the trouble logged", func() (bool, string) {
			return said(l.logs.all(), line, state(tr).ID, word), fmt.Sprintf("no line says %q with the incident and %q", line, word)
		})
	}
	for _, tr := range list {
		result := `result="retry"`
		if tr.lasting {
			result = `result="failed"`
		}
		eventually(t, 2*time.Minute, tr.name+": flowcordon_actions_total has "+result, func() (bool, string) {
			m, err := c.scrape()
			return err == nil && m.sum("flowcordon_actions_total", `"p-`+tr.name+`"`, result) > 0, fmt.Sprint(err)
		})
		if len(tr.panel.Changes()) != 0 {
			t.Errorf("%s: cut while the hypervisor failed", tr.name)
		}
	}

	for _, tr := range list {
		tr.panel.Hang(0)
		tr.panel.Fail(0)
		if tr.lasting {
			status, text, err := c.do("/api/v1/incidents/"+state(tr).ID+"/approve", s.token, map[string]string{"reason": "the panel is back"})
			if err != nil || status/100 != 2 {
				t.Errorf("%s: approve: %d %s %v", tr.name, status, text, err)
			}
		}
	}
	for _, tr := range list {
		eventually(t, 2*time.Minute, tr.name+": the cut once the hypervisor is back", func() (bool, string) {
			i := state(tr)
			return tr.panel.IsCut(macOf(tr.scanner)) && (i.State == flow.StateSuspended || i.State == flow.StateVerified), string(i.State)
		})
		if n := len(tr.panel.Changes()); n != 1 {
			t.Errorf("%s: %d changes at the panel, want 1: %+v", tr.name, n, tr.panel.Changes())
		}
	}
	if n := s.panel.Requests(); n != 0 {
		t.Errorf("the panel of an innocent was called %d times", n)
	}
	l.collector.Flush()
	if err := l.store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := dialEngine(t, l.engine)
	defer conn.Close()
	if got, want := scalar(t, conn, "SELECT count() FROM flowcordon.flows"), uint64(len(innocent)+len(attacks)); got != want {
		t.Errorf("%d flow rows after all that, want %d", got, want)
	}
}
