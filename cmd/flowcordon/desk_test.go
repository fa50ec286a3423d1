package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/flowcordon/flowcordon/flow"
)

// office is a running service with an incident that waits for approval, and
// commands that ask it.
type office struct {
	*site
	l        *local
	base     string
	incident string
	schemas  *jsonschema.Compiler
}

// golden is the document that the API promises.
func golden(t *testing.T) map[string]any {
	t.Helper()
	b, err := os.ReadFile("../../api/openapi.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func newOffice(t *testing.T) *office {
	t.Helper()
	s := newSite(t, siteOptions{Mode: flow.ModeApprove, Inventory: holder(scanner, "panel")})
	o := &office{site: s, l: s.start(t), schemas: jsonschema.NewCompiler()}
	if err := o.schemas.AddResource("file:///openapi.json", golden(t)); err != nil {
		t.Fatal(err)
	}
	o.l.awaitDatabase(t)
	o.base = "http://" + o.l.listener.Addr().String()
	r := newRouter(t, "127.0.0.1", o.l.netflow())
	r.export(t, ordinary(0, 400)...)
	r.export(t, scanMinute(scanner)...)
	c := s.client(o.l.listener.Addr().String())
	eventually(t, 3*time.Minute, "an incident that waits for approval", func() (bool, string) {
		m, err := c.incidents()
		if err != nil || len(m[scanner]) != 1 || m[scanner][0].State != flow.StateApproval {
			return false, "not yet"
		}
		o.incident = m[scanner][0].ID
		return true, ""
	})
	return o
}

// run runs a command of the desk against the office.
func (o *office) run(t *testing.T, words ...string) (code int, stdout, stderr string) {
	t.Helper()
	return invoke(t, append(words, "--url", o.base, "--token-file", filepath.Join(o.dir, "token"))...)
}

// conforms holds a document against what the API promises of an operation.
func (o *office) conforms(t *testing.T, document, method, path string) {
	t.Helper()
	pointer := "file:///openapi.json#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/" + method + "/responses/200/content/application~1json/schema"
	schema, err := o.schemas.Compile(strings.NewReplacer("{", "%7B", "}", "%7D").Replace(pointer))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
	if err != nil {
		t.Fatalf("%s: no single JSON document: %v\n%.500s", path, err, document)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%s: the document is not what the API promises: %v", path, err)
	}
}

// TestDesk: every command against a real service, as people and as programs
// call it.
func TestDesk(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	t.Run("document", o.document)
	t.Run("reads", o.reads)
	t.Run("refused", o.refused)
	t.Run("completion", o.completion)
	t.Run("exemption", o.exemption)
	t.Run("complaint", o.complaint)
	t.Run("mark", o.mark)
	t.Run("acts", o.acts) // the last: it changes the incident
}

// document: what the service says of itself is what the client was made of.
func (o *office) document(t *testing.T) {
	status, text, err := o.client(o.l.listener.Addr().String()).do("/api/v1/openapi.json", o.token, nil)
	if err != nil || status != 200 {
		t.Fatalf("%d %v", status, err)
	}
	var have map[string]any
	if err := json.Unmarshal([]byte(text), &have); err != nil {
		t.Fatal(err)
	}
	want := golden(t)
	for _, d := range []map[string]any{have, want} {
		delete(d["info"].(map[string]any), "version")
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("the service's document is not the golden one (-golden +service):\n%.3000s", d)
	}
}

func (o *office) reads(t *testing.T) {
	ip := scanner.String()
	for _, tc := range []struct {
		command string
		path    string // of the operation; empty: not JSON of the API
		want    []string
	}{
		{"incidents", "/incidents", []string{"ID", o.incident, "awaiting_approval", ip, "c-" + ip, "netscan"}},
		{"incidents --state closed", "/incidents", []string{"No incident matches."}},
		{"incidents --rule netscan --tenant " + ip + " --since -1h", "/incidents", []string{o.incident}},
		{"incidents show " + o.incident, "/incidents/{id}", []string{"awaiting_approval", "on panel", "finding", "netscan, tcp/22", "opened", "TIME (UTC)"}},
		{"explain " + ip, "/hosts/{ip}/policy", []string{"holder", "c-" + ip, "none matches", "approve", "detect.rules", "default", "IN 1 MIN", "IN 30 MIN", "127.0.0.1 at a sampling of 1:1", "offence(s)"}},
		{"explain --rule netscan " + ip + " --changed", "/hosts/{ip}/policy", []string{"netscan", "are the default"}},
		{"top --by syn --window 1h", "/top", []string{"TENANT", ip, "SYN SEEN", o.incident}},
		{"hosts " + ip, "/hosts/{ip}", []string{"holder", "vds-" + ip, "OUT PKT/S", "█", o.incident}},
		{"peers " + ip + " --limit 3", "/hosts/{ip}/peers", []string{"PORT", "tcp/22", "6000", "26.", "peers in all"}},
		{"flows " + ip + " --limit 3 --dir out", "/flows", []string{"REMOTE", "26.", "syn", "tcp", " S "}},
		{"flows --port 22 --flags SYN --limit 2 --order oldest", "/flows", []string{ip}},
		{"flows " + ip + " --remote 192.0.2.1", "/flows", []string{"No stored flows"}},
		{"exporters", "/exporters", []string{"127.0.0.1", "netflow9", "1:1"}},
		{"exporters 127.0.0.1", "/exporters", []string{"datagrams", "DOMAIN"}},
		{"search " + ip, "/search", []string{"incident", o.incident}},
		{"tenants", "/tenants", []string{"c-" + ip, "vds-" + ip}},
		{"tenants c-" + ip, "/tenants/{customer}", []string{"holds or held", o.incident, "0 offence(s)"}},
		{"exemptions", "/exemptions", []string{"No exemption is active."}},
		{"cases", "/complaints", []string{"No complaint matches."}},
		{"rules", "/rules/precision", []string{"netscan", "UNMARKED"}},
		{"rules cases --rule netscan", "/rules/cases", []string{"netscan/" + ip + "/", "suspend"}},
		{"rules proposals", "/rules/proposals", []string{"Nothing is proposed"}},
		{"freezes", "/freezes", []string{"Nothing is frozen."}},
		{"audit --incident " + o.incident, "/audit", []string{"opened", "detector", o.incident}},
		{"whoami", "/whoami", []string{o.base, "admin"}},
	} {
		t.Run(tc.command, func(t *testing.T) {
			words := strings.Fields(tc.command)
			code, out, errs := o.run(t, words...)
			if code != 0 || errs != "" && !strings.Contains(errs, "more rows match") {
				t.Fatalf("exit %d, %q", code, errs)
			}
			for _, w := range tc.want {
				if !strings.Contains(out, w) {
					t.Errorf("no %q in\n%s", w, out)
				}
			}
			if strings.Contains(out, "\x1b") {
				t.Error("colours without a terminal")
			}
			code, out, errs = o.run(t, append(words, "--json")...)
			if code != 0 {
				t.Fatalf("exit %d, %q", code, errs)
			}
			o.conforms(t, out, "get", tc.path)
		})
	}
	t.Run("flows in parts", o.flowForms)
}

func (o *office) flowForms(t *testing.T) {
	_, csv, errs := o.run(t, "flows", scanner.String(), "--format", "csv", "--limit", "4")
	if lines := strings.Split(strings.TrimSpace(csv), "\n"); len(lines) != 5 || !strings.HasPrefix(lines[0], "time,") || !strings.Contains(errs, "more rows match than --limit 4") {
		t.Errorf("csv: %q %q", csv, errs)
	}
	_, lines, _ := o.run(t, "flows", scanner.String(), "--format", "jsonl", "--limit", "2")
	if strings.Count(lines, "\n") != 2 || !json.Valid([]byte(strings.SplitN(lines, "\n", 2)[0])) {
		t.Errorf("jsonl: %q", lines)
	}
	// All of them, for which the service has to be asked more than once when
	// there are more than its limit; here the parts are made small.
	defer func(n int64) { pageRows = n }(pageRows)
	pageRows = 2500
	_, text, errs := o.run(t, "flows", scanner.String(), "--format", "csv", "--limit", "100000", "--from", "-3h", "--order", "oldest")
	seen := map[string]bool{}
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		seen[l] = true
	}
	if errs != "" || len(seen) != 6001 || strings.Count(text, "\n") != 6001 {
		t.Errorf("%d lines, %d different; want 6000 and their head; %s", strings.Count(text, "\n"), len(seen), errs)
	}
	_, doc, errs := o.run(t, "flows", scanner.String(), "--json", "--limit", "100000", "--from", "-3h")
	var page struct{ Flows []struct{ Remote string } }
	if err := json.Unmarshal([]byte(doc), &page); err != nil || len(page.Flows) != 6000 || errs != "" {
		t.Errorf("%d flows in parts, %v, %q", len(page.Flows), err, errs)
	}
	o.conforms(t, doc, "get", "/flows")
}

