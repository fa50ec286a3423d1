package lab

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// ordersAddr is where a guest with OrderArgs asks which port to scan.
const ordersAddr = ServerIP + ":8081"

// OrderArgs are more arguments for a guest with ScanArgs that asks Orders which
// port to scan, and stops when it cannot ask.
func OrderArgs() string { return " orders=" + ordersAddr }

// Orders is the host on the Internet from which a hacked guest takes its
// orders; the first is port 22.
type Orders struct {
	ln   net.Listener
	port atomic.Int64
}

// Orders starts it. Close it.
func (l *Lab) Orders() (*Orders, error) {
	o := &Orders{}
	o.Scan(22)
	if err := InNS(l.Inet, func() (err error) {
		o.ln, err = net.Listen("tcp", ordersAddr)
		return err
	}); err != nil {
		return nil, err
	}
	go o.serve()
	return o, nil
}

func (o *Orders) serve() {
	for {
		c, err := o.ln.Accept()
		if err != nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = fmt.Fprintln(c, o.port.Load())
		_ = c.Close()
	}
}

// Scan has the guest scan a TCP port, 0 none.
func (o *Orders) Scan(port int) { o.port.Store(int64(port)) }

// Close ends it.
func (o *Orders) Close() { _ = o.ln.Close() }
