package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/complaint/parse"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
	"github.com/flowcordon/flowcordon/respond"
)

const matchUsage = `usage: flowcordon match [flags] FILE|-

Reads a complaint (log lines, or a whole mail) and says for each line what the
stored flows and the inventory of that moment make of it, with a draft of the
reply. The running service is asked, with a token of the role abuse or higher: --url,
--token-file and --ca, or FLOWCORDON_URL, FLOWCORDON_TOKEN_FILE (or _TOKEN) and
FLOWCORDON_CA_FILE, or what the configuration says. --offline asks the database
itself, --parse none: it only shows how the lines were read.

Exit codes: 0 done, 1 not understood or refused, 2 wrong usage, 3 no service
answers, 4 token or role.

`

// matchTimeout is above the service's own limit.
const matchTimeout = 60 * time.Second

// matchRun is one run of the command.
type matchRun struct {
	remote
	received, zone, target string
	parse, offline, json   bool
	open                   bool
	reply                  string
	file                   string
	body                   []byte                 // of the service's answer
	opened                 []apiclient.CaseOpened // by --open
	stdin                  io.Reader
	stdout, stderr         io.Writer
}

// matchCommand is the match command. It returns the exit status: 0, 1 if the
// complaint cannot be read or matched, 2 for wrong usage.
func matchCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	m := matchRun{stdin: os.Stdin, stdout: stdout, stderr: stderr}
	fs := flag.NewFlagSet("match", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, matchUsage)
		fs.PrintDefaults()
	}
	m.remote.flags(fs)
	fs.StringVar(&m.received, "received", "", "when the complaint came in: RFC 3339, or relative such as -2h (default: now)")
	fs.StringVar(&m.zone, "zone", "", "`zone` of times without one, when the complaint does not say it: +03:00 or Europe/Moscow")
	fs.StringVar(&m.target, "target", "", "the reporter's own `address`, for lines that do not name it")
	fs.StringVar(&m.reply, "reply", "", "print only the draft of the reply, `en or ru`")
	fs.BoolVar(&m.parse, "parse", false, "only show how the lines were read; nothing is asked")
	fs.BoolVar(&m.offline, "offline", false, "ask the database itself; an embedded one only while the service does not run")
	fs.BoolVar(&m.open, "open", false, "keep it: a case is opened for each server that it is about, or the one that is there is joined")
	fs.BoolVar(&m.json, "json", false, "the answer as JSON")
	args, err := parseMixed(fs, args)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if len(args) != 1 || m.reply != "" && m.reply != "en" && m.reply != "ru" || m.parse && (m.offline || m.reply != "" || m.open) || m.offline && m.open {
		fs.Usage()
		return 2
	}
	m.file = args[0]
	if err := m.run(ctx); err != nil {
		var ps config.Problems
		if errors.As(err, &ps) {
			return configFailed(err, stderr)
		}
		fmt.Fprintln(stderr, "flowcordon match:", cleanText(err.Error()))
		return exitCode(err)
	}
	return 0
}

func (m *matchRun) run(ctx context.Context) error {
	data, typ, err := m.read()
	if err != nil {
		return err
	}
	if m.parse {
		return m.onlyParse(ctx, data, typ)
	}
	ask := m.askService
	if m.offline {
		ask = m.local
	}
	res, err := ask(ctx, data, typ)
	if err != nil {
		return err
	}
	switch {
	case m.reply == "ru":
		_, err = io.WriteString(m.stdout, res.Draft.RU)
	case m.reply == "en":
		_, err = io.WriteString(m.stdout, res.Draft.EN)
	case m.json && m.body != nil:
		err = (&desk{out: m.stdout}).writeJSON(m.body)
	case m.json:
		err = m.encode(res)
	default:
		err = printMatch(m.stdout, res)
	}
	for _, c := range m.opened {
		fmt.Fprintln(m.stderr, openedText(c))
	}
	return err
}

// maxMatchFile is one byte above what the service takes.
const maxMatchFile = 16<<20 + 1

func (m *matchRun) read() (data []byte, typ string, err error) {
	in := m.stdin
	if m.file != "-" {
		f, err := os.Open(m.file)
		if err != nil {
			return nil, "", err
		}
		defer func() { _ = f.Close() }() // read only
		in = f
	}
	if data, err = io.ReadAll(io.LimitReader(in, maxMatchFile)); err != nil {
		return nil, "", fmt.Errorf("read %s: %w", m.file, err)
	}
	if len(data) == maxMatchFile {
		return nil, "", fmt.Errorf("%s is larger than 16 MiB; send the text and the logs, without pictures", m.file)
	}
	typ = "text/plain"
	switch strings.ToLower(filepath.Ext(m.file)) {
	case ".eml":
		typ = "message/rfc822"
	case ".json":
		if json.Valid(data) {
			typ = "application/json"
		}
	}
	return data, typ, nil
}