func (o *office) refused(t *testing.T) {
	wrong := complaintFile(t, "wrong", "not-a-token-of-this-service\n")
	viewer := []string{"--url", o.base, "--token-file", filepath.Join(o.dir, "token")}
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"a wrong token", []string{"incidents", "--url", o.base, "--token-file", wrong}, exitDenied, "this token is not accepted"},
		{"a path too many", []string{"incidents", "--url", o.base + "/dashboard", "--token-file", wrong}, exitAway, "is --url right, without a path?"},
		{"the prefix of the API is no path too many", append([]string{"whoami"}, "--url", o.base+"/api/v1/", "--token-file", filepath.Join(o.dir, "token")), 0, ""},
		{"TLS where there is none", []string{"top", "--url", strings.Replace(o.base, "http:", "https:", 1), "--token-file", wrong}, exitAway, "speaks no TLS"},
		{"nobody there", []string{"top", "--url", "http://127.0.0.1:1", "--token-file", wrong}, exitAway, "nobody listens there"},
		{"no such incident", append([]string{"incidents", "show", "none"}, viewer...), exitFailed, `there is no incident "none"; flowcordon incidents --state all lists them`},
		{"a foreign address", append([]string{"hosts", "8.8.8.8"}, viewer...), exitFailed, "none of our networks"},
		{"a wrong rule", append([]string{"incidents", "--rule", "nothing"}, viewer...), exitFailed, "write one of netscan"},
		{"a wrong order", append([]string{"top", "--by", "luck"}, viewer...), exitFailed, "out_bytes"},
		{"a release without a statement", append([]string{"incidents", "release", o.incident}, viewer...), exitUsage, `write --statement "`},
		{"a cut without a question", append([]string{"incidents", "cut", o.incident, "--reason", "x"}, viewer...), exitUsage, "write --yes"},
		{"an undo without a moment", append([]string{"undo", "--reason", "x", "--yes"}, viewer...), exitUsage, "--since is missing"},
		{"a measure of nothing", append([]string{"incidents", "restrict", o.incident, "--reason", "x"}, viewer...), exitUsage, "either --block"},
		{"a wrong port", append([]string{"incidents", "restrict", o.incident, "--reason", "x", "--block", "22"}, viewer...), exitUsage, "such as tcp/22"},
		{"a verdict", append([]string{"rules", "mark", "x", "maybe", "--reason", "x"}, viewer...), exitUsage, "right, wrong or unsure"},
		{"no service", []string{"top", "--config", filepath.Join(o.dir, "none.yaml")}, exitFailed, "none.yaml"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, _, errs := invoke(t, tc.args...)
			if code != tc.code || !strings.Contains(errs, tc.want) || tc.code != 0 && (strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "flowcordon "+tc.args[0])) {
				t.Errorf("exit %d, want %d; %q, want one line with %q", code, tc.code, errs, tc.want)
			}
			if strings.Contains(errs, o.token) || strings.Contains(errs, "not-a-token") {
				t.Error("the token is told")
			}
		})
	}
}

