package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/collectors"
	"github.com/flowcordon/flowcordon/cmd/flowbench/load"
	"github.com/flowcordon/flowcordon/cmd/flowbench/measure"
	"github.com/flowcordon/flowcordon/cmd/flowbench/report"
	"github.com/flowcordon/flowcordon/cmd/internal/tool"
)

// desk is what runDesk was asked for.
type desk struct {
	site
	protocol, policy string
	rate, reads      float64
	warm, long       time.Duration
	log              io.Writer
}

// deskResult is one run.
type deskResult struct {
	Head    report.Head     `json:"head"`
	Records float64         `json:"records_per_second"` // that were sent
	Reads   float64         `json:"reads_per_second"`   // that were asked for
	Figures measure.Figures `json:"ingest"`
	Kinds   []reads         `json:"kinds"`
	All     reads           `json:"all"`
}

// reads are the answers of one kind. Times run from when a question was due, so
// that a queue shows.
type reads struct {
	What   string `json:"what"`
	N      int    `json:"n"`
	Errors int    `json:"errors"`
	// Statuses are how often each came that was not 200, and answers that did not come.
	Statuses      map[string]int `json:"statuses,omitempty"`
	P50, P99, Max float64        // ms

	took []float64
}

func (r *reads) sum() {
	slices.Sort(r.took)
	r.N = len(r.took)
	if r.N > 0 {
		r.P50, r.P99, r.Max = r.took[r.N/2], r.took[min(r.N*99/100, r.N-1)], r.took[r.N-1]
	}
}

func runDesk(ctx context.Context, fs *flag.FlagSet, args []string, stdout, stderr io.Writer) error {
	d := desk{log: stderr}
	d.traffic.Paired = true // else a fifth of the hosts look like scanners after minutes
	finish := d.flags(fs)
	short := fs.Bool("short", false, "a short stretch, coarse figures")
	fs.StringVar(&d.protocol, "protocol", "v9", "v5, v9, ipfix or sflow")
	fs.StringVar(&d.policy, "flow-policy", "attempts", "which records flowcordon keeps as rows: off, attempts or all")
	fs.Float64Var(&d.rate, "rate", 100_000, "records per second that come in")
	fs.Float64Var(&d.reads, "reads", 200, "questions per second")
	if err := tool.Parse(fs, args, 0); err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	if _, ok := protocols[d.protocol]; !ok || d.reads <= 0 {
		return tool.Misuse(fs, "--protocol %q: write v5, v9, ipfix or sflow; --reads: write more than 0", d.protocol)
	}
	d.warm, d.long = 60*time.Second, 120*time.Second
	if *short {
		d.warm, d.long = 20*time.Second, 20*time.Second
	}
	leave, err := d.enter(stderr)
	if err != nil {
		return err
	}
	result, err := d.run(ctx)
	if err := errors.Join(err, leave()); err != nil {
		return err
	}
	result.Head = report.NewHead("make bench")
	return d.publish(stdout, "desk", result, result.table())
}

func (d *desk) run(ctx context.Context) (deskResult, error) {
	result := deskResult{Records: d.rate, Reads: d.reads}
	// As it is shipped: on all CPUs, its database as well.
	s, err := d.startOn(ctx, collectors.Flowcordon("flowcordon", ""), collectors.Job{Protocol: protocols[d.protocol], CPUs: []int{d.cpu, d.loadCPU}, EngineCPU: -1, FlowPolicy: d.policy}, d.traffic)
	if err != nil {
		return result, err
	}
	defer s.stop()
	s.load.SetRate(d.rate)
	if err := s.wait(ctx, d.warm); err != nil {
		return result, err
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan []reads, 1)
	go func() { done <- ask(asking, s.running.API, d.questions(), d.reads) }()
	result.Figures, err = measure.Stretch(ctx, s.load, s.running, d.long)
	stop()
	kinds := <-done
	if err != nil {
		return result, err
	}
	result.All.What = "all"
	for _, k := range kinds {
		result.All.took = append(result.All.took, k.took...)
		result.All.Errors += k.Errors
		k.sum()
		result.Kinds = append(result.Kinds, k)
	}
	result.All.sum()
	return result, nil
}

