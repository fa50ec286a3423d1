// Package pvetest is a simulator of a Proxmox VE cluster's API, as far as
// flowcordon speaks to it: nodes, VMs, containers, locks, digests, pending
// changes, tasks and the firewall, with the answers' codes, reason phrases and
// parameter checks. It was written from qemu-server 9, pve-container,
// pve-guest-common, pve-firewall and pve-http-server; each file says from
// which part. Tests only import it.
package pvetest

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Token is an API token that the simulator takes.
const (
	Token  = "abuse@pve!flowcordon=" + Secret
	Secret = "7f3a1c52-0b4e-4a53-9d0e-5a1f0c9b2e77"
)

// Sim is the cluster. Its fields may be changed under Lock.
type Sim struct {
	sync.Mutex
	t      testing.TB
	Guests map[int]*Guest
	Down   map[string]bool   // nodes that cannot be reached
	Fw     map[string]string // options of the cluster's firewall
	Privs  map[string]bool   // what the token may do, anywhere
	// OldErrors leaves the message out of the body, as versions before 8 do.
	OldErrors bool
	// SlowTasks makes a change of a VM outlast background_delay; its task ends
	// after so many looks at it.
	SlowTasks int
	// Before is called with each call before it is carried out. A Fault that it
	// returns is what happens instead, or afterwards.
	Before func(method, path string) *Fault
	// Calls are those that changed something, in order, without their digest.
	Calls []string
	// Tasks are those that /cluster/tasks lists.
	Tasks []map[string]any
	tasks map[string]*task
	nTask int
	srv   *httptest.Server
	oracle
}

// Fault is what goes wrong with a call.
type Fault struct {
	Hang  bool   // no answer until the caller gives up
	After bool   // the call is carried out first
	Drop  bool   // the connection is closed
	Code  int    // answered with Code and Text
	Text  string // the reason phrase
}

type task struct {
	node string
	left int
	end  func() *failure
	exit string
}

// Start runs a cluster of the nodes pve1 and pve2 with one VM and one container.
func Start(t testing.TB) *Sim {
	t.Helper()
	s := &Sim{
		t: t, Down: map[string]bool{}, Fw: map[string]string{"enable": "1"}, tasks: map[string]*task{},
		Privs: map[string]bool{"VM.Audit": true, "VM.Config.Network": true, "VM.Config.Options": true, "SDN.Use": true, "Sys.Audit": true, "VM.GuestAgent.Audit": true},
		Guests: map[int]*Guest{
			100: {
				Type: "qemu", Node: "pve1", Running: true, HotplugNet: true, Conf: map[string]string{
					"name": "vds-1001", "memory": "2048", "description": "Customer c-42\nno backups, *please*\n",
					"net0":      "virtio=BC:24:11:AA:10:01,bridge=vmbr0,firewall=1,queues=4,tag=101,trunks=200;300-310",
					"net1":      "e1000=BC:24:11:AA:10:02,bridge=vmbr1",
					"ipconfig0": "ip=11.7.0.10/24,gw=11.7.0.1,ip6=2608:7::10/64", "ipconfig1": "ip=dhcp",
				},
				FwOptions: map[string]string{"enable": "1"},
			},
			200: {
				Type: "lxc", Node: "pve2", Running: true, HotplugNet: true, Conf: map[string]string{
					"hostname": "ct-2001", "memory": "512",
					"net0": "name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:BB:20:01,ip=11.8.0.20/24,type=veth",
				},
				FwOptions: map[string]string{"enable": "1"},
			},
		},
	}
	s.load(t)
	s.srv = httptest.NewTLSServer(s)
	t.Cleanup(s.srv.Close)
	t.Cleanup(s.srv.CloseClientConnections)
	return s
}

// URL is the API's endpoint.
func (s *Sim) URL() string { return s.srv.URL }

// Fingerprint is that of the endpoint's certificate, as pvenode prints it.
func (s *Sim) Fingerprint() string {
	sum := sha256.Sum256(s.srv.Certificate().Raw)
	h := strings.ToUpper(hex.EncodeToString(sum[:]))
	var out []string
	for i := 0; i < len(h); i += 2 {
		out = append(out, h[i:i+2])
	}
	return strings.Join(out, ":")
}