func (o *office) exemption(t *testing.T) {
	code, out, errs := o.run(t, "exemptions", "add", "--tenant", "198.18.0.77", "--port", "tcp/22", "--owner", "anna", "--reason", "pentest", "--expires", "+72h")
	id := regexp.MustCompile(`ex-\w+`).FindString(out)
	if code != 0 || id == "" || !strings.Contains(out, "198.18.0.77/32, tcp/22") {
		t.Fatalf("add: exit %d, %q %q", code, out, errs)
	}
	if _, out, _ := o.run(t, "exemptions"); !strings.Contains(out, id) || !strings.Contains(out, "pentest") {
		t.Errorf("list:\n%s", out)
	}
	if _, out, _ := o.run(t, "explain", "198.18.0.77", "--rule", "netscan"); !strings.Contains(out, id) || !strings.Contains(out, "pentest (anna)") {
		t.Errorf("explain does not say it:\n%s", out)
	}
	_, out, _ = o.run(t, "exemptions", id, "--json")
	o.conforms(t, out, "get", "/exemptions/{id}")
	if code, out, errs := o.run(t, "exemptions", "change", id, "--port", "", "--rule", "netscan", "--owner", "boris"); code != 0 || !strings.Contains(out, "198.18.0.77/32, netscan\n") ||
		!strings.Contains(out, "boris") || !strings.Contains(out, "pentest") {
		t.Errorf("change: exit %d, %q %q", code, out, errs)
	}
	if code, _, errs := o.run(t, "exemptions", "change", id); code != exitUsage || !strings.Contains(errs, "nothing is to be changed") {
		t.Errorf("no change: exit %d, %q", code, errs)
	}
	if code, out, errs := o.run(t, "exemptions", "remove", id, "--reason", "done"); code != 0 || !strings.Contains(out, "removed") {
		t.Errorf("remove: exit %d, %q %q", code, out, errs)
	}
	if code, _, errs := o.run(t, "exemptions", "add", "--tenant", "198.18.0.77"); code != exitUsage || !strings.Contains(errs, "is missing") {
		t.Errorf("half an exemption: exit %d, %q", code, errs)
	}
}

