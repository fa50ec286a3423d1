package detect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// datagram is one that an exporter sent, and when it would have been sent had
// the exporter seen the packets when they were sent.
type datagram struct {
	at      time.Time
	payload []byte
}

// inactive is the timeout of a flow that has ended: softflowd, reading a file,
// exports all of it at the end.
const inactive = 15 * time.Second

var be = binary.BigEndian

// listenUDP receives what an exporter sends until done says so and nothing has
// come for a while.
func receive(t *testing.T, conn *net.UDPConn, done <-chan struct{}) [][]byte {
	t.Helper()
	var out [][]byte
	buf := make([]byte, 65536)
	for ended := false; ; {
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := conn.Read(buf)
		var ne net.Error
		switch {
		case err == nil:
			out = append(out, slices.Clone(buf[:n]))
		case errors.As(err, &ne) && ne.Timeout() && ended:
			return out
		case errors.As(err, &ne) && ne.Timeout():
			select {
			case <-done:
				ended = true
			default:
			}
		default:
			t.Fatal(err)
		}
	}
}

func udpSocket(t *testing.T) (*net.UDPConn, string) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadBuffer(32 << 20)
	return conn, conn.LocalAddr().String()
}

// runExporter runs a program that reads a file and ends.
func runExporter(t *testing.T, conn *net.UDPConn, args ...string) [][]byte {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }() // pmacctd ends with status 1 at the end of its file
	guard := time.AfterFunc(5*time.Minute, func() { _ = cmd.Process.Kill() })
	defer guard.Stop()
	out := receive(t, conn, done)
	if len(out) == 0 && strings.Contains(strings.ToLower(log.String()), "error") {
		t.Logf("%v sent nothing:\n%.2000s", args, &log)
	}
	return out
}

// softflowd exports IPFIX.
func softflowd(t *testing.T, fs []frame, n int) []datagram {
	t.Helper()
	dir := t.TempDir()
	pcap := filepath.Join(dir, "in.pcap")
	if err := writePcap(pcap, fs); err != nil {
		t.Fatal(err)
	}
	conn, addr := udpSocket(t)
	args := []string{"softflowd", "-r", pcap, "-n", addr, "-v", "10", "-A", "milli", "-m", "200000", "-d", "-c", "none", "-p", filepath.Join(dir, "pid")}
	if n > 1 {
		args = append(args, "-s", strconv.Itoa(n))
	}
	return splitIPFIX(t, runExporter(t, conn, args...), fs[0].at)
}