// Edit runs fn on a guest as somebody else would change it.
func (s *Sim) Edit(id int, fn func(*Guest)) {
	s.Lock()
	defer s.Unlock()
	fn(s.Guests[id])
}

// failure is an answer other than 200: the text goes into the status line.
type failure struct {
	code   int
	text   string
	fields map[string]string
}

func die(text string) *failure { return &failure{code: 500, text: text} }

func badParam(name, why string) *failure {
	return &failure{code: 400, text: "Parameter verification failed.", fields: map[string]string{name: why}}
}

// ServeHTTP implements http.Handler.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/api2/json")
	var f *Fault
	s.Lock()
	if s.Before != nil {
		f = s.Before(r.Method, path)
	}
	var data any
	var fail *failure
	switch {
	case !ok:
		fail = &failure{code: 501, text: "no such file '" + r.URL.Path + "'"}
	case f == nil || f.After:
		data, fail = s.serve(r, path)
	}
	old := s.OldErrors
	s.Unlock()
	switch {
	case f != nil && f.Hang:
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return
	case f != nil && f.Drop:
		panic(http.ErrAbortHandler)
	case f != nil:
		fail = &failure{code: f.Code, text: f.Text}
	}
	if fail != nil {
		raw(w, fail, old)
		return
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
}

// raw writes the status line by hand: net/http would put its own phrase there
// (pve-http-server, APIServer/AnyEvent.pm and Formatter/Standard.pm).
func raw(w http.ResponseWriter, f *failure, old bool) {
	body := map[string]any{"data": nil}
	if f.fields != nil {
		body["errors"] = f.fields
	}
	if !old {
		body["message"] = f.text + "\n"
	}
	text, _ := json.Marshal(body)
	conn, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	writeAnswer(buf, f, text)
}

func writeAnswer(buf *bufio.ReadWriter, f *failure, text []byte) {
	_, _ = fmt.Fprintf(buf, "HTTP/1.1 %d %s\r\nServer: pve-api-daemon/3.0\r\nConnection: close\r\n"+
		"Content-Type: application/json;charset=UTF-8\r\nContent-Length: %d\r\n\r\n%s", f.code, f.text, len(text), text)
	_ = buf.Flush()
}

var guestPath = regexp.MustCompile(`^/nodes/([^/]+)/(qemu|lxc)/(\d+)(/.*)$`)

func (s *Sim) serve(r *http.Request, path string) (any, *failure) {
	if r.Header.Get("Authorization") != "PVEAPIToken="+Token {
		return nil, &failure{code: 401, text: "no such token 'x' for user 'abuse@pve'"}
	}
	p, fail := params(r)
	if fail != nil {
		return nil, fail
	}
	if m := guestPath.FindStringSubmatch(path); m != nil {
		if fail := s.check(r.Method, "/nodes/{node}/"+m[2]+"/{vmid}"+numbers(m[4]), p); fail != nil {
			return nil, fail
		}
		if r.Method != http.MethodGet {
			s.note(r.Method, path, p)
		}
		id, _ := strconv.Atoi(m[3])
		return s.guestCall(r.Method, m[1], m[2], id, m[4], p)
	}
	if node, upid, ok := strings.Cut(strings.TrimPrefix(path, "/nodes/"), "/tasks/"); ok && strings.HasSuffix(upid, "/status") {
		if fail := s.check(r.Method, "/nodes/{node}/tasks/{upid}/status", p); fail != nil {
			return nil, fail
		}
		return s.taskStatus(node, strings.TrimSuffix(upid, "/status"))
	}
	if fail := s.check(r.Method, path, p); fail != nil {
		return nil, fail
	}
	switch r.Method + " " + path {
	case "GET /cluster/resources":
		return s.resources(), nil
	case "GET /cluster/tasks":
		return append([]map[string]any{}, s.Tasks...), nil
	case "GET /cluster/firewall/options":
		if fail := s.may("Sys.Audit", "/"); fail != nil {
			return nil, fail
		}
		return withDigest(s.Fw), nil
	}
	return nil, &failure{code: 501, text: "Method '" + r.Method + " " + path + "' not implemented"}
}