func (o *office) complaint(t *testing.T) {
	now := time.Now().UTC().Add(-20 * time.Second).Format(time.RFC3339)
	file := complaintFile(t, "mail.eml", "From: noc@other.example\nTo: abuse@hoster.example\nSubject: SSH scan\nMessage-ID: <1@other.example>\n\n"+
		now+" "+scanner.String()+":40000 -> 26.0.0.9:22 tcp\n")
	code, out, errs := o.run(t, "match", file, "--open")
	id := regexp.MustCompile(`cc-\w+`).FindString(errs)
	if code != 0 || id == "" {
		t.Fatalf("match --open: exit %d\n%s\n%s", code, out, errs)
	}
	_, out, _ = o.run(t, "match", file, "--json")
	o.conforms(t, out, "post", "/complaints")
	if code, out, errs := o.run(t, "cases", id); code != 0 || !strings.Contains(out, "SSH scan") || !strings.Contains(out, "case_opened") {
		t.Errorf("case: exit %d\n%s\n%s", code, out, errs)
	}
	_, out, _ = o.run(t, "cases", id, "--json")
	o.conforms(t, out, "get", "/complaints/{id}")
	if _, out, _ := o.run(t, "cases", id, "--reply", "ru"); !strings.Contains(out, "Здравствуйте") {
		t.Errorf("the reply: %q", out)
	}
	if code, out, errs := o.run(t, "cases", "status", id, "answered", "--note", "told them"); code != 0 || !strings.Contains(out, "answered") {
		t.Errorf("status: exit %d, %q %q", code, out, errs)
	}
}

func (o *office) mark(t *testing.T) {
	_, out, _ := o.run(t, "rules", "cases", "--rule", "netscan")
	id := regexp.MustCompile(`netscan/\S+`).FindString(out)
	code, out, errs := o.run(t, "rules", "mark", id, "right", "--reason", "it scans")
	if code != 0 || out != id+" is marked right by test\n" {
		t.Errorf("exit %d, %q %q", code, out, errs)
	}
	code, out, errs = o.run(t, "rules", "mark", id, "unsure", "--reason", "or not", "--json")
	if code != 0 {
		t.Fatal(errs)
	}
	o.conforms(t, out, "post", "/rules/cases/mark")
}

