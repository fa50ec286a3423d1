package libvirt

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

// slowNode is a libvirtd on one end of a pipe: it has some domains, each with a
// mark of ours on a NIC, and takes its time to answer. Numbers of procedures are
// those of libvirt's remote_protocol.x.
type slowNode struct {
	domains int
	takes   time.Duration // for each answer
	hangsAt int           // the domain that it never answers for, from 1; 0: none
	served  sync.WaitGroup
}

func (n *slowNode) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	n.served.Go(func() { n.serve(theirs) })
	return ours, nil
}

// serve takes questions in as they come, and answers one after the other.
func (n *slowNode) serve(c net.Conn) {
	defer c.Close()
	asked := make(chan [2][]byte, 100)
	go func() {
		defer close(asked)
		for {
			head := make([]byte, 28)
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			args := make([]byte, binary.BigEndian.Uint32(head)-28)
			if _, err := io.ReadFull(c, args); err != nil {
				return
			}
			asked <- [2][]byte{head, args}
		}
	}()
	for q := range asked {
		ret, ok := n.answer(binary.BigEndian.Uint32(q[0][12:]), q[1])
		if !ok {
			continue
		}
		time.Sleep(n.takes)
		out := append(word(nil, uint32(28+len(ret))), q[0][4:16]...) // the program, its version and the procedure
		out = append(word(out, 1), q[0][20:24]...)                   // a reply, to this question
		if _, err := c.Write(append(word(out, 0), ret...)); err != nil {
			return
		}
	}
}

func (n *slowNode) answer(procedure uint32, args []byte) (ret []byte, ok bool) {
	switch procedure {
	case 66: // AUTH_LIST: none
		return word(nil, 1, 0), true
	case 1: // CONNECT_OPEN
		return nil, true
	case 59: // CONNECT_GET_HOSTNAME
		return text(nil, "node1"), true
	case 273: // CONNECT_LIST_ALL_DOMAINS
		ret = word(nil, uint32(n.domains))
		for i := range n.domains {
			ret = word(append(text(ret, fmt.Sprintf("vds-%d", i+1)), make([]byte, 16)...), uint32(i+1))
		}
		return word(ret, uint32(n.domains)), true
	case 14: // DOMAIN_GET_XML_DESC
		name := string(args[4 : 4+binary.BigEndian.Uint32(args)])
		return text(nil, slowDomain(name)), name != fmt.Sprintf("vds-%d", n.hangsAt)
	}
	return word(nil, 0, 0), true // CONNECT_LIST_ALL_NWFILTERS, DOMAIN_IS_PERSISTENT: none, no
}

func word(b []byte, v ...uint32) []byte {
	for _, v := range v {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func text(b []byte, s string) []byte {
	b = append(word(b, uint32(len(s))), s...)
	return append(b, make([]byte, (4-len(s)%4)%4)...)
}

func slowDomain(name string) string {
	mac := "52:54:00:00:00:0" + strings.TrimPrefix(name, "vds-")
	return fmt.Sprintf(`<domain type="kvm" id="1"><name>%s</name><metadata>
  <flowcordon:cuts xmlns:flowcordon="urn:flowcordon:cut:1"><nic mac="%s" incident="inc-1" key="k" by="flowcordon" reason="r" at="2026-11-22T07:00:00Z" live="up" config="up" running="true"/></flowcordon:cuts>
</metadata><devices><interface type="bridge"><mac address="%s"/><source bridge="br0"/><link state="down"/></interface></devices></domain>`, name, mac, mac)
}

// A list has the time that its caller gives it, however many domains there are;
// the configured timeout is that of each of them.
func TestListTakesItsTime(t *testing.T) {
	list := func(t *testing.T, n *slowNode, whole time.Duration) ([]flow.MarkedNIC, time.Duration, error) {
		defer n.served.Wait()
		a := New(Config{Name: "node1", Socket: "/pipe", Timeout: 10 * time.Second}, Deps{Dial: n.dial})
		defer a.Close()
		ctx, cancel := context.WithTimeout(t.Context(), whole)
		defer cancel()
		began := time.Now()
		all, err := a.Marked(ctx)
		return all, time.Since(began), err
	}
	for name, tc := range map[string]struct {
		node  *slowNode
		whole time.Duration
		nics  int
		least time.Duration
		words string // of the error; empty: none
	}{
		"longer than one operation may": {&slowNode{domains: 9, takes: time.Second}, 10 * time.Minute, 9, 45 * time.Second, ""},
		"a domain that hangs":           {&slowNode{domains: 9, takes: time.Second, hangsAt: 4}, 10 * time.Minute, 3, 10 * time.Second, "no answer within the deadline"},
		"more than the caller waits":    {&slowNode{domains: 9, takes: time.Second}, 30 * time.Second, 4, 30 * time.Second, "deadline exceeded"},
		"each is too slow":              {&slowNode{domains: 9, takes: 11 * time.Second}, 10 * time.Minute, 0, 10 * time.Second, "no answer within the deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all, took, err := list(t, tc.node, tc.whole)
				if took < tc.least || took > tc.whole {
					t.Errorf("it took %s", took)
				}
				if tc.words == "" {
					if err != nil || len(all) != tc.nics {
						t.Fatalf("%d NICs, %v", len(all), err)
					}
					return
				}
				if suspendertest.Class(err) != flow.ErrTransient || !strings.Contains(err.Error(), tc.words) {
					t.Errorf("err = %v, want %q", err, tc.words)
				}
				if len(all) < tc.nics || len(all) >= tc.node.domains {
					t.Errorf("%d NICs, want those read before, %d or more", len(all), tc.nics)
				}
			})
		})
	}
}