var (
	pos   = regexp.MustCompile(`/rules/\d+$`)
	ipset = regexp.MustCompile(`/ipset/[^/]+$`)
)

// numbers writes a path as the API's documentation does.
func numbers(sub string) string {
	return ipset.ReplaceAllString(pos.ReplaceAllString(sub, "/rules/{pos}"), "/ipset/{name}")
}

// note keeps a call that changes something, for the tests to look at.
func (s *Sim) note(method, path string, p map[string]string) {
	var kv []string
	for k, v := range p {
		if k != "digest" && k != "background_delay" {
			kv = append(kv, k+"="+v)
		}
	}
	sort.Strings(kv)
	s.Calls = append(s.Calls, strings.TrimSpace(method+" "+path+" "+strings.Join(kv, " ")))
}

// params reads parameters as the server does: a body of POST and PUT alone, and
// of each pair only what stands before a second "=" (AnyEvent.pm,
// extract_params and decode_urlencoded).
func params(r *http.Request) (map[string]string, *failure) {
	text := r.URL.RawQuery
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		b, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err != nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			return nil, &failure{code: 501, text: "unexpected content"}
		}
		text += "&" + string(b)
	}
	out := map[string]string{}
	for _, kv := range strings.FieldsFunc(text, func(r rune) bool { return r == '&' || r == ';' }) {
		f := strings.Split(kv, "=")
		k, err1 := url.QueryUnescape(f[0])
		v := ""
		var err2 error
		if len(f) > 1 {
			v, err2 = url.QueryUnescape(f[1])
		}
		if err1 != nil || err2 != nil {
			return nil, &failure{code: 501, text: "malformed parameters"}
		}
		out[k] = v
	}
	return out, nil
}

func (s *Sim) may(priv, where string) *failure {
	if s.Privs[priv] {
		return nil
	}
	return &failure{code: 403, text: "Permission check failed (" + where + ", " + priv + ")"}
}

func (s *Sim) resources() []map[string]any {
	out := []map[string]any{}
	for id, g := range s.Guests {
		if !s.Privs["VM.Audit"] {
			continue // left out, not refused
		}
		st := "stopped"
		switch {
		case s.Down[g.Node]:
			st = "unknown"
		case g.Running:
			st = "running"
		}
		out = append(out, map[string]any{
			"id": g.Type + "/" + strconv.Itoa(id), "type": g.Type, "vmid": id, "node": g.Node, "name": g.name(), "status": st, "template": g.Template, "pool": g.Pool,
		})
	}
	return out
}

func (s *Sim) taskStatus(node, upid string) (any, *failure) {
	if s.Down[node] {
		return nil, &failure{code: 595, text: "Connection timed out"}
	}
	upid, err := url.PathUnescape(upid)
	t := s.tasks[upid]
	if err != nil || t == nil {
		return nil, die("no such task")
	}
	if t.left--; t.left > 0 {
		return map[string]any{"status": "running", "upid": upid, "node": node}, nil
	}
	if t.end != nil {
		t.exit = "OK"
		if f := t.end(); f != nil {
			t.exit = f.text
		}
		t.end = nil
	}
	return map[string]any{"status": "stopped", "exitstatus": t.exit, "upid": upid, "node": node}, nil
}

func (s *Sim) newTask(node string, id int, end func() *failure) string {
	s.nTask++
	upid := fmt.Sprintf("UPID:%s:%08X:01A2B3C4:6741F0A1:qmconfig:%d:abuse@pve!flowcordon:", node, s.nTask, id)
	s.tasks[upid] = &task{node: node, left: s.SlowTasks, end: end}
	return upid
}

// Task adds a task of user to those that are listed, as the panel's or the
// owner's own calls do.
func (s *Sim) Task(typ string, id int, user string) {
	s.Lock()
	defer s.Unlock()
	s.nTask++
	upid := fmt.Sprintf("UPID:pve1:%08X:01A2B3C4:6741F0A1:%s:%d:%s:", s.nTask, typ, id, user)
	s.Tasks = append(s.Tasks, map[string]any{"upid": upid, "node": "pve1", "type": typ, "id": strconv.Itoa(id), "user": user, "starttime": 1732000000})
}
