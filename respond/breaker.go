package respond

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
)

// breakers leave a node alone that failed several times in a row, so that it
// does not eat every worker's time, and try it again with one call. They are
// volatile: a restart tries everything once.
type breakers struct {
	after int
	rest  time.Duration
	gauge *prometheus.GaugeVec

	mu    sync.Mutex
	nodes map[string]*breaker
}

type breaker struct {
	failures int
	until    time.Time // open until then; then one probe
	probing  bool
}

func newBreakers(after int, rest time.Duration, gauge *prometheus.GaugeVec) *breakers {
	return &breakers{after: after, rest: rest, gauge: gauge, nodes: map[string]*breaker{}}
}

// nodeOpenError: the node is left alone, no call was made.
type nodeOpenError struct {
	node string
	wait time.Duration // until it may be asked again
}

// Error leaves the time out, so that it stays the same while it is open.
func (e *nodeOpenError) Error() string {
	return fmt.Sprintf("%s failed several times in a row and is left alone for a while", e.node)
}

// nodeOf names where an action is carried out: the node that answered before,
// else the adapter.
func nodeOf(a flow.Action) string {
	for _, rc := range a.Receipts {
		if rc.Node != "" {
			return a.Adapter + "/" + rc.Node
		}
	}
	return a.Adapter
}

// enter asks for leave to call a node. When it returns more than 0, no call may
// be made for that time; otherwise leave must be called with the outcome.
func (b *breakers) enter(node string, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[node]
	switch {
	case n == nil || n.failures < b.after:
		return 0
	case now.Before(n.until):
		return n.until.Sub(now)
	case n.probing:
		return time.Second
	}
	n.probing = true
	return 0
}

// leave notes the outcome: only an error of class transient is the node's
// trouble, any other shows that it answers.
func (b *breakers) leave(node string, err error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[node]
	if err == nil || classOf(err) != flow.ErrTransient || isSuperseded(err) {
		if n != nil {
			if n.probing = false; !isSuperseded(err) {
				delete(b.nodes, node)
				b.gauge.WithLabelValues(node).Set(0)
			}
		}
		return
	}
	if n == nil {
		n = &breaker{}
		b.nodes[node] = n
	}
	n.failures, n.probing = n.failures+1, false
	if n.failures >= b.after {
		n.until = now.Add(b.rest)
		b.gauge.WithLabelValues(node).Set(1)
	}
}

// open reports whether the node is left alone at now.
func (b *breakers) open(node string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nodes[node]
	return n != nil && n.failures >= b.after
}
