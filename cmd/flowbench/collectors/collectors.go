// Package collectors starts flow collectors as they are installed here, each
// configured to do its usual work on what a load.Load sends, and knows how to
// ask each of them how many records it saw. What comes in is a Job, what goes
// out is a Running process. It imports flow and flowbench's machine.
package collectors

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
	"github.com/flowcordon/flowcordon/flow"
)

// Job is what a collector is started for.
type Job struct {
	Protocol flow.Protocol
	Prefix   netip.Prefix // internal addresses
	Dir      string       // for its files; it is alone there
	CPUs     []int        // it may run on
	// EngineCPU is where flowcordon's database runs; -1: on CPUs, too.
	EngineCPU  int
	ReadBuffer int // bytes asked for per socket, where it can be asked for
	// FlowPolicy and Detect are flowcordon's store.flow_policy and the mode of
	// its rules.
	FlowPolicy, Detect string
	Flowcordon         string // path of the binary
	Goflow2            string
}

// Collector is one that can be measured.
type Collector struct {
	Name string // with its version
	Does string // what it does with a record
	// Warm is how long it runs before all of its work goes on.
	Warm  time.Duration
	start func(ctx context.Context, j *Job) (*Running, error)
}

// Start runs it until its socket is open.
func (c *Collector) Start(ctx context.Context, j Job) (*Running, error) {
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return nil, err
	}
	r, err := c.start(ctx, &j)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	return r, nil
}

// Running is a collector that runs. It is a measure.Subject.
type Running struct {
	Target netip.AddrPort // where it listens
	Engine int            // process id of its database, 0: none
	API    string         // where flowcordon answers HTTP; empty: nowhere

	cmd     *exec.Cmd
	ended   chan struct{}
	log     string // file
	backlog uint64 // drops before any socket, at the start
	grace   time.Duration
	signal  syscall.Signal
	// records is how many it has seen, by its own word. stop ends it first if it
	// can only tell afterwards.
	records func(ctx context.Context, stop func() error) (uint64, error)
	// gave is how many datagrams it dropped after it had them; nil: it cannot.
	gave func(ctx context.Context) (uint64, error)
}

// launch starts a program on the job's CPUs, in a group of its own, and waits
// until it listens on the port.
func launch(ctx context.Context, j *Job, port uint16, args ...string) (*Running, error) {
	cpus := make([]string, len(j.CPUs))
	for i, c := range j.CPUs {
		cpus[i] = strconv.Itoa(c)
	}
	r := &Running{
		Target: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), log: filepath.Join(j.Dir, "log"),
		ended: make(chan struct{}), grace: 5 * time.Second, signal: syscall.SIGTERM,
	}
	out, err := os.Create(r.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // the child has its own
	r.cmd = exec.Command("taskset", append([]string{"-c", strings.Join(cpus, ",")}, args...)...)
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = j.Dir, out, out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.backlog, err = machine.BacklogDrops(); err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = r.cmd.Wait() // how it ended does not matter: that it did, does
		close(r.ended)
	}()
	err = r.until(ctx, 30*time.Second, "its socket is not open", func() (bool, error) {
		u, err := machine.UDPPort(port)
		return u.Sockets > 0, err
	})
	if err != nil {
		_ = r.Stop()
		return nil, err
	}
	return r, nil
}

// until waits for what is to come while the process runs.
func (r *Running) until(ctx context.Context, wait time.Duration, otherwise string, done func() (bool, error)) error {
	for deadline := time.Now().Add(wait); ; {
		ok, err := done()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ended:
			return fmt.Errorf("ended by itself:\n%s", r.Tail())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s after %v (%w):\n%s", otherwise, wait, errors.Join(errLate, err), r.Tail())
		}
	}
}

var errLate = errors.New("too late")

// Tail is the end of what it printed.
func (r *Running) Tail() string {
	b, err := os.ReadFile(r.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// Stop ends it and all that it started, in order if it can within its time.
func (r *Running) Stop() error {
	_ = r.cmd.Process.Signal(r.signal) // it may have ended
	select {
	case <-r.ended:
	case <-time.After(r.grace):
	}
	err := syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	<-r.ended
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// PID is its process.
func (r *Running) PID() int { return r.cmd.Process.Pid }

// CPU implements measure.Subject.
func (r *Running) CPU() (collector, engine time.Duration, err error) {
	select {
	case <-r.ended:
		return 0, 0, fmt.Errorf("ended by itself:\n%s", r.Tail())
	default:
	}
	if collector, err = machine.TreeCPU(r.PID(), r.Engine); err != nil || r.Engine == 0 {
		return collector, 0, err
	}
	engine, err = machine.CPU(r.Engine)
	return collector, engine, err
}

// Lost implements measure.Subject: KernelLost, and what the collector says that
// it gave up itself.
func (r *Running) Lost() (uint64, error) {
	lost, err := r.KernelLost()
	if err != nil || r.gave == nil {
		return lost, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	own, err := r.gave(ctx)
	return lost + own, err
}

// KernelLost is drops of its sockets, and before any socket on this machine.
func (r *Running) KernelLost() (uint64, error) {
	u, err := machine.UDPPort(r.Target.Port())
	if err != nil {
		return 0, err
	}
	backlog, err := machine.BacklogDrops()
	if err != nil {
		return 0, err
	}
	return u.Drops + backlog - r.backlog, nil
}

// Queued implements measure.Subject.
func (r *Running) Queued() (int64, error) {
	u, err := machine.UDPPort(r.Target.Port())
	return u.Queued, err
}

// Memory implements measure.Subject.
func (r *Running) Memory() (collector, engine int64) {
	collector = machine.RSS(machine.Tree(r.PID(), r.Engine)...)
	if r.Engine != 0 {
		engine = machine.RSS(r.Engine)
	}
	return collector, engine
}

// Records is how many records it has seen, by its own word. It may be stopped
// by the question.
func (r *Running) Records(ctx context.Context) (uint64, error) { return r.records(ctx, r.Stop) }

// freePort is a port of loopback that nobody uses at the moment.
func freePort(network string) (uint16, error) {
	if network == "udp" {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return 0, err
		}
		defer func() { _ = c.Close() }()
		return uint16(c.LocalAddr().(*net.UDPAddr).Port), nil
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return uint16(l.Addr().(*net.TCPAddr).Port), nil
}

func freePorts() (udp, tcp uint16, err error) {
	if udp, err = freePort("udp"); err == nil {
		tcp, err = freePort("tcp")
	}
	return udp, tcp, err
}