func (m *matchRun) encode(v any) error {
	enc := json.NewEncoder(m.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// request reads the flags for the places that do not go through the API.
func (m *matchRun) request(data []byte, typ string) (api.ComplaintRequest, error) {
	req := api.ComplaintRequest{Data: data, Type: typ, Zone: m.zone, Received: time.Now().UTC()}
	var err error
	switch {
	case m.received == "" || m.received == "now":
	case m.received[0] == '-':
		var d time.Duration
		d, err = time.ParseDuration(m.received)
		req.Received = req.Received.Add(d)
	default:
		req.Received, err = time.Parse(time.RFC3339, m.received)
	}
	if err != nil {
		return req, fmt.Errorf("--received %q is not understood; write 2026-01-31T15:04:05Z or -2h", m.received)
	}
	if m.target != "" {
		if req.Target, err = netip.ParseAddr(m.target); err != nil {
			return req, fmt.Errorf("--target %q is no address", m.target)
		}
	}
	return req, nil
}

func (m *matchRun) onlyParse(ctx context.Context, data []byte, typ string) error {
	req, err := m.request(data, typ)
	if err != nil {
		return err
	}
	in := parse.Input{Data: req.Data, Type: req.Type, Received: req.Received, Target: req.Target}
	if req.Zone != "" {
		if in.Zone, err = parse.ParseZone(req.Zone); err != nil {
			return err
		}
	}
	c, err := parse.Parse(ctx, in)
	if err != nil {
		return err
	}
	if m.json {
		return m.encode(c)
	}
	tab := tabwriter.NewWriter(m.stdout, 0, 8, 2, ' ', 0) // keeps errors for Flush
	w := io.Writer(tab)
	fmt.Fprintln(w, "LINE\tTIME\tZONE\tSOURCE\tDESTINATION\tSHAPE\tASSUMED")
	for _, o := range c.Observations {
		fmt.Fprintf(w, "%d:%d\t%s\t%s\t%s\t%s\t%s\t%s\n", o.Part+1, o.Line, o.Time.Format(time.RFC3339), o.Zone.Name, complaintEnd(o.Src), complaintEnd(o.Dst), o.Shape, strings.Join(o.Assumed, "; "))
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	return printUnread(m.stdout, c.Unread, c.UnreadCount)
}

// askService asks the running service.
func (m *matchRun) askService(ctx context.Context, data []byte, typ string) (*complaint.Result, error) {
	end, err := m.endpoint(api.RoleAbuse)
	if err != nil {
		return nil, err
	}
	d := &desk{end: end, timeout: matchTimeout, out: m.stdout, errs: m.stderr, now: time.Now}
	end.warnPlain(m.stderr)
	c, err := end.client()
	if err != nil {
		return nil, err
	}
	out, body, err := get[complaint.Result](ctx, d, "matching", func(ctx context.Context) (*http.Response, error) {
		return c.ComplaintWithBody(ctx, &apiclient.ComplaintParams{Received: opt(m.received), Zone: opt(m.zone), Target: opt(m.target), Open: opt(m.open)}, typ, bytes.NewReader(data))
	})
	if exitCode(err) == exitAway {
		return nil, failf(exitAway, "%w; --offline asks the database", err)
	}
	if err != nil {
		return nil, err
	}
	var o struct {
		Opened []apiclient.CaseOpened `json:"opened"`
	}
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, err
	}
	m.body, m.opened = body, o.Opened
	return out, nil
}

func openedText(c apiclient.CaseOpened) string {
	switch {
	case c.Duplicate:
		return "the same mail was in case " + c.ID + " already"
	case c.Joined:
		return "joined case " + c.ID
	}
	return "opened case " + c.ID
}

// local asks the database itself, with the event log as it stands there.
func (m *matchRun) local(ctx context.Context, data []byte, typ string) (*complaint.Result, error) {
	req, err := m.request(data, typ)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(m.config)
	if err != nil {
		return nil, err
	}
	s := &service{path: m.config, cfg: cfg, log: zap.NewNop(), registry: prometheus.NewRegistry()}
	s.networks.Store(&cfg.Networks)
	if s.inventory, err = openInventory(cfg, inventory.Deps{}, true); err != nil {
		return nil, err
	}
	if err := s.wireStore(); err != nil {
		return nil, err
	}
	s.control = respond.New(respond.Config{}, respond.Deps{Events: s.store, Flows: s.store, Inventory: s.inventory})
	var out *complaint.Result
	err = s.withEngine(ctx, func(ctx context.Context) error {
		if err := s.control.Load(ctx); err != nil {
			return err
		}
		c, err := s.complaints()
		if err != nil {
			return err
		}
		answer, err := c.Match(ctx, req)
		if err == nil {
			out = answer.(*complaint.Result)
		}
		return err
	})
	return out, err
}

// complaints shows the matcher to the API.
type complaints struct{ *complaint.Matcher }

// complaints makes the matcher over the service's parts.
func (s *service) complaints() (api.Complaints, error) {
	m, err := complaint.New(complaint.Config{FlowPolicy: s.cfg.Store.FlowPolicy}, complaint.Deps{
		Store: s.store, Inventory: s.inventory, Incidents: incidentsOf{s.control},
		TenantKey: func(a netip.Addr) netip.Addr { return tenantKey(*s.networks.Load(), a) },
	})
	return complaints{m}, err
}

// Match is Matcher.Match with errors that a caller may see.
func (c complaints) Match(ctx context.Context, req api.ComplaintRequest) (any, error) {
	in := complaint.Request{Data: req.Data, Type: req.Type, Received: req.Received, Target: req.Target}
	if req.Zone != "" {
		z, err := parse.ParseZone(req.Zone)
		if err != nil {
			return nil, api.ErrInvalid("zone: " + err.Error())
		}
		in.Zone = z
	}
	res, err := c.Matcher.Match(ctx, in)
	switch {
	case errors.Is(err, parse.ErrEmpty):
		return nil, api.ErrInvalid(err.Error())
	case errors.Is(err, parse.ErrTooLarge):
		return nil, &api.Error{Status: http.StatusRequestEntityTooLarge, Detail: err.Error()}
	case err != nil:
		return nil, err
	}
	return res, nil
}

// Shape is an empty answer.
func (complaints) Shape() any { return complaint.Result{} }

// incidentsOf shows the controller to the matcher.
type incidentsOf struct{ *respond.Controller }

// IncidentsOf gives the incidents of a tenant's address.
func (c incidentsOf) IncidentsOf(_ context.Context, tenant netip.Addr) ([]flow.Incident, error) {
	return c.Incidents(respond.Filter{Tenant: tenant.String()}), nil
}

func printMatch(out io.Writer, res *complaint.Result) error {
	tab := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0) // keeps errors for Flush
	w := io.Writer(tab)
	fmt.Fprintln(w, "LINE\tTIME (UTC)\tSOURCE\tDESTINATION\tVERDICT\tBY\tWHAT WE FOUND")
	for _, l := range res.Lines {
		fmt.Fprintf(w, "%d:%d\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Part+1, l.Line, l.Time.Format(time.DateTime), complaintEnd(l.Src), complaintEnd(l.Dst), l.Verdict, readFrom(l.Traffic), l.Text)
		for _, n := range l.Notes {
			fmt.Fprintf(w, "\t\t\t\t\t\t! %s\n", n.EN)
		}
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	if err := printUnread(out, res.Unread, res.UnreadCount); err != nil {
		return err
	}
	if res.Skew != nil {
		fmt.Fprintf(out, "\nClock: %s\n", res.Skew.Text)
	}
	for _, n := range res.Notes {
		fmt.Fprintf(out, "Note: %s\n", n)
	}
	return printCases(out, res.Cases)
}

// readFrom is the data that a verdict rests on, in a word.
func readFrom(t *complaint.Traffic) string {
	if t == nil { // of an older service
		return "-"
	}
	switch t.Resolution {
	case complaint.ResolutionFlow:
		return "flows"
	case complaint.ResolutionWindow:
		return "10 s sums"
	case complaint.ResolutionHour:
		return "1 h sums"
	}
	return "-"
}

func printUnread(out io.Writer, l []parse.Unread, count int) error {
	if count > 0 {
		fmt.Fprintf(out, "\n%d line(s) were not understood:\n", count)
	}
	for _, u := range l {
		fmt.Fprintf(out, "%d:%d  %s\n      %s\n", u.Part+1, u.Line, u.Detail, u.Raw)
	}
	return nil
}

func printCases(out io.Writer, l []complaint.Case) error {
	for _, c := range l {
		who := "nobody that the inventory knows"
		if c.Holder != nil {
			who = strings.TrimSpace(c.Holder.Tenant + " " + c.Holder.VDS)
		}
		fmt.Fprintf(out, "\n%s, held by %s: %d line(s), %s to %s", c.Host, who, c.Lines, c.First.Format(time.DateTime), c.Last.Format(time.DateTime))
		for _, v := range []complaint.Verdict{complaint.Confirmed, complaint.Shifted, complaint.Contradicted, complaint.NotVisible, complaint.NoData} {
			if n := c.Counts[v]; n > 0 {
				fmt.Fprintf(out, ", %d %s", n, v)
			}
		}
		if c.Incident != nil {
			fmt.Fprintf(out, "; incident %s is %s", c.Incident.ID, c.Incident.State)
		}
		fmt.Fprintln(out)
	}
	return nil
}

func complaintEnd(e parse.Endpoint) string {
	switch {
	case e.Addr.IsValid() && e.Port > 0:
		return netip.AddrPortFrom(e.Addr, e.Port).String()
	case e.Addr.IsValid():
		return e.Addr.String()
	case e.Prefix.IsValid() && e.Port > 0:
		return fmt.Sprintf("%s port %d", e.Prefix, e.Port)
	case e.Prefix.IsValid():
		return e.Prefix.String()
	case e.Port > 0:
		return fmt.Sprintf("port %d", e.Port)
	}
	return "-"
}