// acts: approve, evidence, bundle, release, each by the command line.
func (o *office) acts(t *testing.T) {
	code, out, errs := o.run(t, "incidents", "approve", o.incident, "--reason", "it scans", "--yes", "--wait", "2m")
	if code != 0 || !strings.Contains(out, "incident "+o.incident) || !o.panel.IsCut(macOf(scanner)) {
		t.Fatalf("approve: exit %d, %q %q", code, out, errs)
	}
	eventually(t, 2*time.Minute, "evidence", func() (bool, string) {
		code, out, errs = o.run(t, "incidents", "evidence", o.incident, "--list")
		return code == 0 && strings.Contains(out, "netscan"), out + errs
	})
	if code, out, _ := o.run(t, "incidents", "evidence", o.incident, "--form", "netscan"); code != 0 || !strings.Contains(out, "26.") {
		t.Errorf("the log: exit %d, %.300q", code, out)
	}
	if code, _, errs := o.run(t, "incidents", "evidence", o.incident, "--form", "poem"); code != exitFailed || !strings.Contains(errs, "it has") {
		t.Errorf("a form that there is not: exit %d, %q", code, errs)
	}
	_, out, _ = o.run(t, "incidents", "evidence", o.incident, "--json")
	o.conforms(t, out, "get", "/incidents/{id}/evidence")
	zip := filepath.Join(t.TempDir(), "a.zip")
	for i, want := range []int{0, exitFailed} { // what is there is not written over
		if code, _, errs := o.run(t, "incidents", "bundle", o.incident, "-o", zip); code != want {
			t.Errorf("bundle %d: exit %d, %q", i, code, errs)
		}
	}
	if b, err := os.ReadFile(zip); err != nil || !bytes.HasPrefix(b, []byte("PK")) {
		t.Errorf("the bundle: %v", err)
	}
	code, out, errs = o.run(t, "incidents", "release", o.incident, "--statement", "reinstalled", "--wait", "2m", "--json")
	if code != 0 || o.panel.IsCut(macOf(scanner)) {
		t.Fatalf("release: exit %d, %q %q", code, out, errs)
	}
	o.conforms(t, out, "post", "/incidents/{id}/release")
	var got struct {
		Incident struct{ State, Statement string }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Incident.State != "released" || got.Incident.Statement != "reinstalled" {
		t.Errorf("%+v, %v", got, err)
	}
	if code, _, errs := o.run(t, "incidents", "approve", o.incident, "--reason", "again", "--yes"); code != exitFailed || strings.Count(errs, "\n") != 1 {
		t.Errorf("an act too late: exit %d, %q", code, errs)
	}
	code, out, errs = o.run(t, "undo", "--since", "-1h", "--reason", "a test", "--yes")
	if code != 0 || !strings.Contains(out, "Nothing was taken automatically") { // a person approved it
		t.Errorf("undo: exit %d, %q %q", code, out, errs)
	}
	if code, out, errs := o.run(t, "freezes", "lift", "--reason", "the test is over"); code != exitFailed || !strings.Contains(errs, "nothing is frozen") {
		t.Errorf("lift: exit %d, %q %q", code, out, errs)
	}
}

// A viewer's token can look and not act.
func TestDeskRole(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{})
	s.edit(t, "role: admin", "role: viewer")
	l := s.start(t)
	l.awaitDatabase(t)
	base := "http://" + l.listener.Addr().String()
	code, _, errs := invoke(t, "audit", "--url", base, "--token-file", filepath.Join(s.dir, "token"))
	if code != exitDenied || !strings.Contains(errs, "token test has the role viewer; this needs operator") {
		t.Errorf("exit %d, %q", code, errs)
	}
	// The configuration of this machine says where the service is, and has no
	// token for it.
	if code, _, errs = invoke(t, "audit", "--config", s.config, "--url", base); code != exitUsage || !strings.Contains(errs, "the role operator or higher") {
		t.Errorf("exit %d, %q", code, errs)
	}
	if code, out, errs := invoke(t, "whoami", "--config", s.config, "--url", base); code != 0 || !strings.Contains(out, "viewer") {
		t.Errorf("exit %d, %q", code, errs)
	}
}