// splitIPFIX makes a message of each data record and gives it the time when its
// flow ended and timed out. Templates and options come first.
func splitIPFIX(t *testing.T, payloads [][]byte, start time.Time) []datagram {
	t.Helper()
	type field struct{ id, size int }
	templates := map[uint16][]field{}
	var out []datagram
	message := func(at time.Time, domain uint32, set []byte) {
		b := be.AppendUint16(nil, 10)
		b = be.AppendUint16(b, uint16(16+len(set)))
		b = be.AppendUint32(b, uint32(at.Unix()))
		b = be.AppendUint32(b, 0) // the sequence is set below
		b = be.AppendUint32(b, domain)
		out = append(out, datagram{at, append(b, set...)})
	}
	for _, p := range payloads {
		domain := be.Uint32(p[12:])
		for b := p[16:]; len(b) >= 4; {
			id, size := be.Uint16(b), int(be.Uint16(b[2:]))
			if size < 4 || size > len(b) {
				t.Fatalf("a set of %d bytes in %d", size, len(b))
			}
			set := b[:size]
			b = b[size:]
			fields := templates[id]
			if id < 256 || fields == nil { // templates, and data of options
				if id == 2 {
					for s := set[4:]; len(s) >= 4; {
						tid, count := be.Uint16(s), int(be.Uint16(s[2:]))
						s = s[4:]
						var l []field
						for range count {
							l, s = append(l, field{int(be.Uint16(s)), int(be.Uint16(s[2:]))}), s[4:]
						}
						templates[tid] = l
					}
				}
				message(start.Add(-time.Second), domain, set)
				continue
			}
			length, end := 0, -1
			for _, f := range fields {
				if f.id == 153 { // flowEndMilliseconds
					end = length
				}
				length += f.size
			}
			if end < 0 {
				t.Fatalf("template %d has no end of the flow", id)
			}
			for r := set[4:]; len(r) >= length; r = r[length:] {
				at := time.UnixMilli(int64(be.Uint64(r[end:]))).UTC().Add(inactive)
				one := be.AppendUint16(be.AppendUint16(nil, id), uint16(4+length))
				message(at, domain, append(one, r[:length]...))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b datagram) int { return a.at.Compare(b.at) })
	records := uint32(0)
	for i := range out {
		be.PutUint32(out[i].payload[8:], records)
		if be.Uint16(out[i].payload[16:]) >= 256 {
			records++
		}
	}
	return out
}

// pmacctd exports sFlow.
func pmacctd(t *testing.T, fs []frame, n int) []datagram {
	t.Helper()
	dir := t.TempDir()
	pcap, conf := filepath.Join(dir, "in.pcap"), filepath.Join(dir, "pmacctd.conf")
	conn, addr := udpSocket(t)
	text := fmt.Sprintf("daemonize: false\npcap_savefile: %s\nplugins: sfprobe\nsfprobe_receiver: %s\nsfprobe_agentip: 127.0.0.1\nsampling_rate: %d\n"+
		"plugin_pipe_size: 50000000\nplugin_buffer_size: 100000\n", pcap, addr, n)
	if err := errors.Join(writePcap(pcap, fs), os.WriteFile(conf, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return splitSFlow(runExporter(t, conn, "pmacctd", "-f", conf), fs)
}

// splitSFlow makes a datagram of the samples of each second, at the time of the
// packets that they are of, which are found again in order. An agent sends at
// least once a second; these ones were fed faster.
func splitSFlow(payloads [][]byte, fs []frame) []datagram {
	const prefix = 40 // of Ethernet and IP, with what tells packets apart
	key := func(b []byte) string { return string(b[:min(len(b), prefix)]) }
	where := map[string][]int{}
	for i := range fs {
		k := key(fs[i].data)
		where[k] = append(where[k], i)
	}
	var out []datagram
	last, seq := 0, uint32(0)
	for _, p := range payloads {
		if len(p) < 28 || be.Uint32(p) != 5 {
			continue
		}
		head := 16 // version, address type, address, sub-agent
		if be.Uint32(p[4:]) == 2 {
			head = 28
		}
		var at time.Time
		var batch []byte
		count := uint32(0)
		flush := func() {
			if count == 0 {
				return
			}
			b := slices.Clone(p[:head])
			b = be.AppendUint32(b, seq)
			b = be.AppendUint32(b, uint32(at.Sub(epoch).Milliseconds())+1e6)
			b = be.AppendUint32(b, count)
			out = append(out, datagram{at, append(b, batch...)})
			seq++
			batch, count = nil, 0
		}
		for b := p[head+12:]; len(b) >= 8; {
			size := 8 + int(be.Uint32(b[4:]))
			if size > len(b) {
				break
			}
			sample := b[:size]
			b = b[size:]
			h := rawHeader(sample)
			if h == nil {
				continue // counters: the frames tell nothing of when
			}
			l := where[key(h)]
			i, _ := slices.BinarySearch(l, last)
			if i == len(l) {
				i = len(l) - 1
			}
			if i >= 0 {
				last = max(last, l[i])
			}
			if now := fs[last].at; count > 0 && now.Sub(at) >= time.Second {
				flush()
			}
			at = fs[last].at
			batch, count = append(batch, sample...), count+1
		}
		flush()
	}
	return out
}

// rawHeader is the header in a flow sample, compact or expanded; nil: none.
func rawHeader(s []byte) []byte {
	at := 0
	switch be.Uint32(s) {
	case 1:
		at = 8 + 28
	case 3:
		at = 8 + 40
	}
	if at == 0 || len(s) < at+4 {
		return nil
	}
	n := be.Uint32(s[at:])
	for r := s[at+4:]; n > 0 && len(r) >= 8; n-- {
		size := 8 + int(be.Uint32(r[4:]))
		if size > len(r) {
			return nil
		}
		if be.Uint32(r) == 1 && size >= 24 {
			if l := int(be.Uint32(r[20:])); 24+l <= size {
				return r[24 : 24+l]
			}
		}
		r = r[size:]
	}
	return nil
}

// ovs is an Open vSwitch in user space without a kernel interface: frames come
// in through a socket.
type ovs struct {
	dir string
	in  net.Conn
}

func startOVS(t *testing.T) *ovs {
	t.Helper()
	dir, err := os.MkdirTemp("", "fc-ovs-") // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	v := &ovs{dir: dir}
	t.Cleanup(v.stop)
	v.run(t, "ovsdb-tool", "create", "conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
	v.run(t, "ovsdb-server", "--remote=punix:"+dir+"/db.sock", "--pidfile="+dir+"/ovsdb.pid", "--unixctl="+dir+"/ovsdb.ctl", "--detach", "--log-file="+dir+"/ovsdb.log", "conf.db")
	v.run(t, "ovs-vsctl", "--db=unix:"+dir+"/db.sock", "--no-wait", "init")
	v.run(t, "ovs-vswitchd", "--enable-dummy=override", "--disable-system", "--disable-system-route", "--pidfile="+dir+"/vswitchd.pid",
		"--unixctl="+dir+"/vswitchd.ctl", "--detach", "--log-file="+dir+"/vswitchd.log", "unix:"+dir+"/db.sock")
	v.vsctl(t, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy", "fail-mode=secure")
	v.vsctl(t, "add-port", "br0", "p1", "--", "set", "interface", "p1", "type=dummy", "ofport_request=1", "options:pstream=punix:"+dir+"/p1.sock")
	v.vsctl(t, "add-port", "br0", "p2", "--", "set", "interface", "p2", "type=dummy", "ofport_request=2")
	v.run(t, "ovs-ofctl", "add-flow", "unix:"+dir+"/br0.mgmt", "in_port=1,actions=output:2")
	if v.in, err = net.Dial("unix", dir+"/p1.sock"); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *ovs) run(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = v.dir
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+v.dir, "OVS_LOGDIR="+v.dir, "OVS_DBDIR="+v.dir, "OVS_SYSCONFDIR="+v.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func (v *ovs) vsctl(t *testing.T, args ...string) {
	t.Helper()
	v.run(t, append([]string{"ovs-vsctl", "--db=unix:" + v.dir + "/db.sock"}, args...)...)
}

// stop ends the two daemons by their ids.
func (v *ovs) stop() {
	if v.in != nil {
		_ = v.in.Close()
	}
	for _, name := range []string{"vswitchd", "ovsdb"} {
		if b, err := os.ReadFile(filepath.Join(v.dir, name+".pid")); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pid > 1 {
				if p, err := os.FindProcess(pid); err == nil {
					_ = p.Kill()
				}
			}
		}
	}
	_ = os.RemoveAll(v.dir)
}

// export sends the frames through the switch, at most pace a second: its queue
// holds a hundred.
func (v *ovs) export(t *testing.T, fs []frame, n int) []datagram {
	t.Helper()
	const pace = 3000
	conn, addr := udpSocket(t)
	v.vsctl(t, "--", "--id=@s", "create", "sflow", `agent="127.0.0.1"`, `target="`+addr+`"`, "header=128", "sampling="+strconv.Itoa(n), "polling=0",
		"--", "set", "bridge", "br0", "sflow=@s")
	done := make(chan struct{})
	go func() {
		defer close(done)
		began := time.Now()
		for i := range fs {
			data := fs[i].data[:min(len(fs[i].data), 1514)]
			if _, err := v.in.Write(append(be.AppendUint16(nil, uint16(len(data))), data...)); err != nil {
				return
			}
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / pace)))
		}
		time.Sleep(2 * time.Second) // the agent sends what it has each second
	}()
	out := receive(t, conn, done)
	v.vsctl(t, "clear", "bridge", "br0", "sflow")
	return splitSFlow(out, fs)
}

var exporterAddr = netip.MustParseAddrPort("127.0.0.1:50000")