// question is one of the mix; path gives the i-th time's address.
type question struct {
	what string
	path func(i int) string
}

// questions of a NOC's screens and an abuse desk, each as often as the others, by
// eight tokens in turns. The overview's are the same each time, as screens poll
// them; a host comes again only when all others were asked about.
func (d *desk) questions() []question {
	first := load.PrefixFor(d.traffic.Hosts).Addr().As4()
	host := func(i int) string { // spread over the hosts
		n := uint32(i*7919) % uint32(d.traffic.Hosts)
		v := uint32(first[0])<<24 | uint32(first[1])<<16 | uint32(first[2])<<8 | uint32(first[3])
		v += n
		return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}).String()
	}
	fixed := func(p string) func(int) string { return func(int) string { return p } }
	return []question{
		{"incidents", fixed("/incidents?state=live")},
		{"a host's hour", func(i int) string { return "/hosts/" + host(i) + "?from=-1h" }},
		{"a host's flows", func(i int) string { return "/hosts/" + host(i) + "/flows?from=-15m&limit=200" }},
		{"top 20 of 5 min", fixed("/top?window=5m")},
		{"exporters", fixed("/exporters")},
		{"freezes", fixed("/freezes")},
		{"a search for a host", func(i int) string { return "/search?q=" + url.QueryEscape(host(i)) }},
		{"a tenant's SSH of 15 min", func(i int) string { return "/flows?tenant=" + host(i) + "&port=22&from=-15m&limit=200" }},
		{"audit", fixed("/audit?limit=50")},
		{"policy of a host", func(i int) string { return "/hosts/" + host(i) + "/policy" }},
	}
}

// maxAsking questions wait for answers at a time; what is due then waits, and that counts.
const maxAsking = 256

// ask sends the mix at a rate until ctx ends.
func ask(ctx context.Context, base string, mix []question, rate float64) []reads {
	out := make([]reads, len(mix))
	for i := range mix {
		out[i].What = mix[i].what
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: maxAsking}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var wg sync.WaitGroup
	room := make(chan struct{}, maxAsking)
	begin := time.Now()
	for i := 0; ; i++ {
		due := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		select {
		case <-ctx.Done():
			wg.Wait()
			return out
		case <-time.After(time.Until(due)):
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			k := i % len(mix)
			err := get(context.WithoutCancel(ctx), client, base+"/api/v1"+mix[k].path(i/len(mix)), collectors.StaffToken(i/len(mix)%collectors.Staff))
			took := float64(time.Since(due).Microseconds()) / 1000
			mu.Lock()
			defer mu.Unlock()
			out[k].took = append(out[k].took, took)
			if err != nil {
				out[k].Errors++
				if out[k].Statuses == nil {
					out[k].Statuses = map[string]int{}
				}
				out[k].Statuses[err.Error()]++
			}
		})
	}
}

func get(ctx context.Context, c *http.Client, address, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := c.Do(req)
	if err != nil {
		return errors.New("no answer")
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return errors.New("half an answer")
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

func (r *deskResult) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.0f questions/s while %.0f records/s come in: %+v\n\n", r.Reads, r.Records, r.Figures)
	b.WriteString("| question | asked | not 200 | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|---|\n")
	for _, k := range append(slices.Clone(r.Kinds), r.All) {
		not := strconv.Itoa(k.Errors)
		for _, status := range slices.Sorted(maps.Keys(k.Statuses)) {
			not += fmt.Sprintf(", %d× %s", k.Statuses[status], status)
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %.1f | %.1f | %.1f |\n", k.What, k.N, not, k.P50, k.P99, k.Max)
	}
	return b.String()
}
